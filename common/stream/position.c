#include "stream/position.h"

#include "base/rng.h"

enum status position_find(struct record *record, const int64_t **out, struct error *error)
{
    *out = NULL;
    if (record_find(record, "position") == NULL)
        return STATUS_OK;
    const struct tensor *tensor;
    enum status status = record_require(record, "position", DTYPE_I64, 2, &tensor, error);
    if (status != STATUS_OK)
        return status;
    if (tensor->shape[1] != 3)
        return error_set(error, STATUS_DATA, "tensor 'position' has %zu columns, expected 3",
                         tensor->shape[1]);
    *out = tensor->data;
    return STATUS_OK;
}

struct sample_identity position_identity(const int64_t *positions, size_t i,
                                         uint64_t samples_before)
{
    if (positions == NULL)
        return (struct sample_identity){0, samples_before + i};
    const int64_t *position = positions + 3 * i;
    return (struct sample_identity){(uint64_t)position[0],
                                    rng_sample_key(position[1], position[2])};
}
