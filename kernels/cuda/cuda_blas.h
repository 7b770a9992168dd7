/* cuda_blas.h - matrix products by cuBLASLt: which algorithms it has for a product, and one run
 * of one of them.
 *
 * How much of what goes with a product (bias, activation, sums) an algorithm does itself is
 * said by its plan; kernels of ours do the rest, in the same run. Algorithms are those that
 * reduce in a fixed order and in fp32, so that one of them gives the same bits every time.
 *
 * One stream and one thread at a time: scratch is shared by all runs. */
#ifndef KERNELS_CUDA_BLAS_H
#define KERNELS_CUDA_BLAS_H

#include <cublasLt.h>

#include "kernels/cuda/cuda_product_key.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    blas_workspace_bytes = 64 * 1024 * 1024,
    blas_found_most = 8, /* algorithms that can be asked for at once */
};

struct cuda_blas {
    cublasLtHandle_t handle;
    void *workspace; /* blas_workspace_bytes, for any one run on the stream */
    void *scratch;   /* grows */
    size_t scratch_bytes;
};

/* What cuBLASLt does beside the product. */
enum blas_fusion { FUSED_BIAS, FUSED_ALL };

/* The bias as it gets it: none, as it is, rounded to the result's type, or ours to add. */
enum blas_bias { BIAS_NONE, BIAS_GIVEN, BIAS_ROUNDED, BIAS_OURS };

struct blas_plan {
    enum blas_fusion fusion;
    enum blas_bias bias;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, out;
    cublasLtMatmulAlgo_t algorithm;
};

/* On the current device. STATUS_UNAVAILABLE: the library does not start; STATUS_SYSTEM: memory
 * is refused. What an open that failed has made, close frees; both need a zeroed struct. */
enum status cuda_blas_open(struct cuda_blas *blas, struct error *error);
void cuda_blas_close(struct cuda_blas *blas);

/* Fills a zeroed plan with algorithm number *way, counted from 0, of the `most` (up to
 * blas_found_most) that the heuristics name for a fusion, the one thought best first; false
 * where there are not so many, with *way lowered by how many there are. */
bool blas_plan_take(const struct cuda_blas *blas, struct blas_plan *plan,
                    const struct product_key *key, enum blas_fusion fusion, int most, int *way);
void blas_plan_close(struct blas_plan *plan); /* accepts a zeroed one */

/* A plan as a line, for the file of plans, and back into a zeroed plan: false, and the plan is
 * closed, where the line is none of these or the algorithm does not serve here. Its words mean
 * something to the same version of the library alone. */
void blas_plan_text(const struct blas_plan *plan, char text[256]);
bool blas_plan_parse(const struct cuda_blas *blas, struct blas_plan *plan,
                     const struct product_key *key, const char *text);

/* Puts a product, whose key the plan was made for, on the queue's stream. Scratch may have to
 * grow, which waits for the device. STATUS_SYSTEM where the library or memory refuses. */
enum status blas_plan_run(struct cuda_blas *blas, const struct cuda_queue *q,
                          const struct blas_plan *plan, const struct product_key *key,
                          const struct matmul *args, struct error *error);

#ifdef __cplusplus
}
#endif

#endif
