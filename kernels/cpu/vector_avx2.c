/* The vector kernels for AVX2 with fused multiply-add: 256-bit vectors. */
#include "kernels/cpu/vector.h"

#if defined(__x86_64__)

#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

#define VECTOR_TABLE vector_avx2
#define VECTOR_ISA "avx2"
#define LANES 8
#define GEMM_ROWS 4

#define VECTOR_INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(32)));
typedef int32_t vi __attribute__((vector_size(32)));

VECTOR_INLINE vf v_splat(float x)
{
    return _mm256_set1_ps(x);
}

VECTOR_INLINE vf v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

VECTOR_INLINE void v_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}

VECTOR_INLINE __m256i v_first(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

VECTOR_INLINE vf v_load_first(const float *p, size_t n)
{
    return _mm256_maskload_ps(p, v_first(n));
}

VECTOR_INLINE void v_store_first(float *p, vf v, size_t n)
{
    _mm256_maskstore_ps(p, v_first(n), v);
}

/* a < b ? x : y. False where a or b is NaN. */
VECTOR_INLINE vf v_where_less(vf a, vf b, vf x, vf y)
{
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

/* The first n lanes of v, the rest of other. */
VECTOR_INLINE vf v_first_or(vf v, size_t n, vf other)
{
    return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(v_first(n)));
}

VECTOR_INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

/* The limit where x passes it; NaN in x stays: the instruction gives its second operand where
 * one is NaN. */
VECTOR_INLINE vf v_at_least(vf x, vf limit)
{
    return _mm256_max_ps(limit, x);
}

VECTOR_INLINE vf v_at_most(vf x, vf limit)
{
    return _mm256_min_ps(limit, x);
}

VECTOR_INLINE vf v_sqrt(vf v)
{
    return _mm256_sqrt_ps(v);
}

VECTOR_INLINE float v_sum(vf v)
{
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

VECTOR_INLINE float v_maximum(vf v)
{
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

#include "kernels/cpu/vector_kernels.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
