/* cuda_matmul.h - matrix products by NVIDIA's libraries, behind an interface that the emulated
 * backend can give other insides.
 *
 * A product can be done in several ways: by an algorithm of cuBLASLt that adds the bias, the
 * epilogue and the sums itself, by one that leaves them to kernels of ours (cuda_epilogue.h),
 * by a graph of cuDNN (cuda_graph.h). The first call with a shape times them on its own
 * operands and keeps the fastest for good (cuda_plan.h says where); only ways that add in a
 * fixed order come into question, so that the same plan gives the same bits. fp32 operands take
 * no TF32 and no approximated activation. */
#ifndef KERNELS_CUDA_MATMUL_H
#define KERNELS_CUDA_MATMUL_H

#include "kernels/cuda/launch.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cuda_matmul;

/* Creates the library's handle and workspace on the current device, and reads the plans kept
 * for it. A damaged file of plans, or none, is no error. */
enum status cuda_matmul_open(struct cuda_matmul **m, struct error *error);
void cuda_matmul_close(struct cuda_matmul *m); /* accepts NULL */

/* All of struct matmul: bias, accumulate, a_sums, epilogues.
 *   operands  the type of a and b
 *   result    the type of out and before; with accumulate out is fp32 and this is not read
 * The two are the same but for fp32 results of bf16 operands, which may have no epilogue.
 * rows, columns, inner > 0. Sums of products are fp32 and so is what is done to them; but where
 * kernels of ours end a bf16 product they read it rounded, and a bias may be rounded to bf16
 * before it is added, as a bf16 linear layer of PyTorch does.
 * Scratch is the cache's own; a first call with a shape waits for the device, a later one not.
 * STATUS_SYSTEM where the library or memory refuses; nothing may then be read from out. */
enum status cuda_matmul_run(struct cuda_matmul *m, const struct cuda_queue *q,
                            enum element operands, enum element result,
                            const struct matmul *args, struct error *error);

/* For tests: runs the way numbered `way`, counted from 0, of those that the call above would
 * time, and waits for it. `name` gets what it is. STATUS_UNAVAILABLE: there are no more;
 * STATUS_SYSTEM: this one does not work here. */
enum status cuda_matmul_run_way(struct cuda_matmul *m, const struct cuda_queue *q,
                                enum element operands, enum element result,
                                const struct matmul *args, int way, char name[64],
                                struct error *error);

#ifdef __cplusplus
}
#endif

#endif
