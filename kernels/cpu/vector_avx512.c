/* The vector kernels for AVX-512 (F and the 256- and 128-bit forms of VL, DQ): 512-bit vectors,
 * with masks for the ends of rows. */
#include "kernels/cpu/vector.h"

#if defined(__x86_64__)

#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx2,fma")
#endif

#define VECTOR_TABLE vector_avx512
#define VECTOR_ISA "avx512"
#define LANES 16
#define GEMM_ROWS 8

#define VECTOR_INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(64)));
typedef int32_t vi __attribute__((vector_size(64)));

VECTOR_INLINE vf v_splat(float x)
{
    return _mm512_set1_ps(x);
}

VECTOR_INLINE vf v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

VECTOR_INLINE void v_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}

/* n below 16. */
VECTOR_INLINE __mmask16 v_first(size_t n)
{
    return (__mmask16)((1u << n) - 1);
}

VECTOR_INLINE vf v_load_first(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(v_first(n), p);
}

VECTOR_INLINE void v_store_first(float *p, vf v, size_t n)
{
    _mm512_mask_storeu_ps(p, v_first(n), v);
}

/* a < b ? x : y. False where a or b is NaN. */
VECTOR_INLINE vf v_where_less(vf a, vf b, vf x, vf y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}

/* The first n lanes of v, the rest of other. */
VECTOR_INLINE vf v_first_or(vf v, size_t n, vf other)
{
    return _mm512_mask_blend_ps(v_first(n), other, v);
}

VECTOR_INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* The limit where x passes it; NaN in x stays: the instruction gives its second operand where
 * one is NaN. */
VECTOR_INLINE vf v_at_least(vf x, vf limit)
{
    return _mm512_max_ps(limit, x);
}

VECTOR_INLINE vf v_at_most(vf x, vf limit)
{
    return _mm512_min_ps(limit, x);
}

VECTOR_INLINE vf v_sqrt(vf v)
{
    return _mm512_sqrt_ps(v);
}

VECTOR_INLINE float v_sum(vf v)
{
    return _mm512_reduce_add_ps(v);
}

VECTOR_INLINE float v_maximum(vf v)
{
    return _mm512_reduce_max_ps(v);
}

#include "kernels/cpu/vector_kernels.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
