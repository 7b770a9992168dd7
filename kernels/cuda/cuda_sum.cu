/* Sums in a fixed order: which rows a thread adds, and how the threads' sums are put together,
 * depends on the shape alone; nothing is added by whoever comes first.
 *
 * Sums over rows take two passes where there are many: groups of rows into rows of scratch,
 * then those into the result. Both read a matrix once, a lane 16 bytes of a row where alignment
 * allows; rows are shared out the same way with and without.
 *
 * Ladder: v1, a lane one column. Not measured.
 * v2, a lane 16 bytes of columns. Not measured yet. */
#include "kernels/cuda/grid.h"

enum {
    sum_threads = 256,
    sum_slices = sum_threads / warp_size, /* warps that share columns */
    group_rows = 64,
    most_groups = 256
};

static size_t group_count(size_t N)
{
    return smaller(divide_up(N, group_rows), most_groups);
}

size_t cuda_sum_rows_floats(size_t N, size_t C)
{
    return group_count(N) * C;
}

/* out[group,C] (+)= the group's rows of a, or of a * b. A warp adds a run of rows, W columns to
 * a lane; then the first warp adds the others' sums in order. */
template <typename T, int W, bool PRODUCT, bool ADD>
KERNEL(sum_threads) sum_rows_kernel(float *out, const T *a, const T *b, size_t N, size_t C,
                                    size_t stride, size_t rows_each)
{
    SHARED_MEMORY(float, sums); /* [sum_slices, W, warp_size] */
    const size_t column = ((size_t)block_index() * warp_size + lane_index()) * W;
    const size_t slice_rows = divide_up(rows_each, sum_slices);
    const size_t group_first = (size_t)block_index_y() * rows_each;
    const size_t first = group_first + warp_index() * slice_rows;
    size_t end = first + slice_rows;
    end = end < group_first + rows_each ? end : group_first + rows_each;
    end = end < N ? end : N;

    float sum[W] = {};
    for (size_t n = first; n < end && column < C; n++) {
        float x[W], y[W];
        load<W>(x, a + n * stride + column);
        if (PRODUCT)
            load<W>(y, b + n * stride + column);
        UNROLL
        for (int j = 0; j < W; j++)
            sum[j] += PRODUCT ? x[j] * y[j] : x[j];
    }
    UNROLL
    for (int j = 0; j < W; j++)
        sums[(warp_index() * W + (unsigned)j) * warp_size + lane_index()] = sum[j];
    block_sync();
    if (warp_index() != 0 || column >= C)
        return;
    float *to = out + (size_t)block_index_y() * C + column;
    UNROLL
    for (int j = 0; j < W; j++) {
        for (int slice = 1; slice < sum_slices; slice++)
            sum[j] += sums[(slice * W + j) * warp_size + (int)lane_index()];
        to[j] = ADD ? to[j] + sum[j] : sum[j];
    }
}

template <typename T, int W, bool PRODUCT, bool ADD>
static void sum_rows_launch(const struct cuda_queue *q, size_t groups, float *out, const T *a,
                            const T *b, size_t N, size_t C, size_t stride)
{
    const size_t shared = (size_t)sum_threads * W * sizeof(float);
    LAUNCH((sum_rows_kernel<T, W, PRODUCT, ADD>), divide_up(C, warp_size * W), groups,
           sum_threads, shared, q->stream, out, a, b, N, C, stride, divide_up(N, groups));
}

template <typename T, bool PRODUCT, bool ADD>
static void sum_groups(const struct cuda_queue *q, size_t groups, float *out, const T *a,
                       const T *b, size_t N, size_t C, size_t stride)
{
    if (wide_rows<T>(C, a, b, NULL) && stride % (size_t)wide<T>::count == 0)
        sum_rows_launch<T, wide<T>::count, PRODUCT, ADD>(q, groups, out, a, b, N, C, stride);
    else
        sum_rows_launch<T, 1, PRODUCT, ADD>(q, groups, out, a, b, N, C, stride);
}

template <typename T, bool PRODUCT>
static void sum_rows(const struct cuda_queue *q, float *out, const T *a, const T *b, size_t N,
                     size_t C, size_t stride, float *scratch)
{
    const size_t groups = group_count(N);
    const float *partial = scratch, *none = NULL;
    if (N == 0 || C == 0)
        return;
    if (groups == 1) {
        sum_groups<T, PRODUCT, true>(q, 1, out, a, b, N, C, stride);
        return;
    }
    sum_groups<T, PRODUCT, false>(q, groups, scratch, a, b, N, C, stride);
    sum_groups<float, false, true>(q, 1, out, partial, none, groups, C, C);
}

void cuda_sum_rows(const struct cuda_queue *q, enum element type, float *out, const void *in,
                   size_t N, size_t C, size_t stride, float *scratch)
{
    if (type == ELEMENT_BF16)
        sum_rows<bf16, false>(q, out, (const bf16 *)in, NULL, N, C, stride, scratch);
    else
        sum_rows<float, false>(q, out, (const float *)in, NULL, N, C, stride, scratch);
}

void cuda_sum_products(const struct cuda_queue *q, enum element type, float *out, const void *a,
                       const void *b, size_t N, size_t C, float *scratch)
{
    if (type == ELEMENT_BF16)
        sum_rows<bf16, true>(q, out, (const bf16 *)a, (const bf16 *)b, N, C, C, scratch);
    else
        sum_rows<float, true>(q, out, (const float *)a, (const float *)b, N, C, C, scratch);
}

/* ---- sum of squares ---- */

enum { square_threads = 256, square_each = 16384, most_square_blocks = 1024 };

static size_t square_blocks(size_t n)
{
    return smaller(divide_up(n, square_each), most_square_blocks);
}

size_t cuda_sum_squares_doubles(size_t n)
{
    return square_blocks(n);
}

/* The block's sum of its threads' values, in thread 0. shared: a double for each warp. */
DEVICE double block_sum(double x, double *shared)
{
    x = warp_sum(x);
    if (lane_index() == 0)
        shared[warp_index()] = x;
    block_sync();
    double sum = 0;
    for (unsigned w = 0; w < thread_count() / warp_size; w++)
        sum += shared[w];
    return sum;
}

KERNEL(square_threads) sum_squares_kernel(double *out, const float *in, size_t n)
{
    SHARED_MEMORY(double, shared);
    double sum = 0;
    for (size_t i = flat_first(1); i < n; i += flat_step(1))
        sum += (double)in[i] * in[i];
    sum = block_sum(sum, shared);
    if (thread_index() == 0)
        out[block_index()] = sum;
}

KERNEL(square_threads) sum_doubles_kernel(double *out, const double *in, size_t n)
{
    SHARED_MEMORY(double, shared);
    double sum = 0;
    for (size_t i = thread_index(); i < n; i += square_threads)
        sum += in[i];
    sum = block_sum(sum, shared);
    if (thread_index() == 0)
        out[0] = sum;
}

void cuda_sum_squares(const struct cuda_queue *q, double *out, const float *in, size_t n,
                      double *scratch)
{
    const size_t blocks = square_blocks(n);
    const size_t shared = square_threads / warp_size * sizeof(double);
    if (blocks > 0)
        LAUNCH(sum_squares_kernel, blocks, 1, square_threads, shared, q->stream, scratch, in,
               n);
    LAUNCH(sum_doubles_kernel, 1, 1, square_threads, shared, q->stream, out, scratch, blocks);
}
