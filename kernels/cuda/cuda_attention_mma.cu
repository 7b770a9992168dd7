/* Attention on packed qkv in bf16 by matrix instructions (mma.sync m16n8k16; sm_80 and later),
 * for sequences short enough that one head's keys and values, and in the backward pass its
 * queries and output gradients too, fit in a block's shared memory: 227 KiB on Hopper, forward
 * 780 tokens of head size 64 or 640 of 80, backward 390 or 320.
 *
 * A block has one head of one sample, a warp 16 rows at a time. Each element of q, k, v (and
 * dout) is read once from memory, so that for T up to about 200 the floor is bandwidth: 8 T D
 * bytes a head forward, 16 T D backward. The scores of 16 rows are in registers; with at most
 * 64 keys the softmax is a single pass, with more it takes 64 at a time and scales what it has
 * when the maximum grows.
 *
 * The accumulators of one product are, packed to bf16, the left operand of the next: rows g and
 * g + 8, columns 2t, 2t + 1 of two neighbouring tiles of 8 are those of one tile of 16.
 *
 * Backward computes the scores twice: with queries as rows for dq, with keys as rows for dk and
 * dv, so that every sum is one warp's own: no atomics, no exchange, nothing but the results
 * written. 7 products instead of 5, hidden where bandwidth is the limit.
 *
 * Rows in shared memory are padded by 8 elements: the 8 rows of a matrix then lie an odd number
 * of 16-byte units apart, in different banks.
 *
 * Ladder: v1 as above. Not measured yet; so far only emulated. Next: several heads in a block
 * for T <= 16; results through shared memory, for whole lines; P and dS kept in shared memory
 * (5 products) for T above 200; wgmma. */
#include "kernels/cuda/grid.h"

enum { tile_rows = 16, pad = 8, forward_warps = 4, backward_warps = 8 };

static const float log2_e = 1.4426950408889634f;

struct mma_plan {
    unsigned T, H, D; /* 32 bits: 64 would cost registers */
    bool causal;
    float scale;
};

/* One head's rows in packed memory: element (t, d) at first[t * width + d]. */
template <typename T>
DEVICE T *head_first(T *packed, const struct mma_plan &plan, size_t parts, size_t part)
{
    const unsigned b = block_index() / plan.H, h = block_index() % plan.H;
    return packed + ((size_t)b * plan.T * parts + part) * plan.H * plan.D + h * plan.D;
}

/* Starts the copy of a head's rows to `rows` rows of DP + pad in shared memory, zeros where
 * there is nothing. Complete after copy_async_wait and a barrier. */
