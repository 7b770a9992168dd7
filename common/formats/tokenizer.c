#include "formats/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "formats/bpe.h"
#include "formats/vocabulary_text.h"
#include "formats/wordpiece.h"

struct tokenizer {
    enum tokenizer_type type;
    struct bpe *bpe; /* the one of its type; the other is NULL */
    struct wordpiece *wordpiece;
};

struct tokenizer_scratch {
    struct bpe_scratch *bpe;
    struct wordpiece_scratch *wordpiece;
};

/* ---- kinds ---- */

static const char *const type_names[] = {
    [TOKENIZER_CLIP] = "clip",
    [TOKENIZER_WORDPIECE] = "wordpiece",
};

const char *tokenizer_type_name(enum tokenizer_type type)
{
    return type_names[type];
}

bool tokenizer_type_from_name(const char *name, enum tokenizer_type *type)
{
    for (size_t i = 0; i < sizeof type_names / sizeof type_names[0]; i++) {
        if (strcmp(name, type_names[i]) == 0) {
            *type = (enum tokenizer_type)i;
            return true;
        }
    }
    return false;
}

/* Whether any line is one of a WordPiece vocabulary's special entries. */
static bool has_special_line(struct vocabulary_text text)
{
    static const char *const specials[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"};
    const uint8_t *line;
    size_t size;
    while (vocabulary_text_next_line(&text, &line, &size))
        for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++)
            if (size >= 5 && size <= 6 && memcmp(line, specials[i], 5) == 0)
                return true;
    return false;
}

static enum status recognise(const struct vocabulary_text *text, enum tokenizer_type *type,
                             struct error *error)
{
    if (vocabulary_text_has_version(text)) {
        *type = TOKENIZER_CLIP;
    } else if (has_special_line(*text)) {
        *type = TOKENIZER_WORDPIECE;
    } else {
        error_set(error, STATUS_DATA, "no vocabulary: expected a first line with '#version' or "
                                      "lines [PAD], [UNK], [CLS] and [SEP]");
        return error_hint(error, "CLIP's is bpe_simple_vocab_16e6.txt.gz, BERT's is the "
                                 "vocab.txt of bert-base-uncased");
    }
    return STATUS_OK;
}

/* ---- opening ---- */

static enum status open_text(struct tokenizer *tokenizer, const struct vocabulary_text *text,
                             struct error *error)
{
    enum status status = recognise(text, &tokenizer->type, error);
    if (status != STATUS_OK)
        return status;
    if (tokenizer->type == TOKENIZER_CLIP)
        return bpe_open(&tokenizer->bpe, text->data, text->size, error);
    return wordpiece_open(&tokenizer->wordpiece, text->data, text->size, error);
}

enum status tokenizer_open(struct tokenizer **out, const uint8_t *data, size_t size,
                           struct error *error)
{
    struct vocabulary_text text = {.data = NULL};
    struct tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (tokenizer == NULL)
        return error_memory(error, sizeof *tokenizer, "a tokenizer");
    enum status status = vocabulary_text_open(&text, data, size, error);
    if (status == STATUS_OK)
        status = open_text(tokenizer, &text, error);
    vocabulary_text_close(&text);
    if (status != STATUS_OK) {
        tokenizer_close(tokenizer);
        return status;
    }
    *out = tokenizer;
    return STATUS_OK;
}

void tokenizer_close(struct tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    bpe_close(tokenizer->bpe);
    wordpiece_close(tokenizer->wordpiece);
    free(tokenizer);
}

enum status tokenizer_scratch_open(struct tokenizer_scratch **out,
                                   const struct tokenizer *tokenizer, struct error *error)
{
    struct tokenizer_scratch *scratch = calloc(1, sizeof *scratch);
    if (scratch == NULL)
        return error_memory(error, sizeof *scratch, "a tokenizer");
    enum status status = tokenizer->type == TOKENIZER_CLIP
                             ? bpe_scratch_open(&scratch->bpe, error)
                             : wordpiece_scratch_open(&scratch->wordpiece, error);
    if (status != STATUS_OK) {
        free(scratch);
        return status;
    }
    *out = scratch;
    return STATUS_OK;
}

void tokenizer_scratch_close(struct tokenizer_scratch *scratch)
{
    if (scratch == NULL)
        return;
    bpe_scratch_close(scratch->bpe);
    wordpiece_scratch_close(scratch->wordpiece);
    free(scratch);
}

/* ---- facts ---- */

enum tokenizer_type tokenizer_type(const struct tokenizer *tokenizer)
{
    return tokenizer->type;
}

int32_t tokenizer_size(const struct tokenizer *tokenizer)
{
    return tokenizer->type == TOKENIZER_CLIP ? bpe_vocab_size(tokenizer->bpe)
                                             : wordpiece_size(tokenizer->wordpiece);
}

int32_t tokenizer_start(const struct tokenizer *tokenizer)
{
    return tokenizer->type == TOKENIZER_CLIP
               ? bpe_start(tokenizer->bpe)
               : wordpiece_special_id(tokenizer->wordpiece, WORDPIECE_START);
}

int32_t tokenizer_end(const struct tokenizer *tokenizer)
{
    return tokenizer->type == TOKENIZER_CLIP
               ? bpe_end(tokenizer->bpe)
               : wordpiece_special_id(tokenizer->wordpiece, WORDPIECE_END);
}

int32_t tokenizer_padding(const struct tokenizer *tokenizer)
{
    return tokenizer->type == TOKENIZER_CLIP
               ? 0
               : wordpiece_special_id(tokenizer->wordpiece, WORDPIECE_PADDING);
}

enum text_cleaning tokenizer_default_cleaning(const struct tokenizer *tokenizer)
{
    return tokenizer->type == TOKENIZER_CLIP ? TEXT_CLEAN_LOWER : TEXT_CLEAN_WHITESPACE;
}

/* ---- texts ---- */

enum status tokenizer_encode(const struct tokenizer *tokenizer,
                             struct tokenizer_scratch *scratch, const uint8_t *text,
                             size_t size, struct buffer *tokens, struct buffer *words,
                             struct error *error)
{
    if (tokenizer->type == TOKENIZER_CLIP)
        return bpe_encode(tokenizer->bpe, scratch->bpe, text, size, tokens, words, error);
    return wordpiece_encode(tokenizer->wordpiece, scratch->wordpiece, text, size, tokens, words,
                            error);
}

bool tokenizer_next_word(enum tokenizer_type type, const uint8_t *text, size_t size,
                         size_t *position, size_t *start, size_t *word_size)
{
    struct bpe_word bpe_word;
    struct wordpiece_word wordpiece_word;
    if (type == TOKENIZER_CLIP) {
        if (!bpe_next_word(text, size, position, &bpe_word))
            return false;
        *start = bpe_word.start;
        *word_size = bpe_word.size;
    } else {
        if (!wordpiece_next_word(text, size, position, &wordpiece_word))
            return false;
        *start = wordpiece_word.start;
        *word_size = wordpiece_word.size;
    }
    return true;
}

enum status tokenizer_piece(const struct tokenizer *tokenizer, int32_t id, struct buffer *out,
                            struct error *error)
{
    return tokenizer->type == TOKENIZER_CLIP
               ? bpe_piece(tokenizer->bpe, id, out, error)
               : wordpiece_piece(tokenizer->wordpiece, id, out, error);
}
