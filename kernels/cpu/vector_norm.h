/* vector_norm.h - residual + layer norm, and unit length (part of vector_kernels.h).
 *
 * Ladder (8320 rows of 384; one thread of a Sapphire Rapids server, November 2026; ms):
 *                                          baseline   avx2   avx512
 *   forward, three passes in the cache          4.0    3.0      2.0
 *   back, two passes, dgamma on the way         3.0    1.5      1.4
 * Both move 51 MB, so avx512 is at memory's speed. */

VECTOR_INLINE float row_dot(const float *a, const float *b, size_t n)
{
    vf sum = v_splat(0);
    for (size_t i = 0; i < n; i += LANES)
        sum = v_fma(v_take(a + i, n - i), v_take(b + i, n - i), sum);
    return v_sum(sum);
}

/* Mean and variance in two passes over a row that the first pass has brought into the cache:
 * the one-pass E[x^2] - E[x]^2 cancels where the mean is far from 0. */
static void norm_forward_row(float *normed, float *mean, float *rstd, const float *row,
                             const float *gamma, const float *beta, size_t C, float eps)
{
    vf sum = v_splat(0), squares = v_splat(0);
    for (size_t c = 0; c < C; c += LANES)
        sum += v_take(row + c, C - c);
    *mean = v_sum(sum) / (float)C;
    for (size_t c = 0; c < C; c += LANES) {
        vf centred = v_take(row + c, C - c) - v_splat(*mean);
        if (C - c < LANES)
            centred = v_first_or(centred, C - c, v_splat(0));
        squares = v_fma(centred, centred, squares);
    }
    *rstd = 1 / sqrtf(v_sum(squares) / (float)C + eps);
    for (size_t c = 0; c < C; c += LANES) {
        const vf x = (v_take(row + c, C - c) - v_splat(*mean)) * v_splat(*rstd);
        v_put(normed + c, v_fma(x, v_take(gamma + c, C - c), v_take(beta + c, C - c)), C - c);
    }
}

static void norm_forward(float *residual_out, float *normed, float *mean, float *rstd,
                         const float *residual, const float *delta, const float *gamma,
                         const float *beta, size_t N, size_t C, float eps)
{
    for (size_t n = 0; n < N; n++) {
        const float *row = residual + n * C;
        if (delta != NULL) {
            add(residual_out + n * C, row, delta + n * C, C);
            row = residual_out + n * C;
        }
        norm_forward_row(normed + n * C, &mean[n], &rstd[n], row, gamma, beta, C, eps);
    }
}

/* With x^ = (x - mean) rstd and g = dnormed gamma:
 *   dx = rstd (g - average(g) - x^ average(g x^)),  dgamma += dnormed x^,  dbeta += dnormed. */
static void norm_backward_row(float *dresidual, float *dgamma, float *dbeta,
                              const float *dnormed, const float *residual, float mean,
                              float rstd, const float *gamma, size_t C)
{
    vf g_sum = v_splat(0), gx_sum = v_splat(0);
    for (size_t c = 0; c < C; c += LANES) {
        const size_t left = C - c;
        const vf dy = v_take(dnormed + c, left);
        const vf x = (v_take(residual + c, left) - v_splat(mean)) * v_splat(rstd);
        const vf g = dy * v_take(gamma + c, left);
        g_sum += g;
        gx_sum = v_fma(g, x, gx_sum);
        v_put(dgamma + c, v_fma(dy, x, v_take(dgamma + c, left)), left);
        v_put(dbeta + c, dy + v_take(dbeta + c, left), left);
    }
    const vf g_average = v_splat(v_sum(g_sum) / (float)C);
    const vf gx_average = v_splat(v_sum(gx_sum) / (float)C);
    for (size_t c = 0; c < C; c += LANES) {
        const size_t left = C - c;
        const vf x = (v_take(residual + c, left) - v_splat(mean)) * v_splat(rstd);
        const vf g = v_take(dnormed + c, left) * v_take(gamma + c, left);
        const vf dx = g - v_fma(x, gx_average, g_average);
        v_put(dresidual + c, v_fma(dx, v_splat(rstd), v_take(dresidual + c, left)), left);
    }
}

static void norm_backward(float *dresidual, float *dgamma, float *dbeta, const float *dnormed,
                          const float *residual, const float *mean, const float *rstd,
                          const float *gamma, size_t N, size_t C)
{
    for (size_t n = 0; n < N; n++)
        norm_backward_row(dresidual + n * C, dgamma, dbeta, dnormed + n * C, residual + n * C,
                          mean[n], rstd[n], gamma, C);
}

static void normalize_forward(float *out, float *inverse, const float *in, size_t N, size_t E)
{
    for (size_t n = 0; n < N; n++) {
        const double length = sqrt(sum_squares(in + n * E, E));
        inverse[n] = (float)(length > 1e-12 ? 1 / length : length == length ? 1e12 : length);
        scale(out + n * E, in + n * E, inverse[n], E);
    }
}

static void normalize_backward(float *din, const float *dout, const float *out,
                               const float *inverse, size_t N, size_t E)
{
    for (size_t n = 0; n < N; n++) {
        const float *y = out + n * E, *dy = dout + n * E;
        const vf dot = v_splat(row_dot(y, dy, E));
        for (size_t e = 0; e < E; e += LANES) {
            const vf along = v_take(y + e, E - e) * dot;
            const vf across = v_take(dy + e, E - e) - along;
            v_put(din + n * E + e, across * v_splat(inverse[n]), E - e);
        }
    }
}
