/* Element by element, 16 bytes at a time where alignment allows: bound by memory, so the goal
 * is copy bandwidth.
 *
 * Ladder: v1, one pass, wide accesses, as many blocks as are resident. Not measured yet. */
#include "kernels/cuda/grid.h"

/* ---- add, clamp, convert ---- */

template <typename T, int W>
KERNEL(flat_threads) add_kernel(T *out, const T *a, const T *b, size_t n)
{
    for (size_t i = flat_first(W); i < n; i += flat_step(W)) {
        float x[W], y[W];
        load<W>(x, a + i);
        load<W>(y, b + i);
        UNROLL
        for (int j = 0; j < W; j++)
            x[j] += y[j];
        store<W>(out + i, x);
    }
}

template <typename T>
static void add_launch(const struct cuda_queue *q, T *out, const T *a, const T *b, size_t n)
{
    const int W = wide<T>::count;
    const size_t body = wide_part<T>(n, out, a, b), tail = n - body;
    if (body > 0)
        LAUNCH((add_kernel<T, W>), flat_blocks(q, body / W), 1, flat_threads, 0, q->stream, out,
               a, b, body);
    if (tail > 0)
        LAUNCH((add_kernel<T, 1>), flat_blocks(q, tail), 1, flat_threads, 0, q->stream,
               out + body, a + body, b + body, tail);
}

void cuda_add(const struct cuda_queue *q, enum element type, void *out, const void *a,
              const void *b, size_t n)
{
    if (type == ELEMENT_BF16)
        add_launch(q, (bf16 *)out, (const bf16 *)a, (const bf16 *)b, n);
    else
        add_launch(q, (float *)out, (const float *)a, (const float *)b, n);
}

KERNEL(flat_threads) clamp_kernel(float *value, size_t n, float low, float high)
{
    for (size_t i = flat_first(1); i < n; i += flat_step(1)) {
        const float x = value[i];
        if (x < low) /* written so that NaN stays */
            value[i] = low;
        else if (x > high)
            value[i] = high;
    }
}

void cuda_clamp(const struct cuda_queue *q, float *value, size_t n, float low, float high)
{
    if (n > 0)
        LAUNCH(clamp_kernel, flat_blocks(q, n), 1, flat_threads, 0, q->stream, value, n, low,
               high);
}

KERNEL(flat_threads) move_average_kernel(float *average, const float *value, size_t n,
                                         float weight)
{
    for (size_t i = flat_first(1); i < n; i += flat_step(1))
        average[i] += weight * (value[i] - average[i]);
}

void cuda_move_average(const struct cuda_queue *q, float *average, const float *value, size_t n,
                       float weight)
{
    if (n > 0)
        LAUNCH(move_average_kernel, flat_blocks(q, n), 1, flat_threads, 0, q->stream, average,
               value, n, weight);
}

template <typename To, typename From, int W>
KERNEL(flat_threads) convert_kernel(To *out, const From *in, size_t n)
{
    for (size_t i = flat_first(W); i < n; i += flat_step(W)) {
        float x[W];
        load<W>(x, in + i);
        store<W>(out + i, x);
    }
}

template <typename To, typename From>
static void convert_launch(const struct cuda_queue *q, void *out, const void *in, size_t n)
{
    const int W = wide<bf16>::count;
    const size_t body = wide_part<bf16>(n, out, in, in), tail = n - body;
    To *to = (To *)out;
    const From *from = (const From *)in;
    if (body > 0)
        LAUNCH((convert_kernel<To, From, W>), flat_blocks(q, body / W), 1, flat_threads, 0,
               q->stream, to, from, body);
    if (tail > 0)
        LAUNCH((convert_kernel<To, From, 1>), flat_blocks(q, tail), 1, flat_threads, 0,
               q->stream, to + body, from + body, tail);
}

void cuda_convert(const struct cuda_queue *q, enum element to, void *out, enum element from,
                  const void *in, size_t n)
{
    if (to == ELEMENT_BF16 && from == ELEMENT_BF16)
        convert_launch<bf16, bf16>(q, out, in, n);
    else if (to == ELEMENT_BF16)
        convert_launch<bf16, float>(q, out, in, n);
    else if (from == ELEMENT_BF16)
        convert_launch<float, bf16>(q, out, in, n);
    else
        convert_launch<float, float>(q, out, in, n);
}

