/* header.h - the JSON header of a safetensors blob, read strictly and written canonically.
 *
 * A blob is a u64 little-endian header length N, N bytes of JSON, and the tensors' data.
 * The reader accepts what the format allows and nothing else: one object of tensors with
 * known dtypes, rank <= 8, sizes that agree with the shapes, offsets that tile the data
 * exactly in some order and are multiples of the element size, no duplicate keys, and
 * nothing but spaces after the object.
 * Source: https://github.com/huggingface/safetensors, section "Format". */
#ifndef STREAM_HEADER_H
#define STREAM_HEADER_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "stream/metadata.h"
#include "stream/tensor.h"

enum {
    HEADER_LENGTH_SIZE = 8, /* bytes of the length before the JSON */
    HEADER_ALIGNMENT = 64,  /* written so that the data begins on a multiple of this */
};

/* Tensors in the order of their data; tensor.data is NULL and offsets[i] says where
 * tensor i begins in the data. A zeroed struct is empty. */
struct header {
    struct tensor *tensors;
    size_t *offsets;
    size_t count;
    size_t capacity;
    struct metadata metadata;
    size_t data_size; /* in bytes, all tensors */
};

/* Parses json[0..size). *header may hold an earlier header, whose memory is used again.
 * STATUS_DATA with the byte offset of what is wrong; *header is then unspecified but valid. */
enum status header_parse(struct header *header, const char *json, size_t size,
                         struct error *error);

/* Appends the length and the padded JSON for `count` tensors whose data will follow in this
 * order without gaps. The caller has ordered them by decreasing element size. */
enum status header_format(struct buffer *out, const struct tensor *tensors, size_t count,
                          const struct metadata *metadata, struct error *error);

/* Stable order of decreasing element size, so that all data is aligned. */
void header_sort_tensors(struct tensor *tensors, size_t count);

void header_free(struct header *header);

uint64_t header_load_length(const uint8_t bytes[HEADER_LENGTH_SIZE]);

#endif
