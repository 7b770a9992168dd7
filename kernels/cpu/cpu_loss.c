/* The symmetric contrastive loss by tiles.
 *
 * Two passes over the B x B logits, of which one tile exists at a time. The first keeps a
 * running log-sum-exp for each row and column; the second computes each tile again, turns it
 * into d loss / d dot product and multiplies it into both gradients (the scheme of Dao et al.,
 * "FlashAttention", 2022, in two directions). Memory: the tile and 32 B bytes.
 *
 * Ladder (E 128; two cores of a Sapphire Rapids server, shared with others; November 2026):
 *                                                      B 1024, s 1    B 8192, s 100
 *   tiles of 256 x 1024                                     7.2 ms            3.0 s
 *   exp gives 0 below -50: no subnormals in products        7.2 ms           0.40 s
 * The last is 172 GFLOP/s, of four matrix products. B 16384 takes 4 MiB beyond its arguments,
 * where the logits would take 1 GiB.
 *
 * A bounded-logit shift (exp(logit - s), no maxima) would need one exponential less, but with
 * s = 100 a row whose best match is at cosine 0 has only terms below e^-100, which float
 * cannot hold. */
#include <math.h>
#include <stdint.h>

#include "base/number.h"
#include "kernels/cpu/cpu_state.h"

enum { tile_rows = 256, tile_columns = LOSS_TILE_COLUMNS };

struct loss {
    struct cpu *cpu;
    const float *image, *text;
    size_t B, E;
    float scale;
    float *dots;                         /* the tile */
    double *row_dscale;                  /* [tile_rows] */
    double *row_sum, *column_sum;        /* [B], and so below */
    float *row_max, *column_max;         /* exp(logit - max) / sum is a probability */
    float *row_inverse, *column_inverse; /* 1 / sum */
};

/* Lays the arrays out in one piece of scratch, doubles first. */
static bool loss_allocate(struct loss *loss)
{
    const size_t tile = (size_t)tile_rows * tile_columns, B = loss->B;
    size_t b_bytes, bytes;
    if (!size_multiply(B, 2 * sizeof(double) + 4 * sizeof(float), &b_bytes) ||
        !size_add(b_bytes, tile * sizeof(float) + tile_rows * sizeof(double), &bytes))
        bytes = SIZE_MAX;
    loss->dots = cpu_scratch(loss->cpu, bytes, 1);
    if (loss->dots == NULL)
        return false;
    loss->row_dscale = (double *)(loss->dots + tile);
    loss->row_sum = loss->row_dscale + tile_rows;
    loss->column_sum = loss->row_sum + B;
    loss->row_max = (float *)(loss->column_sum + B);
    loss->column_max = loss->row_max + B;
    loss->row_inverse = loss->column_max + B;
    loss->column_inverse = loss->row_inverse + B;
    return true;
}

/* dots = image rows from `row` on, times text rows from `column` on. */
static struct loss_tile loss_tile_at(const struct loss *loss, size_t row, size_t column)
{
    const size_t rows = loss->B - row, columns = loss->B - column;
    const struct loss_tile tile = {
        .dots = loss->dots,
        .rows = rows < tile_rows ? rows : tile_rows,
        .columns = columns < tile_columns ? columns : tile_columns,
        .scale = loss->scale,
    };
    cpu_matmul_fp32(loss->cpu, &(struct matmul){
                                        .rows = tile.rows,
                                        .columns = tile.columns,
                                        .inner = loss->E,
                                        .a = loss->image + row * loss->E,
                                        .b = loss->text + column * loss->E,
                                        .b_transposed = true,
                                        .out = tile.dots,
                                    });
    return tile;
}

/* Each thread takes a range of the tile's rows, then one of its columns. Where the tile holds
 * diagonal elements, their logits come off the sum that is returned. */
