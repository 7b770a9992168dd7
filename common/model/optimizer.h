/* optimizer.h - AdamW over a model's parameter block.
 *
 * Source: Loshchilov and Hutter 2019; the clamp of the logit scale is Radford et al. 2021,
 * section 2.5. */
#ifndef MODEL_OPTIMIZER_H
#define MODEL_OPTIMIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/kernels.h"
#include "model/parameters.h"

/* Which tensors decay. Biases, norms, the class embedding, the logit scale and whatever is
 * fixed never do. */
enum decay_policy {
    DECAY_OPEN_CLIP_3, /* "open_clip-3": two or more dimensions; CLIPA's PyTorch code, too */
    DECAY_OPEN_CLIP_4, /* "open_clip-4": of these, all but positional embeddings */
    DECAY_KERNELS      /* "kernels": of these, all but the token embedding: linear layers,
                        * projections and the patch convolution, whose names end in `kernel` in
                        * CLIPA's JAX code */
};

/* By enum decay_policy, ended by NULL. */
extern const char *const decay_policy_names[];

bool decay_policy_covers(enum decay_policy policy, const struct parameter *parameter);

struct optimizer_settings {
    double beta1, beta2, eps;
    double weight_decay;
    enum decay_policy decay_policy;
    double clip_norm; /* the largest norm of the gradient, 0: no limit */
};

/* Floats begin..end-1 of the block, gaps and all. */
struct optimizer_range {
    size_t begin, end;
    bool decays;
};

/* A zeroed struct is empty. */
struct optimizer {
    struct kernels *kernels;        /* not owned */
    const struct parameters *table; /* not owned */
    struct optimizer_settings settings;
    struct optimizer_range *ranges; /* owned, ascending: all tensors but the frozen ones */
    size_t range_count;
    int64_t step; /* steps taken */
    float *m, *v; /* moments, [table->floats] in backend memory, owned; of frozen tensors, as
                   * they began */
};

/* Moments are zero, step is 0. k and table must outlive the optimiser, and what is frozen must
 * stay so. */
enum status optimizer_init(struct optimizer *optimizer, struct kernels *k,
                           const struct parameters *table,
                           const struct optimizer_settings *settings, struct error *error);
void optimizer_free(struct optimizer *optimizer);

/* The length of the gradient of all that is trained, before clipping; infinite or NaN if any
 * part is. */
double optimizer_gradient_norm(const struct optimizer *optimizer, const float *gradients);

/* parameters = one step of AdamW with the learning rate lr, then logit scale = clamped to
 * [0, ln 100]; frozen tensors stay as they are. norm is what optimizer_gradient_norm gave: a
 * larger one than clip_norm scales the gradient by clip_norm / (norm + 1e-6), as torch's
 * clip_grad_norm_ does. A caller that does not want a non-finite gradient in its parameters
 * looks at the norm first. */
void optimizer_step(struct optimizer *optimizer, float *parameters, const float *gradients,
                    double norm, double lr);

/* Copy both moments from or to host memory, [table->floats] each. */
void optimizer_set_moments(struct optimizer *optimizer, const float *m, const float *v);
void optimizer_get_moments(const struct optimizer *optimizer, float *m, float *v);

#endif
