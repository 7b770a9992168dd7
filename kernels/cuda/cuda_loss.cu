/* The symmetric contrastive loss by tiles: what happens to a tile of dot products between the
 * matrix products that make it and those that use it. The logits are never in memory as a
 * whole, only one tile of 2048 x 4096, which stays in the second-level cache.
 *
 * The first pass keeps, for each row and column, the largest logit and the sum of exp(logit -
 * largest); a tile at a time, in the order of launches. A row of a tile is one block's; a
 * column is cut in slices of rows, merged in order by a second kernel. The second pass
 * computes each tile again and turns it into d loss / d dots.
 *
 * Bytes: for B^2 logits, the products write 4 twice, these read 4 three times and write 4 once,
 * the gradient products read 4 twice: 32 B^2, all from and to the cache where it holds a tile.
 *
 * Ladder: v1 as above. Not measured yet. */
#include "kernels/cuda/grid.h"

enum { loss_threads = 256, loss_warps = loss_threads / warp_size };

/* ---- a sum of exponentials with its maximum ---- */

/* Adds one value. A maximum of -infinity means that nothing was added. */
DEVICE void exponentials_add(float *max, float *sum, float x)
{
    if (x > *max) {
        *sum *= expf(*max - x);
        *max = x;
    }
    *sum += expf(x - *max); /* NaN comes here */
}

/* Adds another sum. Where both are empty, the result is. */
DEVICE void exponentials_merge(float *max, float *sum, float other_max, float other_sum)
{
    const float top = fmaxf(*max, other_max);
    const float from = top == -INFINITY ? 0 : top;
    *sum = *sum * expf(*max - from) + other_sum * expf(other_max - from);
    *max = top;
}

KERNEL(flat_threads) loss_begin_kernel(struct cuda_loss loss)
{
    for (size_t i = flat_first(1); i < loss.B; i += flat_step(1)) {
        loss.row_max[i] = loss.column_max[i] = -INFINITY;
        loss.row_sum[i] = loss.column_sum[i] = 0;
    }
}

void cuda_loss_begin(const struct cuda_queue *q, const struct cuda_loss *loss)
{
    LAUNCH(loss_begin_kernel, flat_blocks(q, loss->B), 1, flat_threads, 0, q->stream, *loss);
}

/* One block a row. Partners in a butterfly see each other's sums swapped, so that merging must
 * be the same both ways: a * x + b * y is, as a rounded sum of rounded products; but fused
 * multiply-add may round one of them only. The lanes' copies may therefore differ in the last
 * bit, and lane 0's counts. */
KERNEL(loss_threads) loss_rows_kernel(struct cuda_loss loss, struct cuda_loss_tile tile)
{
    SHARED_MEMORY(float, shared); /* [2, loss_warps] */
    const float *dots = tile.dots + (size_t)block_index() * tile.columns;
    const size_t row = tile.row + block_index();
    const float scale = expf(loss.logit_scale[0]);
    float max = -INFINITY, sum = 0;
    for (size_t j = thread_index(); j < tile.columns; j += loss_threads) {
        const float x = scale * dots[j];
        exponentials_add(&max, &sum, x);
        if (tile.column + j == row)
            loss.diagonal[row] = x;
    }
    UNROLL
    for (int mask = warp_size / 2; mask > 0; mask /= 2) {
        const float other_max = warp_exchange(max, mask), other_sum = warp_exchange(sum, mask);
        exponentials_merge(&max, &sum, other_max, other_sum);
    }
    if (lane_index() == 0) {
        shared[warp_index()] = max;
        shared[loss_warps + warp_index()] = sum;
    }
    block_sync();
    if (thread_index() != 0)
        return;
    for (int w = 1; w < loss_warps; w++)
        exponentials_merge(&max, &sum, shared[w], shared[loss_warps + w]);
    float total_max = loss.row_max[row], total_sum = loss.row_sum[row];
    exponentials_merge(&total_max, &total_sum, max, sum);
    loss.row_max[row] = total_max;
    loss.row_sum[row] = total_sum;
}

/* A thread takes one column of one slice of rows; neighbours take neighbouring columns. */
KERNEL(loss_threads) loss_columns_kernel(struct cuda_loss loss, struct cuda_loss_tile tile)
{
    const size_t column = (size_t)block_index() * loss_threads + thread_index();
    const size_t rows_each = divide_up(tile.rows, block_count_y());
    const size_t first = block_index_y() * rows_each;
    const size_t end = first + rows_each < tile.rows ? first + rows_each : tile.rows;
    const float scale = expf(loss.logit_scale[0]);
    float max = -INFINITY, sum = 0;
    if (column >= tile.columns)
        return;
    for (size_t i = first; i < end; i++)
        exponentials_add(&max, &sum, scale * tile.dots[i * tile.columns + column]);
    loss.column_max_part[block_index_y() * tile.columns + column] = max;
    loss.column_sum_part[block_index_y() * tile.columns + column] = sum;
}

