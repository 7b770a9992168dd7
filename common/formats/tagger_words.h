/* tagger_words.h - the words of a caption as treebanks have them.
 *
 * As NLTK's word_tokenize and the Penn Treebank do, by rules of our own: blanks separate words;
 * punctuation is off, a run of one character whole ("...", "!!"); contractions are two words
 * ("do|n't", "it|'s", "can|not"); whole stay numbers (3.5, 1,000, 10:30, 1/2), words with
 * hyphens, apostrophes or ampersands inside (flat-coated, o'clock, R&B), abbreviations (U.S.,
 * Dr.), addresses of mail and web. Symbols beyond ASCII, as emoji, are words of their own. */
#ifndef FORMATS_TAGGER_WORDS_H
#define FORMATS_TAGGER_WORDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "formats/tagger.h"

/* Appends to *words a struct tagger_word for each word of the text, in order. Every byte but
 * blanks is in exactly one. Any bytes will do; time is linear. Fails only for want of
 * memory. */
enum status tagger_split(const uint8_t *text, size_t size, struct buffer *words,
                         struct error *error);

#endif
