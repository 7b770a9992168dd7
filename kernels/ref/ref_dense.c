#include <math.h>

#include "kernels/ref/ref_operations.h"

void ref_round(struct kernels *k, void *out, const float *in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ref_store(k, out, i, in[i]);
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

/* What becomes of one value of the product, bias included. It is a float, so that in fp32 an
 * activation that is computed again from `before` has the same bits. */
static void matmul_epilogue(struct kernels *k, const struct matmul *args, size_t at,
                            float product)
{
    if (args->epilogue == EPILOGUE_ACTIVATION) {
        if (args->before != NULL)
            ref_store(k, args->before, at, product);
        ref_store(k, args->out, at, activation(product, args->activation));
    } else if (args->epilogue == EPILOGUE_ACTIVATION_BACKWARD) {
        const double before = ref_load(k, args->before, at);
        ref_store(k, args->out, at, product * activation_derivative(before, args->activation));
    } else if (args->accumulate) {
        ((float *)args->out)[at] = product;
    } else {
        ref_store(k, args->out, at, product);
    }
}

/* The element (r,i) of op(a) is value r * a_row + i * a_inner of a. */
static void matmul_sum_a(struct kernels *k, const struct matmul *args, size_t a_row,
                         size_t a_inner)
{
    for (size_t r = 0; r < args->rows; r++) {
        double sum = args->a_sums[r];
        for (size_t i = 0; i < args->inner; i++)
            sum += ref_load(k, args->a, r * a_row + i * a_inner);
        args->a_sums[r] = (float)sum;
    }
}

void ref_matmul(struct kernels *k, const struct matmul *args)
{
    const size_t a_row = args->a_transposed ? 1 : args->inner;
    const size_t a_inner = args->a_transposed ? args->rows : 1;
    const size_t b_inner = args->b_transposed ? 1 : args->columns;
    const size_t b_column = args->b_transposed ? args->inner : 1;

    for (size_t r = 0; r < args->rows; r++) {
        for (size_t c = 0; c < args->columns; c++) {
            const size_t at = r * args->columns + c;
            double sum = args->accumulate ? ((const float *)args->out)[at] : 0;
            if (args->bias != NULL)
                sum += args->bias[c];
            for (size_t i = 0; i < args->inner; i++)
                sum += ref_load(k, args->a, r * a_row + i * a_inner) *
                       ref_load(k, args->b, i * b_inner + c * b_column);
            matmul_epilogue(k, args, at, (float)sum);
        }
    }
    if (args->accumulate && args->a_sums != NULL)
        matmul_sum_a(k, args, a_row, a_inner);
}

void ref_sum_rows(struct kernels *k, float *out, const void *in, size_t N, size_t C)
{
    for (size_t c = 0; c < C; c++) {
        double sum = out[c];
        for (size_t n = 0; n < N; n++)
            sum += ref_load(k, in, n * C + c);
        out[c] = (float)sum;
    }
}

void ref_add(struct kernels *k, void *out, const void *a, const void *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ref_store(k, out, i, ref_load(k, a, i) + ref_load(k, b, i));
}

void ref_activation_forward(struct kernels *k, void *out, const void *in, size_t n,
                            enum activation kind)
{
    for (size_t i = 0; i < n; i++)
        ref_store(k, out, i, activation(ref_load(k, in, i), kind));
}

void ref_activation_backward(struct kernels *k, void *din, const void *dout, const void *in,
                             size_t n, enum activation kind)
{
    for (size_t i = 0; i < n; i++)
        ref_store(k, din, i,
                  ref_load(k, dout, i) * activation_derivative(ref_load(k, in, i), kind));
}

void ref_layer_scale_forward(struct kernels *k, void *out, const void *in, const float *gamma,
                             size_t N, size_t C)
{
    for (size_t i = 0; i < N * C; i++)
        ref_store(k, out, i, ref_load(k, in, i) * gamma[i % C]);
}

void ref_layer_scale_backward(struct kernels *k, void *din, float *dgamma, const void *dout,
                              const void *in, const float *gamma, size_t N, size_t C)
{
    for (size_t c = 0; c < C; c++) {
        double sum = dgamma[c];
        for (size_t n = 0; n < N; n++) {
            const double d = ref_load(k, dout, n * C + c);
            sum += d * ref_load(k, in, n * C + c);
            ref_store(k, din, n * C + c, d * gamma[c]);
        }
        dgamma[c] = (float)sum;
    }
}
