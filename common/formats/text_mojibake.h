/* text_mojibake.h - undoes a decoding in the wrong encoding: "schÃ¶n" becomes "schön".
 *
 * The algorithm is that of ftfy 6.3, fix_encoding with its default settings. While a text looks
 * like mojibake (text_badness.h), it is encoded in the first single-byte encoding that has all
 * its characters, spaces that were U+00A0 and bytes that were lost are put back, and the bytes
 * are decoded as UTF-8 (surrogates in pairs and C0 80 are accepted, as Java writes them). Where
 * that fails for every encoding, stretches that look like UTF-8 are mended one by one, and then
 * the C1 controls are read as Windows-1252. */
#ifndef FORMATS_TEXT_MOJIBAKE_H
#define FORMATS_TEXT_MOJIBAKE_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum { MOJIBAKE_DEPTH_MAX = 8 };

/* Working memory of one thread; a zeroed struct is ready. */
struct mojibake_fixer {
    int64_t effort; /* code points that may still be looked at, by all calls together */
    struct buffer bytes;
    struct buffer mended;
    struct buffer fixed[MOJIBAKE_DEPTH_MAX]; /* int32_t, as the next */
    struct buffer stretch[MOJIBAKE_DEPTH_MAX];
};

/* Mends `codes`, a buffer of int32_t code points, in place. Stops where it is when the effort
 * is spent: hostile text could make it quadratic. Fails only for want of memory. */
enum status mojibake_fix(struct mojibake_fixer *fixer, struct buffer *codes,
                         struct error *error);

/* Reads C1 controls as the characters of Windows-1252. */
void mojibake_fix_c1(struct buffer *codes);

void mojibake_fixer_free(struct mojibake_fixer *fixer);

#endif
