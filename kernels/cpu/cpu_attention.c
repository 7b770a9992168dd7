#include "base/number.h"
#include "kernels/cpu/cpu_state.h"

/* A head costs about T * T * D / 8 touched values' time, and T * D for its memory. */
static int attention_parts(const struct cpu *cpu, const struct attention *shape)
{
    return cpu_parts(cpu, shape->B * shape->H, shape->T * shape->D * (1 + shape->T / 8));
}

/* Scratch for each part, or NULL; *stride is in floats. */
static float *attention_scratch(struct cpu *cpu, const struct attention *shape, int parts,
                                size_t *stride)
{
    *stride = size_round_up(cpu->vector->attention_scratch(shape->T, shape->D), cpu_line);
    return cpu_scratch(cpu, (size_t)parts * *stride, sizeof(float));
}

void cpu_attention_forward(struct kernels *k, float *out, float *lse, const float *qkv,
                           const struct attention *shape)
{
    struct cpu *cpu = k->state;
    if (shape->T == 0 || shape->D == 0)
        return;
    const size_t heads = shape->B * shape->H;
    const int parts = attention_parts(cpu, shape);
    size_t stride;
    float *scratch = attention_scratch(cpu, shape, parts, &stride);
    if (scratch == NULL)
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(heads, parts, part, 1);
        for (size_t i = r.first; i < r.first + r.count; i++)
            cpu->vector->attention_forward(out, lse, qkv, shape, i / shape->H, i % shape->H,
                                           scratch + (size_t)part * stride);
    }
}

void cpu_attention_backward(struct kernels *k, float *dqkv, const float *dout, const float *qkv,
                            const float *out, const float *lse, const struct attention *shape)
{
    struct cpu *cpu = k->state;
    if (shape->T == 0 || shape->D == 0)
        return;
    const size_t heads = shape->B * shape->H;
    const int parts = attention_parts(cpu, shape);
    size_t stride;
    float *scratch = attention_scratch(cpu, shape, parts, &stride);
    if (scratch == NULL)
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(heads, parts, part, 1);
        for (size_t i = r.first; i < r.first + r.count; i++)
            cpu->vector->attention_backward(dqkv, dout, qkv, out, lse, shape, i / shape->H,
                                            i % shape->H, scratch + (size_t)part * stride);
    }
}
