/* device.h - the one header through which kernels see the device.
 *
 * Under nvcc the names below are CUDA's own instructions. Any other compiler gets them from
 * emulator.h (tests/emulator), which runs the same kernels on a processor, one fiber for each
 * thread, with the fragment layouts that the PTX manual documents. A kernel therefore uses
 * nothing of CUDA but this page.
 *
 * Kernels are one-dimensional in threads, whole warps, and one- or two-dimensional in blocks.
 * All shared memory is dynamic: one piece, laid out by the kernel. All 32 lanes of a warp take
 * part in every warp operation. */
#ifndef KERNELS_CUDA_DEVICE_H
#define KERNELS_CUDA_DEVICE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

enum { warp_size = 32 };

/* bfloat16: the upper half of a float. */
struct bf16 {
    uint16_t bits;
};

/* What one thread moves in one access at best: 16 bytes, aligned to 16. */
struct alignas(16) wide_words {
    uint32_t word[4];
};

/* UNROLL before a loop: which registers it indexes is then known when it is compiled. */
#if defined(__CUDACC__)

#define UNROLL _Pragma("unroll")
#define UNROLL_TWICE _Pragma("unroll 2")

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#define DEVICE static __device__ __forceinline__
#define BOTH_SIDES static inline __host__ __device__
/* At least one block: left to itself the compiler aims at more, and spills to reach it. */
#define KERNEL(threads) static __global__ void __launch_bounds__(threads, 1)

/* Declares `name`, a pointer to the block's shared memory, aligned to 16 bytes. */
#define SHARED_MEMORY(type, name)           \
    extern __shared__ wide_words shared_[]; \
    type *const name = (type *)shared_

/* More than 48 KiB of shared memory must be asked for, kernel by kernel. */
#define LAUNCH(kernel, blocks_x, blocks_y, threads, shared_bytes, stream, ...)                \
    do {                                                                                      \
        if ((shared_bytes) > 48 * 1024)                                                       \
            (void)cudaFuncSetAttribute((const void *)(kernel),                                \
                                       cudaFuncAttributeMaxDynamicSharedMemorySize,           \
                                       (int)(shared_bytes));                                  \
        (kernel)<<<dim3((unsigned)(blocks_x), (unsigned)(blocks_y)), (threads),               \
                   (shared_bytes), (cudaStream_t)(stream)>>>(__VA_ARGS__);                    \
    } while (0)

DEVICE unsigned thread_index(void) { return threadIdx.x; }
DEVICE unsigned thread_count(void) { return blockDim.x; }
DEVICE unsigned block_index(void) { return blockIdx.x; }
DEVICE unsigned block_count(void) { return gridDim.x; }
DEVICE unsigned block_index_y(void) { return blockIdx.y; }
DEVICE unsigned block_count_y(void) { return gridDim.y; }

/* Barriers: they order the shared memory accesses of the block, or of the warp. */
#define block_sync() __syncthreads()
#define warp_sync() __syncwarp()

/* The value of lane (own lane ^ mask). */
DEVICE float warp_exchange(float x, int mask) { return __shfl_xor_sync(~0u, x, mask); }
DEVICE double warp_exchange(double x, int mask) { return __shfl_xor_sync(~0u, x, mask); }
DEVICE uint32_t warp_exchange(uint32_t x, int mask) { return __shfl_xor_sync(~0u, x, mask); }

