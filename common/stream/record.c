#include "stream/record.h"

#include <stdio.h>
#include <string.h>

static const char offsets_suffix[] = ".offsets";

static void offsets_name(char out[TENSOR_NAME_MAX + 1], const char *name)
{
    snprintf(out, TENSOR_NAME_MAX + 1, "%.*s%s",
             (int)(TENSOR_NAME_MAX - sizeof offsets_suffix + 1), name, offsets_suffix);
}

struct tensor *record_offsets(const struct record *record, const char *name)
{
    char full[TENSOR_NAME_MAX + 1];
    offsets_name(full, name);
    return record_find((struct record *)record, full);
}

struct tensor *record_find(struct record *record, const char *name)
{
    for (size_t i = 0; i < record->count; i++)
        if (strcmp(record->tensors[i].name, name) == 0)
            return &record->tensors[i];
    return NULL;
}

static enum status missing(const struct record *record, const char *name, struct error *error)
{
    char found[200] = "";
    size_t used = 0;
    for (size_t i = 0; i < record->count && used < sizeof found - 1; i++)
        used += (size_t)snprintf(found + used, sizeof found - used, "%s%s", i > 0 ? ", " : "",
                                 record->tensors[i].name);
    return error_set(error, STATUS_DATA, "no tensor '%s', found %s", name,
                     record->count == 0 ? "none" : found);
}

enum status record_require(struct record *record, const char *name, enum dtype dtype, int rank,
                           const struct tensor **out, struct error *error)
{
    const struct tensor *tensor = record_find(record, name);
    if (tensor == NULL)
        return missing(record, name, error);
    if (tensor->dtype != dtype || tensor->rank != rank) {
        char text[256];
        return error_set(error, STATUS_DATA, "tensor '%s' is %s, expected %s of rank %d", name,
                         tensor_describe(tensor, text, sizeof text), dtype_name(dtype), rank);
    }
    *out = tensor;
    return STATUS_OK;
}

enum status record_require_ragged(struct record *record, const char *name, enum dtype dtype,
                                  struct ragged *out, struct error *error)
{
    const struct tensor *data;
    enum status status = record_require(record, name, dtype, 1, &data, error);
    if (status != STATUS_OK)
        return status;
    const struct tensor *offsets = record_offsets(record, name);
    if (offsets == NULL)
        return error_set(error, STATUS_DATA, "tensor '%s' is not ragged: no '%s%s'", name, name,
                         offsets_suffix);
    *out = (struct ragged){data->data, offsets->data, offsets->shape[0] - 1};
    return STATUS_OK;
}

enum status record_put(struct record *record, const struct tensor *tensor, struct error *error)
{
    struct tensor *place = record_find(record, tensor->name);
    if (place == NULL) {
        if (record->count == RECORD_TENSORS_MAX)
            return error_set(error, STATUS_DATA, "more than %d tensors in a record",
                             RECORD_TENSORS_MAX);
        place = &record->tensors[record->count++];
    }
    *place = *tensor;
    return STATUS_OK;
}

enum status record_put_ragged(struct record *record, const char *name, enum dtype dtype,
                              void *data, size_t length, int64_t *offsets, size_t batch,
                              struct error *error)
{
    struct tensor tensor;
    char full[TENSOR_NAME_MAX + 1];
    size_t offsets_length = batch + 1;
    offsets_name(full, name);
    tensor_init(&tensor, name, dtype, 1, &length, data);
    enum status status = record_put(record, &tensor, error);
    tensor_init(&tensor, full, DTYPE_I64, 1, &offsets_length, offsets);
    return status == STATUS_OK ? record_put(record, &tensor, error) : status;
}

static void remove_one(struct record *record, struct tensor *tensor)
{
    struct tensor *end = record->tensors + record->count;
    memmove(tensor, tensor + 1, (size_t)(end - tensor - 1) * sizeof *tensor);
    record->count--;
}

void record_remove(struct record *record, const char *name)
{
    struct tensor *tensor = record_find(record, name);
    if (tensor != NULL)
        remove_one(record, tensor);
    tensor = record_offsets(record, name);
    if (tensor != NULL)
        remove_one(record, tensor);
}

static bool has_offsets_name(const struct tensor *tensor)
{
    size_t length = strlen(tensor->name), suffix = sizeof offsets_suffix - 1;
    return length > suffix && strcmp(tensor->name + length - suffix, offsets_suffix) == 0;
}

/* The tensor whose offsets this is, or NULL. */
static const struct tensor *offsets_owner(const struct record *record,
                                          const struct tensor *tensor)
{
    if (!has_offsets_name(tensor))
        return NULL;
    char name[TENSOR_NAME_MAX + 1];
    snprintf(name, sizeof name, "%.*s",
             (int)(strlen(tensor->name) - (sizeof offsets_suffix - 1)), tensor->name);
    return record_find((struct record *)record, name);
}

