/* position.h - which sample this is: the key of every random draw, and what resuming needs.
 *
 * `position` I64 [B,3] holds the epoch, the shard's index in the list and the sample's index
 * in the shard. Streams that were made by hand may lack it; a sample is then known by its
 * number in the stream. */
#ifndef STREAM_POSITION_H
#define STREAM_POSITION_H

#include <stdint.h>

#include "base/error.h"
#include "stream/record.h"

/* The two parts of an rng key (base/rng.h) that say which sample is meant. */
struct sample_identity {
    uint64_t epoch;
    uint64_t sample;
};

/* Finds the position tensor; *out is NULL where there is none. STATUS_DATA where it has
 * another type or shape. */
enum status position_find(struct record *record, const int64_t **out, struct error *error);

/* Sample i of the record that `positions` belongs to (may be NULL); `samples_before` counts
 * the stream's samples before the record. */
struct sample_identity position_identity(const int64_t *positions, size_t i,
                                         uint64_t samples_before);

#endif
