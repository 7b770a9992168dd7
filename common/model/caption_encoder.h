/* caption_encoder.h - from a caption to the tokens that a checkpoint's text tower takes, by the
 * vocabulary, the cleaning and the layout that it was trained with. */
#ifndef MODEL_CAPTION_ENCODER_H
#define MODEL_CAPTION_ENCODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "formats/reduce_text.h"
#include "formats/tagger_caption.h"
#include "formats/text_clean.h"
#include "formats/tokenizer.h"
#include "model/checkpoint.h"

/* One thread's. A zeroed struct is empty. */
struct caption_encoder {
    struct tokenizer *tokenizer;
    struct tokenizer_scratch *scratch;
    struct text_cleaner cleaner;
    struct text_reduction reduction; /* to L tokens, whatever the training did */
    struct text_specials specials;
    struct buffer cleaned, tokens, words, reduce_scratch;

    /* Reduction by syntax only. */
    struct tagger *tagger;
    struct caption_tagger tools;
    struct buffer piece_priorities; /* uint8_t [vocabulary]; empty: captions are tagged */
    struct buffer priorities;       /* uint8_t, one a token */
};

/* Reads the vocabulary that the checkpoint carries (vocab.txt.gz or, as Hugging Face calls it,
 * vocab.txt), or `vocab` (a path) where that is not NULL.
 *
 * Cleaning and layout are the checkpoint's facts tokenizer.clean and text.layout; where it has
 * none, what open_clip reads in text_cfg: tokenizer_kwargs.clean, and of a model with
 * hf_tokenizer_name, strip_sep_token; else the defaults of the vocabulary's kind.
 * tokenizer_kwargs.reduction_mask and the fact text.strategy are for training alone.
 *
 * STATUS_NO_INPUT where there is no vocabulary. STATUS_DATA where its kind or size is not the
 * one that the model was trained with, the facts tokenizer.type and tokenizer.size. Without
 * facts, where it has more ids than the model or less than half as many; where it is not
 * WordPiece for a model with hf_tokenizer_name; or where it is for one without that pools the
 * largest id, CLIP's end of text. */
enum status caption_encoder_open(struct caption_encoder *encoder,
                                 const struct checkpoint *checkpoint, const char *vocab,
                                 struct error *error);

/* Whether the captions of the training were reduced so: the fact text.strategy. */
bool caption_encoder_trained_by_syntax(const struct checkpoint *checkpoint);

/* From now on a caption that is too long keeps its most important words and not its first, as
 * the prompts do in CLIPA's evaluation of models that are pre-trained on so reduced captions
 * (reduce_text.h). Words are ranked as in training: the checkpoint's fact text.syntax, "words"
 * where it has none. */
enum status caption_encoder_reduce_by_syntax(struct caption_encoder *encoder,
                                             const struct checkpoint *checkpoint,
                                             struct error *error);

void caption_encoder_close(struct caption_encoder *encoder);

/* out[L] = the tokens of caption[0..size), L the model's context length. */
enum status caption_encoder_run(struct caption_encoder *encoder, const uint8_t *caption,
                                size_t size, int32_t *out, struct error *error);

#endif
