/* transformer.h - a tower of pre-norm residual blocks, forward and backward.
 *
 *   x = x + scale_1 out(attention(qkv(norm_1(x))))
 *   x = x + scale_2 proj(activation(fc(norm_2(x))))
 *
 * where the scales are vectors, or are not there. Source: Vaswani et al. 2017, with the norms
 * before each branch; Radford et al. 2021; Touvron et al. 2021 for the scales.
 *
 * Where one token alone is pooled, the last block computes for the others only what that token
 * attends to, their keys and values: the result is the same, forward and backward, and three
 * quarters of that block's matrix products are saved. */
#ifndef MODEL_TRANSFORMER_H
#define MODEL_TRANSFORMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "model/arena.h"
#include "model/config.h"
#include "model/parameters.h"
#include "model/weights.h"

/* What a tower in training keeps of its forward pass, by width C a token and layer, without
 * layer scale. What is not kept is computed again by the backward pass (Chen et al., "Training
 * deep nets with sublinear memory cost", 2016), to the same bits, but that in bfloat16
 * RECOMPUTE_LIGHT takes the activation of the rounded `fc`, the forward pass of the value
 * before it was rounded. */
enum recompute {
    RECOMPUTE_NONE,  /* 16 C: everything */
    RECOMPUTE_LIGHT, /* 10 C: all but the norms and the activation, which cost no product */
    RECOMPUTE_BLOCK  /* 1 C: each layer's input, for a second forward pass of all layers but
                      * the last; open_clip's --grad-checkpointing */
};

/* What one block computes and its backward pass needs; N = B*T rows, and R rows beyond the
 * attention: N, or B in the last block where one token is pooled. */
struct block_activations {
    void *input;              /* [N,C] the residual stream that enters */
    void *norm_1;             /* [N,C] */
    float *mean_1, *rstd_1;   /* [N] */
    void *qkv, *attention;    /* [N,3C] [N,C] */
    float *lse;               /* [B,H,T] */
    void *residual, *context; /* [R,C] input and attention of the rows that go on */
    void *out, *proj;         /* [R,C] the branches before their scale, if any */
    void *middle;             /* [R,C] the residual stream between the branches */
    void *norm_2;             /* [R,C] */
    float *mean_2, *rstd_2;   /* [R] */
    void *fc, *activated;     /* [R,F] before and after the activation */
};

/* Memory that lives within one call, so that all towers may share it. */
struct transformer_scratch {
    void *branch; /* [N,C] */
    void *dwide;  /* [N,max(3C,F)] for the backward pass */
    void *dtoken; /* [B,C] the same, where one token is pooled */
};

struct transformer {
    const struct transformer_config *config; /* not owned */
    const struct block_offsets *offsets;     /* [layers], not owned */
    size_t tokens;                           /* T */
    bool one_token;                          /* is pooled */
    bool training;
    enum recompute recompute;
    struct block_activations *blocks; /* [layers], owned; they may share memory */
    struct transformer_scratch scratch;
    void *input;  /* [B,T,C]: the caller writes the embedded tokens here */
    void *output; /* [B,T,C], or [B,C] where one token is pooled */
};

/* What is to be done with a tower. */
struct transformer_use {
    size_t tokens;  /* T */
    bool one_token; /* is pooled */
    bool training;  /* there is a backward pass; else one layer's memory serves all */
    enum recompute recompute; /* in training */
};

/* config and offsets must outlive the tower. */
enum status transformer_init(struct transformer *t, const struct transformer_config *config,
                             const struct block_offsets *offsets,
                             const struct transformer_use *use, struct error *error);

void transformer_free(struct transformer *t);

/* Take the memory for up to `batch` samples: activations, and what a call needs. */
void transformer_take(struct transformer *t, struct arena *arena, size_t batch);
void transformer_take_scratch(struct transformer *t, struct arena *arena, size_t batch);

/* output = blocks(input) for `batch` samples; row[B] says which token is pooled, where one is.
 * Input may be overwritten unless the tower is in training. */
void transformer_forward(struct transformer *t, struct kernels *k, const struct weights *w,
                         const int32_t *row, size_t batch);

/* After a forward pass of the same batch, in training: doutput holds the gradient of output,
 * and is overwritten; dinput[B,T,C] =; gradients[block layout] +=. Where one token is pooled
 * the two are apart, else they are the same memory. */
void transformer_backward(struct transformer *t, struct kernels *k, const struct weights *w,
                          float *gradients, void *dinput, void *doutput, const int32_t *row,
                          size_t batch);

#endif
