/* Backward attention on packed qkv in bf16 by matrix instructions (attention_mma.h).
 *
 * The scores are computed twice: with queries as rows for dq, with keys as rows for dk and dv,
 * so that every sum is one warp's own: no atomics, no exchange, nothing but the results
 * written, in a fixed order. 7 products instead of 5, hidden where bandwidth is the limit.
 *
 * Where one head's q, k, v and dout fit in the block's shared memory (on Hopper 390 tokens of
 * head size 64 or 210 of 128), a block has one head and reads each element once, 16 T D bytes.
 * Longer heads are cut: a block has 64 or 128 rows of one kind, and what they meet comes in
 * panels. delta, the sum of dout * out over a query's row, is computed where it is needed.
 *
 * Ladder: v1, whole heads only. Not measured.
 * v2, panels for heads that do not fit; results written 16 bytes at a time. Not measured yet;
 * so far only emulated. Next: P and dS kept in shared memory (5 products) for T above 200;
 * wgmma. */
#include "kernels/cuda/attention_mma.h"

enum { backward_warps = 8, most_panel_rows = 64 };

/* 16 rows and those that they meet, in shared memory: rows are queries (a = q, b = dout; the
 * others k and v) or keys (a = k, b = v; the others q and dout). */
struct mma_tiles {
    const bf16 *rows_a, *rows_b;   /* this warp's 16 */
    const bf16 *other_a, *other_b; /* from row `start` on */
    const float *lse, *delta;      /* of query `query_first` and on; lse times log2 e */
    unsigned query_first;
};

/* Adds to 16 rows, `first`.., of dq, or of dk and dv, what rows start..end-1 of the other kind
 * give; see cuda_attention.cu. */
template <int DP, bool KEY_ROWS>
DEVICE void backward_add(float sum_a[DP / 8][4], float sum_b[DP / 8][4],
                         const struct mma_tiles &m, unsigned first, unsigned start,
                         unsigned end, const struct mma_plan &plan)
{
    const unsigned row = first + lane_index() / 4;
    const float to_log2 = plan.scale * log2_e;
    for (unsigned other = start; other < end; other += 16) {
        if (plan.causal && (KEY_ROWS ? other + 15 < first : other > first + 15))
            continue;
        float p[2][4] = {}, ds[2][4] = {};
        UNROLL_TWICE /* wholly unrolled, it spills at D 64 and 128 */
        for (int d = 0; d < DP; d += 16) {
            uint32_t a[4], b[4];
            load_left<DP>(a, m.rows_a, 0, (unsigned)d);
            load_right_transposed<DP>(b, m.other_a, other - start, (unsigned)d);
            multiply_tile(p[0], a, b[0], b[1]);
            multiply_tile(p[1], a, b[2], b[3]);
            load_left<DP>(a, m.rows_b, 0, (unsigned)d);
            load_right_transposed<DP>(b, m.other_b, other - start, (unsigned)d);
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
                const unsigned at = query - m.query_first;
                const bool seen = query < plan.T && key < plan.T &&
                                  !(plan.causal && key > query);
                const float power = p[n][i] * to_log2 - m.lse[at];
                p[n][i] = seen ? exp2_fast(power) : 0;
                ds[n][i] = seen ? plan.scale * p[n][i] * (ds[n][i] - m.delta[at]) : 0;
            }
        uint32_t left[4];
        pack_left(left, ds[0], ds[1]);
        add_product<DP>(sum_a, left, m.other_a, other - start);
        if (KEY_ROWS) {
            pack_left(left, p[0], p[1]);
            add_product<DP>(sum_b, left, m.other_b, other - start);
        }
    }
}

template <int DP, bool KEY_ROWS>
DEVICE void write_rows(bf16 *dqkv, const float sum_a[DP / 8][4], const float sum_b[DP / 8][4],
                       unsigned first, const struct mma_plan &plan)
{
    const unsigned row = first + lane_index() / 4, C = plan.H * plan.D;
    const float one[2] = {1, 1};
    write_tile<DP>(head_first(dqkv, plan, 3, KEY_ROWS ? 1 : 0), 3 * C, row, sum_a, one, plan);
    if (KEY_ROWS)
        write_tile<DP>(head_first(dqkv, plan, 3, 2), 3 * C, row, sum_b, one, plan);
}

/* lse_here and delta of `count` queries, a multiple of 16, from `first` on, whose dout is in
 * shared memory; a quad of lanes a query. */
