/* attention_mma.h - tiles of one head in bf16, for attention by matrix instructions
 * (mma.sync m16n8k16; sm_80 and later).
 *
 * A warp has 16 rows of something. The accumulators of one product are, packed to bf16, the
 * left operand of the next: rows g and g + 8, columns 2t, 2t + 1 of two neighbouring tiles of 8
 * are those of one tile of 16.
 *
 * Rows in shared memory have DP elements, D rounded up, and are padded by 8: the 8 rows of a
 * matrix then lie an odd number of 16-byte units apart, in different banks. */
#ifndef KERNELS_CUDA_ATTENTION_MMA_H
#define KERNELS_CUDA_ATTENTION_MMA_H

#include "kernels/cuda/grid.h"

enum { tile_rows = 16, pad = 8 };

static const float log2_e = 1.4426950408889634f;

struct mma_plan {
    unsigned T, H, D; /* 32 bits: 64 would cost registers */
    unsigned panel;   /* rows that are in shared memory at a time */
    bool causal;
    float scale;
};

static inline struct mma_plan mma_plan_of(const struct attention *shape, size_t panel)
{
    struct mma_plan plan;
    plan.T = (unsigned)shape->T;
    plan.H = (unsigned)shape->H;
    plan.D = (unsigned)shape->D;
    plan.panel = (unsigned)panel;
    plan.causal = shape->causal;
    plan.scale = (float)(1 / sqrt((double)shape->D));
    return plan;
}

/* One head's rows in packed memory: element (t, d) at first[t * width + d]. */
template <typename T>
DEVICE T *head_first(T *packed, const struct mma_plan &plan, size_t parts, size_t part)
{
    const unsigned b = block_index() / plan.H, h = block_index() % plan.H;
    return packed + ((size_t)b * plan.T * parts + part) * plan.H * plan.D + h * plan.D;
}

/* Starts the copy of `rows` rows, from `first` on, to rows of DP + pad in shared memory, zeros
 * where there is nothing. Complete after copy_async_wait and a barrier. */
template <int DP>
DEVICE void load_rows(bf16 *to, const bf16 *head, size_t width, unsigned first, unsigned rows,
                      const struct mma_plan &plan)
{
    const unsigned chunks = DP / 8;
    for (unsigned i = thread_index(); i < rows * chunks; i += thread_count()) {
        const unsigned row = i / chunks, d = i % chunks * 8;
        bf16 *place = to + row * (DP + pad) + d;
        if (first + row < plan.T && d < plan.D)
            copy_async(place, head + (first + row) * width + d);
        else
            store_wide(place, {{0, 0, 0, 0}});
    }
}

/* Rows `row`.. and columns `column`.. of a matrix in shared memory, as the left operand. */
template <int DP>
DEVICE void load_left(uint32_t a[4], const bf16 *from, unsigned row, unsigned column)
{
    const unsigned matrix = lane_index() / 8, r = lane_index() % 8;
    load_matrices(a, from + (row + matrix % 2 * 8 + r) * (DP + pad) + column + matrix / 2 * 8);
}

/* The transposed matrix as the right operand: products sum over its columns `column`.., and its
 * rows `row`..+15 are the result's columns. b[0], b[1] are of the first 8, b[2], b[3] of the
 * others. */
template <int DP>
DEVICE void load_right_transposed(uint32_t b[4], const bf16 *from, unsigned row,
                                  unsigned column)
{
    const unsigned matrix = lane_index() / 8, r = lane_index() % 8;
    load_matrices(b, from + (row + matrix / 2 * 8 + r) * (DP + pad) + column + matrix % 2 * 8);
}

/* The matrix itself: products sum over rows `row`..+15; columns `column`.. and 8 more. */
template <int DP>
DEVICE void load_right(uint32_t b[4], const bf16 *from, unsigned row, unsigned column)
{
    const unsigned matrix = lane_index() / 8, r = lane_index() % 8;
    load_matrices_transposed(b, from + (row + matrix % 2 * 8 + r) * (DP + pad) + column +
                                    matrix / 2 * 8);
}

