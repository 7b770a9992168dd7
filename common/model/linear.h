/* linear.h - a linear layer y[N,out] = x[N,in] weight[out,in]^T + bias[out], in terms of
 * matmul. */
#ifndef MODEL_LINEAR_H
#define MODEL_LINEAR_H

#include <stddef.h>

#include "kernels/kernels.h"

/* y =; bias may be NULL. */
static inline void linear_forward(struct kernels *k, float *y, const float *x,
                                  const float *weight, const float *bias, size_t N, size_t in,
                                  size_t out)
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

/* dx =, dweight +=, dbias +=; dx NULL: not wanted; dbias NULL: there is none. */
static inline void linear_backward(struct kernels *k, float *dx, float *dweight, float *dbias,
                                   const float *dy, const float *x, const float *weight,
                                   size_t N, size_t in, size_t out)
{
    k->matmul(k, &(struct matmul){.rows = out,
                                  .columns = in,
                                  .inner = N,
                                  .a = dy,
                                  .a_transposed = true,
                                  .b = x,
                                  .out = dweight,
                                  .accumulate = true});
    if (dbias != NULL)
        k->sum_rows(k, dbias, dy, N, out);
    if (dx != NULL)
        k->matmul(k, &(struct matmul){.rows = N,
                                      .columns = in,
                                      .inner = out,
                                      .a = dy,
                                      .b = weight,
                                      .out = dx});
}

#endif
