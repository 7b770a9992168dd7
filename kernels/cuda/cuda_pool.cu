/* From tokens to one row for each sample. Next to nothing beside the towers: simple is enough.
 *
 * Ladder: v1, a thread an element. Not measured.
 * v2, 16 bytes at a time where alignment allows. Not measured yet. */
#include "kernels/cuda/grid.h"

struct pool {
    size_t n; /* elements of what is written */
    size_t tokens, C;
    size_t first;       /* of the tokens that are averaged */
    const int32_t *row; /* the token that is picked */
};

template <typename T, int W>
KERNEL(flat_threads) pick_token_forward_kernel(T *out, const T *in, struct pool pool)
{
    for (size_t i = flat_first(W); i < pool.n; i += flat_step(W)) {
        const size_t b = i / pool.C, t = (size_t)pool.row[b];
        float x[W];
        load<W>(x, in + (b * pool.tokens + t) * pool.C + i % pool.C);
        store<W>(out + i, x);
    }
}

template <typename T, int W>
KERNEL(flat_threads) pick_token_backward_kernel(T *din, const T *dout, struct pool pool)
{
    for (size_t i = flat_first(W); i < pool.n; i += flat_step(W)) {
        const size_t b = i / (pool.tokens * pool.C), t = i / pool.C % pool.tokens;
        float x[W] = {};
        if (t == (size_t)pool.row[b])
            load<W>(x, dout + b * pool.C + i % pool.C);
        store<W>(din + i, x);
    }
}

template <typename T, int W>
KERNEL(flat_threads) mean_tokens_forward_kernel(T *out, const T *in, struct pool pool)
{
    const float count = (float)(pool.tokens - pool.first);
    for (size_t i = flat_first(W); i < pool.n; i += flat_step(W)) {
        const T *column = in + i / pool.C * pool.tokens * pool.C + i % pool.C;
        float sum[W] = {};
        for (size_t t = pool.first; t < pool.tokens; t++) {
            float x[W];
            load<W>(x, column + t * pool.C);
            UNROLL
            for (int j = 0; j < W; j++)
                sum[j] += x[j];
        }
        UNROLL
        for (int j = 0; j < W; j++)
            sum[j] /= count;
        store<W>(out + i, sum);
    }
}

template <typename T, int W>
KERNEL(flat_threads) mean_tokens_backward_kernel(T *din, const T *dout, struct pool pool)
{
    const float count = (float)(pool.tokens - pool.first);
    for (size_t i = flat_first(W); i < pool.n; i += flat_step(W)) {
        const size_t b = i / (pool.tokens * pool.C), t = i / pool.C % pool.tokens;
        float x[W];
        load<W>(x, dout + b * pool.C + i % pool.C);
        UNROLL
        for (int j = 0; j < W; j++)
            x[j] = t < pool.first ? 0 : x[j] / count;
        store<W>(din + i, x);
    }
}

enum pooling { PICK_FORWARD, PICK_BACKWARD, MEAN_FORWARD, MEAN_BACKWARD };

template <typename T, int W>
static void pool_launch(const struct cuda_queue *q, enum pooling what, T *out, const T *in,
                        const struct pool &pool)
{
    const size_t blocks = flat_blocks(q, pool.n / W);
    switch (what) {
    case PICK_FORWARD:
        LAUNCH((pick_token_forward_kernel<T, W>), blocks, 1, flat_threads, 0, q->stream, out,
               in, pool);
        break;
    case PICK_BACKWARD:
        LAUNCH((pick_token_backward_kernel<T, W>), blocks, 1, flat_threads, 0, q->stream, out,
               in, pool);
        break;
    case MEAN_FORWARD:
        LAUNCH((mean_tokens_forward_kernel<T, W>), blocks, 1, flat_threads, 0, q->stream, out,
               in, pool);
        break;
    case MEAN_BACKWARD:
        LAUNCH((mean_tokens_backward_kernel<T, W>), blocks, 1, flat_threads, 0, q->stream, out,
               in, pool);
        break;
    }
}

template <typename T>
static void pool_rows(const struct cuda_queue *q, enum pooling what, void *out, const void *in,
                      const struct pool &pool)
{
    if (pool.n == 0)
        return;
    if (wide_rows<T>(pool.C, out, in, NULL))
        pool_launch<T, wide<T>::count>(q, what, (T *)out, (const T *)in, pool);
    else
        pool_launch<T, 1>(q, what, (T *)out, (const T *)in, pool);
}

static void pool_run(const struct cuda_queue *q, enum pooling what, enum element type,
                     void *out, const void *in, const struct pool &pool)
{
    if (type == ELEMENT_BF16)
        pool_rows<bf16>(q, what, out, in, pool);
    else
        pool_rows<float>(q, what, out, in, pool);
}

void cuda_pick_token_forward(const struct cuda_queue *q, enum element type, void *out,
                             const void *in, const int32_t *row, size_t B, size_t T, size_t C)
{
    pool_run(q, PICK_FORWARD, type, out, in, {B * C, T, C, 0, row});
}

void cuda_pick_token_backward(const struct cuda_queue *q, enum element type, void *din,
                              const void *dout, const int32_t *row, size_t B, size_t T,
                              size_t C)
{
    pool_run(q, PICK_BACKWARD, type, din, dout, {B * T * C, T, C, 0, row});
}

void cuda_mean_tokens_forward(const struct cuda_queue *q, enum element type, void *out,
                              const void *in, size_t B, size_t T, size_t C, size_t first)
{
    pool_run(q, MEAN_FORWARD, type, out, in, {B * C, T, C, first, NULL});
}

void cuda_mean_tokens_backward(const struct cuda_queue *q, enum element type, void *din,
                               const void *dout, size_t B, size_t T, size_t C, size_t first)
{
    pool_run(q, MEAN_BACKWARD, type, din, dout, {B * T * C, T, C, first, NULL});
}
