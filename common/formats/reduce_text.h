/* reduce_text.h - captions of a fixed length from token lists of any length.
 *
 * A caption of L tokens is a start token, some of the content tokens, and what the layout puts
 * behind them. A caption whose content fits is the same under every strategy; of a longer one,
 * as many tokens as there is room for remain:
 *   truncate  the first
 *   random    a set drawn at random, all sets equally likely, in the caption's order
 *   shuffle   the set that `random` draws, in random order
 *   block     consecutive ones, all places equally likely
 *   syntax    those of the most important words: words are sorted by priority, those of equal
 *             priority by place, and as many words as there is room for tokens are kept, in
 *             the caption's order; of their tokens, the first that fit
 * Source: open_clip's reduction_mask ("random", "shuffle", "simple", "syntax"), with a stable
 * sort in place of an unstable one, and for syntax over pieces CLIPA's JAX code. */
#ifndef FORMATS_REDUCE_TEXT_H
#define FORMATS_REDUCE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/rng.h"

enum text_strategy {
    TEXT_NONE,
    TEXT_TRUNCATE,
    TEXT_RANDOM,
    TEXT_SHUFFLE,
    TEXT_BLOCK,
    TEXT_SYNTAX
};

enum text_layout {
    TEXT_LAYOUT_CLIP,      /* "clip": start, up to L - 2 tokens, end, padding: CLIP's */
    TEXT_LAYOUT_BERT,      /* "bert": start, up to L - 2, padding: open_clip's CLIPA models,
                            * which blank [SEP] out; the last place always holds padding */
    TEXT_LAYOUT_CLIPA_JAX, /* "clipa-jax": start, up to L - 1, padding: CLIPA's JAX models */
    TEXT_LAYOUT_BERT_SEP   /* "bert-sep": start, up to L - 2, end, padding: BERT's */
};

struct text_reduction {
    enum text_strategy strategy;
    size_t length; /* L, specials included */
    enum text_layout layout;
    bool pieces; /* syntax: priorities are those of vocabulary entries (piece_priority.h), not
                  * of tagged words. For the caller; the choice by priority is the same */
};

struct text_specials {
    int32_t start, end, padding;
};

/* One caption without specials. `word` and `priority` are for syntax only, else may be NULL. */
struct text_input {
    const int32_t *tokens;   /* [count] */
    const int32_t *word;     /* [count]: neighbours of equal number are one word */
    const uint8_t *priority; /* [count]: a word has its first token's; lower is kept sooner */
    size_t count;
};

enum { TEXT_LENGTH_MIN = 2, TEXT_LENGTH_MAX = 4096 };

/* Reads "none" or "STRATEGY:L" into strategy and length; layout and pieces stay. STATUS_USAGE
 * where it is neither. */
enum status text_reduction_parse(struct text_reduction *out, const char *text,
                                 struct error *error);

bool text_layout_from_name(const char *name, enum text_layout *layout);
const char *text_layout_name(enum text_layout layout);

/* The content tokens that fit: L - 2, or L - 1 for clipa-jax. */
size_t text_reduction_room(const struct text_reduction *reduction);

/* Writes out[L]. `rng` gives the draws of random, shuffle and block and may be NULL for the
 * others; captions that fit draw nothing. `scratch` is working memory, of one thread, which
 * grows to a bit for each token of the longest caption: STATUS_SYSTEM for want of it is the
 * only failure. */
enum status text_reduce(const struct text_reduction *reduction,
                        const struct text_specials *specials, const struct text_input *input,
                        struct rng *rng, struct buffer *scratch, int32_t *out,
                        struct error *error);

#endif
