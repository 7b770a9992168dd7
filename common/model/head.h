/* head.h - from what leaves a transformer to one embedding of unit length: pool, final norm,
 * projection, normalisation; forward and backward. */
#ifndef MODEL_HEAD_H
#define MODEL_HEAD_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "model/arena.h"
#include "model/parameters.h"
#include "model/weights.h"

enum head_pool {
    HEAD_TOKEN,          /* one token, which the transformer has picked; then the norm */
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
    void *pooled;       /* [B,C] HEAD_MEAN_THEN_NORM only */
    void *normed;       /* [R,C] */
    float *mean, *rstd; /* [R] */
    void *averaged;     /* [B,C] HEAD_NORM_THEN_MEAN only */
    float *inverse;     /* [B] 1 / length before normalisation */

    /* Within one call. */
    void *projected; /* [B,E], and its gradient; NULL for PROJECTION_NONE */
    void *dpooled;   /* [B,C] training only */
    void *dnormed;   /* [R,C] training only */
};

void head_take(struct head *head, struct arena *arena, size_t batch);
void head_take_scratch(struct head *head, struct arena *arena, size_t batch, bool training);

/* unit[B,E] = the embeddings of x[B,T,C], or of x[B,C] with HEAD_TOKEN. */
void head_forward(struct head *head, struct kernels *k, const struct weights *w, float *unit,
                  const void *x, size_t batch);

/* dx =, of x's shape, and gradients +=, from dunit[B,E] and what the forward pass was given. */
void head_backward(struct head *head, struct kernels *k, const struct weights *w,
                   float *gradients, void *dx, const float *dunit, const float *unit,
                   const void *x, size_t batch);

#endif
