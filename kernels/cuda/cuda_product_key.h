/* cuda_product_key.h - what the way to do a matrix product is chosen by: its shape, its types,
 * what is done beside it, and how its operands are aligned. Host code only. */
#ifndef KERNELS_CUDA_PRODUCT_KEY_H
#define KERNELS_CUDA_PRODUCT_KEY_H

#include "kernels/cuda/launch.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { wide_bytes = 16 }; /* alignment beyond this makes no kernel faster */

/* Compared as bytes: made by product_key_make, without holes. */
struct product_key {
    uint64_t rows, columns, inner;
    uint8_t operands, result; /* enum element */
    uint8_t a_transposed, b_transposed, bias, accumulate, a_sums, epilogue, activation, before;
    uint8_t align_a, align_b, align_out, align_bias;
    uint8_t unused[2];
};

/* operands, result: as in cuda_matmul_run. align_out is that of out and before together. */
struct product_key product_key_make(enum element operands, enum element result,
                                    const struct matmul *args);

/* The key as a line, for the file of plans. */
void product_key_text(const struct product_key *key, char text[256]);

size_t product_key_hash(const struct product_key *key);

#ifdef __cplusplus
}
#endif

#endif
