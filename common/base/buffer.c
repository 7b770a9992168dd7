#include "base/buffer.h"

#include <stdlib.h>
#include <string.h>

#include "base/number.h"

enum status buffer_reserve(struct buffer *buffer, size_t capacity, struct error *error)
{
    if (capacity <= buffer->capacity)
        return STATUS_OK;
    size_t wanted = buffer->capacity + buffer->capacity / 2;
    if (wanted < capacity)
        wanted = capacity;
    if (wanted > SIZE_MAX - 64)
        return error_memory(error, capacity, "a buffer");
    wanted = size_round_up(wanted, 64);

    uint8_t *data = aligned_alloc(64, wanted);
    if (data == NULL)
        return error_memory(error, wanted, "a buffer");
    if (buffer->size > 0)
        memcpy(data, buffer->data, buffer->size);
    free(buffer->data);
    buffer->data = data;
    buffer->capacity = wanted;
    return STATUS_OK;
}

enum status buffer_append(struct buffer *buffer, const void *data, size_t size,
                          struct error *error)
{
    size_t total;
    if (!size_add(buffer->size, size, &total))
        return error_memory(error, SIZE_MAX, "a buffer");
    enum status status = buffer_reserve(buffer, total, error);
    if (status != STATUS_OK)
        return status;
    if (size > 0)
        memcpy(buffer->data + buffer->size, data, size);
    buffer->size = total;
    return STATUS_OK;
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}
