/* vector_loss.h - the contrastive loss on a tile of dot products (part of vector_kernels.h).
 *
 * A row's log-sum-exp is kept as max + log(sum), sum being of exp(logit - max) in double across
 * tiles; within a tile a float sum of at most 1024 terms, spread over the lanes, is enough.
 * max + log(sum) itself is never rounded to float before exp: with logits near 100 that would
 * cost 4e-6 of every probability. */

/* Sums are of exp(value - max): moving max from `from` up to `to` scales them. */
static void lse_fold(float *max, double *sum, float tile_max, float tile_sum)
{
    if (tile_max > *max) {
        *sum = *sum * exp((double)*max - tile_max) + tile_sum;
        *max = tile_max;
    } else {
        *sum += tile_sum * exp((double)tile_max - *max);
    }
}

/* exp(scale x - max), the same in all three kernels, so that sums and probabilities agree. */
VECTOR_INLINE vf shifted_exp(vf x, float scale_by, vf max)
{
    return v_exp(v_fma(x, v_splat(scale_by), -max));
}

static void loss_rows(float *max, double *sum, const struct loss_tile *tile, size_t first,
                      size_t last)
{
    const size_t n = tile->columns;
    for (size_t r = first; r < last; r++) {
        const float *row = tile->dots + r * n;
        vf highest = v_splat(-INFINITY), sums = v_splat(0);
        for (size_t j = 0; j < n; j += LANES) {
            vf x = v_take(row + j, n - j);
            if (n - j < LANES)
                x = v_first_or(x, n - j, v_splat(-INFINITY));
            highest = v_at_least(x, highest);
        }
        const float tile_max = v_maximum(highest) * tile->scale;
        for (size_t j = 0; j < n; j += LANES) {
            vf e = shifted_exp(v_take(row + j, n - j), tile->scale, v_splat(tile_max));
            if (n - j < LANES)
                e = v_first_or(e, n - j, v_splat(0));
            sums += e;
        }
        lse_fold(&max[r], &sum[r], tile_max, v_sum(sums));
    }
}

/* Goes row by row too: the columns' maxima and sums stay in the first-level cache, while
 * walking down a column would hit the same cache set 256 times. */
static void loss_columns(float *max, double *sum, const struct loss_tile *tile, size_t first,
                         size_t last)
{
    float tile_max[LOSS_TILE_COLUMNS], tile_sum[LOSS_TILE_COLUMNS];
    const size_t n = last - first;
    const float *corner = tile->dots + first;

    for (size_t j = 0; j < n; j++) {
        tile_max[j] = -INFINITY;
        tile_sum[j] = 0;
    }
    for (size_t r = 0; r < tile->rows; r++) {
        const float *row = corner + r * tile->columns;
        for (size_t j = 0; j < n; j += LANES)
            v_put(tile_max + j, v_at_least(v_take(row + j, n - j), v_take(tile_max + j, n - j)),
                  n - j);
    }
    scale(tile_max, tile_max, tile->scale, n);
    for (size_t r = 0; r < tile->rows; r++) {
        const float *row = corner + r * tile->columns;
        for (size_t j = 0; j < n; j += LANES) {
            const vf e = shifted_exp(v_take(row + j, n - j), tile->scale,
                                     v_take(tile_max + j, n - j));
            v_put(tile_sum + j, v_take(tile_sum + j, n - j) + e, n - j);
        }
    }
    for (size_t j = 0; j < n; j++)
        lse_fold(&max[first + j], &sum[first + j], tile_max[j], tile_sum[j]);
}

/* The diagonal's 2 is taken off before anything is summed: probabilities near 2 there would
 * otherwise cancel only after rounding. */
static double loss_gradient(const struct loss_tile *tile, size_t row, float row_max,
                            float row_inverse, const float *column_max,
                            const float *column_inverse, size_t diagonal, float factor)
{
    const size_t n = tile->columns;
    float *dots = tile->dots + row * n;
    vf sums = v_splat(0);

    for (size_t j = 0; j < n; j += LANES) {
        const vf x = v_take(dots + j, n - j);
        const vf by_row = shifted_exp(x, tile->scale, v_splat(row_max));
        const vf by_column = shifted_exp(x, tile->scale, v_take(column_max + j, n - j));
        vf d = v_fma(by_column, v_take(column_inverse + j, n - j),
                     by_row * v_splat(row_inverse));
        if (diagonal - j < LANES) {
            float two[LANES] = {0};
            two[diagonal - j] = 2;
            d -= v_load(two);
        }
        sums = v_fma(d, x * v_splat(tile->scale), sums);
        v_put(dots + j, d * v_splat(factor), n - j);
    }
    return v_sum(sums);
}
