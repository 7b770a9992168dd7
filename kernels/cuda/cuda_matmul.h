/* cuda_matmul.h - matrix products by cuBLASLt, behind an interface of three functions so that
 * the emulated backend can have others. */
#ifndef KERNELS_CUDA_MATMUL_H
#define KERNELS_CUDA_MATMUL_H

#include "kernels/cuda/launch.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cuda_matmul;

/* Creates the library's handle and 32 MiB of workspace on the current device. */
enum status cuda_matmul_open(struct cuda_matmul **m, struct error *error);
void cuda_matmul_close(struct cuda_matmul *m); /* accepts NULL */

/* The product of struct matmul, fp32 (CUBLAS_COMPUTE_32F: no TF32). The same shape and
 * alignment get the same algorithm as long as `m` is open. inner > 0, rows and columns > 0. */
enum status cuda_matmul_run(struct cuda_matmul *m, const struct cuda_queue *q,
                            const struct matmul *args, struct error *error);

#ifdef __cplusplus
}
#endif

#endif
