#include <math.h>

#include "kernels/ref/ref_operations.h"

/* What is normalised is the residual as it was written: the backward pass, and a norm that is
 * computed again, have nothing else. */
void ref_residual_norm_forward(struct kernels *k, void *residual_out, void *normed, float *mean,
                               float *rstd, const void *residual, const void *delta,
                               const float *gamma, const float *beta, size_t N, size_t C,
                               float eps)
{
    const void *const in = delta == NULL ? residual : residual_out;
    for (size_t i = 0; i < N * C && delta != NULL; i++)
        ref_store(k, residual_out, i, ref_load(k, residual, i) + ref_load(k, delta, i));
    for (size_t n = 0; n < N; n++) {
        double sum = 0, squares = 0;
        for (size_t c = 0; c < C; c++)
            sum += ref_load(k, in, n * C + c);
        const double centre = sum / (double)C;
        for (size_t c = 0; c < C; c++) {
            const double centred = ref_load(k, in, n * C + c) - centre;
            squares += centred * centred;
        }
        const double scale = 1 / sqrt(squares / (double)C + eps);
        for (size_t c = 0; c < C; c++)
            ref_store(k, normed, n * C + c,
                      (ref_load(k, in, n * C + c) - centre) * scale * gamma[c] + beta[c]);
        mean[n] = (float)centre;
        rstd[n] = (float)scale;
    }
}

/* With x^ = (x - mean) rstd and g = dnormed gamma, both mean and rstd depend on every x of the
 * row; carrying that through gives
 *   dx = rstd (g - average(g) - x^ average(g x^)). */
static void norm_backward_row(struct kernels *k, void *dresidual, const void *dnormed,
                              const void *residual, const float *gamma, double mean,
                              double rstd, size_t first, size_t C)
{
    double g_sum = 0, gx_sum = 0;
    for (size_t c = 0; c < C; c++) {
        const double g = ref_load(k, dnormed, first + c) * gamma[c];
        g_sum += g;
        gx_sum += g * (ref_load(k, residual, first + c) - mean) * rstd;
    }
    for (size_t c = 0; c < C; c++) {
        const double g = ref_load(k, dnormed, first + c) * gamma[c];
        const double x = (ref_load(k, residual, first + c) - mean) * rstd;
        const double dx = rstd * (g - g_sum / (double)C - x * gx_sum / (double)C);
        ref_store(k, dresidual, first + c, ref_load(k, dresidual, first + c) + dx);
    }
}

void ref_norm_backward(struct kernels *k, void *dresidual, float *dgamma, float *dbeta,
                       const void *dnormed, const void *residual, const float *mean,
                       const float *rstd, const float *gamma, size_t N, size_t C)
{
    for (size_t n = 0; n < N; n++)
        norm_backward_row(k, dresidual, dnormed, residual, gamma, mean[n], rstd[n], n * C, C);
    for (size_t c = 0; c < C; c++) {
        double gamma_sum = dgamma[c], beta_sum = dbeta[c];
        for (size_t n = 0; n < N; n++) {
            const double dy = ref_load(k, dnormed, n * C + c);
            gamma_sum += dy * ((ref_load(k, residual, n * C + c) - mean[n]) * rstd[n]);
            beta_sum += dy;
        }
        dgamma[c] = (float)gamma_sum;
        dbeta[c] = (float)beta_sum;
    }
}

void ref_normalize_forward(struct kernels *k, float *out, float *inverse, const void *in,
                           size_t N, size_t E)
{
    for (size_t n = 0; n < N; n++) {
        double squares = 0;
        for (size_t e = 0; e < E; e++)
            squares += ref_load(k, in, n * E + e) * ref_load(k, in, n * E + e);
        const double scale = 1 / fmax(sqrt(squares), 1e-12);
        for (size_t e = 0; e < E; e++)
            out[n * E + e] = (float)(ref_load(k, in, n * E + e) * scale);
        inverse[n] = (float)scale;
    }
}

void ref_normalize_backward(struct kernels *k, void *din, const float *dout, const float *out,
                            const float *inverse, size_t N, size_t E)
{
    for (size_t n = 0; n < N; n++) {
        double dot = 0;
        for (size_t e = 0; e < E; e++)
            dot += (double)out[n * E + e] * dout[n * E + e];
        for (size_t e = 0; e < E; e++)
            ref_store(k, din, n * E + e,
                      (dout[n * E + e] - out[n * E + e] * dot) * inverse[n]);
    }
}
