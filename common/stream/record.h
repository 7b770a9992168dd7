/* record.h - a batch of samples: the unit that stages read and write.
 *
 * Fixed-size tensors are [B,...]. A ragged tensor is a flat `x` beside `x.offsets` I64 [B+1]:
 * sample i owns the elements offsets[i]..offsets[i+1] of the first dimension of x. */
#ifndef STREAM_RECORD_H
#define STREAM_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "stream/metadata.h"
#include "stream/tensor.h"

enum { RECORD_TENSORS_MAX = 64 };

/* Views: data of a record that was read belongs to its reader and lives until the next read;
 * what a stage puts belongs to the stage and must live until the record is written. */
struct record {
    struct tensor tensors[RECORD_TENSORS_MAX];
    size_t count;
};

/* A ragged tensor of a record. */
struct ragged {
    void *data;
    int64_t *offsets; /* [batch + 1], ascending from 0 to the length of data */
    size_t batch;
};

/* The tensor of that name, or NULL. */
struct tensor *record_find(struct record *record, const char *name);

/* The offsets of the ragged tensor `name`, or NULL where it is not ragged. */
struct tensor *record_offsets(const struct record *record, const char *name);

/* Whether this is the `x.offsets` of a tensor `x` of the record. */
bool record_is_offsets(const struct record *record, const struct tensor *tensor);

/* As record_find, of that type and rank; STATUS_DATA that says what was found otherwise. */
enum status record_require(struct record *record, const char *name, enum dtype dtype, int rank,
                           const struct tensor **out, struct error *error);

/* The ragged tensor of that name and type, its data of rank 1. */
enum status record_require_ragged(struct record *record, const char *name, enum dtype dtype,
                                  struct ragged *out, struct error *error);

/* Adds a tensor, or replaces the one of that name. */
enum status record_put(struct record *record, const struct tensor *tensor,
                       struct error *error);

/* Adds or replaces both tensors of a ragged one; its data has `length` elements. */
enum status record_put_ragged(struct record *record, const char *name, enum dtype dtype,
                              void *data, size_t length, int64_t *offsets, size_t batch,
                              struct error *error);

/* Removes a tensor and its offsets, where they are. */
void record_remove(struct record *record, const char *name);

/* Checks that every tensor has the same number of samples and that all offsets ascend from 0
 * to their tensor's length; *batch is that number. STATUS_DATA otherwise. A record needs at
 * least one tensor. */
enum status record_batch(const struct record *record, size_t *batch, struct error *error);

/* Keeps the samples with keep[i] true, in order, moving data in place. All data must be
 * writable and the record must have passed record_batch. Returns the new number of samples. */
size_t record_select(struct record *record, const bool *keep, size_t batch);

#endif
