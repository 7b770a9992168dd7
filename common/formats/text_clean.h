/* text_clean.h - captions as open_clip's tokenizers see them.
 *
 * What CLIP's cleaning ("lower") does, in order:
 *   1. ftfy.fix_text (text_fix.h): HTML entities (from the first line with a '<' on they are
 *      left alone), mojibake, C1 controls, Latin ligatures, full and half width, curly quotes,
 *      line breaks, terminal escapes, control characters, NFC; repeated until nothing changes
 *   2. html.unescape, twice
 *   3. white space collapsed to single spaces, none at the ends
 *   4. lower case by the full rules of Unicode (Python's str.lower)
 *
 * Left out, so that such captions differ from open_clip's:
 *   - the repetition in 1 stops when a line has cost TEXT_FIX_EFFORT times its size, and
 *     mojibake within mojibake is mended MOJIBAKE_DEPTH_MAX levels deep, so that time stays
 *     linear in the size; both are reached by text that was made for it only
 *   - Unicode data are those of utf8proc (2.8: Unicode 15.0), not those of the Python at hand
 *     (3.11: 14.0), which matters to letters and marks that were added between */
#ifndef FORMATS_TEXT_CLEAN_H
#define FORMATS_TEXT_CLEAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "formats/text_fix.h"

/* open_clip's names for how far a tokenizer cleans. */
enum text_cleaning {
    TEXT_CLEAN_LOWER,        /* "lower": 1 to 4, CLIP's */
    TEXT_CLEAN_WHITESPACE,   /* "whitespace": 1 to 3, what open_clip gives to BERT's */
    TEXT_CLEAN_CANONICALIZE, /* "canonicalize": "lower" without ASCII punctuation, _ a space */
    TEXT_CLEAN_NONE          /* "none": the text as it is, made well-formed UTF-8 */
};

const char *text_cleaning_name(enum text_cleaning mode);

/* False where no mode has that name. */
bool text_cleaning_from_name(const char *name, enum text_cleaning *mode);

/* Working memory of one thread; a zeroed struct is ready, and grows to the largest caption. */
struct text_cleaner {
    enum text_cleaning mode;
    struct text_fixer fixer;
    struct buffer codes; /* int32_t code points, as the next */
    struct buffer fixed;
};

/* Replaces the contents of *out by the cleaned text, which is well-formed UTF-8. Input may be
 * any bytes: ill-formed UTF-8 becomes U+FFFD (see utf8.h). Fails only for want of memory. */
enum status text_clean(struct text_cleaner *cleaner, const uint8_t *text, size_t size,
                       struct buffer *out, struct error *error);

void text_cleaner_free(struct text_cleaner *cleaner);

#endif
