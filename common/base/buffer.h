/* buffer.h - bytes that grow. A zeroed struct is an empty buffer. */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct buffer {
    uint8_t *data; /* owned; aligned to 64 bytes */
    size_t size;
    size_t capacity;
};

/* Makes room for `capacity` bytes in all; contents and size stay. Grows by at least half,
 * so that a loop of appends allocates a logarithmic number of times. */
enum status buffer_reserve(struct buffer *buffer, size_t capacity, struct error *error);

enum status buffer_append(struct buffer *buffer, const void *data, size_t size,
                          struct error *error);

/* Frees the bytes and leaves an empty buffer. */
void buffer_free(struct buffer *buffer);

#endif
