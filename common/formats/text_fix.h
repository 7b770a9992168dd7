/* text_fix.h - ftfy.fix_text: what is wrong with the characters of a caption, mended.
 *
 * In order: HTML entities, mojibake (text_mojibake.h), C1 controls, Latin ligatures, full and
 * half width, curly quotes, line breaks, terminal escapes, control characters, Normalization
 * Form C; again until nothing changes. A line is mended by itself. Source: ftfy 6.3, fix_text
 * with its default settings. */
#ifndef FORMATS_TEXT_FIX_H
#define FORMATS_TEXT_FIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "formats/text_mojibake.h"
#include "formats/text_unicode.h"

enum {
    /* Code points that are looked at for one of a line before the repetition stops, whatever is
     * still to mend, so that time stays linear in the size; and as many for any line. */
    TEXT_FIX_EFFORT = 32,
    TEXT_FIX_EFFORT_LEAST = 100000,
};

/* Working memory of one thread; a zeroed struct is ready. */
struct text_fixer {
    struct mojibake_fixer mojibake;
    struct normalizer normalizer;
    struct buffer line; /* int32_t, as the next two */
    struct buffer before;
    struct buffer spare;
};

/* Appends the mended text to *out, a buffer of int32_t code points as `text` is. Fails only for
 * want of memory. */
enum status text_fix(struct text_fixer *fixer, const int32_t *text, size_t count,
                     struct buffer *out, struct error *error);

/* Replaces character references as Python's html.unescape does, in one pass, in place. */
void text_unescape_html(struct buffer *codes);

void text_fixer_free(struct text_fixer *fixer);

#endif
