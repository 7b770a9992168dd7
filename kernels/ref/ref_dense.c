#include <math.h>

#include "kernels/ref/ref_operations.h"

void ref_matmul(struct kernels *k, const struct matmul *args)
{
    (void)k;
    const size_t a_row = args->a_transposed ? 1 : args->inner;
    const size_t a_inner = args->a_transposed ? args->rows : 1;
    const size_t b_inner = args->b_transposed ? 1 : args->columns;
    const size_t b_column = args->b_transposed ? args->inner : 1;

    for (size_t r = 0; r < args->rows; r++) {
        for (size_t c = 0; c < args->columns; c++) {
            float *out = &args->out[r * args->columns + c];
            double sum = args->accumulate ? *out : 0;
            if (args->bias != NULL)
                sum += args->bias[c];
            for (size_t i = 0; i < args->inner; i++)
                sum += (double)args->a[r * a_row + i * a_inner] *
                       args->b[i * b_inner + c * b_column];
            *out = (float)sum;
        }
    }
}

void ref_sum_rows(struct kernels *k, float *out, const float *in, size_t N, size_t C)
{
    (void)k;
    for (size_t c = 0; c < C; c++) {
        double sum = out[c];
        for (size_t n = 0; n < N; n++)
            sum += in[n * C + c];
        out[c] = (float)sum;
    }
}

void ref_add(struct kernels *k, float *out, const float *a, const float *b, size_t n)
{
    (void)k;
    for (size_t i = 0; i < n; i++)
        out[i] = a[i] + b[i];
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* The integral of the normal density up to x; erfc keeps its relative accuracy where the
 * textbook (1 + erf) / 2 cancels. */
static double normal_cdf(double x)
{
    return erfc(-x * sqrt(0.5)) / 2;
}

static double normal_density(double x)
{
    return exp(-x * x / 2) / sqrt(2 * M_PI);
}

/* (1 + tanh(u)) / 2 is sigmoid(2u), which does not cancel for negative u. */
static double gelu_tanh_argument(double x)
{
    return 2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
}

static double activation(double x, enum activation kind)
{
    switch (kind) {
    case ACTIVATION_GELU:
        return x * normal_cdf(x);
    case ACTIVATION_GELU_TANH:
        return x * sigmoid(gelu_tanh_argument(x));
    case ACTIVATION_QUICK_GELU:
        return x * sigmoid(1.702 * x);
    }
    return NAN;
}

/* (x s(u(x)))' = s + x s (1 - s) u', with s = sigmoid. */
static double activation_derivative(double x, enum activation kind)
{
    double s;
    switch (kind) {
    case ACTIVATION_GELU:
        return normal_cdf(x) + x * normal_density(x);
    case ACTIVATION_GELU_TANH:
        s = sigmoid(gelu_tanh_argument(x));
        return s + x * s * (1 - s) * 2 * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
    case ACTIVATION_QUICK_GELU:
        s = sigmoid(1.702 * x);
        return s + x * s * (1 - s) * 1.702;
    }
    return NAN;
}

void ref_activation_forward(struct kernels *k, float *out, const float *in, size_t n,
                            enum activation kind)
{
    (void)k;
    for (size_t i = 0; i < n; i++)
        out[i] = (float)activation(in[i], kind);
}

void ref_activation_backward(struct kernels *k, float *din, const float *dout, const float *in,
                             size_t n, enum activation kind)
{
    (void)k;
    for (size_t i = 0; i < n; i++)
        din[i] = (float)(dout[i] * activation_derivative(in[i], kind));
}

void ref_layer_scale_forward(struct kernels *k, float *out, const float *in, const float *gamma,
                             size_t N, size_t C)
{
    (void)k;
    for (size_t i = 0; i < N * C; i++)
        out[i] = in[i] * gamma[i % C];
}

void ref_layer_scale_backward(struct kernels *k, float *din, float *dgamma, const float *dout,
                              const float *in, const float *gamma, size_t N, size_t C)
{
    (void)k;
    for (size_t c = 0; c < C; c++) {
        double sum = dgamma[c];
        for (size_t n = 0; n < N; n++) {
            sum += (double)dout[n * C + c] * in[n * C + c];
            din[n * C + c] = dout[n * C + c] * gamma[c];
        }
        dgamma[c] = (float)sum;
    }
}
