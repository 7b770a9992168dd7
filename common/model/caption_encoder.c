#include "model/caption_encoder.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/number.h"
#include "formats/piece_priority.h"
#include "model/vocabulary.h"

/* What text_cfg says about the tokenizer; false and empty where it says nothing. */
struct tokenizer_config {
    bool is_hugging_face; /* hf_tokenizer_name is there: not open_clip's own BPE */
    bool strip_sep_token;
    char clean[32];
};

/* The configuration passed its parser, so what is there has the right form, apart from the
 * tokenizer's own fields. */
static void read_tokenizer_config(const char *model_json, struct tokenizer_config *out)
{
    *out = (struct tokenizer_config){.clean = ""};
    json_t *model = model_json == NULL ? NULL : json_loads(model_json, 0, NULL);
    const json_t *text = json_object_get(model, "text_cfg");
    const json_t *kwargs = json_object_get(text, "tokenizer_kwargs");
    const char *clean = json_string_value(json_object_get(kwargs, "clean"));
    out->is_hugging_face = json_is_string(json_object_get(text, "hf_tokenizer_name"));
    out->strip_sep_token = json_is_true(json_object_get(kwargs, "strip_sep_token"));
    if (clean != NULL)
        snprintf(out->clean, sizeof out->clean, "%s", clean);
    json_decref(model);
}

/* ---- the vocabulary ---- */

static void default_path(const struct checkpoint *checkpoint, char *path, size_t size)
{
    snprintf(path, size, "%s/" CHECKPOINT_VOCAB_NAME, checkpoint->path);
    if (access(path, F_OK) == 0)
        return;
    snprintf(path, size, "%s/vocab.txt", checkpoint->path);
    if (access(path, F_OK) != 0)
        snprintf(path, size, "%s/" CHECKPOINT_VOCAB_NAME, checkpoint->path);
}

static enum status open_vocabulary(struct caption_encoder *encoder, const char *path,
                                   struct error *error)
{
    struct buffer bytes = {0};
    char crc[VOCABULARY_CRC_SIZE];
    enum status status = vocabulary_load(path, NULL, &bytes, crc, error);
    if (status == STATUS_OK) {
        status = tokenizer_open(&encoder->tokenizer, bytes.data, bytes.size, error);
        if (status != STATUS_OK)
            error_prefix(error, "%s", path);
    }
    buffer_free(&bytes);
    return status;
}

static enum status check_type(const struct tokenizer *tokenizer,
                              const struct checkpoint *checkpoint,
                              const struct tokenizer_config *config, struct error *error)
{
    const char *found = tokenizer_type_name(tokenizer_type(tokenizer));
    const char *expected = metadata_get(&checkpoint->about, "tokenizer.type");
    if (expected == NULL && config->is_hugging_face)
        expected = tokenizer_type_name(TOKENIZER_WORDPIECE);
    else if (expected == NULL && checkpoint->config.text.pool == TEXT_POOL_ARGMAX)
        expected = tokenizer_type_name(TOKENIZER_CLIP);
    if (expected == NULL || strcmp(found, expected) == 0)
        return STATUS_OK;
    return error_set(error, STATUS_DATA,
                     "a vocabulary of the kind %s, the model was trained with %s", found,
                     expected);
}

static enum status check_size(const struct tokenizer *tokenizer,
                              const struct checkpoint *checkpoint, struct error *error)
{
    const int64_t found = tokenizer_size(tokenizer);
    const int64_t rows = (int64_t)checkpoint->config.text.vocab_size;
    const char *fact = metadata_get(&checkpoint->about, "tokenizer.size");
    int64_t trained;
    if (fact != NULL && number_parse_integer(fact, &trained) && found != trained)
        return error_set(error, STATUS_DATA,
                         "vocabulary of %lld ids, the model was trained with %lld",
                         (long long)found, (long long)trained);
    if (found > rows || (fact == NULL && found < rows / 2))
        return error_set(error, STATUS_DATA, "vocabulary of %lld ids, the model has %lld",
                         (long long)found, (long long)rows);
    return STATUS_OK;
}

/* ---- how it is used ---- */

static enum status choose_cleaning(struct caption_encoder *encoder,
                                   const struct checkpoint *checkpoint,
                                   const struct tokenizer_config *config, struct error *error)
{
    const char *name = metadata_get(&checkpoint->about, "tokenizer.clean");
    if (name == NULL && config->clean[0] != '\0')
        name = config->clean;
    encoder->cleaner.mode = tokenizer_default_cleaning(encoder->tokenizer);
    if (name != NULL && !text_cleaning_from_name(name, &encoder->cleaner.mode))
        return error_set(error, STATUS_DATA, "the model's captions are cleaned by '%.30s', "
                                             "which is unknown", name);
    return STATUS_OK;
}

static enum status choose_layout(struct caption_encoder *encoder,
                                 const struct checkpoint *checkpoint,
                                 const struct tokenizer_config *config, struct error *error)
{
    const char *name = metadata_get(&checkpoint->about, "text.layout");
    enum text_layout *layout = &encoder->reduction.layout;
    if (tokenizer_type(encoder->tokenizer) == TOKENIZER_CLIP)
        *layout = TEXT_LAYOUT_CLIP;
    else if (config->is_hugging_face && !config->strip_sep_token)
        *layout = TEXT_LAYOUT_BERT_SEP;
    else
        *layout = TEXT_LAYOUT_BERT;
    if (name != NULL && !text_layout_from_name(name, layout))
        return error_set(error, STATUS_DATA, "the model's captions have the layout '%.30s', "
                                             "which is unknown", name);
    return STATUS_OK;
}

