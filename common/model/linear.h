/* linear.h - a linear layer y[N,out] = x[N,in] weight[out,in]^T + bias[out], in terms of
 * matmul. */
#ifndef MODEL_LINEAR_H
#define MODEL_LINEAR_H

#include <stddef.h>

#include "kernels/kernels.h"

/* y =; bias may be NULL. */
static inline void linear_forward(struct kernels *k, void *y, const void *x, const void *weight,
                                  const float *bias, size_t N, size_t in, size_t out)
{
    k->matmul(k, &(struct matmul){.rows = N,
                                  .columns = out,
                                  .inner = in,
                                  .a = x,
                                  .b = weight,
                                  .b_transposed = true,
                                  .bias = bias,
                                  .out = y});
}

/* dweight +=, dbias +=; dbias NULL: there is none. */
static inline void linear_backward_weight(struct kernels *k, float *dweight, float *dbias,
                                          const void *dy, const void *x, size_t N, size_t in,
                                          size_t out)
{
    k->matmul(k, &(struct matmul){.rows = out,
                                  .columns = in,
                                  .inner = N,
                                  .a = dy,
                                  .a_transposed = true,
                                  .b = x,
                                  .out = dweight,
                                  .accumulate = true,
                                  .a_sums = dbias});
}

/* dx =. */
static inline void linear_backward_input(struct kernels *k, void *dx, const void *dy,
                                         const void *weight, size_t N, size_t in, size_t out)
{
    k->matmul(k, &(struct matmul){
                     .rows = N, .columns = in, .inner = out, .a = dy, .b = weight, .out = dx});
}

/* Both. */
static inline void linear_backward(struct kernels *k, void *dx, float *dweight, float *dbias,
                                   const void *dy, const void *x, const void *weight, size_t N,
                                   size_t in, size_t out)
{
    linear_backward_weight(k, dweight, dbias, dy, x, N, in, out);
    linear_backward_input(k, dx, dy, weight, N, in, out);
}

#endif
