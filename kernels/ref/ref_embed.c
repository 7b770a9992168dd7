#include "kernels/ref/ref_operations.h"

void ref_unpack_patches(struct kernels *k, float *out, const uint8_t *in, size_t N, size_t P,
                        const float mean[3], const float std[3])
{
    (void)k;
    const size_t pixels = P * P;
    for (size_t n = 0; n < N; n++)
        for (size_t c = 0; c < 3; c++)
            for (size_t i = 0; i < pixels; i++)
                out[(n * 3 + c) * pixels + i] =
                    (float)((in[(n * pixels + i) * 3 + c] / 255.0 - mean[c]) / std[c]);
}

void ref_embed_patches_forward(struct kernels *k, float *out, const float *features,
                               const int32_t *position, const float *class_embedding,
                               const float *positional, size_t B, size_t K, size_t C)
{
    (void)k;
    for (size_t b = 0; b < B; b++) {
        float *sample = out + b * (1 + K) * C;
        for (size_t c = 0; c < C; c++)
            sample[c] = class_embedding[c] + positional[c];
        for (size_t j = 0; j < K; j++) {
            const size_t place = 1 + (size_t)position[b * K + j];
            for (size_t c = 0; c < C; c++)
                sample[(1 + j) * C + c] =
                    features[(b * K + j) * C + c] + positional[place * C + c];
        }
    }
}

/* Sums that many samples share are added in fp32 in sample order: a place in the table has no
 * double of its own. */
void ref_embed_patches_backward(struct kernels *k, float *dfeatures, float *dclass_embedding,
                                float *dpositional, const float *dout, const int32_t *position,
                                size_t B, size_t K, size_t C)
{
    (void)k;
    for (size_t b = 0; b < B; b++) {
        const float *sample = dout + b * (1 + K) * C;
        for (size_t c = 0; c < C; c++) {
            dclass_embedding[c] += sample[c];
            dpositional[c] += sample[c];
        }
        for (size_t j = 0; j < K; j++) {
            const size_t place = 1 + (size_t)position[b * K + j];
            for (size_t c = 0; c < C; c++) {
                dfeatures[(b * K + j) * C + c] = sample[(1 + j) * C + c];
                dpositional[place * C + c] += sample[(1 + j) * C + c];
            }
        }
    }
}

void ref_embed_tokens_forward(struct kernels *k, float *out, const int32_t *tokens,
                              const float *table, const float *positional, size_t B, size_t T,
                              size_t C)
{
    (void)k;
    for (size_t n = 0; n < B * T; n++)
        for (size_t c = 0; c < C; c++)
            out[n * C + c] = table[(size_t)tokens[n] * C + c] + positional[n % T * C + c];
}

void ref_embed_tokens_backward(struct kernels *k, float *dtable, float *dpositional,
                               const float *dout, const int32_t *tokens, size_t B, size_t T,
                               size_t C)
{
    (void)k;
    for (size_t n = 0; n < B * T; n++) {
        for (size_t c = 0; c < C; c++) {
            dtable[(size_t)tokens[n] * C + c] += dout[n * C + c];
            dpositional[n % T * C + c] += dout[n * C + c];
        }
    }
}

void ref_pick_token_forward(struct kernels *k, float *out, const float *in, const int32_t *row,
                            size_t B, size_t T, size_t C)
{
    (void)k;
    for (size_t b = 0; b < B; b++)
        for (size_t c = 0; c < C; c++)
            out[b * C + c] = in[(b * T + (size_t)row[b]) * C + c];
}

void ref_pick_token_backward(struct kernels *k, float *din, const float *dout,
                             const int32_t *row, size_t B, size_t T, size_t C)
{
    (void)k;
    for (size_t b = 0; b < B; b++)
        for (size_t t = 0; t < T; t++)
            for (size_t c = 0; c < C; c++)
                din[(b * T + t) * C + c] = t == (size_t)row[b] ? dout[b * C + c] : 0;
}

void ref_mean_tokens_forward(struct kernels *k, float *out, const float *in, size_t B, size_t T,
                             size_t C, size_t first)
{
    (void)k;
    for (size_t b = 0; b < B; b++) {
        for (size_t c = 0; c < C; c++) {
            double sum = 0;
            for (size_t t = first; t < T; t++)
                sum += in[(b * T + t) * C + c];
            out[b * C + c] = (float)(sum / (double)(T - first));
        }
    }
}

void ref_mean_tokens_backward(struct kernels *k, float *din, const float *dout, size_t B,
                              size_t T, size_t C, size_t first)
{
    (void)k;
    for (size_t b = 0; b < B; b++)
        for (size_t t = 0; t < T; t++)
            for (size_t c = 0; c < C; c++)
                din[(b * T + t) * C + c] =
                    t < first ? 0 : (float)(dout[b * C + c] / (double)(T - first));
}
