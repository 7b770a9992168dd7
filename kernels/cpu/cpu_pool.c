#include <string.h>

#include "kernels/cpu/cpu_state.h"

/* B short copies: not worth a thread. */
void cpu_pick_token_forward(struct kernels *k, float *out, const float *in, const int32_t *row,
                            size_t B, size_t T, size_t C)
{
    (void)k;
    for (size_t b = 0; b < B; b++)
        memcpy(out + b * C, in + (b * T + (size_t)row[b]) * C, C * sizeof *out);
}

void cpu_pick_token_backward(struct kernels *k, float *din, const float *dout,
                             const int32_t *row, size_t B, size_t T, size_t C)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, B, T * C);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(B, parts, part, 1);
        memset(din + r.first * T * C, 0, r.count * T * C * sizeof *din);
        for (size_t b = r.first; b < r.first + r.count; b++)
            memcpy(din + (b * T + (size_t)row[b]) * C, dout + b * C, C * sizeof *din);
    }
}

void cpu_mean_tokens_forward(struct kernels *k, float *out, const float *in, size_t B, size_t T,
                             size_t C, size_t first)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, B, T * C);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(B, parts, part, 1);
        for (size_t b = r.first; b < r.first + r.count; b++) {
            memset(out + b * C, 0, C * sizeof *out);
            cpu->vector->add_rows(out + b * C, in + (b * T + first) * C, T - first, C, C);
            cpu->vector->scale(out + b * C, out + b * C, 1 / (float)(T - first), C);
        }
    }
}

void cpu_mean_tokens_backward(struct kernels *k, float *din, const float *dout, size_t B,
                              size_t T, size_t C, size_t first)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, B, T * C);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(B, parts, part, 1);
        for (size_t b = r.first; b < r.first + r.count; b++) {
            float *sample = din + b * T * C;
            memset(sample, 0, first * C * sizeof *din);
            for (size_t t = first; t < T; t++)
                cpu->vector->scale(sample + t * C, dout + b * C, 1 / (float)(T - first), C);
        }
    }
}
