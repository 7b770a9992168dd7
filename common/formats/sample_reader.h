/* sample_reader.h - the samples of many shards, epoch after epoch, from any position.
 *
 * The order is that of sample_order.h. At most one window of encoded samples is in memory:
 * while the samples of one window leave, those of the next take their places. */
#ifndef FORMATS_SAMPLE_READER_H
#define FORMATS_SAMPLE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "formats/sample_order.h"
#include "formats/shard.h"
#include "formats/shard_list.h"

/* Called for a shard that cannot be opened, is damaged or ends early. STATUS_OK goes on with
 * the next shard; anything else becomes the result of the call that read it. */
typedef enum status sample_reader_damage(void *context, struct error *error);

struct sample_reader_options {
    struct shard_options shard;
    struct sample_order order;
    int64_t first_epoch;
    int64_t epochs; /* the last is epochs - 1; 0: for ever */
    sample_reader_damage *damage;
    void *damage_context;
};

struct sample_position {
    int64_t epoch;
    int64_t shard; /* in the list */
    int64_t index; /* in the shard, counting every sample */
};

struct sample_reader; /* one thread at a time */

/* `shards` must outlive the reader and hold at least one name. */
enum status sample_reader_open(struct sample_reader **reader, const struct shard_list *shards,
                               const struct sample_reader_options *options,
                               struct error *error);

/* Goes to the sample after `last`, which was the last one seen by an earlier run with the same
 * shards and options. To be called once, before the first sample. With shuffling, the shards
 * visited before that of `last` are scanned for their number of samples, several at a time.
 * STATUS_DATA where the shards have no such sample. */
enum status sample_reader_start(struct sample_reader *reader, struct sample_position last,
                                struct error *error);

/* The next sample, valid until the next call, or *sample NULL after the last epoch, or after an
 * epoch that had no sample at all. */
enum status sample_reader_next(struct sample_reader *reader, const struct shard_sample **sample,
                               struct sample_position *position, struct error *error);

/* Accepts NULL. */
void sample_reader_close(struct sample_reader *reader);

#endif
