/* vector_elementwise.h - sums, activations, AdamW (part of vector_kernels.h).
 *
 * Ladder (12.8 million values; one thread of a Sapphire Rapids server, November 2026; ms):
 *                                   baseline   avx2   avx512
 *   GELU, exp(-x^2/2) polynomial        47.7   14.2      9.7
 *   GELU back, both from one exp        50.5   15.7     11.9
 *   GELU's tanh form by sigmoid         25.0   10.6      8.2
 * avx512 is at memory's speed here; from the cache, GELU takes 0.55 ns a value. A sigmoid that
 * returned subnormals took 18 times as long on values below -12: see v_exp. */

static void add(float *out, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i += LANES)
        v_put(out + i, v_take(a + i, n - i) + v_take(b + i, n - i), n - i);
}

static void add_rows(float *out, const float *in, size_t rows, size_t width, size_t stride)
{
    for (size_t r = 0; r < rows; r++)
        add(out, out, in + r * stride, width);
}

static void scale(float *out, const float *in, float factor, size_t n)
{
    for (size_t i = 0; i < n; i += LANES)
        v_put(out + i, v_take(in + i, n - i) * v_splat(factor), n - i);
}

/* GELU's tanh form is x sigmoid(2u): (1 + tanh u) / 2 without the cancellation. */
VECTOR_INLINE vf gelu_tanh_argument(vf x)
{
    const float two_root = 1.5957691216057308f; /* 2 sqrt(2 / pi) */
    return x * v_fma(x * x, v_splat(two_root * 0.044715f), v_splat(two_root));
}

VECTOR_INLINE vf gelu_tanh_argument_derivative(vf x)
{
    const float two_root = 1.5957691216057308f;
    return v_fma(x * x, v_splat(3 * two_root * 0.044715f), v_splat(two_root));
}

VECTOR_INLINE vf activation(vf x, enum activation kind)
{
    if (kind == ACTIVATION_GELU)
        return x * v_normal(x).cdf;
    if (kind == ACTIVATION_GELU_TANH)
        return x * v_sigmoid(gelu_tanh_argument(x));
    return x * v_sigmoid(x * v_splat(1.702f));
}

/* (x s(u))' = s + x s (1 - s) u'. Past |x| = 100 the sigmoid is 0 or 1 in float, and the bound
 * keeps x u' from overflowing to infinity, which times 0 would be NaN. */
VECTOR_INLINE vf activation_derivative(vf x, enum activation kind)
{
    if (kind == ACTIVATION_GELU) {
        const struct normal normal = v_normal(x);
        return v_fma(x, normal.density, normal.cdf);
    }
    const vf bounded = v_at_most(v_at_least(x, v_splat(-100)), v_splat(100));
    vf s, slope;
    if (kind == ACTIVATION_GELU_TANH) {
        s = v_sigmoid(gelu_tanh_argument(bounded));
        slope = gelu_tanh_argument_derivative(bounded);
    } else {
        s = v_sigmoid(bounded * v_splat(1.702f));
        slope = v_splat(1.702f);
    }
    return v_fma(bounded * slope, s * (v_splat(1) - s), s);
}

/* `kind` is a constant in each call, so that each copy of the loop holds one formula. */
VECTOR_INLINE void activation_forward_kind(float *out, const float *in, size_t n,
                                           enum activation kind)
{
    for (size_t i = 0; i < n; i += LANES)
        v_put(out + i, activation(v_take(in + i, n - i), kind), n - i);
}

static void activation_forward(float *out, const float *in, size_t n, enum activation kind)
{
    if (kind == ACTIVATION_GELU)
        activation_forward_kind(out, in, n, ACTIVATION_GELU);
    else if (kind == ACTIVATION_GELU_TANH)
        activation_forward_kind(out, in, n, ACTIVATION_GELU_TANH);
    else
        activation_forward_kind(out, in, n, ACTIVATION_QUICK_GELU);
}

VECTOR_INLINE void activation_backward_kind(float *din, const float *dout, const float *in,
                                            size_t n, enum activation kind)
{
    for (size_t i = 0; i < n; i += LANES) {
        const vf slope = activation_derivative(v_take(in + i, n - i), kind);
        v_put(din + i, v_take(dout + i, n - i) * slope, n - i);
    }
}

