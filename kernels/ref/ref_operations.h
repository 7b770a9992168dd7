/* ref_operations.h - the operations of the reference backend, for its table in ref.c.
 * Contracts are those of the members of the same name in struct kernels. */
#ifndef KERNELS_REF_OPERATIONS_H
#define KERNELS_REF_OPERATIONS_H

#include <string.h>

#include "kernels/kernels.h"

/* ---- activations: every one is read and written by these two ---- */

/* The upper half of a float's bits, to nearest and to even between two. What is added carries
 * into the exponent where the fraction overflows, up to infinity; a NaN must not get there, so
 * it is cut off, and made quiet for the case that only the lower half said that it is one. */
static inline uint16_t ref_bf16_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (value != value)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float ref_float_of_bf16(uint16_t value)
{
    const uint32_t bits = (uint32_t)value << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

static inline double ref_load(const struct kernels *k, const void *activation, size_t i)
{
    if (k->precision == PRECISION_AMP_BF16)
        return ref_float_of_bf16(((const uint16_t *)activation)[i]);
    return ((const float *)activation)[i];
}

/* By way of float in both precisions: bf16 results are those of fp32, rounded. */
static inline void ref_store(const struct kernels *k, void *activation, size_t i, double value)
{
    if (k->precision == PRECISION_AMP_BF16)
        ((uint16_t *)activation)[i] = ref_bf16_of((float)value);
    else
        ((float *)activation)[i] = (float)value;
}

/* ref_dense.c */
void ref_round(struct kernels *k, void *out, const float *in, size_t n);
void ref_matmul(struct kernels *k, const struct matmul *args);
void ref_sum_rows(struct kernels *k, float *out, const void *in, size_t N, size_t C);
void ref_add(struct kernels *k, void *out, const void *a, const void *b, size_t n);
void ref_activation_forward(struct kernels *k, void *out, const void *in, size_t n,
                            enum activation kind);
void ref_activation_backward(struct kernels *k, void *din, const void *dout, const void *in,
                             size_t n, enum activation kind);
void ref_layer_scale_forward(struct kernels *k, void *out, const void *in, const float *gamma,
                             size_t N, size_t C);
void ref_layer_scale_backward(struct kernels *k, void *din, float *dgamma, const void *dout,
                              const void *in, const float *gamma, size_t N, size_t C);

/* ref_norm.c */
void ref_residual_norm_forward(struct kernels *k, void *residual_out, void *normed, float *mean,
                               float *rstd, const void *residual, const void *delta,
                               const float *gamma, const float *beta, size_t N, size_t C,
                               float eps);
void ref_norm_backward(struct kernels *k, void *dresidual, float *dgamma, float *dbeta,
                       const void *dnormed, const void *residual, const float *mean,
                       const float *rstd, const float *gamma, size_t N, size_t C);
void ref_normalize_forward(struct kernels *k, float *out, float *inverse, const void *in,
                           size_t N, size_t E);
void ref_normalize_backward(struct kernels *k, void *din, const float *dout, const float *out,
                            const float *inverse, size_t N, size_t E);

/* ref_attention.c */
void ref_attention_forward(struct kernels *k, void *out, float *lse, const void *qkv,
                           const struct attention *shape);
void ref_attention_backward(struct kernels *k, void *dqkv, const void *dout, const void *qkv,
                            const void *out, const float *lse, const struct attention *shape);

/* ref_embed.c */
void ref_unpack_patches(struct kernels *k, void *out, const uint8_t *in, size_t N, size_t P,
                        const float mean[3], const float std[3]);
void ref_embed_patches_forward(struct kernels *k, void *out, const void *features,
                               const int32_t *position, const float *class_embedding,
                               const float *positional, size_t B, size_t K, size_t C);
void ref_embed_patches_backward(struct kernels *k, void *dfeatures, float *dclass_embedding,
                                float *dpositional, const void *dout, const int32_t *position,
                                size_t B, size_t K, size_t C);
void ref_embed_tokens_forward(struct kernels *k, void *out, const int32_t *tokens,
                              const float *table, const float *positional, size_t B, size_t T,
                              size_t C);
void ref_embed_tokens_backward(struct kernels *k, float *dtable, float *dpositional,
                               const void *dout, const int32_t *tokens, size_t B, size_t T,
                               size_t C);
void ref_pick_token_forward(struct kernels *k, void *out, const void *in, const int32_t *row,
                            size_t B, size_t T, size_t C);
void ref_pick_token_backward(struct kernels *k, void *din, const void *dout, const int32_t *row,
                             size_t B, size_t T, size_t C);
void ref_mean_tokens_forward(struct kernels *k, void *out, const void *in, size_t B, size_t T,
                             size_t C, size_t first);
void ref_mean_tokens_backward(struct kernels *k, void *din, const void *dout, size_t B,
                              size_t T, size_t C, size_t first);

/* ref_loss.c */
void ref_contrastive_loss(struct kernels *k, float *loss, float *dimage, float *dtext,
                          float *dlogit_scale, const float *image, const float *text,
                          const float *logit_scale, size_t B, size_t E);

/* ref_optimizer.c */
void ref_adamw(struct kernels *k, float *parameter, float *m, float *v, const float *gradient,
               size_t n, const struct adamw *args);
double ref_sum_squares(struct kernels *k, const float *in, size_t n);
void ref_clamp(struct kernels *k, float *value, size_t n, float low, float high);
void ref_move_average(struct kernels *k, float *average, const float *value, size_t n,
                      float weight);

/* Zeroed scratch of count elements; NULL is remembered as a failure for `check`. The caller
 * frees it with free(). */
void *ref_scratch(struct kernels *k, size_t count, size_t element_bytes);

#endif
