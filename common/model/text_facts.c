#include "model/text_facts.h"

#include <stdbool.h>
#include <string.h>

#include "base/number.h"
#include "formats/piece_priority.h"
#include "formats/tagger.h"
#include "formats/tokenizer.h"

static bool find_number(const struct metadata *facts, const char *key, int64_t least,
                        int32_t *out)
{
    int64_t number;
    const char *text = metadata_get(facts, key);
    if (text == NULL || !number_parse_integer(text, &number) || number < least ||
        number > INT32_MAX)
        return false;
    *out = (int32_t)number;
    return true;
}

/* A vocabulary of CLIP ends with start and end; open_clip pads with 0. */
enum status text_specials_find(const struct metadata *facts, struct text_specials *out,
                               struct error *error)
{
    int32_t size;
    if (find_number(facts, "tokenizer.start", 0, &out->start) &&
        find_number(facts, "tokenizer.end", 0, &out->end) &&
        find_number(facts, "tokenizer.padding", 0, &out->padding))
        return STATUS_OK;
    if (find_number(facts, "tokenizer.size", 2, &size)) {
        *out = (struct text_specials){size - 2, size - 1, 0};
        return STATUS_OK;
    }
    error_set(error, STATUS_DATA, "the stream does not name its vocabulary");
    return error_hint(error, "tokens come from `tokenize --vocab FILE`, which writes the "
                             "metadata tokenizer.start and others");
}

enum text_layout text_layout_for(const struct metadata *facts)
{
    const char *type = metadata_get(facts, "tokenizer.type");
    const bool wordpiece =
        type != NULL && strcmp(type, tokenizer_type_name(TOKENIZER_WORDPIECE)) == 0;
    return wordpiece ? TEXT_LAYOUT_BERT : TEXT_LAYOUT_CLIP;
}

/* ---- the priorities of a vocabulary ---- */

static enum status rank_entries(struct buffer *priorities, const struct buffer *file,
                                struct error *error)
{
    struct tokenizer *tokenizer = NULL;
    struct tagger *tagger = NULL;
    size_t size = 0;
    enum status status = tokenizer_open(&tokenizer, file->data, file->size, error);
    if (status == STATUS_OK) {
        size = (size_t)tokenizer_size(tokenizer);
        status = buffer_reserve(priorities, size, error);
    }
    if (status == STATUS_OK)
        status = tagger_open_english(&tagger, error);
    if (status == STATUS_OK)
        status = piece_priorities(tagger, tokenizer, priorities->data, error);
    priorities->size = status == STATUS_OK ? size : 0;
    tagger_close(tagger);
    tokenizer_close(tokenizer);
    return status;
}

enum status vocabulary_rank(struct vocabulary_ranking *ranking, const struct metadata *facts,
                            struct error *error)
{
    const char *path = metadata_get(facts, "tokenizer.path");
    const char *crc = metadata_get(facts, "tokenizer.crc32c");
    char loaded[VOCABULARY_CRC_SIZE];
    struct buffer file = {0};
    if (path == NULL || crc == NULL)
        return error_set(error, STATUS_DATA,
                         "no metadata tokenizer.path and tokenizer.crc32c name the vocabulary");
    if (strcmp(crc, ranking->crc) == 0)
        return STATUS_OK;
    enum status status = vocabulary_load(path, crc, &file, loaded, error);
    if (status == STATUS_NO_INPUT)
        error_hint(error, "the stream's metadata tokenizer.path names this vocabulary");
    if (status == STATUS_OK) {
        status = rank_entries(&ranking->priorities, &file, error);
        if (status != STATUS_OK)
            error_prefix(error, "%s", path);
    }
    if (status == STATUS_OK)
        memcpy(ranking->crc, loaded, sizeof loaded);
    buffer_free(&file);
    return status;
}

enum status vocabulary_ranking_look_up(const struct vocabulary_ranking *ranking,
                                       const int32_t *tokens, size_t count, uint8_t *priority,
                                       struct error *error)
{
    const size_t size = ranking->priorities.size;
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] < 0 || (size_t)tokens[i] >= size)
            return error_set(error, STATUS_DATA, "token %d is outside the vocabulary of %zu",
                             tokens[i], size);
        priority[i] = ranking->priorities.data[tokens[i]];
    }
    return STATUS_OK;
}

void vocabulary_ranking_free(struct vocabulary_ranking *ranking)
{
    buffer_free(&ranking->priorities);
    *ranking = (struct vocabulary_ranking){.crc = ""};
}