/* ---- activations ---- */

DEVICE float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

/* (1 + tanh(u)) / 2 is sigmoid(2u); this is 2u. */
DEVICE float gelu_tanh_argument(float x)
{
    return 1.5957691216057308f * (x + 0.044715f * x * x * x);
}

template <enum activation KIND> DEVICE float activation_of(float x)
{
    if constexpr (KIND == ACTIVATION_GELU)
        return x * normal_cdf(x);
    else if constexpr (KIND == ACTIVATION_GELU_TANH)
        return x * sigmoid(gelu_tanh_argument(x));
    else
        return x * sigmoid(1.702f * x);
}

/* (x s(u))' = s + x s (1 - s) u'. Beyond 30 the second term is 0, and held there it is not
 * 0 * infinity; a NaN is still in s. */
template <enum activation KIND> DEVICE float activation_slope(float x)
{
    if constexpr (KIND == ACTIVATION_GELU)
        return normal_cdf(x) + x * 0.3989422804014327f * expf(-0.5f * x * x);
    const float held = fminf(fmaxf(x, -30.0f), 30.0f);
    if constexpr (KIND == ACTIVATION_GELU_TANH) {
        const float s = sigmoid(gelu_tanh_argument(x));
        return s + held * s * (1 - s) * 1.5957691216057308f *
                       (1 + 3 * 0.044715f * held * held);
    }
    const float s = sigmoid(1.702f * x);
    return s + held * s * (1 - s) * 1.702f;
}

template <typename T, int W, enum activation KIND>
KERNEL(flat_threads) activation_forward_kernel(T *out, const T *in, size_t n)
{
    for (size_t i = flat_first(W); i < n; i += flat_step(W)) {
        float x[W];
        load<W>(x, in + i);
        UNROLL
        for (int j = 0; j < W; j++)
            x[j] = activation_of<KIND>(x[j]);
        store<W>(out + i, x);
    }
}

template <typename T, int W, enum activation KIND>
KERNEL(flat_threads) activation_backward_kernel(T *din, const T *dout, const T *in, size_t n)
{
    for (size_t i = flat_first(W); i < n; i += flat_step(W)) {
        float x[W], d[W];
        load<W>(x, in + i);
        load<W>(d, dout + i);
        UNROLL
        for (int j = 0; j < W; j++)
            d[j] *= activation_slope<KIND>(x[j]);
        store<W>(din + i, d);
    }
}

template <typename T, enum activation KIND>
static void activation_launch(const struct cuda_queue *q, T *out, const T *in, size_t n)
{
    const int W = wide<T>::count;
    const size_t body = wide_part<T>(n, out, in, in), tail = n - body;
    if (body > 0)
        LAUNCH((activation_forward_kernel<T, W, KIND>), flat_blocks(q, body / W), 1,
               flat_threads, 0, q->stream, out, in, body);
    if (tail > 0)
        LAUNCH((activation_forward_kernel<T, 1, KIND>), flat_blocks(q, tail), 1, flat_threads,
               0, q->stream, out + body, in + body, tail);
}

template <typename T, enum activation KIND>
static void slope_launch(const struct cuda_queue *q, T *din, const T *dout, const T *in,
                         size_t n)
{
    const int W = wide<T>::count;
    const size_t body = wide_part<T>(n, din, dout, in), tail = n - body;
    if (body > 0)
        LAUNCH((activation_backward_kernel<T, W, KIND>), flat_blocks(q, body / W), 1,
               flat_threads, 0, q->stream, din, dout, in, body);
    if (tail > 0)
        LAUNCH((activation_backward_kernel<T, 1, KIND>), flat_blocks(q, tail), 1, flat_threads,
               0, q->stream, din + body, dout + body, in + body, tail);
}

template <typename T>
static void activation_choose(const struct cuda_queue *q, T *out, const T *in, size_t n,
                              enum activation kind)
{
    switch (kind) {
    case ACTIVATION_GELU:
        activation_launch<T, ACTIVATION_GELU>(q, out, in, n);
        break;
    case ACTIVATION_GELU_TANH:
        activation_launch<T, ACTIVATION_GELU_TANH>(q, out, in, n);
        break;
    case ACTIVATION_QUICK_GELU:
        activation_launch<T, ACTIVATION_QUICK_GELU>(q, out, in, n);
        break;
    }
}

