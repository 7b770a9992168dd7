/* From tokens to one row for each sample. Next to nothing beside the towers: simple is enough.
 *
 * Ladder: v1, a thread an element. Not measured yet. */
#include "kernels/cuda/grid.h"

template <typename T>
KERNEL(flat_threads) pick_token_forward_kernel(T *out, const T *in, const int32_t *row,
                                               size_t n, size_t tokens, size_t C)
{
    for (size_t i = flat_first(1); i < n; i += flat_step(1)) {
        const size_t b = i / C;
        out[i] = in[(b * tokens + (size_t)row[b]) * C + i % C];
    }
}

template <typename T>
KERNEL(flat_threads) pick_token_backward_kernel(T *din, const T *dout, const int32_t *row,
                                                size_t n, size_t tokens, size_t C)
{
    for (size_t i = flat_first(1); i < n; i += flat_step(1)) {
        const size_t b = i / (tokens * C), t = i / C % tokens;
        from_float(din + i, t == (size_t)row[b] ? to_float(dout[b * C + i % C]) : 0.0f);
    }
}

template <typename T>
KERNEL(flat_threads) mean_tokens_forward_kernel(T *out, const T *in, size_t n, size_t tokens,
                                                size_t C, size_t first)
{
    for (size_t i = flat_first(1); i < n; i += flat_step(1)) {
        const T *column = in + i / C * tokens * C + i % C;
        float sum = 0;
        for (size_t t = first; t < tokens; t++)
            sum += to_float(column[t * C]);
        from_float(out + i, sum / (float)(tokens - first));
    }
}

template <typename T>
KERNEL(flat_threads) mean_tokens_backward_kernel(T *din, const T *dout, size_t n, size_t tokens,
                                                 size_t C, size_t first)
{
    for (size_t i = flat_first(1); i < n; i += flat_step(1)) {
        const size_t b = i / (tokens * C), t = i / C % tokens;
        const float share = to_float(dout[b * C + i % C]) / (float)(tokens - first);
        from_float(din + i, t < first ? 0.0f : share);
    }
}

void cuda_pick_token_forward(const struct cuda_queue *q, enum element type, void *out,
                             const void *in, const int32_t *row, size_t B, size_t T, size_t C)
{
    const size_t n = B * C;
    if (n == 0)
        return;
    if (type == ELEMENT_BF16)
        LAUNCH(pick_token_forward_kernel<bf16>, flat_blocks(q, n), 1, flat_threads, 0,
               q->stream, (bf16 *)out, (const bf16 *)in, row, n, T, C);
    else
        LAUNCH(pick_token_forward_kernel<float>, flat_blocks(q, n), 1, flat_threads, 0,
               q->stream, (float *)out, (const float *)in, row, n, T, C);
}

void cuda_pick_token_backward(const struct cuda_queue *q, enum element type, void *din,
                              const void *dout, const int32_t *row, size_t B, size_t T,
                              size_t C)
{
    const size_t n = B * T * C;
    if (n == 0)
        return;
    if (type == ELEMENT_BF16)
        LAUNCH(pick_token_backward_kernel<bf16>, flat_blocks(q, n), 1, flat_threads, 0,
               q->stream, (bf16 *)din, (const bf16 *)dout, row, n, T, C);
    else
        LAUNCH(pick_token_backward_kernel<float>, flat_blocks(q, n), 1, flat_threads, 0,
               q->stream, (float *)din, (const float *)dout, row, n, T, C);
}

void cuda_mean_tokens_forward(const struct cuda_queue *q, enum element type, void *out,
                              const void *in, size_t B, size_t T, size_t C, size_t first)
{
    const size_t n = B * C;
    if (n == 0)
        return;
    if (type == ELEMENT_BF16)
        LAUNCH(mean_tokens_forward_kernel<bf16>, flat_blocks(q, n), 1, flat_threads, 0,
               q->stream, (bf16 *)out, (const bf16 *)in, n, T, C, first);
    else
        LAUNCH(mean_tokens_forward_kernel<float>, flat_blocks(q, n), 1, flat_threads, 0,
               q->stream, (float *)out, (const float *)in, n, T, C, first);
}

void cuda_mean_tokens_backward(const struct cuda_queue *q, enum element type, void *din,
                               const void *dout, size_t B, size_t T, size_t C, size_t first)
{
    const size_t n = B * T * C;
    if (n == 0)
        return;
    if (type == ELEMENT_BF16)
        LAUNCH(mean_tokens_backward_kernel<bf16>, flat_blocks(q, n), 1, flat_threads, 0,
               q->stream, (bf16 *)din, (const bf16 *)dout, n, T, C, first);
    else
        LAUNCH(mean_tokens_backward_kernel<float>, flat_blocks(q, n), 1, flat_threads, 0,
               q->stream, (float *)din, (const float *)dout, n, T, C, first);
}
