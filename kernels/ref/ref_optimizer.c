#include <math.h>

#include "kernels/ref/ref_operations.h"

void ref_adamw(struct kernels *k, float *parameter, float *m, float *v, const float *gradient,
               size_t n, const struct adamw *args)
{
    (void)k;
    const double m_correction = 1 - pow(args->beta1, (double)args->step);
    const double v_correction = 1 - pow(args->beta2, (double)args->step);
    for (size_t i = 0; i < n; i++) {
        const double g = (double)args->gradient_scale * gradient[i];
        const double first = args->beta1 * (double)m[i] + (1 - (double)args->beta1) * g;
        const double second = args->beta2 * (double)v[i] + (1 - (double)args->beta2) * g * g;
        double p = parameter[i];
        p -= (double)args->lr * args->weight_decay * p;
        p -= args->lr * (first / m_correction) / (sqrt(second / v_correction) + args->eps);
        m[i] = (float)first;
        v[i] = (float)second;
        parameter[i] = (float)p;
    }
}

double ref_sum_squares(struct kernels *k, const float *in, size_t n)
{
    (void)k;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)in[i] * in[i];
    return sum;
}

void ref_clamp(struct kernels *k, float *value, size_t n, float low, float high)
{
    (void)k;
    for (size_t i = 0; i < n; i++) {
        if (value[i] < low) /* written so that NaN stays, to be seen */
            value[i] = low;
        else if (value[i] > high)
            value[i] = high;
    }
}

void ref_move_average(struct kernels *k, float *average, const float *value, size_t n,
                      float weight)
{
    (void)k;
    for (size_t i = 0; i < n; i++)
        average[i] = (float)(average[i] + weight * ((double)value[i] - average[i]));
}