static void activation_backward(float *din, const float *dout, const float *in, size_t n,
                                enum activation kind)
{
    if (kind == ACTIVATION_GELU)
        activation_backward_kind(din, dout, in, n, ACTIVATION_GELU);
    else if (kind == ACTIVATION_GELU_TANH)
        activation_backward_kind(din, dout, in, n, ACTIVATION_GELU_TANH);
    else
        activation_backward_kind(din, dout, in, n, ACTIVATION_QUICK_GELU);
}

static void layer_scale_forward(float *out, const float *in, const float *gamma, size_t N,
                                size_t C)
{
    for (size_t n = 0; n < N; n++)
        for (size_t c = 0; c < C; c += LANES) {
            const size_t at = n * C + c, left = C - c;
            v_put(out + at, v_take(in + at, left) * v_take(gamma + c, left), left);
        }
}

static void layer_scale_backward(float *din, float *dgamma, const float *dout, const float *in,
                                 const float *gamma, size_t N, size_t C)
{
    for (size_t n = 0; n < N; n++)
        for (size_t c = 0; c < C; c += LANES) {
            const size_t at = n * C + c, left = C - c;
            const vf dy = v_take(dout + at, left);
            const vf sum = v_fma(dy, v_take(in + at, left), v_take(dgamma + c, left));
            v_put(din + at, dy * v_take(gamma + c, left), left);
            v_put(dgamma + c, sum, left);
        }
}

/* 0 for what is smaller than `least` in size; NaN stays. */
VECTOR_INLINE vf flush(vf x, float least)
{
    return v_where_less(v_at_least(x, -x), v_splat(least), v_splat(0), x);
}

/* One division and one root a value; with 28 bytes of traffic it runs at memory's speed.
 *
 * The moments of a parameter that gets no gradient, such as the row of a word that does not
 * come up, decay into subnormals and would stay there, because 0.9 times the smallest rounds
 * back to it, at 20 times the cost of each step (15 ms instead of 0.7 for a million values).
 * What is flushed moves a parameter by less than 1e-20 lr with any eps above 1e-10. */
static void adamw(float *parameter, float *m, float *v, const float *gradient, size_t n,
                  const struct adamw_factors *f)
{
    for (size_t i = 0; i < n; i += LANES) {
        const size_t left = n - i;
        const vf g = v_take(gradient + i, left) * v_splat(f->gradient_scale);
        vf first = v_take(m + i, left) * v_splat(f->beta1);
        vf second = v_take(v + i, left) * v_splat(f->beta2);
        first = flush(v_fma(g, v_splat(f->one_minus_beta1), first), 1e-30f);
        second = flush(v_fma(g * v_splat(f->one_minus_beta2), g, second), 1e-36f);
        const vf root = v_fma(v_sqrt(second), v_splat(f->v_factor), v_splat(f->eps));
        const vf step = first * v_splat(f->m_factor) / root;
        v_put(m + i, first, left);
        v_put(v + i, second, left);
        v_put(parameter + i, v_take(parameter + i, left) * v_splat(f->decay) - step, left);
    }
}

/* Doubles of a whole vector's bytes, made from half a vector of floats. */
typedef float half_vf __attribute__((vector_size(LANES * 2)));
typedef double vd __attribute__((vector_size(LANES * 4)));

/* A float's square is exact in double; two vectors of sums hide the additions' latency. */
static double sum_squares(const float *in, size_t n)
{
    enum { half = LANES / 2 };
    vd sums[2] = {{0}, {0}};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t part = 0; part < 2; part++) {
            half_vf x;
            memcpy(&x, in + i + part * half, sizeof x);
            const vd wide = __builtin_convertvector(x, vd);
            sums[part] += wide * wide;
        }
    }
    double sum = 0;
    for (; i < n; i++)
        sum += (double)in[i] * in[i];
    for (size_t lane = 0; lane < half; lane++)
        sum += sums[0][lane] + sums[1][lane];
    return sum;
}

static void clamp(float *value, size_t n, float low, float high)
{
    for (size_t i = 0; i < n; i += LANES) {
        const vf raised = v_at_least(v_take(value + i, n - i), v_splat(low));
        v_put(value + i, v_at_most(raised, v_splat(high)), n - i);
    }
}