/* Two tiles of 8 columns, packed as a left operand of 16. */
DEVICE void pack_left(uint32_t a[4], const float first[4], const float second[4])
{
    a[0] = pack_bf16(first[0], first[1]);
    a[1] = pack_bf16(first[2], first[3]);
    a[2] = pack_bf16(second[0], second[1]);
    a[3] = pack_bf16(second[2], second[3]);
}

/* sum[16 rows, DP] += a[16,16] times rows `row`.. of a matrix. */
template <int DP>
DEVICE void add_product(float sum[DP / 8][4], const uint32_t a[4], const bf16 *from,
                        unsigned row)
{
    UNROLL
    for (int n = 0; n < DP / 16; n++) {
        uint32_t b[4];
        load_right<DP>(b, from, row, (unsigned)n * 16);
        multiply_tile(sum[2 * n], a, b[0], b[1]);
        multiply_tile(sum[2 * n + 1], a, b[2], b[3]);
    }
}

/* Over the four lanes that have parts of one row. */
DEVICE float row_total(float x)
{
    x += warp_exchange(x, 1);
    return x + warp_exchange(x, 2);
}

DEVICE float row_top(float x)
{
    x = fmaxf(x, warp_exchange(x, 1));
    return fmaxf(x, warp_exchange(x, 2));
}

/* The four lanes of a quad have words 0..3 of a row, and each lane those of four such rows of
 * words. Afterwards lane t has all four words of row of words t: a 4 x 4 matrix, transposed. */
DEVICE void transpose_quad(uint32_t word[4])
{
    const unsigned t = lane_index() % 4;
    UNROLL
    for (int step = 1; step <= 2; step *= 2) {
        const bool upper = t & (unsigned)step;
        UNROLL
        for (int i = 0; i < 4; i++) {
            if (i & step)
                continue;
            const uint32_t given = upper ? word[i] : word[i + step];
            const uint32_t taken = warp_exchange(given, step);
            if (upper)
                word[i] = taken;
            else
                word[i + step] = taken;
        }
    }
}

/* Columns n * 8 + 2 t and the next of row `row` and of row + 8, packed and times a factor. */
DEVICE uint32_t packed_pair(const float sum[4], int half, float factor)
{
    return pack_bf16(sum[2 * half] * factor, sum[2 * half + 1] * factor);
}

/* Rows row and row + 8 of this lane, each times a factor, to memory: 16 bytes at a time, four
 * tiles of 8 columns together, and 4 at a time what is left of them. */
template <int DP>
DEVICE void write_tile(bf16 *to, size_t width, unsigned row, const float sum[DP / 8][4],
                       const float factor[2], const struct mma_plan &plan)
{
    const unsigned quad = lane_index() % 4;
    UNROLL
    for (int half = 0; half < 2; half++) {
        const unsigned t = row + (unsigned)half * 8;
        bf16 *const line = to + t * width;
        UNROLL
        for (int n = 0; n + 4 <= DP / 8; n += 4) {
            wide_words words;
            UNROLL
            for (int i = 0; i < 4; i++)
                words.word[i] = packed_pair(sum[n + i], half, factor[half]);
            transpose_quad(words.word);
            const unsigned d = ((unsigned)n + quad) * 8;
            if (t < plan.T && d < plan.D)
                store_wide(line + d, words);
        }
        UNROLL
        for (int n = DP / 8 / 4 * 4; n < DP / 8; n++) {
            const unsigned d = (unsigned)n * 8 + quad * 2;
            if (t < plan.T && d < plan.D)
                *(uint32_t *)(void *)(line + d) = packed_pair(sum[n], half, factor[half]);
        }
    }
}

/* Whether these kernels take the shape: whole pieces of 16 bytes, up to 128 a row. */
static inline bool mma_takes(const struct attention *shape)
{
    return shape->D % 8 == 0 && shape->D <= 128;
}

/* Calls launch<DP>, DP being D rounded up to one of the sizes that kernels are made for. */
#define MMA_CHOOSE(launch, D, arguments)        \
    ((D) <= 32    ? launch<32>(arguments)       \
     : (D) <= 64  ? launch<64>(arguments)       \
     : (D) <= 80  ? launch<80>(arguments)       \
     : (D) <= 96  ? launch<96>(arguments)       \
     : (D) <= 112 ? launch<112>(arguments)      \
                  : launch<128>(arguments))

#endif
