/* Attention on packed qkv, in fp32 arithmetic without matrix instructions: any number of
 * tokens, head sizes to 256. The path of fp32, and of the bf16 shapes that
 * cuda_attention_mma.cu does not take.
 *
 * A block has one head of one sample. It holds a panel of up to 256 keys and values in shared
 * memory - all of them for short sequences - and its warps take four queries at a time. For
 * the scores a lane owns a key of every 32: with rows an odd number of floats apart, the 32
 * lanes' reads of one element fall in 32 banks. For the sum over values a lane owns an element
 * of every 32. With one panel the softmax is a single pass in registers; with more, sums are
 * scaled when the maximum grows (Milakov and Gimelshein, "Online normalizer calculation for
 * softmax", 2018). Between the last read of a row's weights and the next write of them lies
 * the barrier of the next panel, or of the next rows.
 *
 * Backward computes the probabilities again from lse, twice: once with queries as rows, for dq,
 * once with keys as rows, for dk and dv. Both sums are then one warp's own, in a fixed order:
 * no atomics, no buffer. That costs 7 products where 5 would do.
 *
 * Ladder: v1 as above. Not measured yet. Registers of the largest kernel: 168, no spills. */
#include "kernels/cuda/grid.h"

enum { attention_threads = 128, attention_warps = attention_threads / warp_size, rows = 4 };
enum { block_rows = attention_warps * rows };

/* What a block needs to know of the shape. */
struct attention_plan {
    unsigned T, H, D; /* 32 bits: 64 would cost registers */
    bool causal;
    float scale;
};

/* Element (token, 0) of this head in a matrix whose rows are `width` apart. */
template <typename T>
DEVICE T *head_rows(T *first, const struct attention_plan &plan, size_t width, size_t part)
{
    const unsigned b = block_index() / plan.H, h = block_index() % plan.H;
    return first + (size_t)b * plan.T * width + part * plan.H * plan.D + h * plan.D;
}

/* Copies `count` rows of D to rows `stride` floats apart; rows beyond the sequence are 0. */
template <typename T>
DEVICE void load_panel(float *to, unsigned stride, const T *from, size_t width, unsigned first,
                       unsigned count, const struct attention_plan &plan)
{
    for (unsigned i = thread_index(); i < count * plan.D; i += attention_threads) {
        const unsigned row = i / plan.D, d = i % plan.D;
        const bool inside = first + row < plan.T;
        to[row * stride + d] = inside ? to_float(from[(size_t)(first + row) * width + d]) : 0;
    }
}

/* The warp's own rows, times a factor. */
template <typename T>
DEVICE void load_rows(float *to, const T *from, size_t width, unsigned first, float factor,
                      const struct attention_plan &plan)
{
    for (unsigned i = lane_index(); i < rows * plan.D; i += warp_size) {
        const unsigned row = i / plan.D, d = i % plan.D;
        const bool inside = first + row < plan.T;
        to[i] = inside ? to_float(from[(size_t)(first + row) * width + d]) * factor : 0;
    }
}

/* score[row][i] = row . element (lane + 32 i) of the panel. */
template <int KEYS>
DEVICE void dot_rows(float score[rows][KEYS], const float *row, const float *panel,
                     unsigned stride, unsigned D)
{
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int i = 0; i < KEYS; i++)
            score[r][i] = 0;
    for (unsigned d = 0; d < D; d++) {
        float element[KEYS];
        UNROLL
        for (int i = 0; i < KEYS; i++)
            element[i] = panel[(lane_index() + (unsigned)i * warp_size) * stride + d];
        UNROLL
        for (int r = 0; r < rows; r++) {
            const float x = row[(unsigned)r * D + d];
            UNROLL
            for (int i = 0; i < KEYS; i++)
                score[r][i] += x * element[i];
        }
    }
}

