/* grid.h - how launchers and kernels split flat arrays. */
#ifndef KERNELS_CUDA_GRID_H
#define KERNELS_CUDA_GRID_H

#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"

enum { flat_threads = 256 };

BOTH_SIDES size_t divide_up(size_t n, size_t by)
{
    return (n + by - 1) / by;
}

static inline size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Blocks of flat_threads for n items: as many as run at once, each of which loops. */
static inline size_t flat_blocks(const struct cuda_queue *q, size_t n)
{
    const size_t resident = 8 * (size_t)q->multiprocessors;
    return smaller(divide_up(n, flat_threads), resident);
}

static inline bool aligned_wide(const void *a)
{
    return (uintptr_t)a % 16 == 0;
}

/* How many of n elements, from the first, can be moved 16 bytes at a time. */
template <typename T>
static inline size_t wide_part(size_t n, const void *a, const void *b, const void *c)
{
    const bool aligned = aligned_wide(a) && aligned_wide(b) && aligned_wide(c);
    return aligned ? n - n % (size_t)wide<T>::count : 0;
}

/* Whether rows of C can be moved 16 bytes at a time: the first is aligned, and all have whole
 * pieces. `b` and `c` may be NULL. */
template <typename T>
static inline bool wide_rows(size_t C, const void *a, const void *b, const void *c)
{
    return C % (size_t)wide<T>::count == 0 && aligned_wide(a) && aligned_wide(b) &&
           aligned_wide(c);
}

/* for (i = flat_first(W); i < n; i += flat_step(W)) goes through a kernel's share. */
DEVICE size_t flat_first(int W)
{
    return ((size_t)block_index() * thread_count() + thread_index()) * (size_t)W;
}

DEVICE size_t flat_step(int W)
{
    return (size_t)block_count() * thread_count() * (size_t)W;
}

#endif
