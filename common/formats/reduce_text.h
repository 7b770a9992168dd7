/* reduce_text.h - captions of a fixed length from token lists of any length. */
#ifndef FORMATS_REDUCE_TEXT_H
#define FORMATS_REDUCE_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum text_strategy {
    TEXT_NONE,
    TEXT_TRUNCATE, /* the first tokens */
};

struct text_reduction {
    enum text_strategy strategy;
    size_t length; /* L, specials included */
};

/* The tokens around a caption: start, content, end, then padding. */
struct text_specials {
    int32_t start, end, padding;
};

enum { TEXT_LENGTH_MIN = 2, TEXT_LENGTH_MAX = 4096 };

/* Reads "none" or "STRATEGY:L". STATUS_USAGE where it is neither. */
enum status text_reduction_parse(struct text_reduction *out, const char *text,
                                 struct error *error);

/* Writes out[L] from tokens[0..count): start, as many content tokens as fit, end, padding.
 * A caption that is too long is cut so that the end token is last (open_clip's rule). */
void text_reduce(const struct text_reduction *reduction, const struct text_specials *specials,
                 const int32_t *tokens, size_t count, int32_t *out);

#endif
