#include "model/optimizer.h"

#include <math.h>
#include <stdlib.h>

static const float logit_scale_max = 4.60517018598809137f; /* ln 100 */

/* ---- which tensors decay ---- */

const char *const decay_policy_names[] = {
    [DECAY_OPEN_CLIP_3] = "open_clip-3",
    [DECAY_OPEN_CLIP_4] = "open_clip-4",
    [DECAY_KERNELS] = "kernels",
    NULL,
};

bool decay_policy_covers(enum decay_policy policy, const struct parameter *parameter)
{
    switch (policy) {
    case DECAY_OPEN_CLIP_3:
        return parameter->decay != DECAY_NEVER;
    case DECAY_OPEN_CLIP_4:
        return parameter->decay == DECAY_ALWAYS;
    case DECAY_KERNELS:
        return parameter->decay == DECAY_ALWAYS && !parameter->lookup;
    }
    return false;
}

/* ---- memory ---- */

static size_t moment_bytes(const struct optimizer *optimizer)
{
    return optimizer->table->floats * sizeof(float);
}

/* A tensor that continues the last range lengthens it. */
static void append_range(struct optimizer *optimizer, const struct parameter *p)
{
    bool decays = decay_policy_covers(optimizer->settings.decay_policy, p);
    struct optimizer_range *next = &optimizer->ranges[optimizer->range_count];
    if (optimizer->range_count > 0 && next[-1].end == p->offset && next[-1].decays == decays) {
        next[-1].end += p->span;
        return;
    }
    *next = (struct optimizer_range){p->offset, p->offset + p->span, decays};
    optimizer->range_count++;
}

/* The block has the groups one after the other, each in the order of the list. */
static enum status make_ranges(struct optimizer *optimizer, struct error *error)
{
    const struct parameters *table = optimizer->table;
    optimizer->ranges = calloc(table->count, sizeof *optimizer->ranges);
    if (optimizer->ranges == NULL)
        return error_memory(error, table->count * sizeof *optimizer->ranges,
                            "the optimiser's ranges");
    for (enum decay_group group = DECAY_ALWAYS; group <= DECAY_NEVER; group++)
        for (size_t i = 0; i < table->count; i++)
            if (table->list[i].decay == group && !table->list[i].frozen)
                append_range(optimizer, &table->list[i]);
    return STATUS_OK;
}

static enum status allocate_moments(struct optimizer *optimizer, struct error *error)
{
    struct kernels *k = optimizer->kernels;
    size_t bytes = moment_bytes(optimizer);
    optimizer->m = k->allocate(k, bytes);
    optimizer->v = k->allocate(k, bytes);
    if (optimizer->m == NULL || optimizer->v == NULL)
        return error_memory(error, bytes, "the optimiser's moments");
    k->zero(k, optimizer->m, bytes);
    k->zero(k, optimizer->v, bytes);
    return STATUS_OK;
}

enum status optimizer_init(struct optimizer *optimizer, struct kernels *k,
                           const struct parameters *table,
                           const struct optimizer_settings *settings, struct error *error)
{
    *optimizer = (struct optimizer){.kernels = k, .table = table, .settings = *settings};
    enum status status = make_ranges(optimizer, error);
    if (status == STATUS_OK)
        status = allocate_moments(optimizer, error);
    if (status != STATUS_OK)
        optimizer_free(optimizer);
    return status;
}

void optimizer_free(struct optimizer *optimizer)
{
    struct kernels *k = optimizer->kernels;
    if (k != NULL) {
        k->release(k, optimizer->m);
        k->release(k, optimizer->v);
    }
    free(optimizer->ranges);
    *optimizer = (struct optimizer){0};
}

/* ---- a step ---- */

/* Ranges that touch are summed as one: where nothing is frozen the policy does not change the
 * order of the sum. The gaps between tensors are zero and add nothing. */
double optimizer_gradient_norm(const struct optimizer *optimizer, const float *gradients)
{
    struct kernels *k = optimizer->kernels;
    const struct optimizer_range *ranges = optimizer->ranges;
    double squares = 0;
    for (size_t first = 0, next; first < optimizer->range_count; first = next) {
        next = first + 1;
        while (next < optimizer->range_count && ranges[next].begin == ranges[next - 1].end)
            next++;
        squares += k->sum_squares(k, gradients + ranges[first].begin,
                                  ranges[next - 1].end - ranges[first].begin);
    }
    return sqrt(squares);
}

void optimizer_step(struct optimizer *optimizer, float *parameters, const float *gradients,
                    double norm, double lr)
{
    const struct optimizer_settings *s = &optimizer->settings;
    struct kernels *k = optimizer->kernels;
    double scale = s->clip_norm > 0 ? fmin(1, s->clip_norm / (norm + 1e-6)) : 1;
    struct adamw args = {
        .lr = (float)lr,
        .beta1 = (float)s->beta1,
        .beta2 = (float)s->beta2,
        .eps = (float)s->eps,
        .gradient_scale = (float)scale,
        .step = ++optimizer->step,
    };
    for (size_t i = 0; i < optimizer->range_count; i++) {
        const struct optimizer_range *range = &optimizer->ranges[i];
        args.weight_decay = range->decays ? (float)s->weight_decay : 0;
        k->adamw(k, parameters + range->begin, optimizer->m + range->begin,
                 optimizer->v + range->begin, gradients + range->begin,
                 range->end - range->begin, &args);
    }
    k->clamp(k, parameters + optimizer->table->logit_scale, 1, 0, logit_scale_max);
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
