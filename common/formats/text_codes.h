/* text_codes.h - buffers of int32_t code points, in which the parts of the cleaning of captions
 * hand text to each other. */
#ifndef FORMATS_TEXT_CODES_H
#define FORMATS_TEXT_CODES_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/number.h"

static inline int32_t *codes_of(const struct buffer *buffer)
{
    return (int32_t *)(void *)buffer->data;
}

static inline size_t codes_count(const struct buffer *buffer)
{
    return buffer->size / sizeof(int32_t);
}

/* Makes room for `count` code points in all. */
static inline enum status codes_reserve(struct buffer *buffer, size_t count,
                                        struct error *error)
{
    size_t bytes;
    if (!size_multiply(count, sizeof(int32_t), &bytes))
        return error_memory(error, SIZE_MAX, "a caption");
    return buffer_reserve(buffer, bytes, error);
}

static inline enum status codes_append(struct buffer *buffer, const int32_t *codes,
                                       size_t count, struct error *error)
{
    return buffer_append(buffer, codes, count * sizeof *codes, error);
}

static inline void codes_swap(struct buffer *a, struct buffer *b)
{
    const struct buffer keep = *a;
    *a = *b;
    *b = keep;
}

#endif
