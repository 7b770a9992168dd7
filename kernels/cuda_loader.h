/* cuda_loader.h - the CUDA backend, a shared object that is opened at run time, so that one
 * build serves machines with and without a GPU. */
#ifndef KERNELS_CUDA_LOADER_H
#define KERNELS_CUDA_LOADER_H

#include <stdbool.h>

#include "base/error.h"
#include "kernels/kernels.h"

/* Whether this machine shows a GPU to the process, whatever became of driver and library. */
bool cuda_is_expected(void);

/* Looks for libclipipe-cuda.so in ../lib beside the running program's directory, then where the
 * dynamic linker looks. `threads` is not used. STATUS_UNAVAILABLE where there is none, no
 * driver or no device. It stays open until the process ends. */
enum status cuda_load(struct kernels **k, enum precision precision, int threads,
                      struct error *error);

#endif
