/* ref_operations.h - the operations of the reference backend, for its table in ref.c.
 * Contracts are those of the members of the same name in struct kernels. */
#ifndef KERNELS_REF_OPERATIONS_H
#define KERNELS_REF_OPERATIONS_H

#include "kernels/kernels.h"

/* ref_dense.c */
void ref_matmul(struct kernels *k, const struct matmul *args);
void ref_sum_rows(struct kernels *k, float *out, const float *in, size_t N, size_t C);
void ref_add(struct kernels *k, float *out, const float *a, const float *b, size_t n);
void ref_activation_forward(struct kernels *k, float *out, const float *in, size_t n,
                            enum activation kind);
void ref_activation_backward(struct kernels *k, float *din, const float *dout, const float *in,
                             size_t n, enum activation kind);
void ref_layer_scale_forward(struct kernels *k, float *out, const float *in, const float *gamma,
                             size_t N, size_t C);
void ref_layer_scale_backward(struct kernels *k, float *din, float *dgamma, const float *dout,
                              const float *in, const float *gamma, size_t N, size_t C);

/* ref_norm.c */
void ref_residual_norm_forward(struct kernels *k, float *residual_out, float *normed,
                               float *mean, float *rstd, const float *residual,
                               const float *delta, const float *gamma, const float *beta,
                               size_t N, size_t C, float eps);
void ref_norm_backward(struct kernels *k, float *dresidual, float *dgamma, float *dbeta,
                       const float *dnormed, const float *residual, const float *mean,
                       const float *rstd, const float *gamma, size_t N, size_t C);
void ref_normalize_forward(struct kernels *k, float *out, float *inverse, const float *in,
                           size_t N, size_t E);
void ref_normalize_backward(struct kernels *k, float *din, const float *dout, const float *out,
                            const float *inverse, size_t N, size_t E);

/* ref_attention.c */
void ref_attention_forward(struct kernels *k, float *out, float *lse, const float *qkv,
                           const struct attention *shape);
void ref_attention_backward(struct kernels *k, float *dqkv, const float *dout, const float *qkv,
                            const float *out, const float *lse, const struct attention *shape);

/* ref_embed.c */
void ref_unpack_patches(struct kernels *k, float *out, const uint8_t *in, size_t N, size_t P,
                        const float mean[3], const float std[3]);
void ref_embed_patches_forward(struct kernels *k, float *out, const float *features,
                               const int32_t *position, const float *class_embedding,
                               const float *positional, size_t B, size_t K, size_t C);
void ref_embed_patches_backward(struct kernels *k, float *dfeatures, float *dclass_embedding,
                                float *dpositional, const float *dout, const int32_t *position,
                                size_t B, size_t K, size_t C);
void ref_embed_tokens_forward(struct kernels *k, float *out, const int32_t *tokens,
                              const float *table, const float *positional, size_t B, size_t T,
                              size_t C);
void ref_embed_tokens_backward(struct kernels *k, float *dtable, float *dpositional,
                               const float *dout, const int32_t *tokens, size_t B, size_t T,
                               size_t C);
void ref_pick_token_forward(struct kernels *k, float *out, const float *in, const int32_t *row,
                            size_t B, size_t T, size_t C);
void ref_pick_token_backward(struct kernels *k, float *din, const float *dout,
                             const int32_t *row, size_t B, size_t T, size_t C);
void ref_mean_tokens_forward(struct kernels *k, float *out, const float *in, size_t B, size_t T,
                             size_t C, size_t first);
void ref_mean_tokens_backward(struct kernels *k, float *din, const float *dout, size_t B,
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
