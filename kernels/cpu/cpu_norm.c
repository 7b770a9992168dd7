#include <string.h>

#include "base/number.h"
#include "kernels/cpu/cpu_state.h"

void cpu_residual_norm_forward(struct kernels *k, float *residual_out, float *normed,
                               float *mean, float *rstd, const float *residual,
                               const float *delta, const float *gamma, const float *beta,
                               size_t N, size_t C, float eps)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, N, C);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(N, parts, part, 1);
        const size_t at = r.first * C;
        cpu->vector->norm_forward(delta == NULL ? NULL : residual_out + at, normed + at,
                                  mean + r.first, rstd + r.first, residual + at,
                                  delta == NULL ? NULL : delta + at, gamma, beta, r.count, C,
                                  eps);
    }
}

/* dgamma and dbeta: each thread sums its rows into two rows of scratch, added in order. */
void cpu_norm_backward(struct kernels *k, float *dresidual, float *dgamma, float *dbeta,
                       const float *dnormed, const float *residual, const float *mean,
                       const float *rstd, const float *gamma, size_t N, size_t C)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, N, C);
    const size_t stride = size_round_up(C, cpu_line);
    float *sums = cpu_scratch(cpu, 2 * (size_t)parts * stride, sizeof *sums);
    if (sums == NULL)
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(N, parts, part, 1);
        const size_t at = r.first * C;
        float *dgamma_part = sums + 2 * (size_t)part * stride;
        memset(dgamma_part, 0, 2 * stride * sizeof *dgamma_part);
        cpu->vector->norm_backward(dresidual + at, dgamma_part, dgamma_part + stride,
                                   dnormed + at, residual + at, mean + r.first,
                                   rstd + r.first, gamma, r.count, C);
    }
    cpu->vector->add_rows(dgamma, sums, (size_t)parts, C, 2 * stride);
    cpu->vector->add_rows(dbeta, sums + stride, (size_t)parts, C, 2 * stride);
}

void cpu_normalize_forward(struct kernels *k, float *out, float *inverse, const float *in,
                           size_t N, size_t E)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, N, E);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(N, parts, part, 1);
        cpu->vector->normalize_forward(out + r.first * E, inverse + r.first, in + r.first * E,
                                       r.count, E);
    }
}

void cpu_normalize_backward(struct kernels *k, float *din, const float *dout, const float *out,
                            const float *inverse, size_t N, size_t E)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, N, E);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(N, parts, part, 1);
        const size_t at = r.first * E;
        cpu->vector->normalize_backward(din + at, dout + at, out + at, inverse + r.first,
                                        r.count, E);
    }
}
