/* cpu_product.h - matrix products of the cpu backend, by oneDNN: a cache of its primitives. */
#ifndef KERNELS_CPU_PRODUCT_H
#define KERNELS_CPU_PRODUCT_H

#include "kernels/kernels.h"

struct product_cache;

/* STATUS_UNAVAILABLE where oneDNN has no engine, STATUS_SYSTEM where memory is refused. */
enum status product_cache_open(struct product_cache **cache, struct error *error);
void product_cache_close(struct product_cache *cache); /* accepts NULL */

/* The product of `args`, with its bias or accumulated; no size is 0, and epilogue and a_sums
 * are not looked at. bf16_in: a and b are bfloat16, else float; bf16_out: so is out. oneDNN
 * sums in float. STATUS_UNAVAILABLE where it refuses, as it does bf16 on a processor without
 * AVX-512, STATUS_SYSTEM where memory is refused. */
enum status product_run(struct product_cache *cache, const struct matmul *args, bool bf16_in,
                        bool bf16_out, int threads, struct error *error);

/* Whether the processor multiplies bfloat16: by the instructions of AVX-512 BF16 or by AMX. */
bool product_has_bf16(void);

#endif
