/* kernels.h - the operations that training is made of, behind one interface.
 *
 * A backend fills a struct kernels; model code calls through it and knows nothing else.
 * `ref` (plain C, sums in double) defines every operation; the others are checked against it.
 *
 * Shape letters, used everywhere in the project:
 *   B batch   T tokens   C width   H heads   D head size (C = H*D)   F hidden width of the MLP
 *   E embedding   V vocabulary   P patch side   K kept patches   N rows (any leading dims)
 *
 * Memory: matrices are row-major, tight, and live in the backend's memory (`allocate`).
 * Outputs never overlap inputs unless an operation says so. "=" overwrites, "+=" adds to what
 * is there; gradients are named d + the value's name.
 *
 * Precision: `float *` is fp32 always: parameters, their gradients, statistics, unit
 * embeddings, the loss. `void *` is an activation (or the gradient of one, or a copy of a weight
 * as a matrix product takes it): fp32, or under PRECISION_AMP_BF16 bfloat16, one value in two
 * bytes, rounded to nearest even when it is written and to nothing before that: every operation
 * computes in fp32 or wider.
 *
 * Errors: operations return nothing. A backend that fails inside one (scratch memory, device)
 * remembers the first failure, and `check` reports it; ask once a step.
 *
 * Determinism: the same inputs, device and number of threads give the same bits. No operation
 * depends on the order in which threads finish. NaN in an input is never hidden.
 *
 * Threads: one caller at a time; the backend parallelises inside. */
#ifndef KERNELS_H
#define KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum activation {
    ACTIVATION_GELU,      /* x * (1 + erf(x / sqrt 2)) / 2 */
    ACTIVATION_GELU_TANH, /* x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) / 2 */
    ACTIVATION_QUICK_GELU /* x * sigmoid(1.702 x) */
};

/* The arithmetic of a whole model; open_clip's names are "fp32" and "amp_bf16". */
enum precision { PRECISION_FP32, PRECISION_AMP_BF16 };

enum matmul_epilogue {
    EPILOGUE_NONE,
    EPILOGUE_ACTIVATION,         /* before = product + bias in fp32; out = f(before), of what
                                  * is not rounded yet to an activation */
    EPILOGUE_ACTIVATION_BACKWARD /* out = product * f'(before) */
};

/* out[rows,columns] = op(a)[rows,inner] op(b)[inner,columns] + bias[columns], then the
 * epilogue; or, with accumulate, the gradient of a weight: out += op(a) op(b), and out is fp32.
 * A transposed operand is stored the other way round: a as [inner,rows], b as [columns,inner].
 * A linear layer with weight [out,in] is y = x * transposed(weight) + bias. */
struct matmul {
    size_t rows, columns, inner;
    const void *a;
    bool a_transposed;
    const void *b;
    bool b_transposed;
    const float *bias; /* or NULL; not together with accumulate or ..._BACKWARD */
    void *out;
    bool accumulate; /* += into float */
    /* With accumulate: a_sums[rows] += sum over inner of op(a), or NULL: of dy^T x it is the
     * gradient of the bias. */
    float *a_sums;
    enum matmul_epilogue epilogue; /* not together with accumulate */
    enum activation activation;    /* f */
    void *before; /* [rows,columns]: written, or NULL where nobody wants it; ..._BACKWARD reads */
};

/* qkv [B,T,3C]: queries, keys, values side by side; head h owns columns h*D..(h+1)*D of each.
 * Softmax scale is 1/sqrt(D). causal: token t attends to 0..t. */
struct attention {
    size_t B, T, H, D;
    bool causal;
};

/* AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019):
 *   g = gradient_scale * gradient
 *   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
 *   p = p - lr weight_decay p
 *   p = p - lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps)
 * A backend may make 0 of |m| below 1e-30 and v below 1e-36, which move nothing. */
struct adamw {
    float lr, beta1, beta2, eps, weight_decay;
    float gradient_scale; /* 1, or less where the gradient's norm is clipped */
    int64_t step;         /* counted from 1 */
};

struct kernels {
    const char *name; /* "ref", "cpu", "cuda" */
    enum precision precision;
    void *state; /* the backend's own */

    void (*close)(struct kernels *k);
    /* The first failure since the last call, or STATUS_OK. Waits for all operations. */
    enum status (*check)(struct kernels *k, struct error *error);
    /* Whether all operations are done. Does not wait. */
    bool (*idle)(struct kernels *k);

