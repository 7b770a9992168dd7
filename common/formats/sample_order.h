/* sample_order.h - in which order an epoch visits its samples, and where to go on.
 *
 * The order is a function of (seed, epoch) alone. The shards are permuted. The samples of all
 * shards, in that order, are cut into windows; a window is read whole and leaves in a permuted
 * order. All windows have `window` samples but the first, whose length is random in
 * 1..window, so that the borders move from epoch to epoch, and the last, which has the rest.
 * Without shuffling shards and samples come as they are listed: windows of one sample.
 *
 * Nothing here reads anything; sample_reader.h does. Functions of const data: any thread. */
#ifndef FORMATS_SAMPLE_ORDER_H
#define FORMATS_SAMPLE_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sample_order {
    uint64_t seed;
    bool shuffle;
    uint32_t window; /* samples, at least 1; not used without shuffling */
};

struct sample_window {
    uint64_t number; /* in the epoch, from 0 */
    uint64_t begin;  /* samples of the epoch before it */
};

/* Fills order[0..shards) with the shards in the order of their visit. */
void sample_order_shards(const struct sample_order *order, int64_t epoch, uint32_t *shards,
                         size_t count);

/* How many samples the window has unless the epoch ends before. */
uint32_t sample_order_window_length(const struct sample_order *order, int64_t epoch,
                                    uint64_t window);

/* Fills places[0..count): the samples of a window leave in the order places[0], places[1], ...
 * where place 0 was read first. `count` is the number of samples that the window has. */
void sample_order_window(const struct sample_order *order, int64_t epoch, uint64_t window,
                         uint32_t *places, size_t count);

/* The window that holds the sample which is read as number `sample` of the epoch, from 0. */
struct sample_window sample_order_find(const struct sample_order *order, int64_t epoch,
                                       uint64_t sample);

#endif