/* sum[row][i] += weight[row][j] * element (lane + 32 i) of panel row j, over `count` rows. */
template <int DIMS>
DEVICE void add_weighted(float sum[rows][DIMS], const float *weight, unsigned panel_size,
                         const float *panel, unsigned stride, unsigned count, unsigned D)
{
    for (unsigned j = 0; j < count; j++) {
        UNROLL
        for (int i = 0; i < DIMS; i++) {
            const unsigned d = lane_index() + (unsigned)i * warp_size;
            const float x = d < D ? panel[j * stride + d] : 0;
            UNROLL
            for (int r = 0; r < rows; r++)
                sum[r][i] += weight[(unsigned)r * panel_size + j] * x;
        }
    }
}

template <int KEYS>
DEVICE void keep_weights(float *weight, const float value[rows][KEYS])
{
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int i = 0; i < KEYS; i++)
            weight[(r * KEYS + i) * warp_size + (int)lane_index()] = value[r][i];
}

template <typename T, int DIMS>
DEVICE void write_rows(T *to, size_t width, unsigned first, const float sum[rows][DIMS],
                       const float factor[rows], const struct attention_plan &plan)
{
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int i = 0; i < DIMS; i++) {
            const unsigned d = lane_index() + (unsigned)i * warp_size;
            if (d < plan.D && first + (unsigned)r < plan.T)
                from_float(to + (size_t)(first + (unsigned)r) * width + d,
                           sum[r][i] * factor[r]);
        }
}

/* In shared memory: keys [panel,D|1], values the same, rows [warps,rows,D], weights
 * [warps,rows,panel]. */
template <typename T, int KEYS, int DIMS>
KERNEL(attention_threads) attention_forward_kernel(T *out, float *lse, const T *qkv,
                                                   struct attention_plan plan)
{
    SHARED_MEMORY(float, shared);
    const unsigned panel_size = KEYS * warp_size, stride = plan.D | 1, C = plan.H * plan.D;
    float *keys = shared, *values = keys + panel_size * stride;
    float *row = values + panel_size * stride + warp_index() * rows * plan.D;
    float *weight = values + panel_size * stride + block_rows * plan.D +
                    warp_index() * rows * panel_size;
    const T *q = head_rows(qkv, plan, 3 * C, 0), *k = head_rows(qkv, plan, 3 * C, 1);
    const T *v = head_rows(qkv, plan, 3 * C, 2);
    bool loaded = false;

    for (unsigned tile = block_index_y(); tile * block_rows < plan.T; tile += block_count_y()) {
        const unsigned first = tile * block_rows + warp_index() * rows;
        float max[rows], sum[rows], total[rows][DIMS], inverse[rows];
        UNROLL
        for (int r = 0; r < rows; r++) {
            max[r] = -INFINITY;
            sum[r] = 0;
            UNROLL
            for (int i = 0; i < DIMS; i++)
                total[r][i] = 0;
        }
        load_rows(row, q, 3 * C, first, plan.scale, plan);
        warp_sync();
        for (unsigned panel = 0; panel < plan.T; panel += panel_size) {
            const unsigned left = plan.T - panel, count = left < panel_size ? left : panel_size;
            if (!loaded || plan.T > panel_size) {
                block_sync();
                load_panel(keys, stride, k, 3 * C, panel, panel_size, plan);
                load_panel(values, stride, v, 3 * C, panel, count, plan);
                block_sync();
                loaded = true;
            }
            float score[rows][KEYS];
            dot_rows<KEYS>(score, row, keys, stride, plan.D);
            UNROLL
            for (int r = 0; r < rows; r++) {
                float top = -INFINITY, part = 0;
                UNROLL
                for (int i = 0; i < KEYS; i++) {
                    const unsigned key = panel + lane_index() + (unsigned)i * warp_size;
                    const bool hidden = plan.causal && key > first + (unsigned)r;
                    if (key >= plan.T || hidden)
                        score[r][i] = -INFINITY;
                    top = fmaxf(top, score[r][i]);
                }
                top = fmaxf(max[r], warp_max(top));
                const float from = top == -INFINITY ? 0 : top; /* no key seen yet */
                UNROLL
                for (int i = 0; i < KEYS; i++) {
                    score[r][i] = expf(score[r][i] - from);
                    part += score[r][i];
                }
                const float shrink = expf(max[r] - from);
                sum[r] = sum[r] * shrink + warp_sum(part);
                max[r] = top;
                UNROLL
                for (int i = 0; i < DIMS; i++)
                    total[r][i] *= shrink;
            }
            keep_weights<KEYS>(weight, score);
            warp_sync();
            add_weighted<DIMS>(total, weight, panel_size, values, stride, count, plan.D);
        }
        UNROLL
        for (int r = 0; r < rows; r++) {
            inverse[r] = 1 / sum[r];
            if (first + (unsigned)r < plan.T && lane_index() == 0)
                lse[(size_t)block_index() * plan.T + first + (unsigned)r] =
                    max[r] + logf(sum[r]);
        }
        write_rows<T, DIMS>(head_rows(out, plan, C, 0), C, first, total, inverse, plan);
    }
}

