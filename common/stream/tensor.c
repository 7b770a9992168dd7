#include "stream/tensor.h"

#include <stdio.h>
#include <string.h>

#include "base/number.h"

static const struct {
    const char *name;
    size_t size_bytes;
} types[DTYPE_COUNT] = {
    [DTYPE_BOOL] = {"BOOL", 1},       [DTYPE_U8] = {"U8", 1},
    [DTYPE_I8] = {"I8", 1},           [DTYPE_F8_E4M3] = {"F8_E4M3", 1},
    [DTYPE_F8_E5M2] = {"F8_E5M2", 1}, [DTYPE_I16] = {"I16", 2},
    [DTYPE_U16] = {"U16", 2},         [DTYPE_F16] = {"F16", 2},
    [DTYPE_BF16] = {"BF16", 2},       [DTYPE_I32] = {"I32", 4},
    [DTYPE_U32] = {"U32", 4},         [DTYPE_F32] = {"F32", 4},
    [DTYPE_I64] = {"I64", 8},         [DTYPE_U64] = {"U64", 8},
    [DTYPE_F64] = {"F64", 8},
};

const char *dtype_name(enum dtype dtype)
{
    return types[dtype].name;
}

size_t dtype_size(enum dtype dtype)
{
    return types[dtype].size_bytes;
}

bool dtype_from_name(const char *name, size_t length, enum dtype *dtype)
{
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (strlen(types[i].name) == length && memcmp(types[i].name, name, length) == 0) {
            *dtype = (enum dtype)i;
            return true;
        }
    }
    return false;
}

bool tensor_shape_size(enum dtype dtype, int rank, const size_t *shape, size_t *size)
{
    size_t total = dtype_size(dtype);
    for (int i = 0; i < rank; i++)
        if (!size_multiply(total, shape[i], &total))
            return false;
    *size = total;
    return true;
}

void tensor_init(struct tensor *tensor, const char *name, enum dtype dtype, int rank,
                 const size_t *shape, void *data)
{
    *tensor = (struct tensor){.dtype = dtype, .rank = rank, .data = data};
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    for (int i = 0; i < rank; i++)
        tensor->shape[i] = shape[i];
    tensor_shape_size(dtype, rank, shape, &tensor->size);
}

const char *tensor_describe(const struct tensor *tensor, char *text, size_t size)
{
    int used = snprintf(text, size, "%s [", dtype_name(tensor->dtype));
    for (int i = 0; i < tensor->rank; i++)
        used += snprintf(text + used, size - (size_t)used, "%s%zu", i > 0 ? "," : "",
                         tensor->shape[i]);
    snprintf(text + used, size - (size_t)used, "]");
    return text;
}
