/* vector_math.h - exponential, sigmoid and normal distribution (part of vector_kernels.h).
 *
 * Both polynomials are minimax fits of our own (least squares on Chebyshev nodes, reweighted
 * after Lawson until the error is level, in extended precision). */

/* x = k ln 2 + r with |r| <= ln(2)/2, and e^x = 2^k e^r. e^r = 1 + r + r^2 q(r), with q of
 * degree 4, is within 3.1e-9 of e^r; rounding makes the result's relative error 1e-7 or less.
 * Adding 1.5 * 2^23 leaves k, rounded to nearest, in the low bits of the sum. ln 2 is split in
 * two parts, the first with 9 zero bits at the end so that k times it is exact.
 *
 * Both ends keep away from subnormals, for which processors take some 20 times as long. Above
 * 87 the result is e^87, whose reciprocal is a normal number. Below -50 it is 0: e^-50 = 2e-22
 * is nothing beside the probabilities it would be added to, and its products with gradients of
 * any size are still normal. NaN gives NaN. */
VECTOR_INLINE vf v_exp(vf x)
{
    const vf shifter = v_splat(0x1.8p23f);
    const vf clamped = v_at_most(v_at_least(x, v_splat(-50)), v_splat(87));
    const vf shifted = v_fma(clamped, v_splat(0x1.715476p0f), shifter);
    const vf k = shifted - shifter;
    vf r = v_fma(k, v_splat(-0x1.62e4p-1f), clamped);
    r = v_fma(k, v_splat(-0x1.7f7d1cp-20f), r);

    vf q = v_splat(0.0013814539362511141f);
    q = v_fma(q, r, v_splat(0.008368745177653682f));
    q = v_fma(q, r, v_splat(0.0416683908005204f));
    q = v_fma(q, r, v_splat(0.1666652039830291f));
    q = v_fma(q, r, v_splat(0.49999993432044837f));
    const vf e_r = v_fma(q, r * r, r) + v_splat(1);

    /* The bits of 1.5 * 2^23 are 0x4b400000; 127 is the exponent's bias. */
    const vi exponent = (vi)shifted - (vi)v_splat(0x1.8p23f) + 127;
    const vf result = e_r * (vf)(exponent << 23);
    return v_where_less(x, v_splat(-50), v_splat(0), result);
}

VECTOR_INLINE vf v_sigmoid(vf x)
{
    return v_splat(1) / (v_splat(1) + v_exp(-x));
}

struct normal {
    vf cdf, density;
};

/* The normal distribution at x. With a = |x| the tail is
 *   Q(a) = erfc(a / sqrt 2) / 2 = exp(-a^2/2) g(a),
 * where g falls smoothly from 1/2 like 1/(a sqrt(2 pi)). With u = 1/(1 + 0.35 a), a polynomial
 * u (c0 + ... + c8 u^8) meets g to 3.2e-8, relative, for all a up to 14; past 10 v_exp gives 0.
 * Taking the tail for negative x keeps its relative accuracy, which (1 + erf) / 2 loses. The
 * part of a^2 that rounding drops is put back into the exponential to first order: at a = 8 it
 * would cost 2e-6 otherwise. */
VECTOR_INLINE struct normal v_normal(vf x)
{
    const vf a = v_at_most(v_at_least(x, -x), v_splat(30));
    const vf square = a * a;
    const vf dropped = v_fma(a, a, -square);
    const vf bell = v_exp(v_splat(-0.5f) * square) * v_fma(dropped, v_splat(-0.5f), v_splat(1));

    const vf u = v_splat(1) / v_fma(a, v_splat(0.35f), v_splat(1));
    vf g = v_splat(-0.02914591127435f);
    g = v_fma(g, u, v_splat(0.14397160579382115f));
    g = v_fma(g, u, v_splat(-0.25571406587490336f));
    g = v_fma(g, u, v_splat(0.15917394811866947f));
    g = v_fma(g, u, v_splat(-0.02310969244140318f));
    g = v_fma(g, u, v_splat(0.1055079459005337f));
    g = v_fma(g, u, v_splat(0.11983288153296018f));
    g = v_fma(g, u, v_splat(0.1398618679091641f));
    g = v_fma(g, u, v_splat(0.13962140438883722f));
    const vf tail = bell * g * u;
    return (struct normal){
        .cdf = v_where_less(x, v_splat(0), tail, v_splat(1) - tail),
        .density = bell * v_splat(0.3989422804014327f), /* 1 / sqrt(2 pi) */
    };
}
