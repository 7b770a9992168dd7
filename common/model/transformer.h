/* transformer.h - a tower of pre-norm residual blocks, forward and backward.
 *
 *   x = x + out(attention(qkv(norm_1(x))))
 *   x = x + proj(activation(fc(norm_2(x))))
 *
 * Source: Vaswani et al. 2017, with the norms before each branch; Radford et al. 2021. */
#ifndef MODEL_TRANSFORMER_H
#define MODEL_TRANSFORMER_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/kernels.h"
#include "model/arena.h"
#include "model/config.h"
#include "model/parameters.h"

/* What one block computes and its backward pass needs; N = B*T rows. */
struct block_activations {
    float *input;                    /* [N,C] the residual stream that enters */
    float *norm_1, *mean_1, *rstd_1; /* [N,C] [N] [N] */
    float *qkv;                      /* [N,3C] */
    float *attention, *lse;          /* [N,C] [B,H,T] */
    float *middle;                   /* [N,C] the residual stream between the branches */
    float *norm_2, *mean_2, *rstd_2; /* [N,C] [N] [N] */
    float *fc, *activated;           /* [N,F] before and after the activation */
};

/* Memory that lives within one call, so that all towers may share it. */
struct transformer_scratch {
    float *branch; /* [N,C] */
    float *dwide;  /* [N,max(3C,F)] training only */
};

struct transformer {
    const struct transformer_config *config; /* not owned */
    const struct block_offsets *offsets;     /* [layers], not owned */
    size_t tokens;                           /* T */
    size_t slots;                            /* layers, or 1 where there is no backward pass */
    struct block_activations *blocks;        /* [slots], owned */
    struct transformer_scratch scratch;
    float *input;  /* [B,T,C]: the caller writes the embedded tokens here */
    float *output; /* [B,T,C] */
};

/* config and offsets must outlive the tower. training keeps the activations of every layer. */
enum status transformer_init(struct transformer *t, const struct transformer_config *config,
                             const struct block_offsets *offsets, size_t tokens, bool training,
                             struct error *error);

void transformer_free(struct transformer *t);

/* Take the memory for up to `batch` samples: activations, and what a call needs. */
void transformer_take(struct transformer *t, struct arena *arena, size_t batch);
void transformer_take_scratch(struct transformer *t, struct arena *arena, size_t batch,
                              bool training);

/* output = blocks(input) for `batch` samples. Without training, input is overwritten. */
void transformer_forward(struct transformer *t, struct kernels *k, const float *parameters,
                         size_t batch);

/* After a forward pass of the same batch: dx[B,T,C] holds the gradient of output and receives
 * (=) that of input; gradients[block layout] +=. */
void transformer_backward(struct transformer *t, struct kernels *k, const float *parameters,
                          float *gradients, float *dx, size_t batch);

#endif
