/* vector_bf16.h - floats from bfloat16 and back (part of vector_kernels.h).
 *
 * A bfloat16 is the upper half of a float's bits. */

typedef uint16_t bf16_vector __attribute__((vector_size(LANES * 2)));
typedef uint32_t bits_vector __attribute__((vector_size(LANES * 4)));

VECTOR_INLINE vf v_widen(bf16_vector v)
{
    return (vf)(__builtin_convertvector(v, bits_vector) << 16);
}

/* To nearest, and to even between two: just under half of what is dropped is added, and the
 * last bit kept. The carry may go up to infinity; a NaN would get there too, or past it, so it
 * is only cut off, and made quiet in case its payload was in the lower half alone. */
VECTOR_INLINE bf16_vector v_narrow(vf v)
{
    const bits_vector bits = (bits_vector)v, is_nan = (bits_vector)(v != v);
    const bits_vector rounded = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
    return __builtin_convertvector(((quiet & is_nan) | (rounded & ~is_nan)) >> 16, bf16_vector);
}

static void from_bf16(float *out, const uint16_t *in, size_t n)
{
    size_t i = 0;
    bf16_vector v;
    for (; i + LANES <= n; i += LANES) {
        memcpy(&v, in + i, sizeof v);
        v_store(out + i, v_widen(v));
    }
    if (i < n) {
        v = (bf16_vector){0};
        memcpy(&v, in + i, (n - i) * sizeof *in);
        v_store_first(out + i, v_widen(v), n - i);
    }
}

static void to_bf16(uint16_t *out, const float *in, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const bf16_vector v = v_narrow(v_load(in + i));
        memcpy(out + i, &v, sizeof v);
    }
    if (i < n) {
        const bf16_vector v = v_narrow(v_load_first(in + i, n - i));
        memcpy(out + i, &v, (n - i) * sizeof *out);
    }
}
