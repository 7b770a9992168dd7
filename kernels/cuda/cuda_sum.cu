/* Sums in a fixed order: which rows a thread adds, and how the threads' sums are put together,
 * depends on the shape alone; nothing is added by whoever comes first.
 *
 * Sums over rows take two passes where there are many: groups of rows into rows of scratch,
 * then those into the result. Both read a matrix once, a warp 32 neighbouring columns.
 *
 * Ladder: v1 as above. Not measured yet. */
#include "kernels/cuda/grid.h"

enum {
    tile_columns = 32,
    tile_threads = 256,
    tile_slices = tile_threads / tile_columns, /* threads that share a column */
    group_rows = 256,
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

/* out[group,C] (+)= the group's rows of a, or of a * b. Thread (slice, column) adds a run of
 * rows; slice 0 adds the slices' sums in order. */
template <typename T, bool PRODUCT, bool ADD>
KERNEL(tile_threads) sum_rows_kernel(float *out, const T *a, const T *b, size_t N, size_t C,
                                     size_t stride, size_t rows_each)
{
    SHARED_MEMORY(float, sums); /* [tile_slices, tile_columns] */
    const size_t column = (size_t)block_index() * tile_columns + lane_index();
    const size_t slice_rows = divide_up(rows_each, tile_slices);
    const size_t group_first = (size_t)block_index_y() * rows_each;
    const size_t first = group_first + warp_index() * slice_rows;
    size_t end = first + slice_rows;
    end = end < group_first + rows_each ? end : group_first + rows_each;
    end = end < N ? end : N;

    float sum = 0;
    if (column < C) {
        for (size_t n = first; n < end; n++) {
            const float x = to_float(a[n * stride + column]);
            sum += PRODUCT ? x * to_float(b[n * stride + column]) : x;
        }
    }
    sums[thread_index()] = sum;
    block_sync();
    if (warp_index() == 0 && column < C) {
        for (int slice = 1; slice < tile_slices; slice++)
            sum += sums[slice * tile_columns + lane_index()];
        float *to = out + (size_t)block_index_y() * C + column;
        *to = ADD ? *to + sum : sum;
    }
}

template <typename T, bool PRODUCT>
static void sum_rows(const struct cuda_queue *q, float *out, const T *a, const T *b, size_t N,
                     size_t C, size_t stride, float *scratch)
{
    const size_t groups = group_count(N), shared = tile_threads * sizeof(float);
    const size_t tiles = divide_up(C, tile_columns);
    if (N == 0 || C == 0)
        return;
    if (groups == 1) {
        LAUNCH((sum_rows_kernel<T, PRODUCT, true>), tiles, 1, tile_threads, shared, q->stream,
               out, a, b, N, C, stride, N);
        return;
    }
    LAUNCH((sum_rows_kernel<T, PRODUCT, false>), tiles, groups, tile_threads, shared, q->stream,
           scratch, a, b, N, C, stride, divide_up(N, groups));
    const float *partial = scratch, *none = NULL;
    LAUNCH((sum_rows_kernel<float, false, true>), tiles, 1, tile_threads, shared, q->stream,
           out, partial, none, groups, C, C, groups);
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
