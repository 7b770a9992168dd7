#include <math.h>

#include "kernels/ref/ref_operations.h"

void ref_residual_norm_forward(struct kernels *k, float *residual_out, float *normed,
                               float *mean, float *rstd, const float *residual,
                               const float *delta, const float *gamma, const float *beta,
                               size_t N, size_t C, float eps)
{
    (void)k;
    for (size_t n = 0; n < N; n++) {
        const float *row = residual + n * C;
        if (delta != NULL) {
            for (size_t c = 0; c < C; c++)
                residual_out[n * C + c] = row[c] + delta[n * C + c];
            row = residual_out + n * C;
        }
        double sum = 0, squares = 0;
        for (size_t c = 0; c < C; c++)
            sum += row[c];
        const double centre = sum / (double)C;
        for (size_t c = 0; c < C; c++)
            squares += (row[c] - centre) * (row[c] - centre);
        const double scale = 1 / sqrt(squares / (double)C + eps);
        for (size_t c = 0; c < C; c++)
            normed[n * C + c] = (float)((row[c] - centre) * scale * gamma[c] + beta[c]);
        mean[n] = (float)centre;
        rstd[n] = (float)scale;
    }
}

/* With x^ = (x - mean) rstd and g = dnormed gamma, both mean and rstd depend on every x of the
 * row; carrying that through gives
 *   dx = rstd (g - average(g) - x^ average(g x^)). */
static void norm_backward_row(float *dresidual, const float *dnormed, const float *residual,
                              const float *gamma, double mean, double rstd, size_t C)
{
    double g_sum = 0, gx_sum = 0;
    for (size_t c = 0; c < C; c++) {
        const double g = (double)dnormed[c] * gamma[c];
        g_sum += g;
        gx_sum += g * (residual[c] - mean) * rstd;
    }
    for (size_t c = 0; c < C; c++) {
        const double g = (double)dnormed[c] * gamma[c];
        const double x = (residual[c] - mean) * rstd;
        const double dx = rstd * (g - g_sum / (double)C - x * gx_sum / (double)C);
        dresidual[c] = (float)(dresidual[c] + dx);
    }
}

void ref_norm_backward(struct kernels *k, float *dresidual, float *dgamma, float *dbeta,
                       const float *dnormed, const float *residual, const float *mean,
                       const float *rstd, const float *gamma, size_t N, size_t C)
{
    (void)k;
    for (size_t n = 0; n < N; n++)
        norm_backward_row(dresidual + n * C, dnormed + n * C, residual + n * C, gamma, mean[n],
                          rstd[n], C);
    for (size_t c = 0; c < C; c++) {
        double gamma_sum = dgamma[c], beta_sum = dbeta[c];
        for (size_t n = 0; n < N; n++) {
            const double x = ((double)residual[n * C + c] - mean[n]) * rstd[n];
            gamma_sum += dnormed[n * C + c] * x;
            beta_sum += dnormed[n * C + c];
        }
        dgamma[c] = (float)gamma_sum;
        dbeta[c] = (float)beta_sum;
    }
}

void ref_normalize_forward(struct kernels *k, float *out, float *inverse, const float *in,
                           size_t N, size_t E)
{
    (void)k;
    for (size_t n = 0; n < N; n++) {
        double squares = 0;
        for (size_t e = 0; e < E; e++)
            squares += (double)in[n * E + e] * in[n * E + e];
        const double scale = 1 / fmax(sqrt(squares), 1e-12);
        for (size_t e = 0; e < E; e++)
            out[n * E + e] = (float)(in[n * E + e] * scale);
        inverse[n] = (float)scale;
    }
}

void ref_normalize_backward(struct kernels *k, float *din, const float *dout, const float *out,
                            const float *inverse, size_t N, size_t E)
{
    (void)k;
    for (size_t n = 0; n < N; n++) {
        double dot = 0;
        for (size_t e = 0; e < E; e++)
            dot += (double)out[n * E + e] * dout[n * E + e];
        for (size_t e = 0; e < E; e++)
            din[n * E + e] = (float)((dout[n * E + e] - out[n * E + e] * dot) * inverse[n]);
    }
}
