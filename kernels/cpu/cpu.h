/* cpu.h - the backend for processors: oneDNN for matrix products, vector kernels of our own for
 * the rest, OpenMP threads.
 *
 * The environment variable CLIPIPE_CPU_ISA = baseline, avx2 or avx512 limits the vector kernels
 * to an instruction set (oneDNN's own variable is ONEDNN_MAX_CPU_ISA).
 *
 * CLIPIPE_CPU_BF16 = onednn or convert says who multiplies bf16 matrices: oneDNN as they are,
 * or its fp32 products after a conversion. The default is oneDNN where the processor has the
 * instructions. */
#ifndef KERNELS_CPU_H
#define KERNELS_CPU_H

#include "base/error.h"
#include "kernels/kernels.h"

/* threads: 0 means one per processor. The number becomes OpenMP's for the calling thread, which
 * oneDNN reads too. STATUS_USAGE for a CLIPIPE_CPU_ISA or CLIPIPE_CPU_BF16 that is none of the
 * above or a negative number of threads, STATUS_UNAVAILABLE where the processor lacks that
 * instruction set, STATUS_SYSTEM where memory or oneDNN is refused. kernels_close frees it.
 *
 * Results are the same bits in every run with the same number of threads and the same
 * instruction set. */
enum status cpu_open(struct kernels **k, enum precision precision, int threads,
                     struct error *error);

#endif
