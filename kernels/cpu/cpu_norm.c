#include <string.h>

#include "base/number.h"
#include "kernels/cpu/cpu_bf16.h"

/* The residual of some rows, delta added and written. In bf16 what is normalised is the sum as
 * it was rounded, and in fp32 the kernel that normalises adds, too. */
static const float *residual_rows(const struct cpu *cpu, void *residual_out,
                                  const void *residual, const void *delta, size_t at, size_t n,
                                  float *room, float *other)
{
    const float *rows = floats_of(cpu, residual, at, n, room);
    if (delta == NULL || !cpu_is_bf16(cpu))
        return rows;
    cpu->vector->add(room, rows, floats_of(cpu, delta, at, n, other), n);
    floats_put(cpu, residual_out, at, n, room);
    return floats_of(cpu, residual_out, at, n, room);
}

void cpu_residual_norm_forward(struct kernels *k, void *residual_out, void *normed, float *mean,
                               float *rstd, const void *residual, const void *delta,
                               const float *gamma, const float *beta, size_t N, size_t C,
                               float eps)
{
    struct cpu *cpu = k->state;
    const bool add_later = delta != NULL && !cpu_is_bf16(cpu);
    const int parts = cpu_parts(cpu, N, C);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 2, C, 0))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(N, parts, part, 1);
        float *const room = room_at(&rooms, part, 0), *const other = room_at(&rooms, part, 1);
        for (struct range p = piece_first(&rooms, r); p.count > 0;
             p = piece_next(&rooms, r, p)) {
            const size_t at = p.first * C, n = p.count * C;
            const float *rows = residual_rows(cpu, residual_out, residual, delta, at, n, room,
                                              other);
            float *y = floats_for(cpu, normed, at, other);
            cpu->vector->norm_forward(add_later ? (float *)residual_out + at : NULL, y,
                                      mean + p.first, rstd + p.first, rows,
                                      add_later ? (const float *)delta + at : NULL, gamma, beta,
                                      p.count, C, eps);
            floats_put(cpu, normed, at, n, y);
        }
    }
}

/* dgamma and dbeta: each thread sums its rows into two rows of scratch, added in order. */
void cpu_norm_backward(struct kernels *k, void *dresidual, float *dgamma, float *dbeta,
                       const void *dnormed, const void *residual, const float *mean,
                       const float *rstd, const float *gamma, size_t N, size_t C)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, N, C);
    const size_t stride = size_round_up(C, cpu_line);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 3, C, 2 * stride))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(N, parts, part, 1);
        float *dgamma_part = own_at(&rooms, part), *dbeta_part = dgamma_part + stride;
        memset(dgamma_part, 0, 2 * stride * sizeof *dgamma_part);
        for (struct range p = piece_first(&rooms, r); p.count > 0;
             p = piece_next(&rooms, r, p)) {
            const size_t at = p.first * C, n = p.count * C;
            const float *dy = floats_of(cpu, dnormed, at, n, room_at(&rooms, part, 1));
            const float *x = floats_of(cpu, residual, at, n, room_at(&rooms, part, 2));
            float *sum = floats_to_change(cpu, dresidual, at, n, room_at(&rooms, part, 0));
            cpu->vector->norm_backward(sum, dgamma_part, dbeta_part, dy, x, mean + p.first,
                                       rstd + p.first, gamma, p.count, C);
            floats_put(cpu, dresidual, at, n, sum);
        }
    }
    cpu->vector->add_rows(dgamma, rooms.memory, (size_t)parts, C, rooms.stride);
    cpu->vector->add_rows(dbeta, rooms.memory + stride, (size_t)parts, C, rooms.stride);
}

void cpu_normalize_forward(struct kernels *k, float *out, float *inverse, const void *in,
                           size_t N, size_t E)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, N, E);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 1, E, 0))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(N, parts, part, 1);
        for (struct range p = piece_first(&rooms, r); p.count > 0;
             p = piece_next(&rooms, r, p)) {
            const float *x = floats_of(cpu, in, p.first * E, p.count * E,
                                       room_at(&rooms, part, 0));
            cpu->vector->normalize_forward(out + p.first * E, inverse + p.first, x, p.count, E);
        }
    }
}

void cpu_normalize_backward(struct kernels *k, void *din, const float *dout, const float *out,
                            const float *inverse, size_t N, size_t E)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, N, E);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 1, E, 0))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(N, parts, part, 1);
        for (struct range p = piece_first(&rooms, r); p.count > 0;
             p = piece_next(&rooms, r, p)) {
            const size_t at = p.first * E;
            float *dx = floats_for(cpu, din, at, room_at(&rooms, part, 0));
            cpu->vector->normalize_backward(dx, dout + at, out + at, inverse + p.first, p.count,
                                            E);
            floats_put(cpu, din, at, p.count * E, dx);
        }
    }
}
