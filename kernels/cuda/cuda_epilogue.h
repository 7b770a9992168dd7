/* cuda_epilogue.h - what is done to a matrix product, or its operands, where the library does
 * not do it: launchers with the rules of launch.h. Activations are cuda_activation_*. */
#ifndef KERNELS_CUDA_EPILOGUE_H
#define KERNELS_CUDA_EPILOGUE_H

#include "kernels/cuda/launch.h"

#ifdef __cplusplus
extern "C" {
#endif

/* inout[rows,columns] [type] += bias[columns]. */
void cuda_add_bias(const struct cuda_queue *q, enum element type, void *inout,
                   const float *bias, size_t rows, size_t columns);

/* out[rows] += sum over columns of in[rows,columns] [type], in an order that depends on
 * `columns` alone. */
void cuda_sum_columns(const struct cuda_queue *q, enum element type, float *out, const void *in,
                      size_t rows, size_t columns);

#ifdef __cplusplus
}
#endif

#endif
