/* Residual + layer norm, forward and backward, and rows of unit length.
 *
 * A block of 128 threads holds one row in registers, so that each matrix is moved once: forward
 * reads residual and delta and writes residual_out and normed, 4 C elements a row; backward
 * reads dnormed, residual and dresidual and writes dresidual, 4 C. At 4.3 TB/s that is 0.18 ns
 * for each element of a bf16 row, either way.
 *
 * Backward adds dgamma and dbeta in registers over the rows of the block, which are a fixed
 * share, and leaves them in scratch; sums over rows (cuda_sum.cu) do the rest in order.
 *
 * Ladder: v1 as above. Not measured.
 * v2, gamma, beta and the shares' sums 16 bytes at a time, too. Not measured yet. */
#include "kernels/cuda/grid.h"

enum {
    norm_threads = 128,
    norm_warps = norm_threads / warp_size,
    most_shares = 1024,
    narrow_chunks = 32 /* of one column each, where rows are not aligned */
};

/* The sum over the block, the same bits in every thread. `slot` alternates between two calls
 * that have no barrier between them but their own. */
DEVICE float row_sum(float x, float *shared, int slot)
{
    float *sums = shared + slot * norm_warps;
    x = warp_sum(x);
    if (lane_index() == 0)
        sums[warp_index()] = x;
    block_sync();
    float sum = 0;
    UNROLL
    for (int w = 0; w < norm_warps; w++)
        sum += sums[w];
    return sum;
}

/* The first column of a thread's chunk; a chunk has W columns. */
template <int W> DEVICE unsigned chunk_column(int chunk)
{
    return ((unsigned)chunk * norm_threads + thread_index()) * W;
}

template <typename T, int W, int CHUNKS>
KERNEL(norm_threads) norm_forward_kernel(T *residual_out, T *normed, float *mean, float *rstd,
                                         const T *residual, const T *delta, const float *gamma,
                                         const float *beta, unsigned C, float eps)
{
    SHARED_MEMORY(float, shared); /* [2, norm_warps] */
    const size_t row = (size_t)block_index() * C;
    float x[CHUNKS][W] = {}, sum = 0, squares = 0;
    UNROLL
    for (int i = 0; i < CHUNKS; i++) {
        const unsigned c = chunk_column<W>(i);
        if (c >= C)
            continue;
        load<W>(x[i], residual + row + c);
        if (delta != NULL) {
            float d[W];
            load<W>(d, delta + row + c);
            UNROLL
            for (int j = 0; j < W; j++)
                x[i][j] += d[j];
            store<W>(residual_out + row + c, x[i]);
            /* what is normalised is what was stored, rounded to T */
            UNROLL
            for (int j = 0; j < W; j++) {
                T stored;
                from_float(&stored, x[i][j]);
                x[i][j] = to_float(stored);
            }
        }
        UNROLL
        for (int j = 0; j < W; j++)
            sum += x[i][j];
    }
    const float centre = row_sum(sum, shared, 0) / (float)C;
    UNROLL
    for (int i = 0; i < CHUNKS; i++)
        if (chunk_column<W>(i) < C)
            UNROLL
            for (int j = 0; j < W; j++)
                squares += (x[i][j] - centre) * (x[i][j] - centre);
    const float scale = 1 / sqrtf(row_sum(squares, shared, 1) / (float)C + eps);
    UNROLL
    for (int i = 0; i < CHUNKS; i++) {
        const unsigned c = chunk_column<W>(i);
        float factor[W], shift[W];
        if (c >= C)
            continue;
        load<W>(factor, gamma + c);
        load<W>(shift, beta + c);
        UNROLL
        for (int j = 0; j < W; j++)
            x[i][j] = (x[i][j] - centre) * scale * factor[j] + shift[j];
        store<W>(normed + row + c, x[i]);
    }
    if (thread_index() == 0) {
        mean[block_index()] = centre;
        rstd[block_index()] = scale;
    }
}

/* With x^ = (x - mean) rstd and g = dnormed gamma:
 *   dresidual += rstd (g - average(g) - x^ average(g x^))
 * parts[2,share,C]: the share's sums of dnormed x^ and of dnormed. */
