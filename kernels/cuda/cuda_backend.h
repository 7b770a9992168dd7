/* cuda_backend.h - what the shared object of the CUDA backend offers to the loader. */
#ifndef KERNELS_CUDA_BACKEND_H
#define KERNELS_CUDA_BACKEND_H

#ifdef __cplusplus
extern "C" {
#endif

#include <stddef.h>

#include "kernels/kernels.h"

struct cuda_queue;

/* The name under which the loader looks for cuda_open. */
#define CUDA_OPEN_SYMBOL "clipipe_cuda_open"

/* Opens the first device that CUDA shows (CUDA_VISIBLE_DEVICES chooses). kernels_bytes: the
 * caller's sizeof(struct kernels); another one means a shared object of another build, which is
 * refused. STATUS_UNAVAILABLE where there is no driver, no device or one older than sm_80,
 * STATUS_SYSTEM where memory is refused. kernels_close frees it. */
typedef enum status cuda_open_function(struct kernels **k, enum precision precision,
                                       size_t kernels_bytes, struct error *error);
cuda_open_function clipipe_cuda_open __attribute__((visibility("default")));

/* The queue of an open cuda backend, for tests that call launch.h. */
const struct cuda_queue *cuda_backend_queue(const struct kernels *k);

#ifdef __cplusplus
}
#endif

#endif
