/* tokenizer.h - one interface over CLIP's BPE (bpe.h) and BERT's WordPiece (wordpiece.h).
 *
 * A vocabulary file, plain or gzip, says by its content which it is: BPE has "#version" in its
 * first line, WordPiece has the lines [PAD], [UNK], [CLS] and [SEP]. */
#ifndef FORMATS_TOKENIZER_H
#define FORMATS_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "formats/text_clean.h"

enum tokenizer_type {
    TOKENIZER_CLIP,
    TOKENIZER_WORDPIECE
};

struct tokenizer;         /* constant once open: any number of threads */
struct tokenizer_scratch; /* working memory and word cache of one thread and one tokenizer */

/* `data` holds the vocabulary file and may go away afterwards. STATUS_DATA, with the line
 * where there is one, if it is no vocabulary. */
enum status tokenizer_open(struct tokenizer **tokenizer, const uint8_t *data, size_t size,
                           struct error *error);
void tokenizer_close(struct tokenizer *tokenizer); /* accepts NULL */

enum tokenizer_type tokenizer_type(const struct tokenizer *tokenizer);

/* "clip" and "wordpiece", as the stream's fact tokenizer.type has them. */
const char *tokenizer_type_name(enum tokenizer_type type);
bool tokenizer_type_from_name(const char *name, enum tokenizer_type *type);

/* The number of ids, and the ids around a caption: CLIP size - 2, size - 1 and 0; WordPiece
 * [CLS], [SEP] and [PAD]. */
int32_t tokenizer_size(const struct tokenizer *tokenizer);
int32_t tokenizer_start(const struct tokenizer *tokenizer);
int32_t tokenizer_end(const struct tokenizer *tokenizer);
int32_t tokenizer_padding(const struct tokenizer *tokenizer);

/* How open_clip cleans captions for this kind: lower for CLIP, whitespace for WordPiece, which
 * folds case itself. */
enum text_cleaning tokenizer_default_cleaning(const struct tokenizer *tokenizer);

enum status tokenizer_scratch_open(struct tokenizer_scratch **scratch,
                                   const struct tokenizer *tokenizer, struct error *error);
void tokenizer_scratch_close(struct tokenizer_scratch *scratch); /* accepts NULL */

/* Appends to *tokens the int32_t ids of the text, without start and end, and to *words, for
 * each, the number of the word (of tokenizer_next_word) that it comes from, counted from 0.
 * `text` should come from text_clean(). Nothing is allocated once the buffers have grown.
 * STATUS_DATA for a text of more than 2 GiB. */
enum status tokenizer_encode(const struct tokenizer *tokenizer,
                             struct tokenizer_scratch *scratch, const uint8_t *text,
                             size_t size, struct buffer *tokens, struct buffer *words,
                             struct error *error);

/* The next word at or after text[*position], which moves past it; false at the end. Words are
 * the same whether the text is lower-cased or not. Needs no vocabulary; any thread. */
bool tokenizer_next_word(enum tokenizer_type type, const uint8_t *text, size_t size,
                         size_t *position, size_t *start, size_t *word_size);

/* Appends the text of a vocabulary entry: WordPiece as in the file, "##ing"; CLIP without the
 * mark of a word's end, start and end as "<start_of_text>" and "<end_of_text>". STATUS_DATA for
 * an id outside the vocabulary. */
enum status tokenizer_piece(const struct tokenizer *tokenizer, int32_t id, struct buffer *out,
                            struct error *error);

#endif
