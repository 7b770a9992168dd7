/* arena.h - one block of memory, laid out once.
 *
 * A layout function is called twice: with an empty arena it measures, with the memory in
 * place it assigns. The two walks take the same steps, so the second cannot run out. */
#ifndef MODEL_ARENA_H
#define MODEL_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/number.h"

struct arena {
    uint8_t *base;           /* NULL while measuring */
    size_t used;             /* in bytes */
    size_t activation_bytes; /* of one value */
    bool overflow;           /* a size did not fit: nothing that was taken is valid */
};

/* a * b, or SIZE_MAX, which arena_take then refuses, where that does not fit. */
static inline size_t arena_rows(size_t a, size_t b)
{
    size_t rows;
    return size_multiply(a, b, &rows) ? rows : SIZE_MAX;
}

/* rows * columns * element bytes, on a multiple of 64; NULL while measuring. */
static inline void *arena_take(struct arena *arena, size_t rows, size_t columns,
                               size_t element_bytes)
{
    size_t bytes, start = arena->used;
    if (!size_multiply(rows, columns, &bytes) || !size_multiply(bytes, element_bytes, &bytes) ||
        bytes > SIZE_MAX / 2 || !size_add(start, size_round_up(bytes, 64), &arena->used)) {
        arena->overflow = true;
        arena->used = start;
        return NULL;
    }
    return arena->base == NULL ? NULL : arena->base + start;
}

static inline float *arena_take_floats(struct arena *arena, size_t rows, size_t columns)
{
    return arena_take(arena, rows, columns, sizeof(float));
}

static inline void *arena_take_activations(struct arena *arena, size_t rows, size_t columns)
{
    return arena_take(arena, rows, columns, arena->activation_bytes);
}

#endif