template <int DP>
DEVICE void load_head(bf16 *to, const bf16 *from, size_t width, unsigned rows,
                      const struct mma_plan &plan)
{
    const unsigned chunks = DP / 8;
    for (unsigned i = thread_index(); i < rows * chunks; i += thread_count()) {
        const unsigned row = i / chunks, d = i % chunks * 8;
        bf16 *place = to + row * (DP + pad) + d;
        if (row < plan.T && d < plan.D)
            copy_async(place, from + row * width + d);
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

/* Rows row and row + 8 of this lane, each times a factor, to memory. */
template <int DP>
DEVICE void write_tile(bf16 *to, size_t width, unsigned row, const float sum[DP / 8][4],
                       const float factor[2], const struct mma_plan &plan)
{
    UNROLL
    for (int n = 0; n < DP / 8; n++) {
        const unsigned d = (unsigned)n * 8 + lane_index() % 4 * 2;
        UNROLL
        for (int half = 0; half < 2; half++) {
            const unsigned t = row + (unsigned)half * 8;
            if (t < plan.T && d < plan.D)
                *(uint32_t *)(void *)(to + t * width + d) = pack_bf16(
                    sum[n][2 * half] * factor[half], sum[n][2 * half + 1] * factor[half]);
        }
    }
}

/* Queries `row` and row + 8 of this lane as left operands, straight from memory: they are used
 * once. Each quad of lanes takes 16 bytes of a row, two quads' worth in turn. */
template <int DP>
DEVICE void load_queries(uint32_t a[DP / 16][4], const bf16 *from, size_t width, unsigned row,
                         const struct mma_plan &plan)
{
    UNROLL
    for (int k = 0; k < DP / 16; k++)
        UNROLL
        for (int i = 0; i < 4; i++) {
            const unsigned t = row + (unsigned)(i % 2) * 8;
            const unsigned d = (unsigned)(k * 16 + i / 2 * 8) + lane_index() % 4 * 2;
            a[k][i] = t < plan.T && d < plan.D
                          ? *(const uint32_t *)(const void *)(from + t * width + d)
                          : 0;
        }
}

/* In shared memory: keys, values, each [TP, DP + pad], TP the tokens rounded up to KEYS. */
template <int DP, int KEYS>
KERNEL(forward_warps * warp_size) attention_forward_mma_kernel(bf16 *out, float *lse,
                                                               const bf16 *qkv,
                                                               struct mma_plan plan)
{
    SHARED_MEMORY(bf16, shared);
    const unsigned padded = (plan.T + KEYS - 1) / KEYS * KEYS, C = plan.H * plan.D;
    bf16 *keys = shared, *values = keys + padded * (DP + pad);
    const unsigned warps = thread_count() / warp_size;
    const float to_log2 = plan.scale * log2_e;

    load_head<DP>(keys, head_first(qkv, plan, 3, 1), 3 * C, padded, plan);
    load_head<DP>(values, head_first(qkv, plan, 3, 2), 3 * C, padded, plan);
    copy_async_wait();
    block_sync();

    for (unsigned tile = warp_index(); tile * tile_rows < plan.T; tile += warps) {
        const unsigned first = tile * tile_rows, row = first + lane_index() / 4;
        uint32_t query[DP / 16][4];
        load_queries<DP>(query, head_first(qkv, plan, 3, 0), 3 * C, row, plan);
        float sum[DP / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, total[2] = {}, inverse[2];
        const unsigned end = plan.causal && first + 16 < plan.T ? first + 16 : plan.T;
        for (unsigned key = 0; key < end; key += KEYS) {
            float score[KEYS / 8][4] = {};
            UNROLL
            for (int k = 0; k < DP / 16; k++)
                UNROLL
                for (int n = 0; n < KEYS / 16; n++) {
                    uint32_t b[4];
                    load_right_transposed<DP>(b, keys, key + (unsigned)n * 16,
                                              (unsigned)k * 16);
                    multiply_tile(score[2 * n], query[k], b[0], b[1]);
                    multiply_tile(score[2 * n + 1], query[k], b[2], b[3]);
                }
            UNROLL
            for (int half = 0; half < 2; half++) {
                const unsigned last = plan.causal ? row + (unsigned)half * 8 : plan.T - 1;
                float here = -INFINITY, part = 0;
                UNROLL
                for (int n = 0; n < KEYS / 8; n++)
                    UNROLL
                    for (int j = 0; j < 2; j++) {
                        const unsigned k = key + (unsigned)(n * 8 + j) + lane_index() % 4 * 2;
                        float *s = &score[n][2 * half + j];
                        if (k > last || k >= plan.T)
                            *s = -INFINITY;
                        here = fmaxf(here, *s);
                    }
                here = fmaxf(top[half], row_top(here));
                const float from = here == -INFINITY ? 0 : here;
                UNROLL
                for (int n = 0; n < KEYS / 8; n++)
                    UNROLL
                    for (int j = 0; j < 2; j++) {
                        float *s = &score[n][2 * half + j];
                        *s = exp2_fast((*s - from) * to_log2);
                        part += *s;
                    }
                const float shrink = exp2_fast((top[half] - from) * to_log2);
                total[half] = total[half] * shrink + row_total(part);
                top[half] = here;
                UNROLL
                for (int n = 0; n < DP / 8; n++) {
                    sum[n][2 * half] *= shrink;
                    sum[n][2 * half + 1] *= shrink;
                }
            }
            UNROLL
            for (int n = 0; n < KEYS / 16; n++) {
                uint32_t a[4];
                pack_left(a, score[2 * n], score[2 * n + 1]);
                add_product<DP>(sum, a, values, key + (unsigned)n * 16);
            }
        }
        UNROLL
        for (int half = 0; half < 2; half++) {
            const unsigned t = row + (unsigned)half * 8;
            inverse[half] = 1 / total[half];
            if (t < plan.T && lane_index() % 4 == 0)
                lse[(size_t)block_index() * plan.T + t] =
                    top[half] * plan.scale + logf(total[half]);
        }
        write_tile<DP>(head_first(out, plan, 1, 0), C, row, sum, inverse, plan);
    }
}

/* One head's matrices in shared memory. */
struct mma_head {
    const bf16 *q, *k, *v, *dout;
    const float *lse, *delta; /* lse times log2 e */
};

/* 16 rows of dq (rows are queries) or of dk and dv (rows are keys); see cuda_attention.cu. */
template <int DP, bool KEY_ROWS>
DEVICE void backward_tile(bf16 *dqkv, const struct mma_head &head, unsigned first,
                          const struct mma_plan &plan)
{
    const bf16 *rows_a = KEY_ROWS ? head.k : head.q, *rows_b = KEY_ROWS ? head.v : head.dout;
    const bf16 *other_a = KEY_ROWS ? head.q : head.k, *other_b = KEY_ROWS ? head.dout : head.v;
    const unsigned row = first + lane_index() / 4, C = plan.H * plan.D;
    const float to_log2 = plan.scale * log2_e, one[2] = {1, 1};
    float sum_a[DP / 8][4] = {}, sum_b[DP / 8][4] = {};

    for (unsigned other = 0; other < plan.T; other += 16) {
        if (plan.causal && (KEY_ROWS ? other + 15 < first : other > first + 15))
            continue;
        float p[2][4] = {}, ds[2][4] = {};
        UNROLL_TWICE /* wholly unrolled, it spills at D 64 and 128 */
        for (int d = 0; d < DP; d += 16) {
            uint32_t a[4], b[4];
            load_left<DP>(a, rows_a, first, (unsigned)d);
            load_right_transposed<DP>(b, other_a, other, (unsigned)d);
            multiply_tile(p[0], a, b[0], b[1]);
            multiply_tile(p[1], a, b[2], b[3]);
            load_left<DP>(a, rows_b, first, (unsigned)d);
            load_right_transposed<DP>(b, other_b, other, (unsigned)d);
            multiply_tile(ds[0], a, b[0], b[1]);
            multiply_tile(ds[1], a, b[2], b[3]);
        }
        UNROLL
        for (int n = 0; n < 2; n++)
            UNROLL
            for (int i = 0; i < 4; i++) {
                const unsigned r = row + (unsigned)(i / 2) * 8;
                const unsigned c = other + (unsigned)(n * 8 + i % 2) + lane_index() % 4 * 2;
                const unsigned query = KEY_ROWS ? c : r, key = KEY_ROWS ? r : c;
                const bool seen = query < plan.T && key < plan.T &&
                                  !(plan.causal && key > query);
                const float power = p[n][i] * to_log2 - head.lse[query];
                p[n][i] = seen ? exp2_fast(power) : 0;
                ds[n][i] = seen ? plan.scale * p[n][i] * (ds[n][i] - head.delta[query]) : 0;
            }
        uint32_t left[4];
        pack_left(left, ds[0], ds[1]);
        add_product<DP>(sum_a, left, other_a, other);
        if (KEY_ROWS) {
            pack_left(left, p[0], p[1]);
            add_product<DP>(sum_b, left, other_b, other);
        }
    }
    write_tile<DP>(head_first(dqkv, plan, 3, KEY_ROWS ? 1 : 0), 3 * C, row, sum_a, one, plan);
    if (KEY_ROWS)
        write_tile<DP>(head_first(dqkv, plan, 3, 2), 3 * C, row, sum_b, one, plan);
}

/* In shared memory: queries, keys, values, dout, each [TP, DP + pad]; lse and delta [TP]. */
template <int DP>
KERNEL(backward_warps * warp_size) attention_backward_mma_kernel(bf16 *dqkv, const bf16 *dout,
                                                                 const bf16 *qkv,
                                                                 const bf16 *out,
                                                                 const float *lse,
                                                                 struct mma_plan plan)
{
    SHARED_MEMORY(bf16, shared);
    const unsigned tiles = (plan.T + tile_rows - 1) / tile_rows, padded = tiles * tile_rows;
    const unsigned matrix = padded * (DP + pad), C = plan.H * plan.D;
    const unsigned warps = thread_count() / warp_size;
    float *lse_here = (float *)(void *)(shared + 4 * matrix), *delta = lse_here + padded;
    const bf16 *out_head = head_first(out, plan, 1, 0);

    load_head<DP>(shared, head_first(qkv, plan, 3, 0), 3 * C, padded, plan);
    load_head<DP>(shared + matrix, head_first(qkv, plan, 3, 1), 3 * C, padded, plan);
    load_head<DP>(shared + 2 * matrix, head_first(qkv, plan, 3, 2), 3 * C, padded, plan);
    load_head<DP>(shared + 3 * matrix, head_first(dout, plan, 1, 0), C, padded, plan);
    copy_async_wait();
    block_sync();
    for (unsigned t = warp_index(); t < padded; t += warps) {
        float sum = 0;
        for (unsigned d = lane_index(); t < plan.T && d < plan.D; d += warp_size)
            sum += to_float(out_head[(size_t)t * C + d]) *
                   to_float(shared[3 * matrix + t * (DP + pad) + d]);
        sum = warp_sum(sum);
        if (lane_index() == 0) {
            delta[t] = sum;
            lse_here[t] = t < plan.T ? lse[(size_t)block_index() * plan.T + t] * log2_e : 0;
        }
    }
    block_sync();
    const struct mma_head head = {shared, shared + matrix, shared + 2 * matrix,
                                  shared + 3 * matrix, lse_here, delta};
    for (unsigned task = warp_index(); task < 2 * tiles; task += warps) {
        if (task < tiles)
            backward_tile<DP, false>(dqkv, head, task * tile_rows, plan);
        else
            backward_tile<DP, true>(dqkv, head, (task - tiles) * tile_rows, plan);
    }
}

/* ---- launching ---- */

struct mma_arguments {
    const struct cuda_queue *q;
    bf16 *out, *dqkv;
    float *lse_out;
    const bf16 *qkv, *dout, *attended;
    const float *lse;
    struct attention shape;
    bool backward;
};

static struct mma_plan plan_of(const struct attention *shape)
{
    struct mma_plan plan;
    plan.T = (unsigned)shape->T;
    plan.H = (unsigned)shape->H;
    plan.D = (unsigned)shape->D;
    plan.causal = shape->causal;
    plan.scale = (float)(1 / sqrt((double)shape->D));
    return plan;
}

template <int DP, int KEYS> static bool forward_launch(const struct mma_arguments *a)
{
    const struct attention *s = &a->shape;
    const size_t rows = divide_up(s->T, KEYS) * KEYS;
    const size_t shared = 2 * rows * (DP + pad) * sizeof(bf16);
    const unsigned warps = (unsigned)smaller(forward_warps, divide_up(s->T, tile_rows));
    if (shared > a->q->shared_bytes)
        return false;
    LAUNCH((attention_forward_mma_kernel<DP, KEYS>), s->B * s->H, 1, warps * warp_size, shared,
           a->q->stream, a->out, a->lse_out, a->qkv, plan_of(s));
    return true;
}

template <int DP> static bool mma_launch(const struct mma_arguments *a)
{
    const struct attention *s = &a->shape;
    if (!a->backward)
        return s->T <= 16   ? forward_launch<DP, 16>(a)
               : s->T <= 32 ? forward_launch<DP, 32>(a)
                            : forward_launch<DP, 64>(a) || forward_launch<DP, 32>(a);
    const size_t tiles = divide_up(s->T, tile_rows), rows = tiles * tile_rows;
    const size_t shared = rows * (4 * (DP + pad) * sizeof(bf16) + 2 * sizeof(float));
    const unsigned warps = (unsigned)smaller(backward_warps, 2 * tiles);
    if (shared > a->q->shared_bytes)
        return false;
    LAUNCH(attention_backward_mma_kernel<DP>, s->B * s->H, 1, warps * warp_size, shared,
           a->q->stream, a->dqkv, a->dout, a->qkv, a->attended, a->lse, plan_of(s));
    return true;
}

static bool mma_run(const struct mma_arguments *a)
{
    const struct attention *s = &a->shape;
    const bool aligned = aligned_wide(a->out) && aligned_wide(a->dqkv) &&
                         aligned_wide(a->qkv) && aligned_wide(a->dout) &&
                         aligned_wide(a->attended);
    if (s->B * s->H * s->T * s->D == 0)
        return true;
    if (!aligned || s->D % 8 != 0)
        return false;
    switch (divide_up(s->D, 16)) {
    case 1:
    case 2:
        return mma_launch<32>(a);
    case 3:
    case 4:
        return mma_launch<64>(a);
    case 5:
        return mma_launch<80>(a);
    case 6:
        return mma_launch<96>(a);
    case 7:
        return mma_launch<112>(a);
    case 8:
        return mma_launch<128>(a);
    default:
        return false;
    }
}

bool cuda_attention_forward_mma(const struct cuda_queue *q, struct bf16 *out, float *lse,
                                const struct bf16 *qkv, const struct attention *shape)
{
    struct mma_arguments a = {};
    a.q = q;
    a.out = out;
    a.lse_out = lse;
    a.qkv = qkv;
    a.shape = *shape;
    return mma_run(&a);
}

bool cuda_attention_backward_mma(const struct cuda_queue *q, struct bf16 *dqkv,
                                 const struct bf16 *dout, const struct bf16 *qkv,
                                 const struct bf16 *out, const float *lse,
                                 const struct attention *shape)
{
    struct mma_arguments a = {};
    a.q = q;
    a.dqkv = dqkv;
    a.dout = dout;
    a.qkv = qkv;
    a.attended = out;
    a.lse = lse;
    a.shape = *shape;
    a.backward = true;
    return mma_run(&a);
}