template <typename T, int W, int CHUNKS>
KERNEL(norm_threads) norm_backward_kernel(T *dresidual, float *parts, const T *dnormed,
                                          const T *residual, const float *mean,
                                          const float *rstd, const float *gamma, size_t N,
                                          unsigned C)
{
    SHARED_MEMORY(float, shared); /* [2, 2, norm_warps] */
    const size_t rows_each = divide_up(N, block_count());
    const size_t first = block_index() * rows_each;
    const size_t end = first + rows_each < N ? first + rows_each : N;
    float dgamma[CHUNKS][W], dbeta[CHUNKS][W];
    UNROLL
    for (int i = 0; i < CHUNKS; i++)
        UNROLL
        for (int j = 0; j < W; j++)
            dgamma[i][j] = dbeta[i][j] = 0;

    for (size_t n = first; n < end; n++) {
        const float centre = mean[n], scale = rstd[n];
        float x[CHUNKS][W] = {}, g[CHUNKS][W] = {}, g_sum = 0, gx_sum = 0;
        UNROLL
        for (int i = 0; i < CHUNKS; i++) {
            const unsigned c = chunk_column<W>(i);
            float factor[W];
            if (c >= C)
                continue;
            load<W>(x[i], residual + n * C + c);
            load<W>(g[i], dnormed + n * C + c);
            load<W>(factor, gamma + c);
            UNROLL
            for (int j = 0; j < W; j++) {
                x[i][j] = (x[i][j] - centre) * scale;
                dgamma[i][j] += g[i][j] * x[i][j];
                dbeta[i][j] += g[i][j];
                g[i][j] *= factor[j];
                g_sum += g[i][j];
                gx_sum += g[i][j] * x[i][j];
            }
        }
        /* two pairs of slots in turn: a thread may be in the next row's sums already */
        float *slots = shared + n % 2 * (2 * norm_warps);
        const float g_average = row_sum(g_sum, slots, 0) / (float)C;
        const float gx_average = row_sum(gx_sum, slots, 1) / (float)C;
        UNROLL
        for (int i = 0; i < CHUNKS; i++) {
            const unsigned c = chunk_column<W>(i);
            float d[W];
            if (c >= C)
                continue;
            load<W>(d, dresidual + n * C + c);
            UNROLL
            for (int j = 0; j < W; j++)
                d[j] += scale * (g[i][j] - g_average - x[i][j] * gx_average);
            store<W>(dresidual + n * C + c, d);
        }
    }
    UNROLL
    for (int i = 0; i < CHUNKS; i++) {
        const unsigned c = chunk_column<W>(i);
        if (c >= C)
            continue;
        store<W>(parts + (size_t)block_index() * C + c, dgamma[i]);
        store<W>(parts + ((size_t)block_count() + block_index()) * C + c, dbeta[i]);
    }
}

struct norm_arguments {
    const struct cuda_queue *q;
    void *residual_out, *normed; /* forward */
    void *dresidual;             /* backward */
    float *parts;
    const void *dnormed;
    const void *residual, *delta;
    float *mean_out, *rstd_out;
    const float *mean, *rstd, *gamma, *beta;
    size_t N, C;
    float eps;
    bool backward;
};

static size_t share_count(size_t N)
{
    return smaller(N, most_shares);
}

template <typename T, int W, int CHUNKS> static void norm_launch(const struct norm_arguments *a)
{
    if (a->backward)
        LAUNCH((norm_backward_kernel<T, W, CHUNKS>), share_count(a->N), 1, norm_threads,
               4 * norm_warps * sizeof(float), a->q->stream, (T *)a->dresidual, a->parts,
               (const T *)a->dnormed, (const T *)a->residual, a->mean, a->rstd, a->gamma, a->N,
               (unsigned)a->C);
    else
        LAUNCH((norm_forward_kernel<T, W, CHUNKS>), a->N, 1, norm_threads,
               2 * norm_warps * sizeof(float), a->q->stream, (T *)a->residual_out,
               (T *)a->normed, a->mean_out, a->rstd_out, (const T *)a->residual,
               (const T *)a->delta, a->gamma, a->beta, (unsigned)a->C, a->eps);
}

template <typename T, int W> static bool norm_choose(const struct norm_arguments *a)
{
    const size_t chunks = divide_up(a->C, norm_threads * W);
    if (a->N == 0 || a->C == 0)
        return true;
    if (chunks <= 1)
        norm_launch<T, W, 1>(a);
    else if (chunks <= 2)
        norm_launch<T, W, 2>(a);
    else if (chunks <= 3)
        norm_launch<T, W, 3>(a);
    else if (chunks <= 4)
        norm_launch<T, W, 4>(a);
    else if (chunks <= 8 && wide<T>::count == 4 && W == 4)
        norm_launch<float, 4, 8>(a);
    else if (chunks <= narrow_chunks && W == 1)
        norm_launch<T, 1, narrow_chunks>(a);
    else
        return false;
    return true;
}

/* Rows can be moved 16 bytes at a time where the first is aligned and all have whole chunks. */
template <typename T> static bool norm_run(const struct norm_arguments *a)
{
    const int W = wide<T>::count;
    const bool aligned = aligned_wide(a->residual_out) && aligned_wide(a->normed) &&
                         aligned_wide(a->dresidual) && aligned_wide(a->dnormed) &&
                         aligned_wide(a->residual) && aligned_wide(a->delta) &&
                         aligned_wide(a->gamma) && aligned_wide(a->beta);
    return a->C % (size_t)W == 0 && aligned ? norm_choose<T, W>(a) : norm_choose<T, 1>(a);
}

