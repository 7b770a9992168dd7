/* tagger_caption.h - a priority for each token of a caption.
 *
 * The caption is cleaned as the tokenizer cleaned it, but with its capitals, split into words
 * (tagger_words.h) and tagged. Each of the tokenizer's words gets the tag of the word in which
 * it begins. */
#ifndef FORMATS_TAGGER_CAPTION_H
#define FORMATS_TAGGER_CAPTION_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "formats/tagger.h"
#include "formats/text_clean.h"
#include "formats/tokenizer.h"

/* The tagger, and how captions became tokens. */
struct caption_source {
    const struct tagger *tagger;
    enum tokenizer_type type;
    enum text_cleaning cleaning;
};

/* Working memory of one thread; a zeroed struct is ready, and grows to the longest caption. */
struct caption_tagger {
    struct text_cleaner cleaner;       /* keeps capitals */
    struct text_cleaner lower_cleaner;
    struct buffer text, lower_text;
    struct buffer words; /* struct tagger_word */
    struct buffer tags;
    struct tagger_scratch scratch;
};

/* For each token of the caption text[0..size), whose word in the tokenizer's count is words[i]:
 * new_words[i] is the number of its tagged word, counting from 0 those that have tokens, and
 * priorities[i] that word's priority. `new_words` may be `words`. The text may be any bytes.
 * STATUS_DATA where the words are not those of the text. Time is linear; nothing is allocated
 * once the tools have grown. */
enum status caption_tag(const struct caption_source *source, struct caption_tagger *tools,
                        const uint8_t *text, size_t size, const int32_t *words, size_t count,
                        int32_t *new_words, uint8_t *priorities, struct error *error);

void caption_tagger_free(struct caption_tagger *tools);

#endif
