/* cpu_state.h - what the files of the cpu backend share: its state, and how work is split. */
#ifndef KERNELS_CPU_STATE_H
#define KERNELS_CPU_STATE_H

#include "base/buffer.h"
#include "kernels/cpu/vector.h"
#include "kernels/kernels.h"

struct product_cache;

struct cpu {
    struct kernels kernels; /* first, so that k points to the whole */
    const struct vector_kernels *vector;
    int threads;
    struct product_cache *products;
    bool multiplies_bf16;  /* oneDNN gets bf16; else it gets floats made of them */
    struct buffer scratch; /* of one operation at a time; grows to the largest ever needed */
    struct error failure;  /* the first since the last check; status 0 where there is none */
};

/* Remembers `failure` for kernels.check, unless an earlier one is still unread. */
void cpu_fail(struct cpu *cpu, const struct error *failure);

/* Scratch of count * element_bytes, aligned to 64 bytes, valid until the next call;
 * NULL, remembered as a failure, where memory is refused. */
void *cpu_scratch(struct cpu *cpu, size_t count, size_t element_bytes);

/* ---- splitting work ----
 * `n` items go to `parts` threads in ranges that depend on n and parts alone, so that sums made
 * range by range and added in order have the same bits in every run:
 *
 *     const int parts = cpu_parts(cpu, n, cost);
 *     #pragma omp parallel for num_threads(parts) schedule(static, 1)
 *     for (int part = 0; part < parts; part++)
 *         ... cpu_range(n, parts, part, 1) ... */

/* How many threads are worth starting for n items of `cost` touched values each: waking one
 * takes microseconds, so it must get 16 Ki values at least. */
int cpu_parts(const struct cpu *cpu, size_t n, size_t cost);

struct range {
    size_t first, count;
};

/* The part's range; every boundary but the end is a multiple of `step`. */
struct range cpu_range(size_t n, int parts, int part, size_t step);

/* 64 bytes of floats: ranges of columns in this step never share a cache line for long. */
enum { cpu_line = 16 };

/* ---- operations, by file; contracts in kernels.h ---- */

/* cpu_matmul.c */
void cpu_matmul(struct kernels *k, const struct matmul *args);
/* Of floats, whatever the backend's precision; neither epilogue nor a_sums. */
void cpu_matmul_fp32(struct cpu *cpu, const struct matmul *args);

/* cpu_elementwise.c */
void cpu_round(struct kernels *k, void *out, const float *in, size_t n);
void cpu_sum_rows(struct kernels *k, float *out, const void *in, size_t N, size_t C);
void cpu_add(struct kernels *k, void *out, const void *a, const void *b, size_t n);
void cpu_activation_forward(struct kernels *k, void *out, const void *in, size_t n,
                            enum activation kind);
void cpu_activation_backward(struct kernels *k, void *din, const void *dout, const void *in,
                             size_t n, enum activation kind);
void cpu_layer_scale_forward(struct kernels *k, void *out, const void *in, const float *gamma,
                             size_t N, size_t C);
void cpu_layer_scale_backward(struct kernels *k, void *din, float *dgamma, const void *dout,
                              const void *in, const float *gamma, size_t N, size_t C);
void cpu_adamw(struct kernels *k, float *parameter, float *m, float *v, const float *gradient,
               size_t n, const struct adamw *args);
double cpu_sum_squares(struct kernels *k, const float *in, size_t n);
void cpu_clamp(struct kernels *k, float *value, size_t n, float low, float high);
void cpu_move_average(struct kernels *k, float *average, const float *value, size_t n,
                      float weight);

/* cpu_norm.c */
void cpu_residual_norm_forward(struct kernels *k, void *residual_out, void *normed, float *mean,
                               float *rstd, const void *residual, const void *delta,
                               const float *gamma, const float *beta, size_t N, size_t C,
                               float eps);
void cpu_norm_backward(struct kernels *k, void *dresidual, float *dgamma, float *dbeta,
                       const void *dnormed, const void *residual, const float *mean,
                       const float *rstd, const float *gamma, size_t N, size_t C);
void cpu_normalize_forward(struct kernels *k, float *out, float *inverse, const void *in,
                           size_t N, size_t E);
void cpu_normalize_backward(struct kernels *k, void *din, const float *dout, const float *out,
                            const float *inverse, size_t N, size_t E);

/* cpu_attention.c */
void cpu_attention_forward(struct kernels *k, void *out, float *lse, const void *qkv,
                           const struct attention *shape);
void cpu_attention_backward(struct kernels *k, void *dqkv, const void *dout, const void *qkv,
                            const void *out, const float *lse, const struct attention *shape);

/* cpu_embed.c */
void cpu_unpack_patches(struct kernels *k, void *out, const uint8_t *in, size_t N, size_t P,
                        const float mean[3], const float std[3]);
void cpu_embed_patches_forward(struct kernels *k, void *out, const void *features,
                               const int32_t *position, const float *class_embedding,
                               const float *positional, size_t B, size_t K, size_t C);
void cpu_embed_patches_backward(struct kernels *k, void *dfeatures, float *dclass_embedding,
                                float *dpositional, const void *dout, const int32_t *position,
                                size_t B, size_t K, size_t C);
void cpu_embed_tokens_forward(struct kernels *k, void *out, const int32_t *tokens,
                              const float *table, const float *positional, size_t B, size_t T,
                              size_t C);
void cpu_embed_tokens_backward(struct kernels *k, float *dtable, float *dpositional,
                               const void *dout, const int32_t *tokens, size_t B, size_t T,
                               size_t C);

/* cpu_pool.c */
void cpu_pick_token_forward(struct kernels *k, void *out, const void *in, const int32_t *row,
                            size_t B, size_t T, size_t C);
void cpu_pick_token_backward(struct kernels *k, void *din, const void *dout, const int32_t *row,
                             size_t B, size_t T, size_t C);
void cpu_mean_tokens_forward(struct kernels *k, void *out, const void *in, size_t B, size_t T,
                             size_t C, size_t first);
void cpu_mean_tokens_backward(struct kernels *k, void *din, const void *dout, size_t B,
                              size_t T, size_t C, size_t first);

/* cpu_loss.c */
void cpu_contrastive_loss(struct kernels *k, float *loss, float *dimage, float *dtext,
                          float *dlogit_scale, const float *image, const float *text,
                          const float *logit_scale, size_t B, size_t E);

#endif
