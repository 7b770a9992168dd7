/* launch.h - what the CUDA backend's kernels are called by: plain C functions that put kernels
 * on a stream and return at once. The operations are those of kernels.h, which says what each
 * computes; here stand the types of elements and scratch.
 *
 * `type` is the type of activations and their gradients. Everything else (statistics, gamma and
 * beta, sums over rows, the loss) is fp32, and so is all arithmetic: bf16 is a way to store.
 * Pointers marked [type] are float * or struct bf16 *. All memory is the device's, except where
 * "host" is said. Arguments of size 0 launch nothing.
 *
 * Scratch belongs to one call until the stream has passed it; its sizes are in floats, and it
 * is aligned to 256 bytes.
 *
 * Errors: a refused launch is what cudaGetLastError gives next. Sizes that a kernel cannot take
 * make its function return false, and nothing is launched; where none is said there is none. */
#ifndef KERNELS_CUDA_LAUNCH_H
#define KERNELS_CUDA_LAUNCH_H

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/kernels.h"

struct bf16; /* device.h */

enum element { ELEMENT_FLOAT, ELEMENT_BF16 };

struct cuda_queue {
    void *stream;        /* a cudaStream_t */
    int multiprocessors; /* of the device */
    size_t shared_bytes; /* that a block may ask for */
};

/* ---- cuda_elementwise.cu ---- */

void cuda_add(const struct cuda_queue *q, enum element type, void *out, const void *a,
              const void *b, size_t n);
void cuda_activation_forward(const struct cuda_queue *q, enum element type, void *out,
                             const void *in, size_t n, enum activation kind);
void cuda_activation_backward(const struct cuda_queue *q, enum element type, void *din,
                              const void *dout, const void *in, size_t n, enum activation kind);
/* out[N,C] = in * gamma: forward, and din of backward, whose dgamma is cuda_sum_products. */
void cuda_scale_columns(const struct cuda_queue *q, enum element type, void *out,
                        const void *in, const float *gamma, size_t N, size_t C);
/* out[rows,columns] [type] = bias[columns], or 0 where bias is NULL. */
void cuda_fill_rows(const struct cuda_queue *q, enum element type, void *out, const float *bias,
                    size_t rows, size_t columns);
void cuda_clamp(const struct cuda_queue *q, float *value, size_t n, float low, float high);
void cuda_move_average(const struct cuda_queue *q, float *average, const float *value, size_t n,
                       float weight);
/* out[n] [type to] = in[n] [type from]; to bf16 it rounds to nearest even. */
void cuda_convert(const struct cuda_queue *q, enum element to, void *out, enum element from,
                  const void *in, size_t n);

/* ---- cuda_sum.cu ---- */

/* out[C] += sum of N rows of in[N,C] [type], which begin `stride` elements apart, in an order
 * that depends on N and C alone. */
void cuda_sum_rows(const struct cuda_queue *q, enum element type, float *out, const void *in,
                   size_t N, size_t C, size_t stride, float *scratch);
/* out[C] += sum over rows of a[N,C] * b[N,C] [type]. */
void cuda_sum_products(const struct cuda_queue *q, enum element type, float *out, const void *a,
                       const void *b, size_t N, size_t C, float *scratch);
size_t cuda_sum_rows_floats(size_t N, size_t C);
/* out[0] = sum of squares, double, in an order that depends on n alone. */
void cuda_sum_squares(const struct cuda_queue *q, double *out, const float *in, size_t n,
                      double *scratch);
size_t cuda_sum_squares_doubles(size_t n);

/* ---- cuda_norm.cu ---- */

/* C up to 4096. */
bool cuda_residual_norm_forward(const struct cuda_queue *q, enum element type,
                                void *residual_out, void *normed, float *mean, float *rstd,
                                const void *residual, const void *delta, const float *gamma,
                                const float *beta, size_t N, size_t C, float eps);
bool cuda_norm_backward(const struct cuda_queue *q, enum element type, void *dresidual,
                        float *dgamma, float *dbeta, const void *dnormed, const void *residual,
                        const float *mean, const float *rstd, const float *gamma, size_t N,
                        size_t C, float *scratch);
size_t cuda_norm_backward_floats(size_t N, size_t C);
/* in and din [type]. */
void cuda_normalize_forward(const struct cuda_queue *q, enum element type, float *out,
                            float *inverse, const void *in, size_t N, size_t E);
void cuda_normalize_backward(const struct cuda_queue *q, enum element type, void *din,
                             const float *dout, const float *out, const float *inverse,
                             size_t N, size_t E);

/* ---- cuda_attention.cu: any T; D up to 256 ---- */

bool cuda_attention_forward(const struct cuda_queue *q, enum element type, void *out,
                            float *lse, const void *qkv, const struct attention *shape);
bool cuda_attention_backward(const struct cuda_queue *q, enum element type, void *dqkv,
                             const void *dout, const void *qkv, const void *out,
                             const float *lse, const struct attention *shape, float *scratch);
