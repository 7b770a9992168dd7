/* caption_encoder.h - from a caption to the tokens that a checkpoint's text tower takes, by the
 * vocabulary and the reduction that it was trained with. */
#ifndef MODEL_CAPTION_ENCODER_H
#define MODEL_CAPTION_ENCODER_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "formats/bpe.h"
#include "formats/reduce_text.h"
#include "formats/text_clean.h"
#include "model/checkpoint.h"

/* A zeroed struct is empty. */
struct caption_encoder {
    struct bpe *bpe;
    struct bpe_scratch *scratch;
    struct text_cleaner cleaner;
    struct text_reduction reduction;
    struct text_specials specials;
    struct buffer cleaned, tokens, words;
};

/* Reads the vocabulary that the checkpoint carries, or `vocab` (a path) where that is not
 * NULL. STATUS_DATA where there is neither, or where it has more ids than the model. */
enum status caption_encoder_open(struct caption_encoder *encoder,
                                 const struct checkpoint *checkpoint, const char *vocab,
                                 struct error *error);
void caption_encoder_close(struct caption_encoder *encoder);

/* out[L] = the tokens of caption[0..size), L the model's context length. */
enum status caption_encoder_run(struct caption_encoder *encoder, const uint8_t *caption,
                                size_t size, int32_t *out, struct error *error);

#endif