    /* ---- memory: 64-byte aligned; allocate gives NULL when refused ---- */
    void *(*allocate)(struct kernels *k, size_t bytes);
    void (*release)(struct kernels *k, void *memory); /* accepts NULL */
    void (*upload)(struct kernels *k, void *to_device, const void *from_host, size_t bytes);
    void (*download)(struct kernels *k, void *to_host, const void *from_device, size_t bytes);
    void (*zero)(struct kernels *k, void *memory, size_t bytes);

    /* ---- dense algebra ---- */
    /* out[n] = in[n], rounded to an activation: what a matrix product takes for a weight. */
    void (*round)(struct kernels *k, void *out, const float *in, size_t n);
    void (*matmul)(struct kernels *k, const struct matmul *args);
    /* out[C] += sum over rows of in[N,C]; the gradient of a bias. */
    void (*sum_rows)(struct kernels *k, float *out, const void *in, size_t N, size_t C);
    /* out[n] = a[n] + b[n]; out may be a or b. */
    void (*add)(struct kernels *k, void *out, const void *a, const void *b, size_t n);

    /* ---- activation, element by element, n values ---- */
    void (*activation_forward)(struct kernels *k, void *out, const void *in, size_t n,
                               enum activation kind);
    /* din = dout * f'(in); din may be dout. */
    void (*activation_backward)(struct kernels *k, void *din, const void *dout,
                                const void *in, size_t n, enum activation kind);

    /* ---- layer scale (Touvron et al., "Going deeper with image transformers", 2021) ----
     * out[N,C] = in[N,C] * gamma[C] */
    void (*layer_scale_forward)(struct kernels *k, void *out, const void *in,
                                const float *gamma, size_t N, size_t C);
    /* din[N,C] = dout * gamma, dgamma[C] += sum over rows of dout * in. */
    void (*layer_scale_backward)(struct kernels *k, void *din, float *dgamma,
                                 const void *dout, const void *in, const float *gamma,
                                 size_t N, size_t C);

    /* ---- residual + layer norm (Ba, Kiros, Hinton 2016) ----
     * residual_out[N,C] = residual[N,C] + delta[N,C]
     * normed[N,C] = (residual_out - mean) * rstd * gamma[C] + beta[C]
     * mean[N], rstd[N] = 1/sqrt(variance + eps) are kept for the backward pass.
     * delta NULL: plain layer norm of `residual`; residual_out is not written and may be NULL.
     * residual_out may be residual. */
    void (*residual_norm_forward)(struct kernels *k, void *residual_out, void *normed,
                                  float *mean, float *rstd, const void *residual,
                                  const void *delta, const float *gamma, const float *beta,
                                  size_t N, size_t C, float eps);
    /* dresidual[N,C] +=, dgamma[C] +=, dbeta[C] +=; `residual` is what was normalised. */
    void (*norm_backward)(struct kernels *k, void *dresidual, float *dgamma, float *dbeta,
                          const void *dnormed, const void *residual, const float *mean,
                          const float *rstd, const float *gamma, size_t N, size_t C);

    /* ---- attention, the T x T matrix never in memory ----
     * out[B,T,C] = softmax(Q K^T / sqrt D) V by head; lse[B,H,T] = log of the softmax's sum
     * (with its maximum folded in), kept for the backward pass, which computes the
     * probabilities again (Dao et al., "FlashAttention", 2022). */
    void (*attention_forward)(struct kernels *k, void *out, float *lse, const void *qkv,
                              const struct attention *shape);
    void (*attention_backward)(struct kernels *k, void *dqkv, const void *dout,
                               const void *qkv, const void *out, const float *lse,
                               const struct attention *shape);

    /* ---- embeddings ----
     * out[N,3*P*P] (channel, y, x: the layout of conv1.weight) = (in / 255 - mean[c]) / std[c]
     * from in u8 [N,P*P*3] (y, x, channel). mean and std are three host values. */
    void (*unpack_patches)(struct kernels *k, void *out, const uint8_t *in, size_t N, size_t P,
                           const float mean[3], const float std[3]);
    /* out[B,1+K,C]: row 0 = class_embedding[C] + positional[0]; row 1+j = features[B,K,C] row j
     * + positional[1 + position[B,K]]. positional is [1+grid,C]; positions are below grid and
     * do not repeat within a sample. */
    void (*embed_patches_forward)(struct kernels *k, void *out, const void *features,
                                  const int32_t *position, const float *class_embedding,
                                  const float *positional, size_t B, size_t K, size_t C);
    /* dfeatures[B,K,C] =, dclass_embedding[C] +=, dpositional[1+grid,C] +=. */
    void (*embed_patches_backward)(struct kernels *k, void *dfeatures, float *dclass_embedding,
                                   float *dpositional, const void *dout,
                                   const int32_t *position, size_t B, size_t K, size_t C);
    /* out[B,T,C] = table[V,C] row tokens[B,T] + positional[T,C]; tokens are in [0,V). */
    void (*embed_tokens_forward)(struct kernels *k, void *out, const int32_t *tokens,
                                 const float *table, const float *positional, size_t B,
                                 size_t T, size_t C);
    /* dtable[V,C] +=, dpositional[T,C] +=; rows that share a token are added in row order. */
    void (*embed_tokens_backward)(struct kernels *k, float *dtable, float *dpositional,
                                  const void *dout, const int32_t *tokens, size_t B, size_t T,
                                  size_t C);

