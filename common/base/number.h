/* number.h - sizes that cannot overflow and numbers read from text. */
#ifndef BASE_NUMBER_H
#define BASE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *out = a * b, or a + b; false (and *out unspecified) where that does not fit. */
static inline bool size_multiply(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool size_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* The smallest multiple of `step` (a power of two) that is >= size; wraps near SIZE_MAX. */
static inline size_t size_round_up(size_t size, size_t step)
{
    return (size + step - 1) & ~(step - 1);
}

/* Read the whole of `text` as one number; false on anything else: an empty text, trailing
 * characters, overflow, NaN or infinity. Integers are decimal, with an optional sign. */
bool number_parse_integer(const char *text, int64_t *out);
bool number_parse_real(const char *text, double *out);

/* `count` reals with commas between, as in "0.4,1.0"; neither more nor fewer. */
bool number_parse_list(const char *text, double *out, int count);

#endif
