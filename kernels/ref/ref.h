/* ref.h - the reference backend: plain C, one thread, sums in double.
 *
 * It is the readable definition of every operation in kernels.h and what the other backends
 * are tested against; it is not meant to be fast. `allocate` is host memory.
 *
 * Under PRECISION_AMP_BF16 an operation gives what it gives under PRECISION_FP32 for the same
 * values, each result rounded once more when it is written. */
#ifndef KERNELS_REF_H
#define KERNELS_REF_H

#include "base/error.h"
#include "kernels/kernels.h"


/* `threads` is accepted for the sake of one signature and ignored. STATUS_SYSTEM where memory
 * is refused. kernels_close frees it. */
enum status ref_open(struct kernels **k, enum precision precision, int threads,
                     struct error *error);

#endif
