#include <string.h>

#include "kernels/cpu/cpu_bf16.h"

/* A byte has 256 values: the division and the normalisation are done once for each and
 * channel, and a pixel costs a look-up in 3 KiB. */
void cpu_unpack_patches(struct kernels *k, void *out, const uint8_t *in, size_t N, size_t P,
                        const float mean[3], const float std[3])
{
    struct cpu *cpu = k->state;
    const size_t pixels = P * P;
    float table[3][256];
    for (size_t c = 0; c < 3; c++)
        for (size_t value = 0; value < 256; value++)
            table[c][value] = (float)(((double)value / 255 - mean[c]) / std[c]);

    const int parts = cpu_parts(cpu, N, 3 * pixels);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 1, pixels, 0))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(N, parts, part, 1);
        for (size_t n = r.first; n < r.first + r.count; n++) {
            const uint8_t *patch = in + n * pixels * 3;
            for (size_t c = 0; c < 3; c++) {
                const size_t at = (n * 3 + c) * pixels;
                float *plane = floats_for(cpu, out, at, room_at(&rooms, part, 0));
                for (size_t i = 0; i < pixels; i++)
                    plane[i] = table[c][patch[i * 3 + c]];
                floats_put(cpu, out, at, pixels, plane);
            }
        }
    }
}

/* Row `at` of out = a + b, of C values each. */
static void add_into_row(const struct cpu *cpu, void *out, size_t at, const float *a,
                         const float *b, size_t C, float *room)
{
    float *row = floats_for(cpu, out, at * C, room);
    cpu->vector->add(row, a, b, C);
    floats_put(cpu, out, at * C, C, row);
}

void cpu_embed_patches_forward(struct kernels *k, void *out, const void *features,
                               const int32_t *position, const float *class_embedding,
                               const float *positional, size_t B, size_t K, size_t C)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, B, (1 + K) * C);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 1, C, 0))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(B, parts, part, 1);
        float *const room = room_at(&rooms, part, 0);
        for (size_t b = r.first; b < r.first + r.count; b++) {
            const size_t sample = b * (1 + K);
            add_into_row(cpu, out, sample, class_embedding, positional, C, room);
            for (size_t j = 0; j < K; j++) {
                const size_t place = 1 + (size_t)position[b * K + j];
                const float *row = floats_of(cpu, features, (b * K + j) * C, C, room);
                add_into_row(cpu, out, sample + 1 + j, row, positional + place * C, C, room);
            }
        }
    }
}

/* Rows of a table that several samples add to are split among threads by columns: each thread
 * goes through all samples in order, so that no two meet and the order of sums is fixed. */
void cpu_embed_patches_backward(struct kernels *k, void *dfeatures, float *dclass_embedding,
                                float *dpositional, const void *dout, const int32_t *position,
                                size_t B, size_t K, size_t C)
{
    struct cpu *cpu = k->state;
    const size_t bytes = activation_bytes(k);
    const int parts = cpu_parts(cpu, (C + cpu_line - 1) / cpu_line, B * (1 + K) * cpu_line);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 1, C, 0))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(C, parts, part, cpu_line);
        float *const room = room_at(&rooms, part, 0);
        float *const dclass = dclass_embedding + r.first;
        for (size_t b = 0; b < B; b++) {
            const size_t sample = b * (1 + K) * C + r.first;
            const float *first = floats_of(cpu, dout, sample, r.count, room);
            cpu->vector->add(dclass, dclass, first, r.count);
            cpu->vector->add(dpositional + r.first, dpositional + r.first, first, r.count);
            for (size_t j = 0; j < K; j++) {
                const size_t from = sample + (1 + j) * C, to = (b * K + j) * C + r.first;
                const float *row = floats_of(cpu, dout, from, r.count, room);
                float *place = dpositional + (1 + (size_t)position[b * K + j]) * C + r.first;
                memcpy((char *)dfeatures + to * bytes, (const char *)dout + from * bytes,
                       r.count * bytes);
                cpu->vector->add(place, place, row, r.count);
            }
        }
    }
}

void cpu_embed_tokens_forward(struct kernels *k, void *out, const int32_t *tokens,
                              const float *table, const float *positional, size_t B, size_t T,
                              size_t C)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, B * T, C);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 1, C, 0))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(B * T, parts, part, 1);
        for (size_t n = r.first; n < r.first + r.count; n++)
            add_into_row(cpu, out, n, table + (size_t)tokens[n] * C, positional + n % T * C, C,
                         room_at(&rooms, part, 0));
    }
}

/* Split by columns, as above. */
void cpu_embed_tokens_backward(struct kernels *k, float *dtable, float *dpositional,
                               const void *dout, const int32_t *tokens, size_t B, size_t T,
                               size_t C)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, (C + cpu_line - 1) / cpu_line, B * T * cpu_line);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 1, C, 0))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(C, parts, part, cpu_line);
        for (size_t n = 0; n < B * T; n++) {
            const float *row = floats_of(cpu, dout, n * C + r.first, r.count,
                                         room_at(&rooms, part, 0));
            float *word = dtable + (size_t)tokens[n] * C + r.first;
            float *place = dpositional + n % T * C + r.first;
            cpu->vector->add(word, word, row, r.count);
            cpu->vector->add(place, place, row, r.count);
        }
    }
}