/* delta[B,H,T] = dout . out by head: a warp a row. */
template <typename T>
KERNEL(attention_threads) attention_delta_kernel(float *delta, const T *dout, const T *out,
                                                 size_t count, size_t tokens, size_t H,
                                                 size_t D)
{
    const size_t i = (size_t)block_index() * attention_warps + warp_index();
    const size_t b = i / (H * tokens), h = i / tokens % H, t = i % tokens;
    const size_t at = ((b * tokens + t) * H + h) * D;
    float sum = 0;
    for (size_t d = lane_index(); i < count && d < D; d += warp_size)
        sum += to_float(dout[at + d]) * to_float(out[at + d]);
    sum = warp_sum(sum);
    if (i < count && lane_index() == 0)
        delta[i] = sum;
}

/* With s = scale q . k, p = exp(s - lse of the query), dp = dout . v and delta of the query:
 *   ds = scale p (dp - delta);  dq += ds k;  dk += ds q;  dv += p dout
 * Rows are queries (a = q, b = dout; the panel has k and v) or keys (a = k, b = v; the panel
 * has q and dout). In shared memory: two panels [panel,D|1], two times rows [warps,rows,D], two
 * times weights [warps,rows,panel]. */
template <typename T, int KEYS, int DIMS, bool KEY_ROWS>
KERNEL(attention_threads) attention_backward_kernel(T *dqkv, const T *dout, const T *qkv,
                                                    const float *lse, const float *delta,
                                                    struct attention_plan plan)
{
    SHARED_MEMORY(float, shared);
    const unsigned panel_size = KEYS * warp_size, stride = plan.D | 1, C = plan.H * plan.D;
    float *panel_a = shared, *panel_b = panel_a + panel_size * stride;
    float *rows_a = panel_b + panel_size * stride + warp_index() * 2 * rows * plan.D;
    float *rows_b = rows_a + rows * plan.D;
    float *weight_p = panel_b + panel_size * stride + 2 * block_rows * plan.D +
                      warp_index() * 2 * rows * panel_size;
    float *weight_ds = weight_p + rows * panel_size;
    const T *q = head_rows(qkv, plan, 3 * C, 0), *k = head_rows(qkv, plan, 3 * C, 1);
    const T *v = head_rows(qkv, plan, 3 * C, 2), *d_out = head_rows(dout, plan, C, 0);
    const float *query_lse = lse + (size_t)block_index() * plan.T;
    const float *query_delta = delta + (size_t)block_index() * plan.T;
    bool loaded = false;

