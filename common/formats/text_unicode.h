/* text_unicode.h - white space, case and normalization of code points, by utf8proc's data. */
#ifndef FORMATS_TEXT_UNICODE_H
#define FORMATS_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum {
    UNICODE_EXPANSION_MAX = 18, /* code points in the longest decomposition of one (U+FDFA) */
    UNICODE_LOWER_MAX = 4,      /* bytes of UTF-8 that a code point in lower case takes */
};

/* What Python's str.split takes for white space, and re for \s. */
bool unicode_is_space(int32_t code);

/* What Python's re takes for \w: letters, numerals and the underscore. */
bool unicode_is_word(int32_t code);

/* The full decomposition of a code point into out; the number of code points, 1 or more.
 * Compatibility forms are taken apart where that is asked for. */
size_t unicode_decompose(int32_t code, bool compatibility,
                         int32_t out[UNICODE_EXPANSION_MAX]);

/* Working memory of one thread; a zeroed struct is ready. */
struct normalizer {
    struct buffer parts; /* int32_t, as the next */
    struct buffer sorted;
};

/* Makes it Normalization Form C, in time linear in its size; code points that form an
 * int32_t buffer. */
enum status unicode_normalize(struct normalizer *normalizer, struct buffer *codes,
                              struct error *error);

void unicode_normalizer_free(struct normalizer *normalizer);

/* Writes the lower case of codes[at] in its text as UTF-8 (Python's str.lower: the full rules
 * of Unicode); returns the number of bytes, at most UNICODE_LOWER_MAX. */
size_t unicode_write_lower(const int32_t *codes, size_t count, size_t at, uint8_t *out);

#endif
