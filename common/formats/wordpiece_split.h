/* wordpiece_split.h - how BERT's tokenizer sees characters: words and their folded form. */
#ifndef FORMATS_WORDPIECE_SPLIT_H
#define FORMATS_WORDPIECE_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/wordpiece.h"

/* "[PAD]" and so on, as they stand in vocabularies and texts. */
extern const char *const wordpiece_special_strings[WORDPIECE_SPECIALS];

/* As wordpiece_next_word, but the strings of special entries are words as any others. */
bool wordpiece_next_plain_word(const uint8_t *text, size_t size, size_t *position,
                               struct wordpiece_word *word);

/* Step 3 of wordpiece.h: writes the word, which wordpiece_next_plain_word gave, decomposed,
 * without marks and controls and in lower case, to out[WORDPIECE_BYTES_MAX]. false where more
 * than WORDPIECE_WORD_MAX characters are left. */
bool wordpiece_fold(const uint8_t *word, size_t size, uint8_t *out, size_t *out_size);

#endif
