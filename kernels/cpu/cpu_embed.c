#include <string.h>

#include "kernels/cpu/cpu_state.h"

static void copy_row(float *out, const float *in, size_t n)
{
    memcpy(out, in, n * sizeof *out);
}

/* A byte has 256 values: the division and the normalisation are done once for each and
 * channel, and a pixel costs a look-up in 3 KiB. */
void cpu_unpack_patches(struct kernels *k, float *out, const uint8_t *in, size_t N, size_t P,
                        const float mean[3], const float std[3])
{
    struct cpu *cpu = k->state;
    const size_t pixels = P * P;
    float table[3][256];
    for (size_t c = 0; c < 3; c++)
        for (size_t value = 0; value < 256; value++)
            table[c][value] = (float)(((double)value / 255 - mean[c]) / std[c]);

    const int parts = cpu_parts(cpu, N, 3 * pixels);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(N, parts, part, 1);
        for (size_t n = r.first; n < r.first + r.count; n++) {
            const uint8_t *patch = in + n * pixels * 3;
            for (size_t c = 0; c < 3; c++)
                for (size_t i = 0; i < pixels; i++)
                    out[(n * 3 + c) * pixels + i] = table[c][patch[i * 3 + c]];
        }
    }
}

void cpu_embed_patches_forward(struct kernels *k, float *out, const float *features,
                               const int32_t *position, const float *class_embedding,
                               const float *positional, size_t B, size_t K, size_t C)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, B, (1 + K) * C);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(B, parts, part, 1);
        for (size_t b = r.first; b < r.first + r.count; b++) {
            float *sample = out + b * (1 + K) * C;
            cpu->vector->add(sample, class_embedding, positional, C);
            for (size_t j = 0; j < K; j++) {
                const size_t place = 1 + (size_t)position[b * K + j];
                cpu->vector->add(sample + (1 + j) * C, features + (b * K + j) * C,
                                 positional + place * C, C);
            }
        }
    }
}

/* Rows of a table that several samples add to are split among threads by columns: each thread
 * goes through all samples in order, so that no two meet and the order of sums is fixed. */
void cpu_embed_patches_backward(struct kernels *k, float *dfeatures, float *dclass_embedding,
                                float *dpositional, const float *dout, const int32_t *position,
                                size_t B, size_t K, size_t C)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, (C + cpu_line - 1) / cpu_line, B * (1 + K) * cpu_line);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(C, parts, part, cpu_line);
        float *const dclass = dclass_embedding + r.first;
        for (size_t b = 0; b < B; b++) {
            const float *sample = dout + b * (1 + K) * C + r.first;
            cpu->vector->add(dclass, dclass, sample, r.count);
            cpu->vector->add(dpositional + r.first, dpositional + r.first, sample, r.count);
            for (size_t j = 0; j < K; j++) {
                const float *row = sample + (1 + j) * C;
                float *place = dpositional + (1 + (size_t)position[b * K + j]) * C + r.first;
                copy_row(dfeatures + (b * K + j) * C + r.first, row, r.count);
                cpu->vector->add(place, place, row, r.count);
            }
        }
    }
}

void cpu_embed_tokens_forward(struct kernels *k, float *out, const int32_t *tokens,
                              const float *table, const float *positional, size_t B, size_t T,
                              size_t C)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, B * T, C);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(B * T, parts, part, 1);
        for (size_t n = r.first; n < r.first + r.count; n++)
            cpu->vector->add(out + n * C, table + (size_t)tokens[n] * C, positional + n % T * C,
                             C);
    }
}

/* Split by columns, as above. */
void cpu_embed_tokens_backward(struct kernels *k, float *dtable, float *dpositional,
                               const float *dout, const int32_t *tokens, size_t B, size_t T,
                               size_t C)
{
    struct cpu *cpu = k->state;
    const int parts = cpu_parts(cpu, (C + cpu_line - 1) / cpu_line, B * T * cpu_line);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(C, parts, part, cpu_line);
        for (size_t n = 0; n < B * T; n++) {
            const float *row = dout + n * C + r.first;
            float *word = dtable + (size_t)tokens[n] * C + r.first;
            float *place = dpositional + n % T * C + r.first;
            cpu->vector->add(word, word, row, r.count);
            cpu->vector->add(place, place, row, r.count);
        }
    }
}
