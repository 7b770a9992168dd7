#include <math.h>
#include <string.h>

#include "base/number.h"
#include "kernels/cpu/cpu_bf16.h"

void cpu_round(struct kernels *k, void *out, const float *in, size_t n)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, n, 1);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(n, parts, part, cpu_line);
        if (cpu_is_bf16(cpu))
            floats_put(cpu, out, r.first, r.count, in + r.first);
        else if (r.count > 0)
            memcpy((float *)out + r.first, in + r.first, r.count * sizeof *in);
    }
}

void cpu_add(struct kernels *k, void *out, const void *a, const void *b, size_t n)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, n, 1);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 2, 1, 0))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(n, parts, part, cpu_line);
        float *const room = room_at(&rooms, part, 0), *const other = room_at(&rooms, part, 1);
        for (struct range p = piece_first(&rooms, r); p.count > 0;
             p = piece_next(&rooms, r, p)) {
            const float *x = floats_of(cpu, a, p.first, p.count, room);
            const float *y = floats_of(cpu, b, p.first, p.count, other);
            float *sum = floats_for(cpu, out, p.first, room);
            cpu->vector->add(sum, x, y, p.count);
            floats_put(cpu, out, p.first, p.count, sum);
        }
    }
}

/* Each thread sums its rows into a row of scratch; the rows of scratch are added in order. One
 * thread adds to `out` itself. */
void cpu_sum_rows(struct kernels *k, float *out, const void *in, size_t N, size_t C)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, N, C);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 1, C, parts > 1 ? C : 0))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(N, parts, part, 1);
        float *sum = parts > 1 ? own_at(&rooms, part) : out;
        if (parts > 1)
            memset(sum, 0, C * sizeof *sum);
        for (struct range p = piece_first(&rooms, r); p.count > 0;
             p = piece_next(&rooms, r, p)) {
            const float *rows = floats_of(cpu, in, p.first * C, p.count * C,
                                          room_at(&rooms, part, 0));
            cpu->vector->add_rows(sum, rows, p.count, C, C);
        }
    }
    if (parts > 1)
        cpu->vector->add_rows(out, rooms.memory, (size_t)parts, C, rooms.stride);
}

/* An activation costs about as much as moving 8 values. */
void cpu_activation_forward(struct kernels *k, void *out, const void *in, size_t n,
                            enum activation kind)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, n, 8);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 1, 1, 0))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(n, parts, part, cpu_line);
        float *const room = room_at(&rooms, part, 0);
        for (struct range p = piece_first(&rooms, r); p.count > 0;
             p = piece_next(&rooms, r, p)) {
            const float *x = floats_of(cpu, in, p.first, p.count, room);
            float *y = floats_for(cpu, out, p.first, room);
            cpu->vector->activation_forward(y, x, p.count, kind);
            floats_put(cpu, out, p.first, p.count, y);
        }
    }
}

void cpu_activation_backward(struct kernels *k, void *din, const void *dout, const void *in,
                             size_t n, enum activation kind)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, n, 8);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 2, 1, 0))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(n, parts, part, cpu_line);
        float *const room = room_at(&rooms, part, 0), *const other = room_at(&rooms, part, 1);
        for (struct range p = piece_first(&rooms, r); p.count > 0;
             p = piece_next(&rooms, r, p)) {
            const float *dy = floats_of(cpu, dout, p.first, p.count, room);
            const float *x = floats_of(cpu, in, p.first, p.count, other);
            float *dx = floats_for(cpu, din, p.first, room);
            cpu->vector->activation_backward(dx, dy, x, p.count, kind);
            floats_put(cpu, din, p.first, p.count, dx);
        }
    }
}

void cpu_layer_scale_forward(struct kernels *k, void *out, const void *in, const float *gamma,
                             size_t N, size_t C)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, N, C);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 1, C, 0))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(N, parts, part, 1);
        float *const room = room_at(&rooms, part, 0);
        for (struct range p = piece_first(&rooms, r); p.count > 0;
             p = piece_next(&rooms, r, p)) {
            const size_t at = p.first * C, n = p.count * C;
            const float *x = floats_of(cpu, in, at, n, room);
            float *y = floats_for(cpu, out, at, room);
            cpu->vector->layer_scale_forward(y, x, gamma, p.count, C);
            floats_put(cpu, out, at, n, y);
        }
    }
}

/* dgamma as in cpu_sum_rows. */
void cpu_layer_scale_backward(struct kernels *k, void *din, float *dgamma, const void *dout,
                              const void *in, const float *gamma, size_t N, size_t C)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, N, C);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 2, C, C))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(N, parts, part, 1);
        float *const room = room_at(&rooms, part, 0), *const other = room_at(&rooms, part, 1);
        float *sum = own_at(&rooms, part);
        memset(sum, 0, C * sizeof *sum);
        for (struct range p = piece_first(&rooms, r); p.count > 0;
             p = piece_next(&rooms, r, p)) {
            const size_t at = p.first * C, n = p.count * C;
            const float *dy = floats_of(cpu, dout, at, n, room);
            const float *x = floats_of(cpu, in, at, n, other);
            float *dx = floats_for(cpu, din, at, room);
            cpu->vector->layer_scale_backward(dx, sum, dy, x, gamma, p.count, C);
            floats_put(cpu, din, at, n, dx);
        }
    }
    cpu->vector->add_rows(dgamma, rooms.memory, (size_t)parts, C, rooms.stride);
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
