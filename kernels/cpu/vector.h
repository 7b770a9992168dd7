/* vector.h - the serial inner kernels of the cpu backend, one table per instruction set.
 *
 * The kernels are written once (vector_*.h) over a handful of vector primitives and compiled
 * three times: vector_baseline.c, vector_avx2.c, vector_avx512.c. cpu.c picks a table when the
 * backend opens; the drivers (cpu_*.c) split the work among threads and call through it.
 *
 * All pointers are host memory of any alignment; "=" and "+=" as in kernels.h; n may be 0. */
#ifndef KERNELS_CPU_VECTOR_H
#define KERNELS_CPU_VECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

/* AdamW's constants of one step, folded: update = m * m_factor / (sqrt(v) * v_factor + eps). */
struct adamw_factors {
    float beta1, beta2, one_minus_beta1, one_minus_beta2;
    float gradient_scale;
    float decay;    /* 1 - lr * weight_decay */
    float m_factor; /* lr / (1 - beta1^step) */
    float v_factor; /* 1 / sqrt(1 - beta2^step) */
    float eps;
};

/* Where a tile of the contrastive loss's dot products lies, and what turns them to logits. */
struct loss_tile {
    float *dots; /* [rows, columns]; logits are scale * dots */
    size_t rows, columns;
    float scale;
};

/* The most columns a struct loss_tile has. */
#define LOSS_TILE_COLUMNS 1024

struct vector_kernels {
    const char *isa;

    /* bfloat16 to float, and back to nearest even; a NaN stays one. */
    void (*from_bf16)(float *out, const uint16_t *in, size_t n);
    void (*to_bf16)(uint16_t *out, const float *in, size_t n);

    void (*add)(float *out, const float *a, const float *b, size_t n);
    /* out[width] += each of `rows` rows of in, `stride` floats apart. */
    void (*add_rows)(float *out, const float *in, size_t rows, size_t width, size_t stride);
    void (*scale)(float *out, const float *in, float factor, size_t n);
    void (*activation_forward)(float *out, const float *in, size_t n, enum activation kind);
    void (*activation_backward)(float *din, const float *dout, const float *in, size_t n,
                                enum activation kind);
    void (*layer_scale_forward)(float *out, const float *in, const float *gamma, size_t N,
                                size_t C);
    void (*layer_scale_backward)(float *din, float *dgamma, const float *dout, const float *in,
                                 const float *gamma, size_t N, size_t C);

    void (*norm_forward)(float *residual_out, float *normed, float *mean, float *rstd,
                         const float *residual, const float *delta, const float *gamma,
                         const float *beta, size_t N, size_t C, float eps);
    void (*norm_backward)(float *dresidual, float *dgamma, float *dbeta, const float *dnormed,
                          const float *residual, const float *mean, const float *rstd,
                          const float *gamma, size_t N, size_t C);
    void (*normalize_forward)(float *out, float *inverse, const float *in, size_t N, size_t E);
    void (*normalize_backward)(float *din, const float *dout, const float *out,
                               const float *inverse, size_t N, size_t E);

    /* One head h of one sample b. `scratch` holds attention_scratch(T, D) floats. */
    size_t (*attention_scratch)(size_t T, size_t D);
    void (*attention_forward)(float *out, float *lse, const float *qkv,
                              const struct attention *shape, size_t b, size_t h,
                              float *scratch);
    void (*attention_backward)(float *dqkv, const float *dout, const float *qkv,
                               const float *out, const float *lse,
                               const struct attention *shape, size_t b, size_t h,
                               float *scratch);

    /* Running log-sum-exp = max + log(sum) of rows first..last-1 (columns first..last-1) of a
     * tile, folded into max[] and sum[], which are indexed like the tile's. */
    void (*loss_rows)(float *max, double *sum, const struct loss_tile *tile, size_t first,
                      size_t last);
    void (*loss_columns)(float *max, double *sum, const struct loss_tile *tile, size_t first,
                         size_t last);
    /* The dots of one row become factor * d, where d is the softmax of the row plus those of
     * the columns, less 2 at column `diagonal` (SIZE_MAX: nowhere). A softmax is
     * exp(logit - max) * inverse. Returns the sum of d times the logits. */
    double (*loss_gradient)(const struct loss_tile *tile, size_t row, float row_max,
                            float row_inverse, const float *column_max,
                            const float *column_inverse, size_t diagonal, float factor);

    void (*adamw)(float *parameter, float *m, float *v, const float *gradient, size_t n,
                  const struct adamw_factors *factors);
    double (*sum_squares)(const float *in, size_t n);
    void (*clamp)(float *value, size_t n, float low, float high);
};

extern const struct vector_kernels vector_baseline;
#if defined(__x86_64__)
extern const struct vector_kernels vector_avx2;
extern const struct vector_kernels vector_avx512;
#endif

#endif
