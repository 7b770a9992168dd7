#include <math.h>
#include <string.h>

#include "base/number.h"
#include "kernels/cpu/cpu_state.h"

void cpu_add(struct kernels *k, float *out, const float *a, const float *b, size_t n)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, n, 1);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(n, parts, part, cpu_line);
        cpu->vector->add(out + r.first, a + r.first, b + r.first, r.count);
    }
}

/* Each thread sums its rows into a row of scratch; the rows of scratch are added in order. */
void cpu_sum_rows(struct kernels *k, float *out, const float *in, size_t N, size_t C)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, N, C);
    if (parts == 1) {
        cpu->vector->add_rows(out, in, N, C, C);
        return;
    }
    const size_t stride = size_round_up(C, cpu_line);
    float *sums = cpu_scratch(cpu, (size_t)parts * stride, sizeof *sums);
    if (sums == NULL)
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(N, parts, part, 1);
        float *sum = sums + (size_t)part * stride;
        memset(sum, 0, C * sizeof *sum);
        cpu->vector->add_rows(sum, in + r.first * C, r.count, C, C);
    }
    cpu->vector->add_rows(out, sums, (size_t)parts, C, stride);
}

/* An activation costs about as much as moving 8 values. */
void cpu_activation_forward(struct kernels *k, float *out, const float *in, size_t n,
                            enum activation kind)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, n, 8);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(n, parts, part, cpu_line);
        cpu->vector->activation_forward(out + r.first, in + r.first, r.count, kind);
    }
}

void cpu_activation_backward(struct kernels *k, float *din, const float *dout, const float *in,
                             size_t n, enum activation kind)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, n, 8);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(n, parts, part, cpu_line);
        cpu->vector->activation_backward(din + r.first, dout + r.first, in + r.first, r.count,
                                         kind);
    }
}

void cpu_layer_scale_forward(struct kernels *k, float *out, const float *in, const float *gamma,
                             size_t N, size_t C)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, N, C);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(N, parts, part, 1);
        cpu->vector->layer_scale_forward(out + r.first * C, in + r.first * C, gamma, r.count,
                                         C);
    }
}

/* dgamma as in cpu_sum_rows. */
void cpu_layer_scale_backward(struct kernels *k, float *din, float *dgamma, const float *dout,
                              const float *in, const float *gamma, size_t N, size_t C)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, N, C);
    const size_t stride = size_round_up(C, cpu_line);
    float *sums = cpu_scratch(cpu, (size_t)parts * stride, sizeof *sums);
    if (sums == NULL)
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(N, parts, part, 1);
        float *sum = sums + (size_t)part * stride;
        memset(sum, 0, C * sizeof *sum);
        cpu->vector->layer_scale_backward(din + r.first * C, sum, dout + r.first * C,
                                          in + r.first * C, gamma, r.count, C);
    }
    cpu->vector->add_rows(dgamma, sums, (size_t)parts, C, stride);
}

void cpu_adamw(struct kernels *k, float *parameter, float *m, float *v, const float *gradient,
               size_t n, const struct adamw *args)
{
    struct cpu *cpu = k->state;
    const double step = (double)args->step;
    const struct adamw_factors factors = {
        .beta1 = args->beta1,
        .beta2 = args->beta2,
        .one_minus_beta1 = (float)(1 - (double)args->beta1),
        .one_minus_beta2 = (float)(1 - (double)args->beta2),
        .gradient_scale = args->gradient_scale,
        .decay = (float)(1 - (double)args->lr * args->weight_decay),
        .m_factor = (float)(args->lr / (1 - pow(args->beta1, step))),
        .v_factor = (float)(1 / sqrt(1 - pow(args->beta2, step))),
        .eps = args->eps,
    };
    const int parts = cpu_parts(cpu, n, 4);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(n, parts, part, cpu_line);
        cpu->vector->adamw(parameter + r.first, m + r.first, v + r.first, gradient + r.first,
                           r.count, &factors);
    }
}

/* 64 ranges whatever the number of threads: the norm that gradients are clipped by then has the
 * same bits on every machine with the same instruction set. */
double cpu_sum_squares(struct kernels *k, const float *in, size_t n)
{
    enum { ranges = 64 };
    struct cpu *cpu = k->state;
    double sums[ranges], sum = 0;
    const int parts = cpu_parts(cpu, n, 1);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int i = 0; i < ranges; i++) {
        const struct range r = cpu_range(n, ranges, i, cpu_line);
        sums[i] = cpu->vector->sum_squares(in + r.first, r.count);
    }
    for (int i = 0; i < ranges; i++)
        sum += sums[i];
    return sum;
}

void cpu_clamp(struct kernels *k, float *value, size_t n, float low, float high)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, n, 1);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(n, parts, part, cpu_line);
        cpu->vector->clamp(value + r.first, r.count, low, high);
    }
}

/* Bound by memory: the compiler's own vectors are enough. */
void cpu_move_average(struct kernels *k, float *average, const float *value, size_t n,
                      float weight)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, n, 1);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(n, parts, part, cpu_line);
        for (size_t i = r.first; i < r.first + r.count; i++)
            average[i] += weight * (value[i] - average[i]);
    }
}
