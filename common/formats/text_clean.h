/* text_clean.h - captions as open_clip's CLIP tokenizer sees them.
 *
 * What its default cleaning ("lower") does, in order:
 *   1. ftfy.fix_text: HTML entities (from the first line with a '<' on they are left alone),
 *      C1 controls read as Windows-1252, Latin ligatures, full and half width, curly quotes,
 *      line breaks, terminal escapes, control characters, NFC; repeated until nothing changes
 *   2. html.unescape, twice
 *   3. white space collapsed to single spaces, none at the ends
 *   4. lower case by the full rules of Unicode (Python's str.lower)
 *
 * Left out, so that such captions differ from open_clip's:
 *   - ftfy's repair of text decoded in the wrong encoding ("schÃ¶n")
 *   - the names of HTML entities beyond those of html_entity.h
 *   - the repetition in 1 stops after 16 rounds, so that time stays linear in the size
 * Unicode data are those of utf8proc. */
#ifndef FORMATS_TEXT_CLEAN_H
#define FORMATS_TEXT_CLEAN_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

/* Working memory of one thread; a zeroed struct is ready, and grows to the largest caption. */
struct text_cleaner {
    struct buffer codes; /* int32_t code points of the part being fixed, as the next two */
    struct buffer spare;
    struct buffer sorted;
    struct buffer fixed; /* the parts that are done */
};

/* Replaces the contents of *out by the cleaned text, which is well-formed UTF-8. Input may be
 * any bytes: ill-formed UTF-8 becomes U+FFFD (see utf8.h). Fails only for want of memory. */
enum status text_clean(struct text_cleaner *cleaner, const uint8_t *text, size_t size,
                       struct buffer *out, struct error *error);

void text_cleaner_free(struct text_cleaner *cleaner);

#endif
