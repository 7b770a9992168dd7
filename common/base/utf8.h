/* utf8.h - UTF-8 to code points and back. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

enum {
    UTF8_REPLACEMENT = 0xFFFD,
    UTF8_LENGTH_MAX = 4, /* bytes of one code point */
};

/* The code point at text[*position], which must be below `size`; *position moves past it.
 * Ill-formed input gives U+FFFD once for each maximal subpart (The Unicode Standard, 3.9,
 * "U+FFFD Substitution of Maximal Subparts"), as Python's errors="replace" does. */
int32_t utf8_next(const uint8_t *text, size_t size, size_t *position);

/* Writes a code point that is no surrogate; returns the number of bytes, 1 to 4. */
size_t utf8_write(int32_t code, uint8_t *out);

#endif
