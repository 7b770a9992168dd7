/* cuda_timing.h - how long a way of doing a matrix product takes on the device, and whether it
 * gives the same bits every time. */
#ifndef KERNELS_CUDA_TIMING_H
#define KERNELS_CUDA_TIMING_H

#include "kernels/cuda/launch.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cuda_trial;

/* What is timed: puts args' product on the queue that the trial was opened for. */
typedef enum status cuda_timed_run(void *way, const struct matmul *args, struct error *error);

/* Prepares the timing of one product on its own operands; where a run adds to what is there,
 * results of the trial's own take it. The operands must live as long as the trial.
 *   result       the type of out
 *   flush_bytes  what to overwrite before each run, so that nothing of the operands is in the
 *                cache; without memory for it runs are timed as they come
 * NULL where memory is refused. */
struct cuda_trial *cuda_trial_open(const struct cuda_queue *q, const struct matmul *args,
                                   enum element result, size_t flush_bytes);
void cuda_trial_close(struct cuda_trial *trial); /* accepts NULL */

/* The median of a few runs, in milliseconds, after two untimed; < 0: it cannot be run, or not
 * twice with the same bits. Waits for the device. */
float cuda_trial_time(struct cuda_trial *trial, cuda_timed_run *run, void *way);

#ifdef __cplusplus
}
#endif

#endif