DEVICE uint16_t float_to_bf16_bits(float x)
{
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

DEVICE float bits_to_float(uint32_t bits) { return __uint_as_float(bits); }
DEVICE uint32_t float_to_bits(float x) { return __float_as_uint(x); }

/* The normal distribution; accurate in both tails. */
DEVICE float normal_cdf(float x) { return normcdff(x); }

/* 2^x to 2 units in the last place; results below 2^-126 are 0. */
DEVICE float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE wide_words load_wide(const void *from)
{
    const uint4 v = *(const uint4 *)from;
    return {{v.x, v.y, v.z, v.w}};
}

DEVICE void store_wide(void *to, wide_words v)
{
    *(uint4 *)to = make_uint4(v.word[0], v.word[1], v.word[2], v.word[3]);
}

/* Half of that, aligned to 8. */
DEVICE void store_half_wide(void *to, uint32_t first, uint32_t second)
{
    *(uint2 *)to = make_uint2(first, second);
}

/* ---- matrix instructions, for a whole warp; sm_80 and later ---- */

DEVICE unsigned shared_address(const void *shared)
{
    return (unsigned)__cvta_generic_to_shared(shared);
}

/* Four 8 x 8 matrices of bf16 from shared memory: lane 8i + r brings the address of row r of
 * matrix i, 16 bytes aligned to 16; out[i] is matrix i's elements (lane / 4, 2 (lane % 4)) and
 * the one to its right. */
DEVICE void load_matrices(uint32_t out[4], const bf16 *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* The same of the transposed matrices: elements (2 (lane % 4), lane / 4) and the one below. */
DEVICE void load_matrices_transposed(uint32_t out[4], const bf16 *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* sum[16,8] += a[16,16] b[16,8], bf16 products, fp32 sums. With g = lane / 4, t = lane % 4:
 *   a[0]: row g, columns 2t, 2t+1     a[1]: row g+8     a[2], a[3]: the same, columns + 8
 *   b[0]: rows 2t, 2t+1, column g     b[1]: rows + 8
 *   sum[0], sum[1]: row g, columns 2t, 2t+1             sum[2], sum[3]: row g+8 */
DEVICE void multiply_tile(float sum[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Starts a copy of 16 bytes to shared memory, which is there for this thread after
 * copy_async_wait, and for the block after a barrier beyond that. */
DEVICE void copy_async(void *shared, const void *global)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)),
                 "l"(global)
                 : "memory");
}

DEVICE void copy_async_wait(void)
{
    asm volatile("cp.async.wait_all;" ::: "memory");
}

#else
#define UNROLL
#define UNROLL_TWICE
#include "emulator.h"
#endif

/* ---- made of the above ---- */

DEVICE unsigned lane_index(void) { return thread_index() % warp_size; }
DEVICE unsigned warp_index(void) { return thread_index() / warp_size; }

/* The sum, or maximum, over the warp, with the same bits in every lane: at each step both
 * partners add the same two numbers. NaN: the sum keeps it, the maximum drops it. */
template <typename T> DEVICE T warp_sum(T x)
{
    UNROLL
    for (int mask = warp_size / 2; mask > 0; mask /= 2)
        x += warp_exchange(x, mask);
    return x;
}

DEVICE float warp_max(float x)
{
    UNROLL
    for (int mask = warp_size / 2; mask > 0; mask /= 2)
        x = fmaxf(x, warp_exchange(x, mask));
    return x;
}

/* Elements are float or bf16 in memory and float in registers. */
DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return bits_to_float((uint32_t)x.bits << 16); }
DEVICE void from_float(float *to, float x) { *to = x; }
DEVICE void from_float(bf16 *to, float x) { to->bits = float_to_bf16_bits(x); }

/* Two values as two bf16 in one register, the first in the lower half. */
DEVICE uint32_t pack_bf16(float first, float second)
{
    return (uint32_t)float_to_bf16_bits(first) | (uint32_t)float_to_bf16_bits(second) << 16;
}

/* How many elements make 16 bytes. */
template <typename T> struct wide {
    static const int count = 16 / sizeof(T);
};

DEVICE void unpack_wide(float out[4], wide_words v, const float *)
{
    UNROLL
    for (int i = 0; i < 4; i++)
        out[i] = bits_to_float(v.word[i]);
}

DEVICE void unpack_wide(float out[8], wide_words v, const bf16 *)
{
    UNROLL
    for (int i = 0; i < 4; i++) {
        out[2 * i] = bits_to_float(v.word[i] << 16);
        out[2 * i + 1] = bits_to_float(v.word[i] & 0xffff0000u);
    }
}

DEVICE wide_words pack_wide(const float in[4], const float *)
{
    return {{float_to_bits(in[0]), float_to_bits(in[1]), float_to_bits(in[2]),
             float_to_bits(in[3])}};
}

DEVICE wide_words pack_wide(const float in[8], const bf16 *)
{
    return {{pack_bf16(in[0], in[1]), pack_bf16(in[2], in[3]), pack_bf16(in[4], in[5]),
             pack_bf16(in[6], in[7])}};
}

/* W elements, 1 or a multiple of wide<T>::count; for the latter `from` and `to` are aligned to
 * 16 bytes. store also takes half of wide<bf16>::count, aligned to 8. */
template <int W, typename T> DEVICE void load(float out[W], const T *from)
{
    if constexpr (W == 1) {
        out[0] = to_float(*from);
    } else {
        UNROLL
        for (int i = 0; i < W; i += wide<T>::count)
            unpack_wide(out + i, load_wide(from + i), from);
    }
}

template <int W, typename T> DEVICE void store(T *to, const float in[W])
{
    if constexpr (W == 1) {
        from_float(to, in[0]);
    } else if constexpr (W < wide<T>::count) {
        store_half_wide(to, pack_bf16(in[0], in[1]), pack_bf16(in[2], in[3]));
    } else {
        UNROLL
        for (int i = 0; i < W; i += wide<T>::count)
            store_wide(to + i, pack_wide(in + i, to));
    }
}

#endif
