/* The vector kernels for any processor: 128-bit vectors in the compilers' own notation, which
 * is SSE2 on x86-64 and NEON on aarch64. No fused multiply-add is assumed. */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "kernels/cpu/vector.h"

#define VECTOR_TABLE vector_baseline
#define VECTOR_ISA "baseline"
#define LANES 4
#define GEMM_ROWS 4

#define VECTOR_INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));

VECTOR_INLINE vf v_splat(float x)
{
    return (vf){x, x, x, x};
}

VECTOR_INLINE vf v_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

VECTOR_INLINE void v_store(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}

VECTOR_INLINE vf v_load_first(const float *p, size_t n)
{
    vf v = {0};
    for (size_t i = 0; i < n; i++)
        v[i] = p[i];
    return v;
}

VECTOR_INLINE void v_store_first(float *p, vf v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = v[i];
}

/* mask ? a : b, for lanes that are all ones or all zeros. */
VECTOR_INLINE vf v_blend(vi mask, vf a, vf b)
{
    return (vf)((mask & (vi)a) | (~mask & (vi)b));
}

/* a < b ? x : y. False where a or b is NaN. */
VECTOR_INLINE vf v_where_less(vf a, vf b, vf x, vf y)
{
    return v_blend((vi)(a < b), x, y);
}

/* The first n lanes of v, the rest of other. */
VECTOR_INLINE vf v_first_or(vf v, size_t n, vf other)
{
    const int32_t m = (int32_t)n;
    return v_blend((vi){0, 1, 2, 3} < (vi){m, m, m, m}, v, other);
}

VECTOR_INLINE vf v_fma(vf a, vf b, vf c)
{
    return a * b + c;
}

/* The limit where x passes it; NaN in x stays. */
VECTOR_INLINE vf v_at_least(vf x, vf limit)
{
    return v_where_less(x, limit, limit, x);
}

VECTOR_INLINE vf v_at_most(vf x, vf limit)
{
    return v_where_less(limit, x, limit, x);
}

VECTOR_INLINE vf v_sqrt(vf v)
{
#if defined(__SSE2__)
    return _mm_sqrt_ps(v);
#else
    for (size_t i = 0; i < LANES; i++)
        v[i] = sqrtf(v[i]);
    return v;
#endif
}

VECTOR_INLINE float v_sum(vf v)
{
    return (v[0] + v[2]) + (v[1] + v[3]);
}

VECTOR_INLINE float v_maximum(vf v)
{
    return fmaxf(fmaxf(v[0], v[2]), fmaxf(v[1], v[3]));
}

#include "kernels/cpu/vector_kernels.h"
