#include <string.h>

#include "kernels/cpu/cpu_bf16.h"

/* B short copies: not worth a thread. */
void cpu_pick_token_forward(struct kernels *k, void *out, const void *in, const int32_t *row,
                            size_t B, size_t T, size_t C)
{
    const size_t row_bytes = C * activation_bytes(k);
    for (size_t b = 0; b < B; b++)
        memcpy((char *)out + b * row_bytes,
               (const char *)in + (b * T + (size_t)row[b]) * row_bytes, row_bytes);
}

void cpu_pick_token_backward(struct kernels *k, void *din, const void *dout, const int32_t *row,
                             size_t B, size_t T, size_t C)
{
    struct cpu *cpu = k->state;
    const size_t row_bytes = C * activation_bytes(k);
    const int parts = cpu_parts(cpu, B, T * C);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(B, parts, part, 1);
        memset((char *)din + r.first * T * row_bytes, 0, r.count * T * row_bytes);
        for (size_t b = r.first; b < r.first + r.count; b++)
            memcpy((char *)din + (b * T + (size_t)row[b]) * row_bytes,
                   (const char *)dout + b * row_bytes, row_bytes);
    }
}

void cpu_mean_tokens_forward(struct kernels *k, void *out, const void *in, size_t B, size_t T,
                             size_t C, size_t first)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, B, T * C);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 2, C, 0))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(B, parts, part, 1);
        for (size_t b = r.first; b < r.first + r.count; b++) {
            const struct range rows = {b * T + first, T - first};
            float *mean = floats_for(cpu, out, b * C, room_at(&rooms, part, 0));
            memset(mean, 0, C * sizeof *mean);
            for (struct range p = piece_first(&rooms, rows); p.count > 0;
                 p = piece_next(&rooms, rows, p)) {
                const float *x = floats_of(cpu, in, p.first * C, p.count * C,
                                           room_at(&rooms, part, 1));
                cpu->vector->add_rows(mean, x, p.count, C, C);
            }
            cpu->vector->scale(mean, mean, 1 / (float)(T - first), C);
            floats_put(cpu, out, b * C, C, mean);
        }
    }
}

/* The rows from `first` on are the same: one is made and copied. */
void cpu_mean_tokens_backward(struct kernels *k, void *din, const void *dout, size_t B,
                              size_t T, size_t C, size_t first)
{
    struct cpu *cpu = k->state;
    const size_t row_bytes = C * activation_bytes(k);
    const int parts = cpu_parts(cpu, B, T * C);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 1, C, 0))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(B, parts, part, 1);
        float *const room = room_at(&rooms, part, 0);
        for (size_t b = r.first; b < r.first + r.count; b++) {
            const float *dy = floats_of(cpu, dout, b * C, C, room);
            const size_t at = (b * T + first) * C;
            float *row = floats_for(cpu, din, at, room);
            char *const sample = (char *)din + b * T * row_bytes;
            cpu->vector->scale(row, dy, 1 / (float)(T - first), C);
            floats_put(cpu, din, at, C, row);
            memset(sample, 0, first * row_bytes);
            for (size_t t = first + 1; t < T; t++)
                memcpy(sample + t * row_bytes, sample + first * row_bytes, row_bytes);
        }
    }
}
