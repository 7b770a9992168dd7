/* describe.h - tensors and samples as text, for people and for jq. */
#ifndef STREAM_DESCRIBE_H
#define STREAM_DESCRIBE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "stream/record.h"
#include "stream/tensor.h"

/* The range of a tensor's values, over as many tensors as were added. Zeroed: nothing yet. */
struct value_range {
    uint64_t count;     /* finite values */
    uint64_t not_finite; /* NaN and infinities */
    double low, high, sum;
};

/* Element i of a tensor as a double; exact but for 64-bit integers over 2^53. */
double tensor_value(const struct tensor *tensor, size_t i);

void value_range_add(struct value_range *range, const struct tensor *tensor);

/* The tensors of a stream or checkpoint, one row for each name. A zeroed struct is empty. */
struct tensor_table {
    struct tensor_row {
        struct tensor tensor; /* as first seen, without its data */
        bool ragged;
        uint64_t bytes;
        struct value_range range;
    } *rows;
    size_t count;
};

/* Adds the values of a tensor to its row. */
enum status tensor_table_add(struct tensor_table *table, const struct tensor *tensor,
                             bool ragged, struct error *error);

/* Adds all tensors of a checked record. */
enum status tensor_table_add_record(struct tensor_table *table, const struct record *record,
                                    struct error *error);

/* Writes names, types, shapes, bytes and ranges in columns. In a stream the first dimension is
 * the batch, "B" or "ragged". */
void tensor_table_print(const struct tensor_table *table, bool stream, FILE *out);
void tensor_table_free(struct tensor_table *table);

/* Writes "key: value" lines. */
void describe_metadata(FILE *out, const struct metadata *metadata);

/* Writes what a safetensors file holds: its size, its metadata, its tensors as a table. */
enum status describe_file(FILE *out, const char *path, struct error *error);

/* Writes a line that says a safetensors file is whole. STATUS_DATA where a value in it is not
 * finite, or as safetensors_open. */
enum status describe_file_health(FILE *out, const char *path, struct error *error);

/* Writes a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
void describe_string(FILE *out, const char *text, size_t size);

/* Writes sample i of a checked record as one line of JSON: an object with a member for each
 * tensor. U8 ragged tensors that are text become strings, other values arrays of at most
 * `most` numbers; what is longer becomes {"dtype":..,"shape":..}. */
void describe_sample(FILE *out, const struct record *record, size_t i, size_t most);

#endif