size_t cuda_attention_backward_floats(const struct attention *shape);

/* ---- cuda_attention_mma.cu, cuda_attention_mma_backward.cu: bf16 by matrix instructions ----
 * Any T; D a multiple of 8 up to 128; all pointers aligned to 16 bytes. False where that does
 * not hold or a block has too little shared memory, and cuda_attention_* serves. */
bool cuda_attention_forward_mma(const struct cuda_queue *q, struct bf16 *out, float *lse,
                                const struct bf16 *qkv, const struct attention *shape);
bool cuda_attention_backward_mma(const struct cuda_queue *q, struct bf16 *dqkv,
                                 const struct bf16 *dout, const struct bf16 *qkv,
                                 const struct bf16 *out, const float *lse,
                                 const struct attention *shape);

/* ---- cuda_embed.cu ---- */

/* mean and std are three host values. */
void cuda_unpack_patches(const struct cuda_queue *q, enum element type, void *out,
                         const uint8_t *in, size_t N, size_t P, const float mean[3],
                         const float std[3]);
void cuda_embed_patches_forward(const struct cuda_queue *q, enum element type, void *out,
                                const void *features, const int32_t *position,
                                const float *class_embedding, const float *positional, size_t B,
                                size_t K, size_t C);
void cuda_embed_patches_backward(const struct cuda_queue *q, enum element type, void *dfeatures,
                                 float *dclass_embedding, float *dpositional, const void *dout,
                                 const int32_t *position, size_t B, size_t K, size_t C,
                                 float *scratch);
size_t cuda_embed_patches_backward_floats(size_t B, size_t K, size_t C);
void cuda_embed_tokens_forward(const struct cuda_queue *q, enum element type, void *out,
                               const int32_t *tokens, const float *table,
                               const float *positional, size_t B, size_t T, size_t C);
void cuda_embed_tokens_backward(const struct cuda_queue *q, enum element type, float *dtable,
                                float *dpositional, const void *dout, const int32_t *tokens,
                                size_t B, size_t T, size_t C, float *scratch);
size_t cuda_embed_tokens_backward_floats(size_t B, size_t T, size_t C);

/* ---- cuda_pool.cu ---- */

void cuda_pick_token_forward(const struct cuda_queue *q, enum element type, void *out,
                             const void *in, const int32_t *row, size_t B, size_t T, size_t C);
void cuda_pick_token_backward(const struct cuda_queue *q, enum element type, void *din,
                              const void *dout, const int32_t *row, size_t B, size_t T,
                              size_t C);
void cuda_mean_tokens_forward(const struct cuda_queue *q, enum element type, void *out,
                              const void *in, size_t B, size_t T, size_t C, size_t first);
void cuda_mean_tokens_backward(const struct cuda_queue *q, enum element type, void *din,
                               const void *dout, size_t B, size_t T, size_t C, size_t first);

/* ---- cuda_loss.cu: the parts of the contrastive loss that are not matrix products ---- */

struct cuda_loss {
    size_t B;
    const float *logit_scale;            /* [1] */
    float *row_max, *row_sum;            /* [B]: sum of exp(logit - max) */
    float *column_max, *column_sum;      /* [B] */
    float *diagonal;                     /* [B]: logits[i,i] */
    float *row_dscale;                   /* [B]: sum over the row of dlogit * logit */
    float *column_max_part, *column_sum_part; /* [cuda_loss_slices, cuda_loss_tile_columns] */
};

enum { cuda_loss_tile_rows = 2048, cuda_loss_tile_columns = 4096, cuda_loss_slices = 64 };

/* The tile's dots[rows,columns] are image rows `row`.. times text rows `column`... */
struct cuda_loss_tile {
    float *dots;
    size_t row, column, rows, columns;
};

void cuda_loss_begin(const struct cuda_queue *q, const struct cuda_loss *loss);
/* Takes one more tile into the sums. */
void cuda_loss_forward(const struct cuda_queue *q, const struct cuda_loss *loss,
                       const struct cuda_loss_tile *tile);
/* loss_out[0] =; after the last tile. */
void cuda_loss_end(const struct cuda_queue *q, const struct cuda_loss *loss, float *loss_out);
/* dots become d loss / d dots; row_dscale += (= for column 0). */
void cuda_loss_backward(const struct cuda_queue *q, const struct cuda_loss *loss,
                        const struct cuda_loss_tile *tile);
/* dlogit_scale[0] += sum of row_dscale. */
void cuda_loss_scale(const struct cuda_queue *q, const struct cuda_loss *loss,
                     float *dlogit_scale);

/* ---- cuda_optimizer.cu ---- */

void cuda_adamw(const struct cuda_queue *q, float *parameter, float *m, float *v,
                const float *gradient, size_t n, const struct adamw *args);

#ifdef __cplusplus
}
#endif

#endif
