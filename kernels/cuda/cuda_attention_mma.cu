/* Forward attention on packed qkv in bf16 by matrix instructions (attention_mma.h).
 *
 * A block has one head of one sample, a warp 16 queries at a time. Where the head's keys and
 * values fit in the block's shared memory, all of them are there: on Hopper 780 tokens of head
 * size 64 or 400 of 128. Each element of q, k and v is then read once, so that for T up to
 * about 200 the floor is bandwidth: 8 T D bytes a head. Longer heads are cut: a block has 64
 * queries, and keys and values come in panels.
 *
 * The scores of 16 queries are in registers; with at most 64 keys the softmax is a single pass,
 * with more it takes 64 at a time and scales what it has when the maximum grows.
 *
 * Ladder: v1, whole heads only. Not measured.
 * v2, panels for heads that do not fit; results written 16 bytes at a time. Not measured yet;
 * so far only emulated. Next: several heads in a block for T <= 16; two panels in turn;
 * wgmma. */
#include "kernels/cuda/attention_mma.h"

enum { forward_warps = 4, forward_panel = 128 };

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

/* Of this lane's two rows, row and row + 8: the largest score, the sum of exp(score - largest),
 * and the values weighted by those. */
template <int DP> struct softmax_rows {
    float top[2], total[2], sum[DP / 8][4];
};

/* score[16,KEYS] = queries times keys, rows `at`.. in shared memory. */
template <int DP, int KEYS>
DEVICE void score_keys(float score[KEYS / 8][4], const uint32_t query[DP / 16][4],
                       const bf16 *keys, unsigned at)
{
    UNROLL
    for (int k = 0; k < DP / 16; k++)
        UNROLL
        for (int n = 0; n < KEYS / 16; n++) {
            uint32_t b[4];
            load_right_transposed<DP>(b, keys, at + (unsigned)n * 16, (unsigned)k * 16);
            multiply_tile(score[2 * n], query[k], b[0], b[1]);
            multiply_tile(score[2 * n + 1], query[k], b[2], b[3]);
        }
}

/* Takes in one row's scores of keys `key`..., which become exp(score - largest); what was
 * summed up before shrinks where the largest grows. Keys after `last` are not seen. */
template <int DP, int KEYS>
DEVICE void softmax_add(struct softmax_rows<DP> *rows, float score[KEYS / 8][4], int half,
                        unsigned key, unsigned last, float to_log2)
{
    float top = -INFINITY, part = 0;
    UNROLL
    for (int n = 0; n < KEYS / 8; n++)
        UNROLL
        for (int j = 0; j < 2; j++) {
            float *s = &score[n][2 * half + j];
            if (key + (unsigned)(n * 8 + j) + lane_index() % 4 * 2 > last)
                *s = -INFINITY;
            top = fmaxf(top, *s);
        }
    top = fmaxf(rows->top[half], row_top(top));
    const float from = top == -INFINITY ? 0 : top;
    UNROLL
    for (int n = 0; n < KEYS / 8; n++)
        UNROLL
        for (int j = 0; j < 2; j++) {
            float *s = &score[n][2 * half + j];
            *s = exp2_fast((*s - from) * to_log2);
            part += *s;
        }
    const float shrink = exp2_fast((rows->top[half] - from) * to_log2);
    rows->total[half] = rows->total[half] * shrink + row_total(part);
    rows->top[half] = top;
    UNROLL
    for (int n = 0; n < DP / 8; n++) {
        rows->sum[n][2 * half] *= shrink;
        rows->sum[n][2 * half + 1] *= shrink;
    }
}

/* Keys start..end-1, which lie in shared memory from their first on. */
template <int DP, int KEYS>
DEVICE void attend(struct softmax_rows<DP> *rows, const uint32_t query[DP / 16][4],
                   const bf16 *keys, const bf16 *values, unsigned row, unsigned start,
                   unsigned end, const struct mma_plan &plan)
{
    for (unsigned key = start; key < end; key += KEYS) {
        float score[KEYS / 8][4] = {};
        score_keys<DP, KEYS>(score, query, keys, key - start);
        UNROLL
        for (int half = 0; half < 2; half++) {
            const unsigned own = row + (unsigned)half * 8;
            const unsigned last = plan.causal && own < plan.T ? own : plan.T - 1;
            softmax_add<DP, KEYS>(rows, score, half, key, last, plan.scale * log2_e);
        }
        UNROLL
        for (int n = 0; n < KEYS / 16; n++) {
            uint32_t a[4];
            pack_left(a, score[2 * n], score[2 * n + 1]);
            add_product<DP>(rows->sum, a, values, key - start + (unsigned)n * 16);
        }
    }
}