bool record_is_offsets(const struct record *record, const struct tensor *tensor)
{
    return offsets_owner(record, tensor) != NULL;
}

static enum status check_offsets(const struct tensor *offsets, const struct tensor *owner,
                                 size_t *batch, struct error *error)
{
    if (owner == NULL || owner->rank < 1)
        return error_set(error, STATUS_DATA, "tensor '%s' without the one it divides",
                         offsets->name);
    if (offsets->dtype != DTYPE_I64 || offsets->rank != 1 || offsets->shape[0] < 1) {
        char text[256];
        return error_set(error, STATUS_DATA, "tensor '%s' is %s, expected I64 [batch + 1]",
                         offsets->name, tensor_describe(offsets, text, sizeof text));
    }
    const int64_t *values = offsets->data;
    *batch = offsets->shape[0] - 1;
    if (values[0] != 0 || (uint64_t)values[*batch] != owner->shape[0])
        return error_set(error, STATUS_DATA,
                         "tensor '%s' runs from %lld to %lld, expected 0 to %zu", offsets->name,
                         (long long)values[0], (long long)values[*batch], owner->shape[0]);
    for (size_t i = 0; i < *batch; i++)
        if (values[i] > values[i + 1])
            return error_set(error, STATUS_DATA, "tensor '%s' descends at sample %zu",
                             offsets->name, i);
    return STATUS_OK;
}

enum status record_batch(const struct record *record, size_t *batch, struct error *error)
{
    const struct tensor *first = NULL;
    for (size_t i = 0; i < record->count; i++) {
        const struct tensor *tensor = &record->tensors[i];
        bool is_offsets = has_offsets_name(tensor);
        if (!is_offsets && record_offsets(record, tensor->name) != NULL)
            continue; /* the data of a ragged tensor: its offsets are checked instead */

        size_t samples = 0;
        if (is_offsets) {
            enum status status =
                check_offsets(tensor, offsets_owner(record, tensor), &samples, error);
            if (status != STATUS_OK)
                return status;
        } else if (tensor->rank == 0) {
            return error_set(error, STATUS_DATA, "tensor '%s' has no batch dimension",
                             tensor->name);
        } else {
            samples = tensor->shape[0];
        }
        if (first == NULL) {
            first = tensor;
            *batch = samples;
        } else if (samples != *batch) {
            return error_set(error, STATUS_DATA, "tensor '%s' has %zu samples, '%s' has %zu",
                             tensor->name, samples, first->name, *batch);
        }
    }
    return first != NULL ? STATUS_OK : error_set(error, STATUS_DATA, "record without tensors");
}

static void select_rows(struct tensor *tensor, const bool *keep, size_t batch)
{
    size_t row = batch == 0 ? 0 : tensor->size / batch, kept = 0;
    uint8_t *data = tensor->data;
    for (size_t i = 0; i < batch; i++)
        if (keep[i]) {
            if (kept != i)
                memmove(data + kept * row, data + i * row, row);
            kept++;
        }
    tensor->shape[0] = kept;
    tensor->size = kept * row;
}

static void select_ragged(struct tensor *tensor, struct tensor *offsets, const bool *keep,
                          size_t batch)
{
    size_t element = tensor->shape[0] == 0 ? 0 : tensor->size / tensor->shape[0], kept = 0;
    uint8_t *data = tensor->data;
    int64_t *values = offsets->data;
    int64_t begin = 0, total = 0; /* values[i] may be overwritten before it is read: keep it */
    for (size_t i = 0; i < batch; i++) {
        int64_t end = values[i + 1], length = end - begin;
        if (keep[i]) {
            memmove(data + (size_t)total * element, data + (size_t)begin * element,
                    (size_t)length * element);
            total += length;
            values[++kept] = total;
        }
        begin = end;
    }
    tensor->shape[0] = (size_t)total;
    tensor->size = (size_t)total * element;
    offsets->shape[0] = kept + 1;
    offsets->size = (kept + 1) * sizeof values[0];
}

size_t record_select(struct record *record, const bool *keep, size_t batch)
{
    for (size_t i = 0; i < record->count; i++) {
        struct tensor *tensor = &record->tensors[i];
        struct tensor *offsets = record_offsets(record, tensor->name);
        if (offsets != NULL)
            select_ragged(tensor, offsets, keep, batch);
        else if (!record_is_offsets(record, tensor))
            select_rows(tensor, keep, batch);
    }
    size_t kept = 0;
    for (size_t i = 0; i < batch; i++)
        kept += keep[i];
    return kept;
}
