/* optimizer.h - AdamW over a model's parameter block.
 *
 * Tensors of two or more dimensions decay, the rest (biases, norms, class embedding, logit
 * scale) do not: open_clip 3's rule. Source: Loshchilov and Hutter 2019; the clamp of the
 * logit scale is Radford et al. 2021, section 2.5. */
#ifndef MODEL_OPTIMIZER_H
#define MODEL_OPTIMIZER_H

#include <stdint.h>

#include "base/error.h"
#include "kernels/kernels.h"
#include "model/parameters.h"

struct optimizer_settings {
    double beta1, beta2, eps;
    double weight_decay;
    double clip_norm; /* the largest norm of the gradient, 0: no limit */
};

/* A zeroed struct is empty. */
struct optimizer {
    struct kernels *kernels;        /* not owned */
    const struct parameters *table; /* not owned */
    struct optimizer_settings settings;
    int64_t step; /* steps taken */
    float *m, *v; /* moments, [table->floats] in backend memory, owned */
};

/* Moments are zero, step is 0. k and table must outlive the optimiser. */
enum status optimizer_init(struct optimizer *optimizer, struct kernels *k,
                           const struct parameters *table,
                           const struct optimizer_settings *settings, struct error *error);
void optimizer_free(struct optimizer *optimizer);

/* The length of the whole gradient, before clipping; infinite or NaN if any part is. */
double optimizer_gradient_norm(const struct optimizer *optimizer, const float *gradients);

/* parameters = one step of AdamW with the learning rate lr, then logit scale = clamped to
 * [0, ln 100]. norm is what optimizer_gradient_norm gave: a larger one than clip_norm scales
 * the gradient by clip_norm / (norm + 1e-6), as torch's clip_grad_norm_ does. A caller that
 * does not want a non-finite gradient in its parameters looks at the norm first. */
void optimizer_step(struct optimizer *optimizer, float *parameters, const float *gradients,
                    double norm, double lr);

/* Copy both moments from or to host memory, [table->floats] each. */
void optimizer_set_moments(struct optimizer *optimizer, const float *m, const float *v);
void optimizer_get_moments(const struct optimizer *optimizer, float *m, float *v);

#endif
