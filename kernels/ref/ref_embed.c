#include "kernels/ref/ref_operations.h"

void ref_unpack_patches(struct kernels *k, void *out, const uint8_t *in, size_t N, size_t P,
                        const float mean[3], const float std[3])
{
    const size_t pixels = P * P;
    for (size_t n = 0; n < N; n++)
        for (size_t c = 0; c < 3; c++)
            for (size_t i = 0; i < pixels; i++)
                ref_store(k, out, (n * 3 + c) * pixels + i,
                          (in[(n * pixels + i) * 3 + c] / 255.0 - mean[c]) / std[c]);
}

void ref_embed_patches_forward(struct kernels *k, void *out, const void *features,
                               const int32_t *position, const float *class_embedding,
                               const float *positional, size_t B, size_t K, size_t C)
{
    for (size_t b = 0; b < B; b++) {
        const size_t sample = b * (1 + K) * C;
        for (size_t c = 0; c < C; c++)
            ref_store(k, out, sample + c, (double)class_embedding[c] + positional[c]);
        for (size_t j = 0; j < K; j++) {
            const size_t place = 1 + (size_t)position[b * K + j];
            for (size_t c = 0; c < C; c++)
                ref_store(k, out, sample + (1 + j) * C + c,
                          ref_load(k, features, (b * K + j) * C + c) +
                              positional[place * C + c]);
        }
    }
}

/* Sums that many samples share are added in fp32 in sample order: a place in the table has no
 * double of its own. */
void ref_embed_patches_backward(struct kernels *k, void *dfeatures, float *dclass_embedding,
                                float *dpositional, const void *dout, const int32_t *position,
                                size_t B, size_t K, size_t C)
{
    for (size_t b = 0; b < B; b++) {
        const size_t sample = b * (1 + K) * C;
        for (size_t c = 0; c < C; c++) {
            const float d = (float)ref_load(k, dout, sample + c);
            dclass_embedding[c] += d;
            dpositional[c] += d;
        }
        for (size_t j = 0; j < K; j++) {
            const size_t place = 1 + (size_t)position[b * K + j];
            for (size_t c = 0; c < C; c++) {
                const float d = (float)ref_load(k, dout, sample + (1 + j) * C + c);
                ref_store(k, dfeatures, (b * K + j) * C + c, d);
                dpositional[place * C + c] += d;
            }
        }
    }
}

void ref_embed_tokens_forward(struct kernels *k, void *out, const int32_t *tokens,
                              const float *table, const float *positional, size_t B, size_t T,
                              size_t C)
{
    for (size_t n = 0; n < B * T; n++)
        for (size_t c = 0; c < C; c++)
            ref_store(k, out, n * C + c,
                      (double)table[(size_t)tokens[n] * C + c] + positional[n % T * C + c]);
}

void ref_embed_tokens_backward(struct kernels *k, float *dtable, float *dpositional,
                               const void *dout, const int32_t *tokens, size_t B, size_t T,
                               size_t C)
{
    for (size_t n = 0; n < B * T; n++) {
        for (size_t c = 0; c < C; c++) {
            const float d = (float)ref_load(k, dout, n * C + c);
            dtable[(size_t)tokens[n] * C + c] += d;
            dpositional[n % T * C + c] += d;
        }
    }
}

void ref_pick_token_forward(struct kernels *k, void *out, const void *in, const int32_t *row,
                            size_t B, size_t T, size_t C)
{
    for (size_t b = 0; b < B; b++)
        for (size_t c = 0; c < C; c++)
            ref_store(k, out, b * C + c, ref_load(k, in, (b * T + (size_t)row[b]) * C + c));
}

void ref_pick_token_backward(struct kernels *k, void *din, const void *dout, const int32_t *row,
                             size_t B, size_t T, size_t C)
{
    for (size_t b = 0; b < B; b++)
        for (size_t t = 0; t < T; t++)
            for (size_t c = 0; c < C; c++)
                ref_store(k, din, (b * T + t) * C + c,
                          t == (size_t)row[b] ? ref_load(k, dout, b * C + c) : 0);
}

void ref_mean_tokens_forward(struct kernels *k, void *out, const void *in, size_t B, size_t T,
                             size_t C, size_t first)
{
    for (size_t b = 0; b < B; b++) {
        for (size_t c = 0; c < C; c++) {
            double sum = 0;
            for (size_t t = first; t < T; t++)
                sum += ref_load(k, in, (b * T + t) * C + c);
            ref_store(k, out, b * C + c, sum / (double)(T - first));
        }
    }
}

void ref_mean_tokens_backward(struct kernels *k, void *din, const void *dout, size_t B,
                              size_t T, size_t C, size_t first)
{
    for (size_t b = 0; b < B; b++)
        for (size_t t = 0; t < T; t++)
            for (size_t c = 0; c < C; c++)
                ref_store(k, din, (b * T + t) * C + c,
                          t < first ? 0 : ref_load(k, dout, b * C + c) / (double)(T - first));
}
