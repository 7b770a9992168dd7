/* cpu.h - the backend for processors: oneDNN for matrix products, vector kernels of our own for
 * the rest, OpenMP threads.
 *
 * The environment variable CLIPIPE_CPU_ISA = baseline, avx2 or avx512 limits the vector kernels
 * to an instruction set (oneDNN's own variable is ONEDNN_MAX_CPU_ISA). */
#ifndef KERNELS_CPU_H
#define KERNELS_CPU_H

#include "base/error.h"

struct kernels;

/* threads: 0 means one per processor. The number becomes OpenMP's for the calling thread, which
 * oneDNN reads too. STATUS_USAGE for a CLIPIPE_CPU_ISA that is not one of the three or a
 * negative number of threads, STATUS_UNAVAILABLE where the processor lacks that instruction
 * set, STATUS_SYSTEM where memory or oneDNN is refused. kernels_close frees it.
 *
 * Results are the same bits in every run with the same number of threads and the same
 * instruction set. */
enum status cpu_open(struct kernels **k, int threads, struct error *error);

#endif
