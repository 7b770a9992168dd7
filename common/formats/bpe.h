/* bpe.h - CLIP's byte-level BPE tokenizer (Sennrich et al. 2016; Radford et al. 2019).
 *
 * A vocabulary file, as bpe_simple_vocab_16e6.txt.gz, is text, plain or gzip: a header line,
 * then one merge "left right" to a line, best first. Ids 0..255 are the bytes in the order of
 * GPT-2's table, 256..511 the same at the end of a word, then one for each of the first 48,894
 * merges, then start and end. Where two merges make the same string, both mean the later id.
 *
 * Text is split into words by CLIP's pattern, tried in this order at each place, whatever the
 * case: <start_of_text> and <end_of_text>; 's 't 're 've 'm 'll 'd; letters; one numeral; a run
 * of anything else but white space. Within a word, the adjacent pair with the lowest rank is
 * merged at all its places, from left to right, until no pair has a rank. */
#ifndef FORMATS_BPE_H
#define FORMATS_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum {
    BPE_BYTE_SYMBOLS = 512,  /* each byte, inside and at the end of a word */
    BPE_MERGES_MAX = 48894,
    BPE_VOCAB_MIN = BPE_BYTE_SYMBOLS + 2,
    BPE_VOCAB_MAX = BPE_BYTE_SYMBOLS + BPE_MERGES_MAX + 2,
};

struct bpe;         /* constant once open: any number of threads */
struct bpe_scratch; /* working memory and word cache of one thread and one vocabulary */

/* `data` holds the vocabulary file and may go away afterwards. STATUS_DATA, with the line,
 * where it is not one. */
enum status bpe_open(struct bpe **bpe, const uint8_t *data, size_t size, struct error *error);
void bpe_close(struct bpe *bpe); /* accepts NULL */

int32_t bpe_vocab_size(const struct bpe *bpe);
int32_t bpe_start(const struct bpe *bpe); /* size - 2 */
int32_t bpe_end(const struct bpe *bpe);   /* size - 1 */

enum status bpe_scratch_open(struct bpe_scratch **scratch, struct error *error);
void bpe_scratch_close(struct bpe_scratch *scratch); /* accepts NULL */

/* Appends to *tokens the int32_t ids of the text, without start and end of its own, and to
 * *words, for each, the number of the word it comes from, counted from 0. `text` should come
 * from text_clean(); bytes that are no UTF-8 are neither letters nor numerals. Time is
 * O(n log n) for any text; nothing is allocated once the buffers have grown. */
enum status bpe_encode(const struct bpe *bpe, struct bpe_scratch *scratch, const uint8_t *text,
                       size_t size, struct buffer *tokens, struct buffer *words,
                       struct error *error);

/* Appends the text of ids: a word ends with a space, start and end are written as in the
 * pattern. STATUS_DATA for an id outside the vocabulary. */
enum status bpe_decode(const struct bpe *bpe, const int32_t *tokens, size_t count,
                       struct buffer *out, struct error *error);

/* Appends the text of one id, without a space behind it. */
enum status bpe_piece(const struct bpe *bpe, int32_t id, struct buffer *out,
                      struct error *error);

/* A word of a text. */
struct bpe_word {
    size_t start; /* in bytes */
    size_t size;
    enum bpe_special { BPE_TEXT, BPE_START_STRING, BPE_END_STRING } special;
};

/* The next word at or after text[*position], which moves past it; false at the end. */
bool bpe_next_word(const uint8_t *text, size_t size, size_t *position, struct bpe_word *word);

/* The place of a byte in GPT-2's table, which is its id inside a word, and the code point that
 * stands for it in vocabulary files. */
uint8_t bpe_byte_id(uint8_t byte);
int32_t bpe_byte_code(uint8_t byte);

#endif
