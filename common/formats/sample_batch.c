#include "formats/sample_batch.h"

#include <stdlib.h>

enum status sample_batch_init(struct sample_batch *batch, size_t capacity,
                              struct error *error)
{
    size_t count = capacity * 7 + 3; /* three offsets of one more, a label, a position of three */
    int64_t *values = calloc(count, sizeof *values);
    if (values == NULL)
        return error_memory(error, count * sizeof *values, "a record");
    *batch = (struct sample_batch){
        .key_offsets = values,
        .image_offsets = values + capacity + 1,
        .text_offsets = values + 2 * capacity + 2,
        .labels = values + 3 * capacity + 3,
        .positions = values + 4 * capacity + 3,
    };
    return STATUS_OK;
}

void sample_batch_free(struct sample_batch *batch)
{
    free(batch->key_offsets);
    buffer_free(&batch->key);
    buffer_free(&batch->image);
    buffer_free(&batch->text);
}

static enum status append_ragged(struct buffer *data, int64_t *offsets, size_t count,
                                 const struct buffer *value, struct error *error)
{
    enum status status = buffer_append(data, value->data, value->size, error);
    offsets[count + 1] = (int64_t)data->size;
    return status;
}

enum status sample_batch_append(struct sample_batch *batch, const struct shard_sample *sample,
                                int64_t label, struct sample_position position,
                                struct error *error)
{
    size_t at = batch->count;
    enum status status =
        append_ragged(&batch->key, batch->key_offsets, at, &sample->key, error);
    if (status == STATUS_OK)
        status = append_ragged(&batch->image, batch->image_offsets, at,
                               &sample->fields[SHARD_IMAGE], error);
    if (status == STATUS_OK)
        status = append_ragged(&batch->text, batch->text_offsets, at,
                               &sample->fields[SHARD_TEXT], error);
    batch->labels[at] = label;
    batch->positions[3 * at] = position.epoch;
    batch->positions[3 * at + 1] = position.shard;
    batch->positions[3 * at + 2] = position.index;
    batch->count++;
    return status;
}

static enum status put_ragged(struct record *record, const char *name, struct buffer *data,
                              int64_t *offsets, size_t count, struct error *error)
{
    return record_put_ragged(record, name, DTYPE_U8, data->data, (size_t)offsets[count],
                             offsets, count, error);
}

enum status sample_batch_view(struct sample_batch *batch, size_t count,
                              struct sample_batch_fields fields, struct record *record,
                              struct error *error)
{
    struct tensor tensor;
    const size_t shape[] = {count, 3};
    record->count = 0;
    enum status status =
        put_ragged(record, "key", &batch->key, batch->key_offsets, count, error);
    if (status == STATUS_OK && fields.image)
        status = put_ragged(record, "image_bytes", &batch->image, batch->image_offsets, count,
                            error);
    if (status == STATUS_OK && fields.text)
        status = put_ragged(record, "text", &batch->text, batch->text_offsets, count, error);
    tensor_init(&tensor, "label", DTYPE_I64, 1, shape, batch->labels);
    if (status == STATUS_OK && fields.label)
        status = record_put(record, &tensor, error);
    tensor_init(&tensor, "position", DTYPE_I64, 2, shape, batch->positions);
    return status == STATUS_OK ? record_put(record, &tensor, error) : status;
}

void sample_batch_clear(struct sample_batch *batch)
{
    batch->count = 0;
    batch->key.size = batch->image.size = batch->text.size = 0;
}
