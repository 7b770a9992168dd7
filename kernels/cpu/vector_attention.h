/* vector_attention.h - fused attention for one head of one sample (part of vector_kernels.h).
 *
 * Ladder (B 128, H 4; one thread of a Sapphire Rapids server, November 2026; ms a call):
 *                                            T 17, D 32        T 65, D 64
 *                                           forward back     forward  back
 *   avx512, transposed value by value          0.69  0.96        9.2  18.0
 *   avx512, transposed 4 x 4                   0.59  0.84        8.7  16.5
 *   avx2, the same                             0.69  1.18       13.3  27.0
 *   baseline, the same                         1.52  2.66       30.3  62.8
 *
 * K (and V, going back) is transposed once into scratch, so that scores come out with keys
 * side by side in vectors. Then at most 64 queries at a time are taken through scores, softmax
 * and product while their scores stay in the cache; no more than 64 x T scores ever exist.
 * All products are calls of gemm(), which reads Q, K, V and writes the results where they lie
 * in the [B,T,3C] and [B,T,C] arrays. */

enum { attention_rows_max = 64 };

VECTOR_INLINE size_t lanes_up(size_t n)
{
    return (n + LANES - 1) / LANES * LANES;
}

/* K and V transposed, and two blocks of scores. */
static size_t attention_scratch(size_t T, size_t D)
{
    return 2 * D * lanes_up(T) + 2 * attention_rows_max * lanes_up(T);
}

/* The block's queries are rows first..last-1; they see keys 0..keys-1 at most. */
struct attention_block {
    size_t first, last, keys;
};

static size_t attention_blocks(size_t T)
{
    return (T + attention_rows_max - 1) / attention_rows_max;
}

/* Blocks of nearly equal size: 65 queries make 33 and 32, not 64 and 1. */
static struct attention_block attention_block_at(const struct attention *shape, size_t index)
{
    const size_t blocks = attention_blocks(shape->T);
    const size_t first = shape->T * index / blocks, last = shape->T * (index + 1) / blocks;
    return (struct attention_block){first, last, shape->causal ? last : shape->T};
}

VECTOR_INLINE size_t keys_seen(const struct attention *shape, size_t query)
{
    return shape->causal ? query + 1 : shape->T;
}

/* scores[0..end) become probabilities, 0 from `seen` on. Returns the log of the sum of
 * exp(scale * score). */
static float softmax_row(float *scores, size_t seen, size_t end, float scale_by)
{
    vf highest = v_splat(-INFINITY);
    for (size_t j = 0; j < seen; j += LANES) {
        vf s = v_load(scores + j);
        if (seen - j < LANES)
            s = v_first_or(s, seen - j, v_splat(-INFINITY));
        highest = v_at_least(s, highest);
    }
    const float max = v_maximum(highest) * scale_by;

    vf sums = v_splat(0);
    for (size_t j = 0; j < end; j += LANES) {
        vf p = v_splat(0);
        if (j < seen)
            p = v_exp(v_fma(v_load(scores + j), v_splat(scale_by), v_splat(-max)));
        if (j < seen && seen - j < LANES)
            p = v_first_or(p, seen - j, v_splat(0));
        v_store(scores + j, p);
        sums += p;
    }
    const float sum = v_sum(sums);
    for (size_t j = 0; j < seen; j += LANES)
        v_store(scores + j, v_load(scores + j) * v_splat(1 / sum));
    return max + logf(sum);
}

static void attention_forward(float *out, float *lse, const float *qkv,
                              const struct attention *shape, size_t b, size_t h, float *scratch)
{
    const size_t T = shape->T, D = shape->D, C = shape->H * D, pad = lanes_up(T);
    const float *q = qkv + b * T * 3 * C + h * D, *k = q + C, *v = k + C;
    float *k_transposed = scratch, *scores = k_transposed + D * pad;
    const float scale_by = 1 / sqrtf((float)D);

    transpose(k_transposed, pad, k, 3 * C, T, D);
    for (size_t index = 0; index < attention_blocks(T); index++) {
        const struct attention_block block = attention_block_at(shape, index);
        const size_t rows = block.last - block.first, end = lanes_up(block.keys);
        gemm(&(struct gemm){.rows = rows, .columns = end, .inner = D,
                            .a = q + block.first * 3 * C, .a_row = 3 * C, .a_inner = 1,
                            .b = k_transposed, .b_stride = pad,
                            .c = scores, .c_stride = pad});
        for (size_t r = 0; r < rows; r++) {
            const size_t query = block.first + r;
            lse[(b * shape->H + h) * T + query] =
                softmax_row(scores + r * pad, keys_seen(shape, query), end, scale_by);
        }
        gemm(&(struct gemm){.rows = rows, .columns = D, .inner = block.keys,
                            .a = scores, .a_row = pad, .a_inner = 1,
                            .b = v, .b_stride = 3 * C,
                            .c = out + (b * T + block.first) * C + h * D, .c_stride = C});
    }
}