template <typename T>
static void slope_choose(const struct cuda_queue *q, T *din, const T *dout, const T *in,
                         size_t n, enum activation kind)
{
    switch (kind) {
    case ACTIVATION_GELU:
        slope_launch<T, ACTIVATION_GELU>(q, din, dout, in, n);
        break;
    case ACTIVATION_GELU_TANH:
        slope_launch<T, ACTIVATION_GELU_TANH>(q, din, dout, in, n);
        break;
    case ACTIVATION_QUICK_GELU:
        slope_launch<T, ACTIVATION_QUICK_GELU>(q, din, dout, in, n);
        break;
    }
}

void cuda_activation_forward(const struct cuda_queue *q, enum element type, void *out,
                             const void *in, size_t n, enum activation kind)
{
    if (type == ELEMENT_BF16)
        activation_choose(q, (bf16 *)out, (const bf16 *)in, n, kind);
    else
        activation_choose(q, (float *)out, (const float *)in, n, kind);
}

void cuda_activation_backward(const struct cuda_queue *q, enum element type, void *din,
                              const void *dout, const void *in, size_t n, enum activation kind)
{
    if (type == ELEMENT_BF16)
        slope_choose(q, (bf16 *)din, (const bf16 *)dout, (const bf16 *)in, n, kind);
    else
        slope_choose(q, (float *)din, (const float *)dout, (const float *)in, n, kind);
}

/* ---- rows ---- */

template <typename T, int W>
KERNEL(flat_threads) scale_columns_kernel(T *out, const T *in, const float *gamma, size_t n,
                                          size_t C)
{
    for (size_t i = flat_first(W); i < n; i += flat_step(W)) {
        float x[W], factor[W];
        load<W>(x, in + i);
        load<W>(factor, gamma + i % C);
        UNROLL
        for (int j = 0; j < W; j++)
            x[j] *= factor[j];
        store<W>(out + i, x);
    }
}

template <typename T, int W>
static void scale_columns_launch(const struct cuda_queue *q, T *out, const T *in,
                                 const float *gamma, size_t n, size_t C)
{
    LAUNCH((scale_columns_kernel<T, W>), flat_blocks(q, n / W), 1, flat_threads, 0, q->stream,
           out, in, gamma, n, C);
}

template <typename T>
static void scale_columns(const struct cuda_queue *q, T *out, const T *in, const float *gamma,
                          size_t N, size_t C)
{
    if (N * C == 0)
        return;
    if (wide_rows<T>(C, out, in, gamma))
        scale_columns_launch<T, wide<T>::count>(q, out, in, gamma, N * C, C);
    else
        scale_columns_launch<T, 1>(q, out, in, gamma, N * C, C);
}

void cuda_scale_columns(const struct cuda_queue *q, enum element type, void *out,
                        const void *in, const float *gamma, size_t N, size_t C)
{
    if (type == ELEMENT_BF16)
        scale_columns(q, (bf16 *)out, (const bf16 *)in, gamma, N, C);
    else
        scale_columns(q, (float *)out, (const float *)in, gamma, N, C);
}

template <typename T>
KERNEL(flat_threads) fill_rows_kernel(T *out, const float *bias, size_t n, size_t columns)
{
    for (size_t i = flat_first(1); i < n; i += flat_step(1))
        from_float(out + i, bias == NULL ? 0.0f : bias[i % columns]);
}

void cuda_fill_rows(const struct cuda_queue *q, enum element type, void *out, const float *bias,
                    size_t rows, size_t columns)
{
    const size_t n = rows * columns;
    if (n == 0)
        return;
    if (type == ELEMENT_BF16)
        LAUNCH(fill_rows_kernel<bf16>, flat_blocks(q, n), 1, flat_threads, 0, q->stream,
               (bf16 *)out, bias, n, columns);
    else
        LAUNCH(fill_rows_kernel<float>, flat_blocks(q, n), 1, flat_threads, 0, q->stream,
               (float *)out, bias, n, columns);
}