static double loss_tile_forward(const struct loss *loss, size_t row, size_t column)
{
    const struct vector_kernels *vector = loss->cpu->vector;
    const struct loss_tile tile = loss_tile_at(loss, row, column);
    const int parts = cpu_parts(loss->cpu, tile.rows, 8 * tile.columns);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range rows = cpu_range(tile.rows, parts, part, 1);
        const struct range columns = cpu_range(tile.columns, parts, part, cpu_line);
        vector->loss_rows(loss->row_max + row, loss->row_sum + row, &tile, rows.first,
                          rows.first + rows.count);
        vector->loss_columns(loss->column_max + column, loss->column_sum + column, &tile,
                             columns.first, columns.first + columns.count);
    }
    double diagonal = 0;
    for (size_t r = 0; r < tile.rows; r++)
        if (row + r >= column && row + r - column < tile.columns)
            diagonal += (double)tile.scale * tile.dots[r * tile.columns + row + r - column];
    return diagonal;
}

static double loss_forward(const struct loss *loss)
{
    const size_t B = loss->B;
    double sum = 0;
    for (size_t i = 0; i < B; i++) {
        loss->row_max[i] = loss->column_max[i] = -INFINITY;
        loss->row_sum[i] = loss->column_sum[i] = 0;
    }
    for (size_t row = 0; row < B; row += tile_rows)
        for (size_t column = 0; column < B; column += tile_columns)
            sum -= loss_tile_forward(loss, row, column);
    for (size_t i = 0; i < B; i++) {
        loss->row_inverse[i] = (float)(1 / loss->row_sum[i]);
        loss->column_inverse[i] = (float)(1 / loss->column_sum[i]);
        sum += (loss->row_max[i] + log(loss->row_sum[i]) + loss->column_max[i] +
                log(loss->column_sum[i])) / 2;
    }
    return sum / (double)B;
}

/* The tile's part of d loss / d logit_scale; the dots become d loss / d dots on the way. */
static double loss_tile_gradient(const struct loss *loss, const struct loss_tile *tile,
                                 size_t row, size_t column)
{
    const float factor = (float)(loss->scale / (2 * (double)loss->B));
    const int parts = cpu_parts(loss->cpu, tile->rows, 8 * tile->columns);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range rows = cpu_range(tile->rows, parts, part, 1);
        for (size_t r = rows.first; r < rows.first + rows.count; r++)
            loss->row_dscale[r] = loss->cpu->vector->loss_gradient(
                tile, r, loss->row_max[row + r], loss->row_inverse[row + r],
                loss->column_max + column, loss->column_inverse + column,
                row + r >= column ? row + r - column : SIZE_MAX, factor);
    }
    double sum = 0;
    for (size_t r = 0; r < tile->rows; r++)
        sum += loss->row_dscale[r];
    return sum / (2 * (double)loss->B);
}

static double loss_backward(const struct loss *loss, float *dimage, float *dtext)
{
    const size_t B = loss->B, E = loss->E;
    double dscale = 0;
    for (size_t row = 0; row < B; row += tile_rows) {
        for (size_t column = 0; column < B; column += tile_columns) {
            const struct loss_tile tile = loss_tile_at(loss, row, column);
            dscale += loss_tile_gradient(loss, &tile, row, column);
            cpu_matmul_fp32(loss->cpu, &(struct matmul){.rows = tile.rows, .columns = E,
                                           .inner = tile.columns, .a = tile.dots,
                                           .b = loss->text + column * E,
                                           .out = dimage + row * E, .accumulate = column > 0});
            cpu_matmul_fp32(loss->cpu, &(struct matmul){.rows = tile.columns, .columns = E,
                                           .inner = tile.rows, .a = tile.dots,
                                           .a_transposed = true, .b = loss->image + row * E,
                                           .out = dtext + column * E, .accumulate = row > 0});
        }
    }
    return dscale;
}

void cpu_contrastive_loss(struct kernels *k, float *loss_out, float *dimage, float *dtext,
                          float *dlogit_scale, const float *image, const float *text,
                          const float *logit_scale, size_t B, size_t E)
{
    struct loss loss = {
        .cpu = k->state,
        .image = image,
        .text = text,
        .B = B,
        .E = E,
        .scale = expf(logit_scale[0]),
    };
    if (!loss_allocate(&loss))
        return;
    loss_out[0] = (float)loss_forward(&loss);
    if (dimage != NULL)
        dlogit_scale[0] = (float)(dlogit_scale[0] + loss_backward(&loss, dimage, dtext));
}