/* Starts both copies and waits for this thread's parts. */
template <int DP>
DEVICE void load_keys(bf16 *keys, bf16 *values, const bf16 *qkv, unsigned start,
                      const struct mma_plan &plan)
{
    const unsigned width = 3 * plan.H * plan.D;
    load_rows<DP>(keys, head_first(qkv, plan, 3, 1), width, start, plan.panel, plan);
    load_rows<DP>(values, head_first(qkv, plan, 3, 2), width, start, plan.panel, plan);
    copy_async_wait();
}

template <int DP>
DEVICE void write_result(bf16 *out, float *lse, struct softmax_rows<DP> *rows, unsigned row,
                         const struct mma_plan &plan)
{
    float inverse[2];
    UNROLL
    for (int half = 0; half < 2; half++) {
        const unsigned t = row + (unsigned)half * 8;
        inverse[half] = 1 / rows->total[half];
        if (t < plan.T && lane_index() % 4 == 0)
            lse[(size_t)block_index() * plan.T + t] =
                rows->top[half] * plan.scale + logf(rows->total[half]);
    }
    write_tile<DP>(head_first(out, plan, 1, 0), plan.H * plan.D, row, rows->sum, inverse, plan);
}

/* In shared memory: keys, values, each [panel, DP + pad], panel a multiple of KEYS: a whole
 * head's, or else a part of them at a time. */
template <int DP, int KEYS>
KERNEL(forward_warps * warp_size) attention_forward_mma_kernel(bf16 *out, float *lse,
                                                               const bf16 *qkv,
                                                               struct mma_plan plan)
{
    SHARED_MEMORY(bf16, keys);
    bf16 *values = keys + plan.panel * (DP + pad);
    const unsigned warps = thread_count() / warp_size, step = block_count_y() * warps;
    const bool whole = plan.panel >= plan.T;

    if (whole) {
        load_keys<DP>(keys, values, qkv, 0, plan);
        block_sync();
    }
    for (unsigned tile = block_index_y() * warps; tile * tile_rows < plan.T; tile += step) {
        const unsigned first = (tile + warp_index()) * tile_rows;
        const unsigned row = first + lane_index() / 4;
        const unsigned seen = plan.causal ? first + tile_rows : plan.T;
        const unsigned block_seen = plan.causal ? (tile + warps) * tile_rows : plan.T;
        struct softmax_rows<DP> rows = {{-INFINITY, -INFINITY}, {}, {}};
        uint32_t query[DP / 16][4];
        load_queries<DP>(query, head_first(qkv, plan, 3, 0), 3 * plan.H * plan.D, row, plan);
        for (unsigned start = 0; start < plan.T && start < block_seen; start += plan.panel) {
            if (!whole) {
                block_sync(); /* nobody reads the panel before */
                load_keys<DP>(keys, values, qkv, start, plan);
                block_sync();
            }
            unsigned end = start + plan.panel < plan.T ? start + plan.panel : plan.T;
            end = first >= plan.T ? start : end < seen ? end : seen;
            attend<DP, KEYS>(&rows, query, keys, values, row, start, end, plan);
        }
        write_result<DP>(out, lse, &rows, row, plan);
    }
}

/* ---- launching ---- */

struct forward_arguments {
    const struct cuda_queue *q;
    bf16 *out;
    float *lse;
    const bf16 *qkv;
    struct attention shape;
};

/* All keys at once where they fit, or else panels, and a block to each four tiles. */
template <int DP, int KEYS> static bool forward_run(const struct forward_arguments *a)
{
    const struct attention *s = &a->shape;
    const size_t tiles = divide_up(s->T, tile_rows), each = 2 * (DP + pad) * sizeof(bf16);
    const unsigned warps = (unsigned)smaller(forward_warps, tiles);
    size_t panel = divide_up(s->T, KEYS) * KEYS, slices = 1;
    if (panel * each > a->q->shared_bytes) {
        panel = forward_panel * each <= a->q->shared_bytes ? (size_t)forward_panel : KEYS;
        slices = divide_up(tiles, warps);
    }
    if (panel * each > a->q->shared_bytes)
        return false;
    LAUNCH((attention_forward_mma_kernel<DP, KEYS>), s->B * s->H, slices, warps * warp_size,
           panel * each, a->q->stream, a->out, a->lse, a->qkv, mma_plan_of(s, panel));
    return true;
}

template <int DP> static bool forward_launch(const struct forward_arguments *a)
{
    const size_t T = a->shape.T;
    return T <= 16   ? forward_run<DP, 16>(a)
           : T <= 32 ? forward_run<DP, 32>(a)
                     : forward_run<DP, 64>(a) || forward_run<DP, 32>(a);
}

bool cuda_attention_forward_mma(const struct cuda_queue *q, struct bf16 *out, float *lse,
                                const struct bf16 *qkv, const struct attention *shape)
{
    const struct forward_arguments a = {q, out, lse, qkv, *shape};
    if (!mma_takes(shape) || !aligned_wide(out) || !aligned_wide(qkv))
        return false;
    if (shape->B * shape->H * shape->T * shape->D == 0)
        return true;
    return MMA_CHOOSE(forward_launch, shape->D, &a);
}