KERNEL(loss_threads) loss_join_columns_kernel(struct cuda_loss loss, struct cuda_loss_tile tile,
                                              size_t slices)
{
    const size_t column = (size_t)block_index() * loss_threads + thread_index();
    if (column >= tile.columns)
        return;
    float max = loss.column_max[tile.column + column];
    float sum = loss.column_sum[tile.column + column];
    for (size_t s = 0; s < slices; s++)
        exponentials_merge(&max, &sum, loss.column_max_part[s * tile.columns + column],
                           loss.column_sum_part[s * tile.columns + column]);
    loss.column_max[tile.column + column] = max;
    loss.column_sum[tile.column + column] = sum;
}

void cuda_loss_forward(const struct cuda_queue *q, const struct cuda_loss *loss,
                       const struct cuda_loss_tile *tile)
{
    const size_t slices = smaller(cuda_loss_slices, divide_up(tile->rows, 32));
    const size_t columns = divide_up(tile->columns, loss_threads);
    LAUNCH(loss_rows_kernel, tile->rows, 1, loss_threads, 2 * loss_warps * sizeof(float),
           q->stream, *loss, *tile);
    LAUNCH(loss_columns_kernel, columns, slices, loss_threads, 0, q->stream, *loss, *tile);
    LAUNCH(loss_join_columns_kernel, columns, 1, loss_threads, 0, q->stream, *loss, *tile,
           slices);
}

/* ---- the ends: one block adds B values in a fixed order, in double ---- */

DEVICE double block_total(double x, double *shared)
{
    x = warp_sum(x);
    if (lane_index() == 0)
        shared[warp_index()] = x;
    block_sync();
    double sum = 0;
    for (int w = 0; w < loss_warps; w++)
        sum += shared[w];
    return sum;
}

KERNEL(loss_threads) loss_end_kernel(float *loss_out, struct cuda_loss loss)
{
    SHARED_MEMORY(double, shared); /* [loss_warps] */
    double sum = 0;
    for (size_t i = thread_index(); i < loss.B; i += loss_threads)
        sum += ((double)loss.row_max[i] + log((double)loss.row_sum[i]) +
                (double)loss.column_max[i] + log((double)loss.column_sum[i])) / 2 -
               (double)loss.diagonal[i];
    sum = block_total(sum, shared);
    if (thread_index() == 0)
        loss_out[0] = (float)(sum / (double)loss.B);
}

void cuda_loss_end(const struct cuda_queue *q, const struct cuda_loss *loss, float *loss_out)
{
    LAUNCH(loss_end_kernel, 1, 1, loss_threads, loss_warps * sizeof(double), q->stream,
           loss_out, *loss);
}

KERNEL(loss_threads) loss_scale_kernel(float *dlogit_scale, struct cuda_loss loss)
{
    SHARED_MEMORY(double, shared); /* [loss_warps] */
    double sum = 0;
    for (size_t i = thread_index(); i < loss.B; i += loss_threads)
        sum += (double)loss.row_dscale[i];
    sum = block_total(sum, shared);
    if (thread_index() == 0)
        dlogit_scale[0] = (float)((double)dlogit_scale[0] + sum);
}

void cuda_loss_scale(const struct cuda_queue *q, const struct cuda_loss *loss,
                     float *dlogit_scale)
{
    LAUNCH(loss_scale_kernel, 1, 1, loss_threads, loss_warps * sizeof(double), q->stream,
           dlogit_scale, *loss);
}

/* ---- backward ----
 * d loss / d logit[i,j] = (softmax over row i + softmax over column j - 2 [i = j]) / 2B,
 * d logit / d dot = scale, d logit / d logit_scale = logit. On the diagonal the probabilities
 * may be near 1, and 1 is taken from each before they are added. */
KERNEL(loss_threads) loss_backward_kernel(struct cuda_loss loss, struct cuda_loss_tile tile)
{
    SHARED_MEMORY(double, shared); /* [loss_warps] */
    float *dots = tile.dots + (size_t)block_index() * tile.columns;
    const size_t row = tile.row + block_index();
    const float scale = expf(loss.logit_scale[0]);
    const float row_max = loss.row_max[row], row_inverse = 1 / loss.row_sum[row];
    const float share = 1 / (2 * (float)loss.B);
    double dscale = 0;
    for (size_t j = thread_index(); j < tile.columns; j += loss_threads) {
        const size_t column = tile.column + j;
        const float x = scale * dots[j], one = column == row ? 1 : 0;
        const float by_row = expf(x - row_max) * row_inverse;
        const float by_column = expf(x - loss.column_max[column]) / loss.column_sum[column];
        const float d = ((by_row - one) + (by_column - one)) * share;
        dscale += (double)(d * x);
        dots[j] = d * scale;
    }
    dscale = block_total(dscale, shared);
    if (thread_index() == 0)
        loss.row_dscale[row] = (float)(dscale + (tile.column == 0 ? 0
                                                                  : loss.row_dscale[row]));
}

void cuda_loss_backward(const struct cuda_queue *q, const struct cuda_loss *loss,
                        const struct cuda_loss_tile *tile)
{
    LAUNCH(loss_backward_kernel, tile->rows, 1, loss_threads, loss_warps * sizeof(double),
           q->stream, *loss, *tile);
}