bool cuda_residual_norm_forward(const struct cuda_queue *q, enum element type,
                                void *residual_out, void *normed, float *mean, float *rstd,
                                const void *residual, const void *delta, const float *gamma,
                                const float *beta, size_t N, size_t C, float eps)
{
    struct norm_arguments a = {};
    a.q = q;
    a.residual_out = residual_out;
    a.normed = normed;
    a.mean_out = mean;
    a.rstd_out = rstd;
    a.residual = residual;
    a.delta = delta;
    a.gamma = gamma;
    a.beta = beta;
    a.N = N;
    a.C = C;
    a.eps = eps;
    return type == ELEMENT_BF16 ? norm_run<bf16>(&a) : norm_run<float>(&a);
}

size_t cuda_norm_backward_floats(size_t N, size_t C)
{
    const size_t shares = share_count(N);
    return 2 * shares * C + cuda_sum_rows_floats(shares, C);
}

bool cuda_norm_backward(const struct cuda_queue *q, enum element type, void *dresidual,
                        float *dgamma, float *dbeta, const void *dnormed, const void *residual,
                        const float *mean, const float *rstd, const float *gamma, size_t N,
                        size_t C, float *scratch)
{
    const size_t shares = share_count(N);
    struct norm_arguments a = {};
    a.q = q;
    a.dresidual = dresidual;
    a.parts = scratch;
    a.dnormed = dnormed;
    a.residual = residual;
    a.mean = mean;
    a.rstd = rstd;
    a.gamma = gamma;
    a.N = N;
    a.C = C;
    a.backward = true;
    if (!(type == ELEMENT_BF16 ? norm_run<bf16>(&a) : norm_run<float>(&a)))
        return false;
    float *sum_scratch = scratch + 2 * shares * C;
    cuda_sum_rows(q, ELEMENT_FLOAT, dgamma, scratch, shares, C, C, sum_scratch);
    cuda_sum_rows(q, ELEMENT_FLOAT, dbeta, scratch + shares * C, shares, C, C, sum_scratch);
    return true;
}

/* ---- rows of unit length: a warp each ---- */

enum { unit_threads = 128, unit_rows = unit_threads / warp_size };

template <typename T>
KERNEL(unit_threads) normalize_forward_kernel(float *out, float *inverse, const T *in, size_t N,
                                              size_t E)
{
    const size_t n = (size_t)block_index() * unit_rows + warp_index();
    float squares = 0;
    for (size_t i = lane_index(); n < N && i < E; i += warp_size) {
        const float x = to_float(in[n * E + i]);
        squares += x * x;
    }
    squares = warp_sum(squares);
    const float length = sqrtf(squares);
    const float scale = 1 / (length < 1e-12f ? 1e-12f : length); /* NaN stays */
    for (size_t i = lane_index(); n < N && i < E; i += warp_size)
        out[n * E + i] = to_float(in[n * E + i]) * scale;
    if (n < N && lane_index() == 0)
        inverse[n] = scale;
}

template <typename T>
KERNEL(unit_threads) normalize_backward_kernel(T *din, const float *dout, const float *out,
                                               const float *inverse, size_t N, size_t E)
{
    const size_t n = (size_t)block_index() * unit_rows + warp_index();
    float dot = 0;
    for (size_t i = lane_index(); n < N && i < E; i += warp_size)
        dot += out[n * E + i] * dout[n * E + i];
    dot = warp_sum(dot);
    for (size_t i = lane_index(); n < N && i < E; i += warp_size)
        from_float(din + n * E + i, (dout[n * E + i] - out[n * E + i] * dot) * inverse[n]);
}

void cuda_normalize_forward(const struct cuda_queue *q, enum element type, float *out,
                            float *inverse, const void *in, size_t N, size_t E)
{
    const size_t blocks = divide_up(N, unit_rows);
    if (N == 0)
        return;
    if (type == ELEMENT_BF16)
        LAUNCH(normalize_forward_kernel<bf16>, blocks, 1, unit_threads, 0, q->stream, out,
               inverse, (const bf16 *)in, N, E);
    else
        LAUNCH(normalize_forward_kernel<float>, blocks, 1, unit_threads, 0, q->stream, out,
               inverse, (const float *)in, N, E);
}

void cuda_normalize_backward(const struct cuda_queue *q, enum element type, void *din,
                             const float *dout, const float *out, const float *inverse,
                             size_t N, size_t E)
{
    const size_t blocks = divide_up(N, unit_rows);
    if (N == 0)
        return;
    if (type == ELEMENT_BF16)
        LAUNCH(normalize_backward_kernel<bf16>, blocks, 1, unit_threads, 0, q->stream,
               (bf16 *)din, dout, out, inverse, N, E);
    else
        LAUNCH(normalize_backward_kernel<float>, blocks, 1, unit_threads, 0, q->stream,
               (float *)din, dout, out, inverse, N, E);
}