    for (unsigned tile = block_index_y(); tile * block_rows < plan.T; tile += block_count_y()) {
        const unsigned first = tile * block_rows + warp_index() * rows;
        float sum_a[rows][DIMS] = {}, sum_b[rows][DIMS] = {}, one[rows];
        load_rows(rows_a, KEY_ROWS ? k : q, 3 * C, first, 1, plan);
        load_rows(rows_b, KEY_ROWS ? v : d_out, KEY_ROWS ? 3 * C : C, first, 1, plan);
        warp_sync();
        for (unsigned panel = 0; panel < plan.T; panel += panel_size) {
            const unsigned left = plan.T - panel, count = left < panel_size ? left : panel_size;
            if (!loaded || plan.T > panel_size) {
                block_sync();
                load_panel(panel_a, stride, KEY_ROWS ? q : k, 3 * C, panel, panel_size, plan);
                load_panel(panel_b, stride, KEY_ROWS ? d_out : v, KEY_ROWS ? C : 3 * C, panel,
                           panel_size, plan);
                block_sync();
                loaded = true;
            }
            float p[rows][KEYS], ds[rows][KEYS];
            dot_rows<KEYS>(p, rows_a, panel_a, stride, plan.D);
            dot_rows<KEYS>(ds, rows_b, panel_b, stride, plan.D);
            UNROLL
            for (int r = 0; r < rows; r++)
                UNROLL
                for (int i = 0; i < KEYS; i++) {
                    const unsigned other = panel + lane_index() + (unsigned)i * warp_size;
                    const unsigned query = KEY_ROWS ? other : first + (unsigned)r;
                    const unsigned key = KEY_ROWS ? first + (unsigned)r : other;
                    const bool seen = query < plan.T && key < plan.T &&
                                      !(plan.causal && key > query);
                    p[r][i] = seen ? expf(plan.scale * p[r][i] - query_lse[query]) : 0;
                    ds[r][i] = seen ? plan.scale * p[r][i] * (ds[r][i] - query_delta[query])
                                    : 0;
                }
            if (KEY_ROWS)
                keep_weights<KEYS>(weight_p, p);
            keep_weights<KEYS>(weight_ds, ds);
            warp_sync();
            add_weighted<DIMS>(sum_a, weight_ds, panel_size, panel_a, stride, count, plan.D);
            if (KEY_ROWS)
                add_weighted<DIMS>(sum_b, weight_p, panel_size, panel_b, stride, count, plan.D);
        }
        UNROLL
        for (int r = 0; r < rows; r++)
            one[r] = 1;
        T *to = head_rows(dqkv, plan, 3 * C, KEY_ROWS ? 1 : 0);
        write_rows<T, DIMS>(to, 3 * C, first, sum_a, one, plan);
        if (KEY_ROWS)
            write_rows<T, DIMS>(to + C, 3 * C, first, sum_b, one, plan);
    }
}

/* ---- launching ---- */

struct attention_arguments {
    const struct cuda_queue *q;
    void *out, *dqkv;
    float *lse_out, *delta;
    const void *qkv, *dout, *attended;
    const float *lse;
    struct attention shape;
    bool backward;
};

static size_t attention_shared(const struct attention *shape, size_t keys, bool backward)
{
    const size_t panel = keys * warp_size, copies = backward ? 2 : 1;
    return (2 * panel * (shape->D | 1) + copies * block_rows * (shape->D + panel)) *
           sizeof(float);
}