enum status caption_encoder_open(struct caption_encoder *encoder,
                                 const struct checkpoint *checkpoint, const char *vocab,
                                 struct error *error)
{
    struct tokenizer_config config;
    char path[4096];
    *encoder = (struct caption_encoder){.tokenizer = NULL};
    read_tokenizer_config(checkpoint->config.model_json, &config);
    default_path(checkpoint, path, sizeof path);
    if (vocab == NULL)
        vocab = path;
    enum status status = open_vocabulary(encoder, vocab, error);
    if (status != STATUS_OK)
        return status;
    status = check_type(encoder->tokenizer, checkpoint, &config, error);
    if (status == STATUS_OK)
        status = check_size(encoder->tokenizer, checkpoint, error);
    if (status == STATUS_OK)
        status = choose_cleaning(encoder, checkpoint, &config, error);
    if (status == STATUS_OK)
        status = choose_layout(encoder, checkpoint, &config, error);
    if (status != STATUS_OK)
        error_prefix(error, "%s", vocab);
    if (status == STATUS_OK)
        status = tokenizer_scratch_open(&encoder->scratch, encoder->tokenizer, error);
    if (status != STATUS_OK) {
        caption_encoder_close(encoder);
        return status;
    }
    encoder->reduction.strategy = TEXT_TRUNCATE;
    encoder->reduction.length = checkpoint->config.text.context_length;
    encoder->specials = (struct text_specials){
        tokenizer_start(encoder->tokenizer),
        tokenizer_end(encoder->tokenizer),
        tokenizer_padding(encoder->tokenizer),
    };
    return STATUS_OK;
}

/* ---- reduction by syntax ---- */

static enum status rank_pieces(struct caption_encoder *encoder, struct error *error)
{
    struct buffer *priorities = &encoder->piece_priorities;
    const size_t size = (size_t)tokenizer_size(encoder->tokenizer);
    enum status status = buffer_reserve(priorities, size, error);
    if (status == STATUS_OK)
        status = piece_priorities(encoder->tagger, encoder->tokenizer, priorities->data, error);
    if (status == STATUS_OK)
        priorities->size = size;
    return status;
}

bool caption_encoder_trained_by_syntax(const struct checkpoint *checkpoint)
{
    static const char syntax[] = "syntax:";
    const char *strategy = metadata_get(&checkpoint->about, "text.strategy");
    return strategy != NULL && strncmp(strategy, syntax, strlen(syntax)) == 0;
}

enum status caption_encoder_reduce_by_syntax(struct caption_encoder *encoder,
                                             const struct checkpoint *checkpoint,
                                             struct error *error)
{
    const char *by = metadata_get(&checkpoint->about, "text.syntax");
    encoder->reduction.strategy = TEXT_SYNTAX;
    encoder->reduction.pieces = by != NULL && strcmp(by, "pieces") == 0;
    enum status status = tagger_open_english(&encoder->tagger, error);
    if (status == STATUS_OK && encoder->reduction.pieces)
        status = rank_pieces(encoder, error);
    return status;
}

/* A priority for each token of the caption, and the words by which it was given. */
static enum status rank_tokens(struct caption_encoder *encoder, const uint8_t *caption,
                               size_t size, size_t count, struct error *error)
{
    const int32_t *tokens = (const void *)encoder->tokens.data;
    int32_t *words = (void *)encoder->words.data;
    enum status status = buffer_reserve(&encoder->priorities, count, error);
    if (status != STATUS_OK)
        return status;
    uint8_t *priorities = encoder->priorities.data;
    for (size_t i = 0; i < count && encoder->reduction.pieces; i++)
        priorities[i] = encoder->piece_priorities.data[tokens[i]];
    if (encoder->reduction.pieces)
        return STATUS_OK;
    const struct caption_source source = {
        .tagger = encoder->tagger,
        .type = tokenizer_type(encoder->tokenizer),
        .cleaning = encoder->cleaner.mode,
    };
    return caption_tag(&source, &encoder->tools, caption, size, words, count, words, priorities,
                       error);
}

void caption_encoder_close(struct caption_encoder *encoder)
{
    tagger_close(encoder->tagger);
    caption_tagger_free(&encoder->tools);
    buffer_free(&encoder->piece_priorities);
    buffer_free(&encoder->priorities);
    tokenizer_scratch_close(encoder->scratch);
    tokenizer_close(encoder->tokenizer);
    text_cleaner_free(&encoder->cleaner);
    buffer_free(&encoder->cleaned);
    buffer_free(&encoder->tokens);
    buffer_free(&encoder->words);
    buffer_free(&encoder->reduce_scratch);
    *encoder = (struct caption_encoder){.tokenizer = NULL};
}

enum status caption_encoder_run(struct caption_encoder *encoder, const uint8_t *caption,
                                size_t size, int32_t *out, struct error *error)
{
    encoder->tokens.size = encoder->words.size = 0;
    enum status status = text_clean(&encoder->cleaner, caption, size, &encoder->cleaned, error);
    if (status == STATUS_OK)
        status = tokenizer_encode(encoder->tokenizer, encoder->scratch, encoder->cleaned.data,
                                  encoder->cleaned.size, &encoder->tokens, &encoder->words,
                                  error);
    if (status != STATUS_OK)
        return status;
    const size_t count = encoder->tokens.size / sizeof(int32_t);
    if (encoder->reduction.strategy == TEXT_SYNTAX)
        status = rank_tokens(encoder, caption, size, count, error);
    if (status != STATUS_OK)
        return status;
    const struct text_input input = {
        .tokens = (const void *)encoder->tokens.data,
        .word = (const void *)encoder->words.data,
        .priority = encoder->priorities.data,
        .count = count,
    };
    return text_reduce(&encoder->reduction, &encoder->specials, &input, NULL,
                       &encoder->reduce_scratch, out, error);
}
