#include <math.h>
#include <stdlib.h>

#include "kernels/ref/ref_operations.h"

/* Where one head of one sample lies: row t of a matrix starts at value q, k or v + t * stride
 * of `in`. */
struct head {
    const struct kernels *kernels;
    const void *in; /* qkv */
    size_t q, k, v;
    size_t stride; /* 3C */
    size_t T, D;
    double scale;
    bool causal;
};

static struct head head_of(const struct kernels *k, const void *qkv,
                           const struct attention *shape, size_t b, size_t h)
{
    const size_t C = shape->H * shape->D;
    const size_t first = b * shape->T * 3 * C + h * shape->D;
    return (struct head){
        .kernels = k,
        .in = qkv,
        .q = first,
        .k = first + C,
        .v = first + 2 * C,
        .stride = 3 * C,
        .T = shape->T,
        .D = shape->D,
        .scale = 1 / sqrt((double)shape->D),
        .causal = shape->causal,
    };
}

/* Of n values of a from a_first on, and of b. */
static double dot(const struct kernels *k, const void *a, size_t a_first, const void *b,
                  size_t b_first, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ref_load(k, a, a_first + i) * ref_load(k, b, b_first + i);
    return sum;
}

static size_t visible_tokens(const struct head *head, size_t t)
{
    return head->causal ? t + 1 : head->T;
}

/* The scaled scores of query t, over the tokens it sees. */
static void scores_of(const struct head *head, size_t t, double *scores)
{
    for (size_t j = 0; j < visible_tokens(head, t); j++)
        scores[j] = head->scale * dot(head->kernels, head->in, head->q + t * head->stride,
                                      head->in, head->k + j * head->stride, head->D);
}

static double log_sum_exp(const double *values, size_t n)
{
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        max = fmax(max, values[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp(values[i] - max);
    return max + log(sum);
}

void ref_attention_forward(struct kernels *k, void *out, float *lse, const void *qkv,
                           const struct attention *shape)
{
    const size_t B = shape->B, T = shape->T, H = shape->H, D = shape->D;
    double *scores = ref_scratch(k, T, sizeof *scores);
    if (scores == NULL)
        return;
    for (size_t b = 0; b < B; b++) {
        for (size_t h = 0; h < H; h++) {
            const struct head head = head_of(k, qkv, shape, b, h);
            for (size_t t = 0; t < T; t++) {
                const size_t visible = visible_tokens(&head, t);
                scores_of(&head, t, scores);
                const double total = log_sum_exp(scores, visible);
                lse[(b * H + h) * T + t] = (float)total;
                for (size_t d = 0; d < D; d++) {
                    double sum = 0;
                    for (size_t j = 0; j < visible; j++)
                        sum += exp(scores[j] - total) *
                               ref_load(k, qkv, head.v + j * head.stride + d);
                    ref_store(k, out, ((b * T + t) * H + h) * D + d, sum);
                }
            }
        }
    }
    free(scores);
}

/* One query's part of the gradients of one head, added to dq, dk, dv of [T,D] doubles each;
 * its rows of dout and out start at value `at`.
 *   p = softmax(s);  dv_j += p_j do;  dp_j = do . v_j;  ds_j = p_j (dp_j - sum_i p_i dp_i)
 *   dq += scale ds_j k_j;  dk_j += scale ds_j q
 * and the inner sum is do . out, because out = sum_i p_i v_i. */
static void attention_backward_query(const struct head *head, size_t t, const void *dout,
                                     const void *out, size_t at, double lse, double *scores,
                                     double *dq, double *dk, double *dv)
{
    const struct kernels *k = head->kernels;
    const size_t q = head->q + t * head->stride;
    const double dout_out = dot(k, dout, at, out, at, head->D);
    scores_of(head, t, scores);
    for (size_t j = 0; j < visible_tokens(head, t); j++) {
        const size_t key = head->k + j * head->stride;
        const double p = exp(scores[j] - lse);
        const double dp = dot(k, dout, at, head->in, head->v + j * head->stride, head->D);
        const double ds = head->scale * p * (dp - dout_out);
        for (size_t d = 0; d < head->D; d++) {
            dq[t * head->D + d] += ds * ref_load(k, head->in, key + d);
            dk[j * head->D + d] += ds * ref_load(k, head->in, q + d);
            dv[j * head->D + d] += p * ref_load(k, dout, at + d);
        }
    }
}

void ref_attention_backward(struct kernels *k, void *dqkv, const void *dout, const void *qkv,
                            const void *out, const float *lse, const struct attention *shape)
{
    const size_t B = shape->B, T = shape->T, H = shape->H, D = shape->D, C = H * D;
    double *scores = ref_scratch(k, T, sizeof *scores);
    double *gradients = ref_scratch(k, 3 * T * D, sizeof *gradients); /* dq, dk, dv */
    if (scores == NULL || gradients == NULL)
        goto out_free;
    for (size_t b = 0; b < B; b++) {
        for (size_t h = 0; h < H; h++) {
            const struct head head = head_of(k, qkv, shape, b, h);
            for (size_t i = 0; i < 3 * T * D; i++)
                gradients[i] = 0;
            for (size_t t = 0; t < T; t++) {
                const size_t at = (b * T + t) * C + h * D;
                attention_backward_query(&head, t, dout, out, at,
                                         lse[(b * H + h) * T + t], scores, gradients,
                                         gradients + T * D, gradients + 2 * T * D);
            }
            for (size_t part = 0; part < 3; part++)
                for (size_t t = 0; t < T; t++)
                    for (size_t d = 0; d < D; d++)
                        ref_store(k, dqkv, ((b * T + t) * 3 + part) * C + h * D + d,
                                  gradients[(part * T + t) * D + d]);
        }
    }
out_free:
    free(scores);
    free(gradients);
}
