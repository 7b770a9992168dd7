/* AdamW over a flat range: 28 bytes a parameter (read p, m, v, gradient; write p, m, v), so the
 * floor of a 150 M parameter model is 4.2 GB over the copy bandwidth.
 *
 * Ladder: v1, one pass, 16 bytes at a time. Not measured yet. */
#include "kernels/cuda/grid.h"

/* What does not depend on the element, computed once in double. */
struct adamw_factors {
    float beta1, beta2, one_minus_beta1, one_minus_beta2, gradient_scale;
    float decay;    /* 1 - lr * weight_decay */
    float m_factor; /* lr / (1 - beta1^step) */
    float v_factor; /* 1 / sqrt(1 - beta2^step) */
    float eps;
};

template <int W>
KERNEL(flat_threads) adamw_kernel(float *parameter, float *m, float *v, const float *gradient,
                                  size_t n, struct adamw_factors f)
{
    for (size_t i = flat_first(W); i < n; i += flat_step(W)) {
        float p[W], first[W], second[W], g[W];
        load<W>(p, parameter + i);
        load<W>(first, m + i);
        load<W>(second, v + i);
        load<W>(g, gradient + i);
        UNROLL
        for (int j = 0; j < W; j++) {
            g[j] *= f.gradient_scale;
            first[j] = f.beta1 * first[j] + f.one_minus_beta1 * g[j];
            second[j] = f.beta2 * second[j] + f.one_minus_beta2 * g[j] * g[j];
            p[j] = p[j] * f.decay -
                   f.m_factor * first[j] / (sqrtf(second[j]) * f.v_factor + f.eps);
        }
        store<W>(parameter + i, p);
        store<W>(m + i, first);
        store<W>(v + i, second);
    }
}

void cuda_adamw(const struct cuda_queue *q, float *parameter, float *m, float *v,
                const float *gradient, size_t n, const struct adamw *args)
{
    const double step = (double)args->step;
    struct adamw_factors f;
    f.beta1 = args->beta1;
    f.beta2 = args->beta2;
    f.one_minus_beta1 = (float)(1 - (double)args->beta1);
    f.one_minus_beta2 = (float)(1 - (double)args->beta2);
    f.gradient_scale = args->gradient_scale;
    f.decay = (float)(1 - (double)args->lr * args->weight_decay);
    f.m_factor = (float)(args->lr / (1 - pow(args->beta1, step)));
    f.v_factor = (float)(1 / sqrt(1 - pow(args->beta2, step)));
    f.eps = args->eps;

    const int W = wide<float>::count;
    const size_t body = aligned_wide(gradient) ? wide_part<float>(n, parameter, m, v) : 0;
    const size_t tail = n - body;
    if (body > 0)
        LAUNCH(adamw_kernel<W>, flat_blocks(q, body / W), 1, flat_threads, 0, q->stream,
               parameter, m, v, gradient, body, f);
    if (tail > 0)
        LAUNCH(adamw_kernel<1>, flat_blocks(q, tail), 1, flat_threads, 0, q->stream,
               parameter + body, m + body, v + body, gradient + body, tail, f);
}