/* scores become probabilities p; dp becomes ds = scale p (dp - dout . out). */
static void softmax_row_backward(float *scores, float *dp, size_t seen, size_t end, float lse,
                                 float dout_out, float scale_by)
{
    for (size_t j = 0; j < end; j += LANES) {
        vf p = v_splat(0), ds = v_splat(0);
        if (j < seen) {
            p = v_exp(v_fma(v_load(scores + j), v_splat(scale_by), v_splat(-lse)));
            if (seen - j < LANES)
                p = v_first_or(p, seen - j, v_splat(0));
            ds = p * (v_load(dp + j) - v_splat(dout_out)) * v_splat(scale_by);
        }
        v_store(scores + j, p);
        v_store(dp + j, ds);
    }
}

/* dq = ds k;  dk += ds^T q;  dv += p^T dout. Blocks go from the last to the first, because the
 * last is the one that sees every key and can overwrite dk and dv; the others add. */
static void attention_backward(float *dqkv, const float *dout, const float *qkv,
                               const float *out, const float *lse,
                               const struct attention *shape, size_t b, size_t h,
                               float *scratch)
{
    const size_t T = shape->T, D = shape->D, C = shape->H * D, pad = lanes_up(T);
    const size_t at = b * T * 3 * C + h * D;
    const float *q = qkv + at, *k = q + C, *v = k + C;
    float *dq = dqkv + at, *dk = dq + C, *dv = dk + C;
    float *k_transposed = scratch, *v_transposed = k_transposed + D * pad;
    float *scores = v_transposed + D * pad, *dp = scores + attention_rows_max * pad;
    const float scale_by = 1 / sqrtf((float)D);

    transpose(k_transposed, pad, k, 3 * C, T, D);
    transpose(v_transposed, pad, v, 3 * C, T, D);
    for (size_t index = attention_blocks(T); index-- > 0;) {
        const struct attention_block block = attention_block_at(shape, index);
        const size_t rows = block.last - block.first, end = lanes_up(block.keys);
        const bool add_to = index + 1 < attention_blocks(T);
        const float *block_q = q + block.first * 3 * C;
        const float *block_dout = dout + (b * T + block.first) * C + h * D;
        const float *block_out = out + (b * T + block.first) * C + h * D;

        gemm(&(struct gemm){.rows = rows, .columns = end, .inner = D,
                            .a = block_q, .a_row = 3 * C, .a_inner = 1,
                            .b = k_transposed, .b_stride = pad,
                            .c = scores, .c_stride = pad});
        gemm(&(struct gemm){.rows = rows, .columns = end, .inner = D,
                            .a = block_dout, .a_row = C, .a_inner = 1,
                            .b = v_transposed, .b_stride = pad,
                            .c = dp, .c_stride = pad});
        for (size_t r = 0; r < rows; r++) {
            const size_t query = block.first + r;
            softmax_row_backward(scores + r * pad, dp + r * pad, keys_seen(shape, query), end,
                                 lse[(b * shape->H + h) * T + query],
                                 row_dot(block_dout + r * C, block_out + r * C, D), scale_by);
        }
        gemm(&(struct gemm){.rows = rows, .columns = D, .inner = block.keys,
                            .a = dp, .a_row = pad, .a_inner = 1,
                            .b = k, .b_stride = 3 * C,
                            .c = dq + block.first * 3 * C, .c_stride = 3 * C});
        gemm(&(struct gemm){.rows = block.keys, .columns = D, .inner = rows,
                            .a = dp, .a_row = 1, .a_inner = pad,
                            .b = block_q, .b_stride = 3 * C,
                            .c = dk, .c_stride = 3 * C, .accumulate = add_to});
        gemm(&(struct gemm){.rows = block.keys, .columns = D, .inner = rows,
                            .a = scores, .a_row = 1, .a_inner = pad,
                            .b = block_dout, .b_stride = C,
                            .c = dv, .c_stride = 3 * C, .accumulate = add_to});
    }
}