template <typename T, int KEYS, int DIMS>
static void attention_launch(const struct attention_arguments *a)
{
    const struct attention *s = &a->shape;
    const size_t shared = attention_shared(s, KEYS, a->backward), heads = s->B * s->H;
    const size_t tiles = divide_up(s->T, block_rows);
    /* Blocks of one head share its rows where each tile must read the panels anew anyway. */
    const size_t slices = s->T > KEYS * warp_size ? tiles : 1;
    struct attention_plan plan;
    plan.T = (unsigned)s->T;
    plan.H = (unsigned)s->H;
    plan.D = (unsigned)s->D;
    plan.causal = s->causal;
    plan.scale = (float)(1 / sqrt((double)s->D));
    if (!a->backward) {
        LAUNCH((attention_forward_kernel<T, KEYS, DIMS>), heads, slices, attention_threads,
               shared, a->q->stream, (T *)a->out, a->lse_out, (const T *)a->qkv, plan);
        return;
    }
    LAUNCH(attention_delta_kernel<T>, divide_up(heads * s->T, attention_warps), 1,
           attention_threads, 0, a->q->stream, a->delta, (const T *)a->dout,
           (const T *)a->attended, heads * s->T, s->T, s->H, s->D);
    LAUNCH((attention_backward_kernel<T, KEYS, DIMS, false>), heads, slices, attention_threads,
           shared, a->q->stream, (T *)a->dqkv, (const T *)a->dout, (const T *)a->qkv, a->lse,
           a->delta, plan);
    LAUNCH((attention_backward_kernel<T, KEYS, DIMS, true>), heads, slices, attention_threads,
           shared, a->q->stream, (T *)a->dqkv, (const T *)a->dout, (const T *)a->qkv, a->lse,
           a->delta, plan);
}

/* The smallest panel that holds the sequence, or the largest that fits. */
static size_t attention_keys(const struct attention_arguments *a)
{
    size_t keys = 1;
    while (keys < 8 && keys * warp_size < a->shape.T &&
           attention_shared(&a->shape, 2 * keys, a->backward) <= a->q->shared_bytes)
        keys *= 2;
    return keys;
}

template <int DIMS>
static void attention_panels(const struct attention_arguments *a, size_t keys)
{
    if (keys == 1)
        attention_launch<float, 1, DIMS>(a);
    else if (keys == 2)
        attention_launch<float, 2, DIMS>(a);
    else if (keys == 4)
        attention_launch<float, 4, DIMS>(a);
    else
        attention_launch<float, 8, DIMS>(a);
}

/* One kernel does for what no model has: head sizes above 128, and in bf16 what
 * cuda_attention_mma.cu does not take. */
static bool attention_run(enum element type, const struct attention_arguments *a)
{
    const bool odd = type == ELEMENT_BF16 || a->shape.D > 4 * warp_size;
    const size_t keys = odd ? 1 : attention_keys(a);
    if (a->shape.B * a->shape.H * a->shape.T * a->shape.D == 0)
        return true;
    if (a->shape.D > 8 * warp_size ||
        attention_shared(&a->shape, keys, a->backward) > a->q->shared_bytes)
        return false;
    if (type == ELEMENT_BF16)
        attention_launch<bf16, 1, 8>(a);
    else if (odd)
        attention_launch<float, 1, 8>(a);
    else if (a->shape.D > 2 * warp_size)
        attention_panels<4>(a, keys);
    else
        attention_panels<2>(a, keys);
    return true;
}

bool cuda_attention_forward(const struct cuda_queue *q, enum element type, void *out,
                            float *lse, const void *qkv, const struct attention *shape)
{
    struct attention_arguments a = {};
    a.q = q;
    a.out = out;
    a.lse_out = lse;
    a.qkv = qkv;
    a.shape = *shape;
    return attention_run(type, &a);
}

size_t cuda_attention_backward_floats(const struct attention *shape)
{
    return shape->B * shape->H * shape->T;
}

bool cuda_attention_backward(const struct cuda_queue *q, enum element type, void *dqkv,
                             const void *dout, const void *qkv, const void *out,
                             const float *lse, const struct attention *shape, float *scratch)
{
    struct attention_arguments a = {};
    a.q = q;
    a.dqkv = dqkv;
    a.dout = dout;
    a.qkv = qkv;
    a.attended = out;
    a.lse = lse;
    a.delta = scratch;
    a.shape = *shape;
    a.backward = true;
    return attention_run(type, &a);
}