template <int DP>
DEVICE void load_statistics(float *lse_here, float *delta, const bf16 *dout, const bf16 *out,
                            const float *lse, unsigned first, unsigned count,
                            const struct mma_plan &plan)
{
    const unsigned C = plan.H * plan.D, warps = thread_count() / warp_size;
    const bf16 *out_head = head_first(out, plan, 1, 0);
    for (unsigned base = warp_index() * 8; base < count; base += warps * 8) {
        const unsigned i = base + lane_index() / 4, t = first + i;
        float sum = 0;
        for (unsigned d = lane_index() % 4 * 8; t < plan.T && d < plan.D; d += 32) {
            float x[8], y[8];
            load<8>(x, out_head + (size_t)t * C + d);
            load<8>(y, dout + i * (DP + pad) + d);
            UNROLL
            for (int j = 0; j < 8; j++)
                sum += x[j] * y[j];
        }
        sum = row_total(sum);
        if (lane_index() % 4 == 0) {
            delta[i] = sum;
            lse_here[i] = t < plan.T ? lse[(size_t)block_index() * plan.T + t] * log2_e : 0;
        }
    }
}

template <int DP, bool KEY_ROWS>
DEVICE void backward_tile(bf16 *dqkv, const struct mma_tiles &head, unsigned first,
                          const struct mma_plan &plan)
{
    float sum_a[DP / 8][4] = {}, sum_b[DP / 8][4] = {};
    struct mma_tiles m = head;
    m.rows_a += first * (DP + pad);
    m.rows_b += first * (DP + pad);
    backward_add<DP, KEY_ROWS>(sum_a, sum_b, m, first, 0, plan.T, plan);
    write_rows<DP, KEY_ROWS>(dqkv, sum_a, sum_b, first, plan);
}

/* A whole head. In shared memory: queries, keys, values, dout, each [panel, DP + pad], panel
 * being T rounded up to 16; lse and delta [panel]. */
template <int DP>
KERNEL(backward_warps * warp_size) attention_backward_mma_kernel(bf16 *dqkv, const bf16 *dout,
                                                                 const bf16 *qkv,
                                                                 const bf16 *out,
                                                                 const float *lse,
                                                                 struct mma_plan plan)
{
    SHARED_MEMORY(bf16, q);
    const unsigned matrix = plan.panel * (DP + pad), C = plan.H * plan.D;
    const unsigned tiles = plan.panel / tile_rows, warps = thread_count() / warp_size;
    bf16 *k = q + matrix, *v = k + matrix, *d_out = v + matrix;
    float *lse_here = (float *)(void *)(d_out + matrix), *delta = lse_here + plan.panel;

    load_rows<DP>(q, head_first(qkv, plan, 3, 0), 3 * C, 0, plan.panel, plan);
    load_rows<DP>(k, head_first(qkv, plan, 3, 1), 3 * C, 0, plan.panel, plan);
    load_rows<DP>(v, head_first(qkv, plan, 3, 2), 3 * C, 0, plan.panel, plan);
    load_rows<DP>(d_out, head_first(dout, plan, 1, 0), C, 0, plan.panel, plan);
    copy_async_wait();
    block_sync();
    load_statistics<DP>(lse_here, delta, d_out, out, lse, 0, plan.panel, plan);
    block_sync();
    const struct mma_tiles by_query = {q, d_out, k, v, lse_here, delta, 0};
    const struct mma_tiles by_key = {k, v, q, d_out, lse_here, delta, 0};
    for (unsigned task = warp_index(); task < 2 * tiles; task += warps) {
        if (task < tiles)
            backward_tile<DP, false>(dqkv, by_query, task * tile_rows, plan);
        else
            backward_tile<DP, true>(dqkv, by_key, (task - tiles) * tile_rows, plan);
    }
}

/* A part of a head: 16 rows of one kind to each of the block's warps. In shared memory: these
 * rows' a and b, [rows, DP + pad]; a panel of the others' a and b, [panel, DP + pad]; lse and
 * delta of whichever are queries. */
template <int DP, bool KEY_ROWS>
KERNEL(backward_warps * warp_size) attention_backward_panels_kernel(bf16 *dqkv,
                                                                    const bf16 *dout,
                                                                    const bf16 *qkv,
                                                                    const bf16 *out,
                                                                    const float *lse,
                                                                    struct mma_plan plan)
{
    SHARED_MEMORY(bf16, rows_a);
    const unsigned C = plan.H * plan.D, rows = thread_count() / warp_size * tile_rows;
    const unsigned first = block_index_y() * rows, own = warp_index() * tile_rows;
    bf16 *rows_b = rows_a + rows * (DP + pad), *other_a = rows_b + rows * (DP + pad);
    bf16 *other_b = other_a + plan.panel * (DP + pad);
    float *lse_here = (float *)(void *)(other_b + plan.panel * (DP + pad));
    float *delta = lse_here + (KEY_ROWS ? plan.panel : rows);
    const bf16 *q = head_first(qkv, plan, 3, 0), *k = head_first(qkv, plan, 3, 1);
    const bf16 *v = head_first(qkv, plan, 3, 2), *d_out = head_first(dout, plan, 1, 0);
    float sum_a[DP / 8][4] = {}, sum_b[DP / 8][4] = {};

