/* transformer.h - a tower of pre-norm residual blocks, forward and backward.
 *
 *   x = x + scale_1 out(attention(qkv(norm_1(x))))
 *   x = x + scale_2 proj(activation(fc(norm_2(x))))
 *
 * where the scales are vectors, or are not there. Source: Vaswani et al. 2017, with the norms
 * before each branch; Radford et al. 2021; Touvron et al. 2021 for the scales.
 *
 * A tower in training keeps what every layer computed, or only what entered each layer
 * (TRANSFORMER_RECOMPUTE), which costs the forward pass of all layers but the last once more
 * and gives the same bits (Chen et al., "Training deep nets with sublinear memory cost",
 * 2016; open_clip's --grad-checkpointing). */
#ifndef MODEL_TRANSFORMER_H
#define MODEL_TRANSFORMER_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/kernels.h"
#include "model/arena.h"
#include "model/config.h"
#include "model/parameters.h"

enum transformer_memory {
    TRANSFORMER_FORWARD,  /* no backward pass: one layer's memory serves all */
    TRANSFORMER_KEEP,     /* every layer's activations */
    TRANSFORMER_RECOMPUTE /* every layer's input, one layer's activations */
};

/* What one block computes and its backward pass needs; N = B*T rows. */
struct block_activations {
    float *input;                    /* [N,C] the residual stream that enters */
    float *norm_1, *mean_1, *rstd_1; /* [N,C] [N] [N] */
    float *qkv;                      /* [N,3C] */
    float *attention, *lse;          /* [N,C] [B,H,T] */
    float *out, *proj;               /* [N,C] the branches before their scale, if any */
    float *middle;                   /* [N,C] the residual stream between the branches */
    float *norm_2, *mean_2, *rstd_2; /* [N,C] [N] [N] */
    float *fc, *activated;           /* [N,F] before and after the activation */
};

/* Memory that lives within one call, so that all towers may share it. */
struct transformer_scratch {
    float *branch; /* [N,C] */
    float *dwide;  /* [N,max(3C,F)] for the backward pass */
};

struct transformer {
    const struct transformer_config *config; /* not owned */
    const struct block_offsets *offsets;     /* [layers], not owned */
    size_t tokens;                           /* T */
    enum transformer_memory memory;
    struct block_activations *blocks; /* [layers], owned; they may share memory */
    struct transformer_scratch scratch;
    float *input;  /* [B,T,C]: the caller writes the embedded tokens here */
    float *output; /* [B,T,C] */
};

/* config and offsets must outlive the tower. */
enum status transformer_init(struct transformer *t, const struct transformer_config *config,
                             const struct block_offsets *offsets, size_t tokens,
                             enum transformer_memory memory, struct error *error);

void transformer_free(struct transformer *t);

/* Take the memory for up to `batch` samples: activations, and what a call needs. */
void transformer_take(struct transformer *t, struct arena *arena, size_t batch);
void transformer_take_scratch(struct transformer *t, struct arena *arena, size_t batch);

/* output = blocks(input) for `batch` samples. TRANSFORMER_FORWARD overwrites input. */
void transformer_forward(struct transformer *t, struct kernels *k, const float *parameters,
                         size_t batch);

/* After a forward pass of the same batch, unless TRANSFORMER_FORWARD: dx[B,T,C] holds the
 * gradient of output and receives (=) that of input; gradients[block layout] +=. */
void transformer_backward(struct transformer *t, struct kernels *k, const float *parameters,
                          float *gradients, float *dx, size_t batch);

#endif
