/* text_badness.h - does a text look as if it had been decoded in the wrong encoding?
 *
 * The heuristic is that of ftfy 6.3 (Robyn Speer, ftfy.badness): some 400 characters come up
 * when UTF-8 is read as a single-byte encoding, and pairs and triples of their classes that no
 * language writes give such a text away. No function allocates or fails; all are safe from any
 * thread. */
#ifndef FORMATS_TEXT_BADNESS_H
#define FORMATS_TEXT_BADNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a character means for mojibake; a character may be of several classes. */
enum mojibake_class {
    CLASS_C1 = 1 << 0,
    CLASS_BAD = 1 << 1,    /* hardly seen but in mojibake */
    CLASS_COMMON = 1 << 2, /* seen anywhere */
    CLASS_LAW = 1 << 3,
    CLASS_CURRENCY = 1 << 4,
    CLASS_START = 1 << 5, /* punctuation before a word */
    CLASS_END = 1 << 6,   /* and after one */
    CLASS_NUMERIC = 1 << 7,
    CLASS_KAOMOJI = 1 << 8, /* letters that faces are drawn with */
    CLASS_UPPER_ACCENTED = 1 << 9,
    CLASS_LOWER_ACCENTED = 1 << 10,
    CLASS_UPPER_COMMON = 1 << 11,
    CLASS_LOWER_COMMON = 1 << 12,
    CLASS_BOX = 1 << 13,
    /* What the bytes of a UTF-8 sequence look like: the first of two, three, four. */
    CLASS_FIRST_OF_2 = 1 << 14,
    CLASS_FIRST_OF_3 = 1 << 15,
    CLASS_FIRST_OF_4 = 1 << 16,
    CLASS_CONTINUATION = 1 << 17, /* a space, too, which may have been U+00A0 */
    CLASS_CONTINUATION_STRICT = 1 << 18,
    CLASS_NAMED = 1 << 19, /* begins a sequence that is spelled out */
};

/* The encodings that UTF-8 is mistaken for, in the order in which they are tried. All but the
 * last three and Latin-1 are "sloppy": a byte without a character stands for the control
 * character of its number, and byte 1A for U+FFFD. */
enum code_page {
    PAGE_LATIN_1,
    PAGE_WINDOWS_1252,
    PAGE_WINDOWS_1251,
    PAGE_WINDOWS_1250,
    PAGE_WINDOWS_1253,
    PAGE_WINDOWS_1254,
    PAGE_WINDOWS_1257,
    PAGE_ISO_8859_2,
    PAGE_MAC_ROMAN,
    PAGE_437,
    PAGE_COUNT
};

struct mojibake_character {
    uint16_t code;
    uint32_t classes;
    uint8_t bytes[PAGE_COUNT]; /* 0 where a code page has no such character */
};

/* The row of a character beyond ASCII, or NULL where it is in no code page. */
const struct mojibake_character *mojibake_character(int32_t code);

/* Whether some of it is likely mojibake: ftfy's is_bad. */
bool mojibake_is_likely(const int32_t *text, size_t count);

#endif
