/* sample_batch.h - samples from shards, collected into one record. */
#ifndef FORMATS_SAMPLE_BATCH_H
#define FORMATS_SAMPLE_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "formats/sample_reader.h"
#include "formats/shard.h"
#include "stream/record.h"

struct sample_batch {
    struct buffer key, image, text;
    int64_t *key_offsets, *image_offsets, *text_offsets, *labels, *positions; /* one block */
    size_t count;
};

/* Which tensors a record gets besides key and position. */
struct sample_batch_fields {
    bool image, text, label;
};

enum status sample_batch_init(struct sample_batch *batch, size_t capacity,
                              struct error *error);
void sample_batch_free(struct sample_batch *batch);

/* Copies a sample; there must be room for it. */
enum status sample_batch_append(struct sample_batch *batch, const struct shard_sample *sample,
                                int64_t label, struct sample_position position,
                                struct error *error);

/* Makes *record a view of the first `count` samples, until the batch changes. */
enum status sample_batch_view(struct sample_batch *batch, size_t count,
                              struct sample_batch_fields fields, struct record *record,
                              struct error *error);

void sample_batch_clear(struct sample_batch *batch);

#endif
