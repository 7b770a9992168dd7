/* tensor.h - a named array: what records and checkpoints are made of. */
#ifndef STREAM_TENSOR_H
#define STREAM_TENSOR_H

#include <stdbool.h>
#include <stddef.h>

/* The types of the safetensors format that are whole bytes; all little-endian. */
enum dtype {
    DTYPE_BOOL,
    DTYPE_U8,
    DTYPE_I8,
    DTYPE_F8_E4M3,
    DTYPE_F8_E5M2,
    DTYPE_I16,
    DTYPE_U16,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_I32,
    DTYPE_U32,
    DTYPE_F32,
    DTYPE_I64,
    DTYPE_U64,
    DTYPE_F64,
    DTYPE_COUNT
};

enum { TENSOR_RANK_MAX = 8, TENSOR_NAME_MAX = 127 };

/* A view: whoever made the tensor says who owns the data. Row-major and tight. */
struct tensor {
    char name[TENSOR_NAME_MAX + 1];
    enum dtype dtype;
    int rank; /* 0 for a single value */
    size_t shape[TENSOR_RANK_MAX];
    void *data;
    size_t size; /* in bytes */
};

const char *dtype_name(enum dtype dtype);
size_t dtype_size(enum dtype dtype); /* in bytes */

/* The type whose name is name[0..length); false if there is none. */
bool dtype_from_name(const char *name, size_t length, enum dtype *dtype);

/* Sets every field; size follows from dtype and shape, which must be known to multiply
 * without overflow. `name` is cut at TENSOR_NAME_MAX bytes. */
void tensor_init(struct tensor *tensor, const char *name, enum dtype dtype, int rank,
                 const size_t *shape, void *data);

/* The size in bytes of a shape; false on overflow. */
bool tensor_shape_size(enum dtype dtype, int rank, const size_t *shape, size_t *size);

/* Writes "F32 [2,3]" for messages; `text` of at least 256 bytes. Returns text. */
const char *tensor_describe(const struct tensor *tensor, char *text, size_t size);

#endif
