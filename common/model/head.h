/* head.h - from the tokens that leave a tower to one embedding of unit length: pool, final
 * norm, projection, normalisation; forward and backward. */
#ifndef MODEL_HEAD_H
#define MODEL_HEAD_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "model/arena.h"
#include "model/parameters.h"

enum head_pool {
    HEAD_PICK,           /* one token, then the norm: norming the others would be wasted */
    HEAD_MEAN_THEN_NORM, /* the mean of tokens first..T-1 */
    HEAD_NORM_THEN_MEAN  /* of all tokens; then the mean of tokens first..T-1 */
};

struct head {
    enum head_pool pool;
    enum projection projection;
    size_t tokens, width, embed_dim; /* T, C, E */
    size_t first;                    /* token of the mean */
    float eps;
    const struct head_offsets *offsets; /* not owned */

    /* The norm's rows are R = B, or B*T where it comes before the mean. */
    float *pooled;      /* [B,C] unless HEAD_NORM_THEN_MEAN: what is normed */
    float *normed;      /* [R,C] */
    float *mean, *rstd; /* [R] */
    float *averaged;    /* [B,C] HEAD_NORM_THEN_MEAN only */
    float *inverse;     /* [B] 1 / length before normalisation */

    /* Within one call. */
    float *projected; /* [B,E], and its gradient; NULL for PROJECTION_NONE */
    float *dpooled;   /* [B,C] training only */
    float *dnormed;   /* [R,C] training only */
};

void head_take(struct head *head, struct arena *arena, size_t batch);
void head_take_scratch(struct head *head, struct arena *arena, size_t batch, bool training);

/* unit[B,E] = the embeddings of x[B,T,C]; row[B] says which token HEAD_PICK takes. */
void head_forward(struct head *head, struct kernels *k, const float *parameters, float *unit,
                  const float *x, const int32_t *row, size_t batch);

/* dx[B,T,C] =, gradients +=, from dunit[B,E] and what the forward pass was given. */
void head_backward(struct head *head, struct kernels *k, const float *parameters,
                   float *gradients, float *dx, const float *dunit, const float *unit,
                   const float *x, const int32_t *row, size_t batch);

#endif