    load_rows<DP>(rows_a, KEY_ROWS ? k : q, 3 * C, first, rows, plan);
    load_rows<DP>(rows_b, KEY_ROWS ? v : d_out, KEY_ROWS ? 3 * C : C, first, rows, plan);
    copy_async_wait();
    for (unsigned start = 0; start < plan.T; start += plan.panel) {
        if (plan.causal && (KEY_ROWS ? start + plan.panel <= first : start >= first + rows))
            continue;
        const unsigned end = start + plan.panel < plan.T ? start + plan.panel : plan.T;
        block_sync(); /* the block's rows are there, and nobody reads the panel before */
        if (!KEY_ROWS && start == 0)
            load_statistics<DP>(lse_here, delta, rows_b, out, lse, first, rows, plan);
        load_rows<DP>(other_a, KEY_ROWS ? q : k, 3 * C, start, plan.panel, plan);
        load_rows<DP>(other_b, KEY_ROWS ? d_out : v, KEY_ROWS ? C : 3 * C, start, plan.panel,
                      plan);
        copy_async_wait();
        block_sync();
        if (KEY_ROWS) {
            load_statistics<DP>(lse_here, delta, other_b, out, lse, start, plan.panel, plan);
            block_sync();
        }
        const struct mma_tiles m = {rows_a + own * (DP + pad), rows_b + own * (DP + pad),
                                    other_a, other_b, lse_here, delta,
                                    KEY_ROWS ? start : first};
        if (first + own < plan.T)
            backward_add<DP, KEY_ROWS>(sum_a, sum_b, m, first + own, start, end, plan);
    }
    write_rows<DP, KEY_ROWS>(dqkv, sum_a, sum_b, first + own, plan);
}

/* ---- launching ---- */

struct backward_arguments {
    const struct cuda_queue *q;
    bf16 *dqkv;
    const bf16 *dout, *qkv, *out;
    const float *lse;
    struct attention shape;
};

template <int DP, bool KEY_ROWS>
static void panels_run(const struct backward_arguments *a, unsigned warps, size_t panel,
                       size_t shared)
{
    const struct attention *s = &a->shape;
    LAUNCH((attention_backward_panels_kernel<DP, KEY_ROWS>), s->B * s->H,
           divide_up(s->T, warps * tile_rows), warps * warp_size, shared, a->q->stream, a->dqkv,
           a->dout, a->qkv, a->out, a->lse, mma_plan_of(s, panel));
}

/* As many rows and as wide a panel as fit. */
template <int DP> static bool panels_launch(const struct backward_arguments *a)
{
    const size_t row = (DP + pad) * sizeof(bf16), statistics = 2 * sizeof(float);
    for (unsigned warps = backward_warps; warps >= 4; warps /= 2)
        for (size_t panel = most_panel_rows; panel >= tile_rows; panel /= 2) {
            const size_t rows = warps * tile_rows, most = rows > panel ? rows : panel;
            const size_t shared = 2 * (rows + panel) * row + most * statistics;
            if (shared > a->q->shared_bytes)
                continue;
            panels_run<DP, false>(a, warps, panel, shared);
            panels_run<DP, true>(a, warps, panel, shared);
            return true;
        }
    return false;
}

template <int DP> static bool backward_launch(const struct backward_arguments *a)
{
    const struct attention *s = &a->shape;
    const size_t tiles = divide_up(s->T, tile_rows), rows = tiles * tile_rows;
    const size_t shared = rows * (4 * (DP + pad) * sizeof(bf16) + 2 * sizeof(float));
    /* With some 150 registers a thread, three blocks of 4 warps are resident where one of 8 is:
     * while one waits for its head, the others compute. */
    const size_t most = 2 * shared <= a->q->shared_bytes ? backward_warps / 2 : backward_warps;
    const unsigned warps = (unsigned)smaller(most, 2 * tiles);
    if (shared > a->q->shared_bytes)
        return panels_launch<DP>(a);
    LAUNCH(attention_backward_mma_kernel<DP>, s->B * s->H, 1, warps * warp_size, shared,
           a->q->stream, a->dqkv, a->dout, a->qkv, a->out, a->lse, mma_plan_of(s, rows));
    return true;
}

bool cuda_attention_backward_mma(const struct cuda_queue *q, struct bf16 *dqkv,
                                 const struct bf16 *dout, const struct bf16 *qkv,
                                 const struct bf16 *out, const float *lse,
                                 const struct attention *shape)
{
    const struct backward_arguments a = {q, dqkv, dout, qkv, out, lse, *shape};
    if (!mma_takes(shape) || !aligned_wide(dqkv) || !aligned_wide(dout) || !aligned_wide(qkv) ||
        !aligned_wide(out))
        return false;
    if (shape->B * shape->H * shape->T * shape->D == 0)
        return true;
    return MMA_CHOOSE(backward_launch, shape->D, &a);
}
