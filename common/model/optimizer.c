#include "model/optimizer.h"

#include <math.h>

static const float logit_scale_max = 4.60517018598809137f; /* ln 100 */

static size_t moment_bytes(const struct optimizer *optimizer)
{
    return optimizer->table->floats * sizeof(float);
}

enum status optimizer_init(struct optimizer *optimizer, struct kernels *k,
                           const struct parameters *table,
                           const struct optimizer_settings *settings, struct error *error)
{
    *optimizer = (struct optimizer){.kernels = k, .table = table, .settings = *settings};
    size_t bytes = moment_bytes(optimizer);
    optimizer->m = k->allocate(k, bytes);
    optimizer->v = k->allocate(k, bytes);
    if (optimizer->m == NULL || optimizer->v == NULL) {
        optimizer_free(optimizer);
        return error_memory(error, bytes, "the optimiser's moments");
    }
    k->zero(k, optimizer->m, bytes);
    k->zero(k, optimizer->v, bytes);
    return STATUS_OK;
}

void optimizer_free(struct optimizer *optimizer)
{
    struct kernels *k = optimizer->kernels;
    if (k != NULL) {
        k->release(k, optimizer->m);
        k->release(k, optimizer->v);
    }
    *optimizer = (struct optimizer){0};
}

/* The gaps between tensors are zero and add nothing. */
double optimizer_gradient_norm(const struct optimizer *optimizer, const float *gradients)
{
    struct kernels *k = optimizer->kernels;
    return sqrt(k->sum_squares(k, gradients, optimizer->table->floats));
}

static void step_range(const struct optimizer *optimizer, float *parameters,
                       const float *gradients, size_t begin, size_t end,
                       const struct adamw *args)
{
    struct kernels *k = optimizer->kernels;
    if (begin < end)
        k->adamw(k, parameters + begin, optimizer->m + begin, optimizer->v + begin,
                 gradients + begin, end - begin, args);
}

void optimizer_step(struct optimizer *optimizer, float *parameters, const float *gradients,
                    double norm, double lr)
{
    const struct optimizer_settings *s = &optimizer->settings;
    const struct parameters *table = optimizer->table;
    struct kernels *k = optimizer->kernels;
    double scale = s->clip_norm > 0 ? fmin(1, s->clip_norm / (norm + 1e-6)) : 1;
    struct adamw args = {
        .lr = (float)lr,
        .beta1 = (float)s->beta1,
        .beta2 = (float)s->beta2,
        .eps = (float)s->eps,
        .weight_decay = (float)s->weight_decay,
        .gradient_scale = (float)scale,
        .step = ++optimizer->step,
    };
    step_range(optimizer, parameters, gradients, 0, table->decay_floats, &args);
    args.weight_decay = 0;
    step_range(optimizer, parameters, gradients, table->decay_floats, table->floats, &args);
    k->clamp(k, parameters + table->logit_scale, 1, 0, logit_scale_max);
}

void optimizer_set_moments(struct optimizer *optimizer, const float *m, const float *v)
{
    struct kernels *k = optimizer->kernels;
    k->upload(k, optimizer->m, m, moment_bytes(optimizer));
    k->upload(k, optimizer->v, v, moment_bytes(optimizer));
}

void optimizer_get_moments(const struct optimizer *optimizer, float *m, float *v)
{
    struct kernels *k = optimizer->kernels;
    k->download(k, m, optimizer->m, moment_bytes(optimizer));
    k->download(k, v, optimizer->v, moment_bytes(optimizer));
}
