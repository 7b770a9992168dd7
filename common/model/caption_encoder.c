#include "model/caption_encoder.h"

#include <stdio.h>

#include "model/vocabulary.h"

static enum status open_vocabulary(struct caption_encoder *encoder, const char *path,
                                   struct error *error)
{
    struct buffer bytes = {0};
    char crc[VOCABULARY_CRC_SIZE];
    enum status status = vocabulary_load(path, NULL, &bytes, crc, error);
    if (status == STATUS_OK) {
        status = bpe_open(&encoder->bpe, bytes.data, bytes.size, error);
        if (status != STATUS_OK)
            error_prefix(error, "%s", path);
    }
    buffer_free(&bytes);
    return status;
}

enum status caption_encoder_open(struct caption_encoder *encoder,
                                 const struct checkpoint *checkpoint, const char *vocab,
                                 struct error *error)
{
    const struct text_config *text = &checkpoint->config.text;
    char path[4096];
    *encoder = (struct caption_encoder){.bpe = NULL};
    snprintf(path, sizeof path, "%s/vocab.txt.gz", checkpoint->path);
    enum status status = open_vocabulary(encoder, vocab != NULL ? vocab : path, error);
    if (status == STATUS_OK)
        status = bpe_scratch_open(&encoder->scratch, error);
    if (status == STATUS_OK && (size_t)bpe_vocab_size(encoder->bpe) > text->vocab_size)
        status = error_set(error, STATUS_DATA, "vocabulary of %d ids, the model has %zu",
                           bpe_vocab_size(encoder->bpe), text->vocab_size);
    if (status != STATUS_OK) {
        caption_encoder_close(encoder);
        return status;
    }
    encoder->reduction = (struct text_reduction){TEXT_TRUNCATE, text->context_length};
    encoder->specials =
        (struct text_specials){bpe_start(encoder->bpe), bpe_end(encoder->bpe), text->pad_id};
    return STATUS_OK;
}

void caption_encoder_close(struct caption_encoder *encoder)
{
    bpe_scratch_close(encoder->scratch);
    bpe_close(encoder->bpe);
    text_cleaner_free(&encoder->cleaner);
    buffer_free(&encoder->cleaned);
    buffer_free(&encoder->tokens);
    buffer_free(&encoder->words);
    *encoder = (struct caption_encoder){.bpe = NULL};
}

enum status caption_encoder_run(struct caption_encoder *encoder, const uint8_t *caption,
                                size_t size, int32_t *out, struct error *error)
{
    encoder->tokens.size = encoder->words.size = 0;
    enum status status = text_clean(&encoder->cleaner, caption, size, &encoder->cleaned, error);
    if (status == STATUS_OK)
        status = bpe_encode(encoder->bpe, encoder->scratch, encoder->cleaned.data,
                            encoder->cleaned.size, &encoder->tokens, &encoder->words, error);
    if (status == STATUS_OK)
        text_reduce(&encoder->reduction, &encoder->specials,
                    (const int32_t *)encoder->tokens.data,
                    encoder->tokens.size / sizeof(int32_t), out);
    return status;
}