    /* ---- pooling ----
     * out[B,C] = in[B,T,C] at row[b], in [0,T); the backward pass writes all of din, zeros
     * elsewhere. */
    void (*pick_token_forward)(struct kernels *k, void *out, const void *in,
                               const int32_t *row, size_t B, size_t T, size_t C);
    void (*pick_token_backward)(struct kernels *k, void *din, const void *dout,
                                const int32_t *row, size_t B, size_t T, size_t C);
    /* out[B,C] = mean of in[B,T,C] over tokens first..T-1, first < T; backward as above. */
    void (*mean_tokens_forward)(struct kernels *k, void *out, const void *in, size_t B,
                                size_t T, size_t C, size_t first);
    void (*mean_tokens_backward)(struct kernels *k, void *din, const void *dout, size_t B,
                                 size_t T, size_t C, size_t first);

    /* ---- embeddings of unit length and the loss ----
     * out[N,E] = in[N,E] / max(|in|, 1e-12); inverse[N] = 1 / max(|in|, 1e-12). */
    void (*normalize_forward)(struct kernels *k, float *out, float *inverse, const void *in,
                              size_t N, size_t E);
    /* din[N,E] = (dout - out (out . dout)) * inverse */
    void (*normalize_backward)(struct kernels *k, void *din, const float *dout,
                               const float *out, const float *inverse, size_t N, size_t E);

    /* Symmetric contrastive loss (Radford et al. 2021), from unit rows image[B,E], text[B,E]:
     *   s = exp(logit_scale[0]);  logits = s image text^T, never in memory as a whole
     *   loss[0] = mean_i of (lse(row i) + lse(column i)) / 2 - logits[i,i]
     * dimage[B,E] =, dtext[B,E] =, dlogit_scale[0] += (with respect to logit_scale, not s).
     * dimage NULL: the loss alone. loss, logit_scale, dlogit_scale are in backend memory. */
    void (*contrastive_loss)(struct kernels *k, float *loss, float *dimage, float *dtext,
                             float *dlogit_scale, const float *image, const float *text,
                             const float *logit_scale, size_t B, size_t E);

    /* ---- optimiser ---- */
    void (*adamw)(struct kernels *k, float *parameter, float *m, float *v,
                  const float *gradient, size_t n, const struct adamw *args);
    /* Sum of squares, in double and in a fixed order; waits for the result. */
    double (*sum_squares)(struct kernels *k, const float *in, size_t n);
    /* value[n] = min(max(value, low), high); NaN stays NaN. */
    void (*clamp)(struct kernels *k, float *value, size_t n, float low, float high);
    /* average[n] += weight * (value - average): an exponential moving average. */
    void (*move_average)(struct kernels *k, float *average, const float *value, size_t n,
                         float weight);
};

/* device: "ref", "cpu", "cuda", or "auto", which is cuda where the process is shown a GPU, and
 * fails where that cannot be used, and cpu where not.
 * threads: 0 means one per processor; ref uses one always.
 * STATUS_USAGE for an unknown name, STATUS_UNAVAILABLE where the device is absent. */
enum status kernels_open(struct kernels **k, const char *device, enum precision precision,
                         int threads, struct error *error);

/* For command lines, ended by NULL: the devices, cpu first; the precisions, by enum precision. */
extern const char *const kernels_device_names[];
extern const char *const kernels_precision_names[];

/* Bytes of one value of an activation. */
static inline size_t activation_bytes(const struct kernels *k)
{
    return k->precision == PRECISION_AMP_BF16 ? 2 : sizeof(float);
}

/* Accepts NULL. */
void kernels_close(struct kernels *k);

#endif
