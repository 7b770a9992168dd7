/* Biases and sums that a matrix product leaves to us. Neither is on the way of a usual step:
 * cuBLASLt adds biases, and gradients of biases are sums over rows (cuda_sum.cu). */
#include "kernels/cuda/cuda_epilogue.h"

#include "kernels/cuda/grid.h"

template <typename T>
KERNEL(flat_threads) add_bias_kernel(T *inout, const float *bias, size_t n, size_t columns)
{
    for (size_t i = flat_first(1); i < n; i += flat_step(1))
        from_float(inout + i, to_float(inout[i]) + bias[i % columns]);
}

template <typename T>
static void add_bias_launch(const struct cuda_queue *q, T *inout, const float *bias,
                            size_t rows, size_t columns)
{
    const size_t n = rows * columns;
    if (n > 0)
        LAUNCH(add_bias_kernel<T>, flat_blocks(q, n), 1, flat_threads, 0, q->stream, inout,
               bias, n, columns);
}

void cuda_add_bias(const struct cuda_queue *q, enum element type, void *inout,
                   const float *bias, size_t rows, size_t columns)
{
    if (type == ELEMENT_BF16)
        add_bias_launch(q, (bf16 *)inout, bias, rows, columns);
    else
        add_bias_launch(q, (float *)inout, bias, rows, columns);
}

/* One warp a row: lane l adds columns l, l + 32, ..., and the lanes are added as a tree. */
template <typename T>
KERNEL(flat_threads) sum_columns_kernel(float *out, const T *in, size_t rows, size_t columns)
{
    const size_t warps = thread_count() / warp_size;
    for (size_t row = block_index() * warps + warp_index(); row < rows;
         row += block_count() * warps) {
        float sum = 0;
        for (size_t c = lane_index(); c < columns; c += warp_size)
            sum += to_float(in[row * columns + c]);
        sum = warp_sum(sum);
        if (lane_index() == 0)
            out[row] += sum;
    }
}

template <typename T>
static void sum_columns_launch(const struct cuda_queue *q, float *out, const T *in, size_t rows,
                               size_t columns)
{
    if (rows > 0)
        LAUNCH(sum_columns_kernel<T>, flat_blocks(q, rows * warp_size), 1, flat_threads, 0,
               q->stream, out, in, rows, columns);
}

void cuda_sum_columns(const struct cuda_queue *q, enum element type, float *out, const void *in,
                      size_t rows, size_t columns)
{
    if (type == ELEMENT_BF16)
        sum_columns_launch(q, out, (const bf16 *)in, rows, columns);
    else
        sum_columns_launch(q, out, (const float *)in, rows, columns);
}
