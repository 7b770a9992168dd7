/* wordpiece.h - BERT's lower-casing WordPiece tokenizer (Devlin et al. 2019; Wu et al. 2016).
 *
 * A vocabulary file, as bert-base-uncased's vocab.txt, is text, plain or gzip: one entry to a
 * line, whose id is the number of the line counted from 0; "##" before what continues a word.
 * [PAD], [UNK], [CLS] and [SEP] must be there, [MASK] may.
 *
 * The ids are those of Hugging Face's tokenizers 0.23, BertWordPieceTokenizer(lowercase=True):
 *   1. The strings of the special entries, in capitals, are those entries.
 *   2. Controls, formats and U+FFFD go away; white space and CJK characters separate words,
 *      each CJK character is a word.
 *   3. Canonical decomposition, marks (Mn) go away, lower case.
 *   4. Each punctuation character is a word; all ASCII but letters and digits is punctuation.
 *   5. From the left, the longest entry that fits, again and again; [UNK] for a word that ends
 *      otherwise or has more than 100 characters.
 * Its tables of marks, formats and punctuation are those of Unicode 8, and so are ours: later
 * characters of these kinds are parts of words. Case pairs and the order of marks are those of
 * utf8proc (Unicode 15 with 2.8), where tokenizers has older or newer ones; this concerns rare
 * letters and can matter only with a vocabulary that has them. */
#ifndef FORMATS_WORDPIECE_H
#define FORMATS_WORDPIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum {
    WORDPIECE_WORD_MAX = 100, /* characters after step 3 */
    WORDPIECE_SIZE_MAX = 1 << 20,
};

enum wordpiece_special {
    WORDPIECE_PADDING, /* [PAD] */
    WORDPIECE_UNKNOWN, /* [UNK] */
    WORDPIECE_START,   /* [CLS] */
    WORDPIECE_END,     /* [SEP] */
    WORDPIECE_MASK,    /* [MASK] */
    WORDPIECE_SPECIALS,
    WORDPIECE_TEXT = WORDPIECE_SPECIALS /* none of them */
};

struct wordpiece;         /* constant once open: any number of threads */
struct wordpiece_scratch; /* word cache of one thread and one vocabulary */

/* `data` holds the vocabulary file and may go away afterwards. An entry on two lines means the
 * later. STATUS_DATA, with the line, where it is none, or one for cased text: that has the
 * entry "A", which no lower-cased word matches. */
enum status wordpiece_open(struct wordpiece **wordpiece, const uint8_t *data, size_t size,
                           struct error *error);
void wordpiece_close(struct wordpiece *wordpiece); /* accepts NULL */

int32_t wordpiece_size(const struct wordpiece *wordpiece);

/* The id of a special entry; -1 where the vocabulary has no [MASK]. */
int32_t wordpiece_special_id(const struct wordpiece *wordpiece, enum wordpiece_special special);

enum status wordpiece_scratch_open(struct wordpiece_scratch **scratch, struct error *error);
void wordpiece_scratch_close(struct wordpiece_scratch *scratch); /* accepts NULL */

/* Appends to *tokens the int32_t ids of the text, without [CLS] and [SEP] of its own, and to
 * *words, for each, the number of the word it comes from, counted from 0. Bytes that are no
 * UTF-8 go away. Time is O(n k) for a longest entry of k bytes, k at most 400; nothing is
 * allocated once the buffers have grown. STATUS_DATA for a text of more than 2 GiB. */
enum status wordpiece_encode(const struct wordpiece *wordpiece,
                             struct wordpiece_scratch *scratch, const uint8_t *text,
                             size_t size, struct buffer *tokens, struct buffer *words,
                             struct error *error);

/* A word of a text as it stands, before steps 2 and 3. */
struct wordpiece_word {
    size_t start; /* in bytes */
    size_t size;
    enum wordpiece_special special; /* WORDPIECE_MASK also where the vocabulary has none */
};

/* The next word at or after text[*position], which moves past it; false at the end. The string
 * of a special entry in small letters is one word, too, though several for step 4, so that
 * lower-casing a text does not change the number of its words. */
bool wordpiece_next_word(const uint8_t *text, size_t size, size_t *position,
                         struct wordpiece_word *word);

/* Appends an entry as it stands in the file. STATUS_DATA for an id outside the vocabulary. */
enum status wordpiece_piece(const struct wordpiece *wordpiece, int32_t id, struct buffer *out,
                            struct error *error);

#endif
