/* Every operation of the cpu backend against the reference, in both precisions and at each
 * instruction set that this processor has: random values, odd sizes, "=" outputs poisoned with
 * NaN before, "+=" outputs holding values, guard words after each output, and twice, for the
 * same bits. */
#include <math.h>

#include "kernels/kernels.h"
#include "tests/kernels/kernel_data.h"
#include "tests/unit/check.h"

/* |cpu - ref| <= bound * max(1, |ref|), with inputs of size 1. float carries 6e-8. */
enum tolerance {
    EXACT, ELEMENT, SUM, LONG_SUM, TRANSCENDENTAL, NORM, SOFTMAX, GRADIENT_SUM, LOSS
};

static const struct {
    double bound;
    const char *reason;
} tolerances[] = {
    [EXACT] = {0, "copies and single additions round the same way"},
    [ELEMENT] = {3e-7, "a few roundings of one value"},
    [SUM] = {3e-5, "sums of up to 1000 products in float, against double"},
    [LONG_SUM] = {1e-3, "the same of up to 9001, which go as far as 300"},
    [TRANSCENDENTAL] = {5e-6, "exp's argument, up to 30, rounded twice: 30 * 1.2e-7"},
    [NORM] = {2e-5, "two sums over a row, divided by a deviation near 1"},
    [SOFTMAX] = {3e-5, "scores up to 20, each off by 20 * 6e-8, become factors"},
    [GRADIENT_SUM] = {2e-4, "float sums of 700 rows that went through the above"},
    [LOSS] = {2e-5, "logits up to 100, each off by 100 * 6e-8, become factors"},
};

/* Where an output is bf16, both backends round it, to the same value unless the above leaves
 * them on either side of a tie: then they are one unit in the last place apart, which is at
 * most 2^-7 of the value. That is seldom: where more than one in 32 is off by more than the
 * above, something else was rounded, or by another rule. */
static const double bf16_step = 0x1p-7;
enum { bf16_seldom = 32 };

enum { pass_ref, pass_cpu, pass_again, passes };

static struct kernels *backends[passes]; /* ref, cpu, cpu */

/* ---- activations, in the precision of the backends that are open ---- */

static size_t value_bytes(void)
{
    return activation_bytes(backends[pass_ref]);
}

/* n floats as activations; what bf16 cannot hold of them is cut off. */
static void *activations_of(const float *x, size_t n)
{
    return value_bytes() == 2 ? (void *)data_bf16(x, n)
                              : memcpy(data_allocate(n * sizeof *x), x, n * sizeof *x);
}

static void *activations_normal(size_t n, double deviation)
{
    return activations_of(data_normal(n, deviation), n);
}

static double activation_at(const void *activations, size_t i)
{
    return value_bytes() == 2 ? data_float_of_bf16(((const uint16_t *)activations)[i])
                              : ((const float *)activations)[i];
}

/* ---- outputs ---- */

enum { guard_bytes = 64 };

/* One output of an operation, once for each pass; one value off alignment. */
struct output {
    size_t n, bytes; /* values, and bytes of one */
    void *at[passes];
};

static struct output output_make_of(size_t n, size_t bytes)
{
    struct output out = {.n = n, .bytes = bytes};
    for (int pass = 0; pass < passes; pass++) {
        char *block = data_allocate((1 + n) * bytes + guard_bytes);
        out.at[pass] = block + bytes;
        memset(block, 0xff, (1 + n) * bytes); /* a NaN in both types */
        memset(block + (1 + n) * bytes, 0xc5, guard_bytes);
    }
    return out;
}

/* Makes a float output that the operation overwrites: NaN everywhere before. */
static struct output output_make(size_t n)
{
    return output_make_of(n, sizeof(float));
}

/* Makes an output of activations. */
static struct output output_make_activations(size_t n)
{
    return output_make_of(n, value_bytes());
}

static void output_fill(const struct output *out, const void *values)
{
    for (int pass = 0; pass < passes && out->n > 0; pass++)
        memcpy(out->at[pass], values, out->n * out->bytes);
}

/* Makes a float output that the operation adds to. */
static struct output output_make_sum(size_t n)
{
    const struct output out = output_make(n);
    output_fill(&out, data_normal(n, 1));
    return out;
}

/* The same of activations. */
static struct output output_make_activation_sum(size_t n)
{
    const struct output out = output_make_activations(n);
    output_fill(&out, activations_normal(n, 1));
    return out;
}

static void output_check_bounds(const struct output *out, const char *what)
{
    for (int pass = 0; pass < passes; pass++) {
        const char *end = (const char *)out->at[pass] + out->n * out->bytes;
        for (size_t i = 0; i < guard_bytes; i++)
            CHECK((unsigned char)end[i] == 0xc5, "%s: pass %d wrote past its %zu values", what,
                  pass, out->n);
    }
}

static double output_value(const struct output *out, int pass, size_t i)
{
    return out->bytes == 2 ? data_float_of_bf16(((const uint16_t *)out->at[pass])[i])
                           : ((const float *)out->at[pass])[i];
}

static void output_check(const struct output *out, enum tolerance tolerance, const char *what)
{
    const char *isa = getenv("CLIPIPE_CPU_ISA");
    const bool bf16 = out->bytes == 2;
    double worst = 0;
    size_t worst_at = 0, different = 0;
    output_check_bounds(out, what);
    for (size_t i = 0; i < out->n; i++) {
        const double want = output_value(out, pass_ref, i);
        const double got = output_value(out, pass_cpu, i);
        const double error = fabs(got - want) / fmax(1, fabs(want));
        different += !(error <= tolerances[tolerance].bound);
        if (!isnan(worst) && !(error <= worst)) { /* a NaN stays the worst */
            worst = error;
            worst_at = i;
        }
    }
    const double step = bf16 && tolerance != EXACT ? bf16_step : 0;
    CHECK(worst <= tolerances[tolerance].bound + step,
          "%s, %s: value %zu of %zu is %.9g, expected %.9g, off by %g (%s)", isa, what,
          worst_at, out->n, out->n > 0 ? output_value(out, pass_cpu, worst_at) : 0.0,
          out->n > 0 ? output_value(out, pass_ref, worst_at) : 0.0, worst,
          tolerances[tolerance].reason);
    CHECK(!bf16 || different <= 2 + out->n / bf16_seldom,
          "%s, %s: %zu of %zu bf16 values differ", isa, what, different, out->n);
    CHECK(memcmp(out->at[pass_cpu], out->at[pass_again], out->n * out->bytes) == 0,
          "%s, %s: two runs differ", isa, what);
}

/* ---- operations ---- */

static const size_t sizes[] = {1, 3, 7, 17, 33, 65, 129};
enum { size_count = sizeof sizes / sizeof sizes[0] };

/* flags: 1 a transposed, 2 b transposed, 4 accumulated (with a_sums), 8 a bias. */
static void test_matmul_case(size_t rows, size_t columns, size_t inner, unsigned flags)
{
    const bool accumulate = flags & 4, with_bias = !accumulate && flags & 8;
    const void *a = activations_normal(rows * inner, 1);
    const void *b = activations_normal(inner * columns, 1);
    const float *bias = with_bias ? data_normal(columns, 1) : NULL;
    const struct output out = accumulate ? output_make_sum(rows * columns)
                                         : output_make_activations(rows * columns);
    const struct output a_sums = output_make_sum(accumulate ? rows : 0);
    char what[96];
    for (int pass = 0; pass < passes; pass++)
        backends[pass]->matmul(backends[pass], &(struct matmul){
            .rows = rows, .columns = columns, .inner = inner, .a = a,
            .a_transposed = flags & 1, .b = b, .b_transposed = (flags & 2) != 0, .bias = bias,
            .out = out.at[pass], .accumulate = accumulate,
            .a_sums = accumulate ? a_sums.at[pass] : NULL});
    snprintf(what, sizeof what, "matmul %zu x %zu x %zu, flags %u", rows, columns, inner,
             flags);
    output_check(&out, inner > 1000 ? LONG_SUM : SUM, what);
    output_check(&a_sums, GRADIENT_SUM, what);
    data_free_all();
}

/* Both epilogues: the second takes what the first left before the activation. */
static void test_epilogue_case(size_t rows, size_t columns, size_t inner, unsigned flags,
                               enum activation kind)
{
    const size_t n = rows * columns;
    const void *a = activations_normal(rows * inner, 1);
    const void *b = activations_normal(inner * columns, 1), *x = activations_normal(n, 2);
    const float *bias = flags & 8 ? data_normal(columns, 1) : NULL;
    const struct output out = output_make_activations(n), before = output_make_activations(n);
    const struct output alone = output_make_activations(n);
    const struct output din = output_make_activations(n);
    struct matmul args = {.rows = rows, .columns = columns, .inner = inner, .a = a,
                          .a_transposed = flags & 1, .b = b,
                          .b_transposed = (flags & 2) != 0, .activation = kind};
    char what[96];
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        args.bias = bias;
        args.epilogue = EPILOGUE_ACTIVATION;
        args.out = out.at[pass];
        args.before = before.at[pass];
        k->matmul(k, &args);
        args.out = alone.at[pass];
        args.before = NULL;
        k->matmul(k, &args);
        args.bias = NULL;
        args.epilogue = EPILOGUE_ACTIVATION_BACKWARD;
        args.out = din.at[pass];
        args.before = data_allocate(n * value_bytes());
        memcpy(args.before, x, n * value_bytes());
        k->matmul(k, &args);
        CHECK(memcmp(args.before, x, n * value_bytes()) == 0, "`before` was changed");
    }
    snprintf(what, sizeof what, "matmul %zu x %zu x %zu, flags %u, activation %d", rows,
             columns, inner, flags, (int)kind);
    output_check(&out, SUM, what);
    output_check(&before, SUM, what);
    output_check(&alone, SUM, what);
    output_check(&din, SUM, what);
    data_free_all();
}

static void test_matmul(void)
{
    for (size_t i = 0; i < size_count; i++)
        for (unsigned flags = 0; flags < 16; flags++) {
            const size_t rows = sizes[i], columns = sizes[(i + 2 + flags) % size_count];
            const size_t inner = sizes[(i + 5) % size_count];
            test_matmul_case(rows, columns, inner, flags);
            if ((flags & 4) == 0)
                test_epilogue_case(rows, columns, inner, flags,
                                   (enum activation)((i + flags) % 3));
        }
    test_matmul_case(5, 7, 0, 0);
    test_matmul_case(5, 7, 0, 4);
    test_matmul_case(5, 7, 0, 8);
    test_matmul_case(0, 7, 3, 0);
    test_matmul_case(5, 0, 3, 5);
    test_epilogue_case(5, 7, 0, 8, ACTIVATION_GELU);
    test_epilogue_case(0, 7, 3, 0, ACTIVATION_GELU);
    /* More shapes than the cache holds in any set: evicted ones must come back right. */
    for (size_t n = 1; n < 400; n++)
        test_matmul_case(1 + n % 5, n, 3, 0);
    for (size_t n = 1; n < 400; n += 40)
        test_matmul_case(1 + n % 5, n, 3, 0);
}

/* More than a block of the cpu backend: of rows, of rows and inner, of inner. */
static void test_matmul_blocks(void)
{
    test_matmul_case(1601, 517, 3, 10);
    test_epilogue_case(1601, 517, 3, 10, ACTIVATION_QUICK_GELU);
    for (unsigned flags = 0; flags < 4; flags++) {
        test_matmul_case(801, 5, 1003, flags);
        test_matmul_case(131, 3, 9001, 4 | flags);
    }
}

static void test_elementwise_case(size_t n)
{
    const void *a = activations_normal(n, 1), *b = activations_normal(n, 1);
    const float *x = data_normal(n, 1);
    const struct output sum = output_make_activations(n), rounded = output_make_activations(n);
    const struct output in_place = output_make_activation_sum(n);
    const struct output in_second = output_make_activation_sum(n);
    const struct output clamped = output_make_sum(n), average = output_make_sum(n);
    char what[64];
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->round(k, rounded.at[pass], x, n);
        k->add(k, sum.at[pass], a, b, n);
        k->add(k, in_place.at[pass], in_place.at[pass], b, n);
        k->add(k, in_second.at[pass], a, in_second.at[pass], n);
        k->clamp(k, clamped.at[pass], n, -0.5f, 0.25f);
        k->move_average(k, average.at[pass], x, n, 0.3f);
    }
    snprintf(what, sizeof what, "round, add, clamp, average of %zu", n);
    output_check(&rounded, EXACT, what);
    output_check(&sum, EXACT, what);
    output_check(&in_place, EXACT, what);
    output_check(&in_second, EXACT, what);
    output_check(&clamped, EXACT, what);
    output_check(&average, ELEMENT, what);

    const double want = backends[pass_ref]->sum_squares(backends[pass_ref], x, n);
    const double got = backends[pass_cpu]->sum_squares(backends[pass_cpu], x, n);
    CHECK_NEAR(got, want, 1e-12 * (1 + want), "sum_squares of %zu", n);
    CHECK(got == backends[pass_again]->sum_squares(backends[pass_again], x, n),
          "sum_squares of %zu: two runs differ", n);
    data_free_all();
}

static void test_sum_rows_case(size_t N, size_t C)
{
    const void *in = activations_normal(N * C, 1);
    const struct output out = output_make_sum(C);
    char what[64];
    for (int pass = 0; pass < passes; pass++)
        backends[pass]->sum_rows(backends[pass], out.at[pass], in, N, C);
    snprintf(what, sizeof what, "sum_rows %zu x %zu", N, C);
    output_check(&out, GRADIENT_SUM, what);
    data_free_all();
}

static void test_layer_scale_case(size_t N, size_t C)
{
    const void *in = activations_normal(N * C, 1), *dout = activations_normal(N * C, 1);
    const float *gamma = data_normal(C, 1);
    const struct output out = output_make_activations(N * C);
    const struct output din = output_make_activations(N * C), dgamma = output_make_sum(C);
    char what[64];
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->layer_scale_forward(k, out.at[pass], in, gamma, N, C);
        k->layer_scale_backward(k, din.at[pass], dgamma.at[pass], dout, in, gamma, N, C);
    }
    snprintf(what, sizeof what, "layer scale %zu x %zu", N, C);
    output_check(&out, EXACT, what);
    output_check(&din, EXACT, what);
    output_check(&dgamma, GRADIENT_SUM, what);
    data_free_all();
}

static void test_activation_case(size_t n, enum activation kind)
{
    const void *in = activations_normal(n, 3), *dout = activations_normal(n, 1);
    const struct output out = output_make_activations(n), din = output_make_activations(n);
    const struct output in_place = output_make_activations(n);
    char what[64];
    output_fill(&in_place, dout);
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->activation_forward(k, out.at[pass], in, n, kind);
        k->activation_backward(k, din.at[pass], dout, in, n, kind);
        k->activation_backward(k, in_place.at[pass], in_place.at[pass], in, n, kind);
    }
    snprintf(what, sizeof what, "activation %d of %zu", (int)kind, n);
    output_check(&out, TRANSCENDENTAL, what);
    output_check(&din, TRANSCENDENTAL, what);
    output_check(&in_place, TRANSCENDENTAL, what);
    data_free_all();
}

/* The tails keep their relative accuracy: error / |value| over a fine sweep. */
static void test_activation_tails(enum activation kind)
{
    enum { n = 48001 };
    float *wide = data_allocate(n * sizeof *wide);
    for (size_t i = 0; i < n; i++)
        wide[i] = (float)((double)i / 2000 - 12);
    const void *x = activations_of(wide, n);
    const struct output y = output_make_activations(n);
    backends[pass_ref]->activation_forward(backends[pass_ref], y.at[pass_ref], x, n, kind);
    backends[pass_cpu]->activation_forward(backends[pass_cpu], y.at[pass_cpu], x, n, kind);
    double worst = 0, worst_x = 0;
    for (size_t i = 0; i < n; i++) {
        const double want = output_value(&y, pass_ref, i), got = output_value(&y, pass_cpu, i);
        const double error = fabs(got - want) / (fabs(want) + 1e-12);
        if (!isnan(worst) && !(error <= worst)) { /* a NaN stays the worst */
            worst = error;
            worst_x = activation_at(x, i);
        }
    }
    CHECK(worst <= tolerances[TRANSCENDENTAL].bound + (y.bytes == 2 ? bf16_step : 0),
          "%s, activation %d at %g: relative error %g",
          getenv("CLIPIPE_CPU_ISA"), (int)kind, worst_x, worst);
    data_free_all();
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static bool is_nan_at(const void *activations, size_t i)
{
    return isnan(activation_at(activations, i));
}

/* A NaN at `place` of 19 ones is seen in the results of every kind of operation. */
static void test_nan(float nan, size_t place)
{
    enum { n = 19 };
    struct kernels *k = backends[pass_cpu];
    float wide[n], ones[n], lse[n], mean, rstd, inverse[n];
    for (size_t i = 0; i < n; i++)
        wide[i] = ones[i] = 1;
    wide[place] = nan;
    const void *x = activations_of(wide, n), *one = activations_of(ones, n);
    void *y = data_allocate(n * value_bytes());
    const struct attention shape = {1, 6, 1, 1, false};

    k->round(k, y, wide, n);
    CHECK(is_nan_at(y, place), "round hides a NaN at %zu", place);
    k->add(k, y, one, x, n);
    CHECK(is_nan_at(y, place), "add hides a NaN at %zu", place);
    for (int kind = 0; kind < 3; kind++) {
        k->activation_forward(k, y, x, n, (enum activation)kind);
        CHECK(is_nan_at(y, place), "activation %d hides a NaN at %zu", kind, place);
        k->activation_backward(k, y, one, x, n, (enum activation)kind);
        CHECK(is_nan_at(y, place), "activation %d backward hides a NaN at %zu", kind, place);
        k->matmul(k, &(struct matmul){.rows = n, .columns = 1, .inner = 1, .a = x, .b = one,
                                      .out = y, .epilogue = EPILOGUE_ACTIVATION,
                                      .activation = (enum activation)kind});
        CHECK(is_nan_at(y, place), "matmul and activation %d hide a NaN at %zu", kind, place);
    }
    k->residual_norm_forward(k, NULL, y, &mean, &rstd, x, NULL, ones, ones, 1, n, 1e-5f);
    CHECK(is_nan_at(y, 0), "layer norm hides a NaN at %zu", place);
    k->normalize_forward(k, lse, inverse, x, 1, n);
    CHECK(isnan(lse[0]), "unit length hides a NaN at %zu", place);
    if (place < 18) {
        k->attention_forward(k, y, lse, x, &shape);
        CHECK(is_nan_at(y, place % 3 == 0 ? place / 3 : 0), "attention hides a NaN at %zu",
              place);
    }
    CHECK(isnan(k->sum_squares(k, wide, n)), "sum_squares hides a NaN at %zu", place);
    k->move_average(k, ones, wide, n, 0.5f);
    CHECK(isnan(ones[place]), "move_average hides a NaN at %zu", place);
    k->clamp(k, wide, n, 0, 2);
    CHECK(isnan(wide[place]), "clamp hides a NaN at %zu", place);
    data_free_all();
}

/* NaNs with and without bits in their payload, also below what bf16 keeps; huge values stay
 * finite where the function is. */
static void test_special_values(void)
{
    struct kernels *k = backends[pass_cpu];
    const float nans[] = {NAN, float_of(0x7fffffff), float_of(0xffffffff),
                          float_of(0x7fc00001)};
    for (size_t place = 0; place < 19; place++)
        for (size_t which = 0; which < 4; which++)
            test_nan(nans[which], place);

    const float values[4] = {-3e38f, 3e38f, -1e5f, 1e5f}, ones[4] = {1, 1, 1, 1};
    const float want_slope[4] = {0, 1, 0, 1};
    const void *huge = activations_of(values, 4), *one = activations_of(ones, 4);
    void *y = data_allocate(4 * value_bytes());
    for (int kind = 0; kind < 3; kind++) {
        k->activation_forward(k, y, huge, 4, (enum activation)kind);
        CHECK(activation_at(y, 1) == activation_at(huge, 1) &&
                  activation_at(y, 3) == activation_at(huge, 3) &&
                  fabs(activation_at(y, 2)) < 1e-30,
              "activation %d of huge values: %g %g %g", kind, activation_at(y, 1),
              activation_at(y, 2), activation_at(y, 3));
        k->activation_backward(k, y, one, huge, 4, (enum activation)kind);
        for (size_t i = 0; i < 4; i++)
            CHECK_NEAR(activation_at(y, i), want_slope[i], 1e-30,
                       "slope of activation %d at %g", kind, activation_at(huge, i));
    }
    data_free_all();
}

static void test_norm_case(size_t N, size_t C, bool with_delta)
{
    const void *residual = activations_normal(N * C, 1);
    const void *dnormed = activations_normal(N * C, 1);
    const void *delta = with_delta ? activations_normal(N * C, 1) : NULL;
    const float *gamma = data_normal(C, 1), *beta = data_normal(C, 1);
    const struct output residual_out = output_make_activations(with_delta ? N * C : 0);
    const struct output normed = output_make_activations(N * C);
    const struct output in_place = output_make_activations(N * C);
    const struct output mean = output_make(N), rstd = output_make(N);
    const struct output dresidual = output_make_activation_sum(N * C);
    const struct output dgamma = output_make_sum(C), dbeta = output_make_sum(C);
    const float eps = 1e-2f; /* keeps rows of one or three values well conditioned */
    char what[64];
    output_fill(&in_place, residual);
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->residual_norm_forward(k, with_delta ? residual_out.at[pass] : NULL, normed.at[pass],
                                 mean.at[pass], rstd.at[pass], residual, delta, gamma, beta, N,
                                 C, eps);
        k->residual_norm_forward(k, in_place.at[pass], normed.at[pass], mean.at[pass],
                                 rstd.at[pass], in_place.at[pass], delta, gamma, beta, N, C,
                                 eps);
        k->norm_backward(k, dresidual.at[pass], dgamma.at[pass], dbeta.at[pass], dnormed,
                         in_place.at[pass], mean.at[pass], rstd.at[pass], gamma, N, C);
    }
    snprintf(what, sizeof what, "norm %zu x %zu%s", N, C, with_delta ? " + delta" : "");
    output_check(&residual_out, EXACT, what);
    output_check(&in_place, EXACT, what);
    output_check(&normed, NORM, what);
    output_check(&mean, NORM, what);
    output_check(&rstd, NORM, what);
    output_check(&dresidual, GRADIENT_SUM, what);
    output_check(&dgamma, GRADIENT_SUM, what);
    output_check(&dbeta, GRADIENT_SUM, what);
    data_free_all();
}

static void test_normalize_case(size_t N, size_t E)
{
    void *in = activations_normal(N * E, 1);
    const float *dout = data_normal(N * E, 1);
    if (N > 1)
        memset(in, 0, E * value_bytes()); /* a row without a direction */
    const struct output out = output_make(N * E), inverse = output_make(N);
    const struct output din = output_make_activations(N * E);
    char what[64];
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->normalize_forward(k, out.at[pass], inverse.at[pass], in, N, E);
        k->normalize_backward(k, din.at[pass], dout, out.at[pass], inverse.at[pass], N, E);
    }
    snprintf(what, sizeof what, "normalize %zu x %zu", N, E);
    output_check(&out, ELEMENT, what);
    output_check(&inverse, ELEMENT, what);
    if (E > 1) /* with one value, din is the rounding error of 1 - 1 */
        output_check(&din, SUM, what);
    else
        output_check_bounds(&din, what);
    data_free_all();
}

static void test_attention_case(struct attention shape, double deviation)
{
    const size_t B = shape.B, T = shape.T, C = shape.H * shape.D;
    const void *qkv = activations_normal(B * T * 3 * C, deviation);
    const void *dout = activations_normal(B * T * C, 1);
    const struct output out = output_make_activations(B * T * C);
    const struct output lse = output_make(B * shape.H * T);
    const struct output dqkv = output_make_activations(B * T * 3 * C);
    char what[96];
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->attention_forward(k, out.at[pass], lse.at[pass], qkv, &shape);
        k->attention_backward(k, dqkv.at[pass], dout, qkv, out.at[pass_ref], lse.at[pass],
                              &shape);
    }
    snprintf(what, sizeof what, "attention B %zu T %zu H %zu D %zu%s", B, T, shape.H, shape.D,
             shape.causal ? " causal" : "");
    output_check(&out, SOFTMAX, what);
    output_check(&lse, SOFTMAX, what);
    output_check(&dqkv, GRADIENT_SUM, what);
    data_free_all();
}

static void test_attention(void)
{
    static const size_t head_sizes[] = {1, 3, 16, 17, 32, 48, 64, 80};
    for (int causal = 0; causal < 2; causal++) {
        for (size_t i = 0; i < size_count; i++)
            for (size_t j = 0; j < sizeof head_sizes / sizeof head_sizes[0]; j += 1 + i / 4)
                test_attention_case((struct attention){.B = 1 + i % 2, .T = sizes[i],
                                                       .H = 1 + j % 3, .D = head_sizes[j],
                                                       .causal = causal}, 1);
        test_attention_case((struct attention){.B = 1, .T = 197, .H = 2, .D = 64,
                                               .causal = causal}, 1);
        test_attention_case((struct attention){.B = 9, .T = 33, .H = 5, .D = 24,
                                               .causal = causal}, 1);
        test_attention_case((struct attention){.B = 0, .T = 3, .H = 1, .D = 4,
                                               .causal = causal}, 1);
        test_attention_case((struct attention){.B = 1, .T = 0, .H = 1, .D = 4,
                                               .causal = causal}, 1);
    }
    test_attention_case((struct attention){.B = 1, .T = 610, .H = 1, .D = 20}, 1);
    test_attention_case((struct attention){.B = 1, .T = 65, .H = 2, .D = 32}, 2.5);
}

static void test_patches_case(size_t B, size_t K, size_t C, size_t P)
{
    const size_t grid = 2 * K + 1;
    const float mean[3] = {0.48f, 0.46f, 0.41f}, std[3] = {0.27f, 0.26f, 0.28f};
    uint8_t *bytes = data_allocate(B * K * P * P * 3);
    for (size_t i = 0; i < B * K * P * P * 3; i++)
        bytes[i] = (uint8_t)rng_next(&data_rng);
    const int32_t *position = data_distinct(B, K, grid);
    const void *features = activations_normal(B * K * C, 1);
    const void *dout = activations_normal(B * (1 + K) * C, 1);
    const float *class_embedding = data_normal(C, 1);
    const float *positional = data_normal((1 + grid) * C, 1);
    const struct output unpacked = output_make_activations(B * K * P * P * 3);
    const struct output out = output_make_activations(B * (1 + K) * C);
    const struct output dfeatures = output_make_activations(B * K * C);
    const struct output dclass = output_make_sum(C);
    const struct output dpositional = output_make_sum((1 + grid) * C);
    char what[64];
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->unpack_patches(k, unpacked.at[pass], bytes, B * K, P, mean, std);
        k->embed_patches_forward(k, out.at[pass], features, position, class_embedding,
                                 positional, B, K, C);
        k->embed_patches_backward(k, dfeatures.at[pass], dclass.at[pass], dpositional.at[pass],
                                  dout, position, B, K, C);
    }
    snprintf(what, sizeof what, "patches B %zu K %zu C %zu P %zu", B, K, C, P);
    output_check(&unpacked, ELEMENT, what);
    output_check(&out, EXACT, what);
    output_check(&dfeatures, EXACT, what);
    output_check(&dclass, EXACT, what);
    output_check(&dpositional, EXACT, what);
    data_free_all();
}

static void test_tokens_case(size_t B, size_t T, size_t C, size_t V)
{
    const int32_t *tokens = data_integers(B * T, V), *row = data_integers(B, T);
    const float *table = data_normal(V * C, 1), *positional = data_normal(T * C, 1);
    const void *in = activations_normal(B * T * C, 1), *dpooled = activations_normal(B * C, 1);
    const struct output out = output_make_activations(B * T * C);
    const struct output dtable = output_make_sum(V * C), dpositional = output_make_sum(T * C);
    const struct output picked = output_make_activations(B * C);
    const struct output dpicked = output_make_activations(B * T * C);
    const struct output averaged = output_make_activations(B * C);
    const struct output daveraged = output_make_activations(B * T * C);
    const size_t first = T > 1;
    char what[64];
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->embed_tokens_forward(k, out.at[pass], tokens, table, positional, B, T, C);
        k->embed_tokens_backward(k, dtable.at[pass], dpositional.at[pass], in, tokens, B, T, C);
        k->pick_token_forward(k, picked.at[pass], in, row, B, T, C);
        k->pick_token_backward(k, dpicked.at[pass], dpooled, row, B, T, C);
        k->mean_tokens_forward(k, averaged.at[pass], in, B, T, C, first);
        k->mean_tokens_backward(k, daveraged.at[pass], dpooled, B, T, C, first);
    }
    snprintf(what, sizeof what, "tokens B %zu T %zu C %zu V %zu", B, T, C, V);
    output_check(&out, EXACT, what);
    output_check(&dtable, EXACT, what);
    output_check(&dpositional, EXACT, what);
    output_check(&picked, EXACT, what);
    output_check(&dpicked, EXACT, what);
    output_check(&averaged, SUM, what);
    output_check(&daveraged, ELEMENT, what);
    data_free_all();
}

static void test_loss_case(size_t B, size_t E, double logit_scale_value, bool matching)
{
    const float *image = data_unit_rows(B, E);
    const float *text = matching ? image : data_unit_rows(B, E);
    const float logit_scale = (float)log(logit_scale_value);
    const struct output loss = output_make(1), loss_alone = output_make(1);
    const struct output dscale = output_make_sum(1);
    const struct output dimage = output_make(B * E), dtext = output_make(B * E);
    char what[96];
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->contrastive_loss(k, loss.at[pass], dimage.at[pass], dtext.at[pass], dscale.at[pass],
                            image, text, &logit_scale, B, E);
        k->contrastive_loss(k, loss_alone.at[pass], NULL, NULL, NULL, image, text, &logit_scale,
                            B, E);
    }
    snprintf(what, sizeof what, "loss B %zu E %zu s %g%s", B, E, logit_scale_value,
             matching ? " matching" : "");
    output_check(&loss, LOSS, what);
    output_check(&loss_alone, LOSS, what);
    output_check(&dscale, LOSS, what);
    output_check(&dimage, LOSS, what);
    output_check(&dtext, LOSS, what);
    data_free_all();
}

static void test_loss(void)
{
    for (size_t i = 0; i < size_count; i++)
        test_loss_case(sizes[i], sizes[size_count - 1 - i], 14.3, false);
    test_loss_case(300, 33, 100, false);
    test_loss_case(300, 33, 100, true);
    test_loss_case(1100, 5, 14.3, false); /* five tiles down, two across */

    /* Opposed pairs: every logit of a row is far below the scale. */
    const float image[4] = {1, 0, 1, 0}, text[4] = {-1, 0, -1, 0}, logit_scale = logf(100);
    float loss = NAN;
    backends[pass_cpu]->contrastive_loss(backends[pass_cpu], &loss, NULL, NULL, NULL, image,
                                         text, &logit_scale, 2, 2);
    CHECK_NEAR(loss, log(2), 1e-5, "loss of opposed pairs");
}

static void test_adamw_case(size_t n, int64_t step)
{
    const float *gradient = data_normal(n, 1);
    const struct output parameter = output_make_sum(n);
    const struct output m = output_make_sum(n), v = output_make_sum(n);
    const struct adamw args = {.lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-6f,
                               .weight_decay = 0.2f, .gradient_scale = 0.7f, .step = step};
    char what[64];
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        float *second = v.at[pass];
        for (size_t i = 0; i < n; i++)
            second[i] = fabsf(second[i]);
        k->adamw(k, parameter.at[pass], m.at[pass], v.at[pass], gradient, n, &args);
    }
    snprintf(what, sizeof what, "adamw of %zu at step %lld", n, (long long)step);
    output_check(&parameter, ELEMENT, what);
    output_check(&m, ELEMENT, what);
    output_check(&v, ELEMENT, what);
    data_free_all();
}

/* Moments of a parameter without a gradient end at 0, not among the subnormals. */
static void test_adamw_decay(void)
{
    struct kernels *k = backends[pass_cpu];
    float p[3] = {1, 1, 1}, m[3] = {2e-31f, -2e-31f, 1e-20f}, v[3] = {1e-37f, 1e-40f, 1e-20f};
    const float gradient[3] = {0};
    const struct adamw args = {.lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-8f,
                               .gradient_scale = 1, .step = 5000};
    k->adamw(k, p, m, v, gradient, 3, &args);
    CHECK(m[0] == 0 && m[1] == 0 && v[0] == 0 && v[1] == 0, "moments %g %g %g %g", m[0], m[1],
          v[0], v[1]);
    CHECK_NEAR(m[2], 0.9e-20, 1e-26, "a small moment is kept");
    CHECK_NEAR(v[2], 0.98e-20, 1e-26, "a small moment is kept");
    CHECK(p[0] == 1 && p[1] == 1, "parameters moved to %g %g", p[0], p[1]);
}

/* A refused allocation is remembered for check(), once. */
static void test_failure(void)
{
    struct kernels *k = backends[pass_cpu];
    struct error error = {0};
    const float x = 0;
    float loss = 7;
    CHECK(k->check(k, &error) == STATUS_OK, "nothing had failed, but: %s", error.text);
    k->contrastive_loss(k, &loss, NULL, NULL, NULL, &x, &x, &x, SIZE_MAX / 8, 1);
    CHECK(k->check(k, &error) == STATUS_SYSTEM && strstr(error.text, "cannot allocate"),
          "status %d, text '%s'", (int)error.status, error.text);
    CHECK(k->check(k, &error) == STATUS_OK, "the failure was reported twice");
}

static void test_all(void)
{
    rng_init(&data_rng, 11, 0, 0, RNG_TEST);
    test_matmul();
    for (size_t i = 0; i < size_count; i++) {
        test_elementwise_case(sizes[i]);
        test_adamw_case(sizes[i], 1 + (int64_t)i * 1000);
        for (int kind = 0; kind < 3; kind++)
            test_activation_case(sizes[i], (enum activation)kind);
        for (size_t j = 0; j < size_count; j++) {
            test_sum_rows_case(sizes[i], sizes[j]);
            test_layer_scale_case(sizes[i], sizes[j]);
            test_norm_case(sizes[i], sizes[j], (i + j) % 2 == 0);
            test_normalize_case(sizes[i], sizes[j]);
        }
        test_patches_case(1 + i, sizes[i], sizes[(i + 3) % size_count], 1 + i);
        test_tokens_case(1 + i, sizes[i], sizes[(i + 2) % size_count], 5 + 10 * i);
    }
    for (int kind = 0; kind < 3; kind++) {
        test_activation_case(70001, (enum activation)kind);
        test_activation_tails((enum activation)kind);
    }
    /* Large enough for every thread to get a part. */
    test_elementwise_case(100003);
    test_elementwise_case(0);
    test_adamw_case(50001, 10);
    test_sum_rows_case(703, 129);
    test_sum_rows_case(0, 5);
    test_layer_scale_case(703, 129);
    test_layer_scale_case(0, 5);
    test_norm_case(703, 129, true);
    test_norm_case(703, 129, false);
    test_norm_case(0, 5, true);
    test_normalize_case(703, 129);
    test_patches_case(40, 33, 65, 4);
    test_patches_case(3, 2, 5, 16);
    test_tokens_case(60, 33, 65, 17);
    test_attention();
    test_loss();
    test_special_values();
    test_adamw_decay();
    test_failure();
}

/* Opens the two backends; false where the processor has no such instruction set. */
static bool backends_open(enum precision precision)
{
    struct error error;
    enum status status = kernels_open(&backends[pass_ref], "ref", precision, 0, &error);
    CHECK(status == STATUS_OK, "%s", error.text);
    if (status != STATUS_OK)
        return false;
    status = kernels_open(&backends[pass_cpu], "cpu", precision, 3, &error);
    CHECK(status == STATUS_OK || status == STATUS_UNAVAILABLE, "%s", error.text);
    if (status != STATUS_OK)
        kernels_close(backends[pass_ref]);
    backends[pass_again] = backends[pass_cpu];
    return status == STATUS_OK;
}

static void backends_close(void)
{
    struct error error = {0};
    CHECK(backends[pass_cpu]->check(backends[pass_cpu], &error) == STATUS_OK, "%s", error.text);
    kernels_close(backends[pass_ref]);
    kernels_close(backends[pass_cpu]);
}

/* oneDNN's own products of bf16, which it has with AVX-512 only. */
static void test_onednn_bf16(void)
{
    struct error error;
    const uint16_t one = 0x3f80;
    uint16_t out;
    setenv("CLIPIPE_CPU_BF16", "onednn", 1);
    if (!backends_open(PRECISION_AMP_BF16))
        return;
    struct kernels *k = backends[pass_cpu];
    k->matmul(k, &(struct matmul){.rows = 1, .columns = 1, .inner = 1, .a = &one, .b = &one,
                                  .out = &out});
    const enum status status = k->check(k, &error);
    CHECK(status == STATUS_OK || status == STATUS_UNAVAILABLE, "%s", error.text);
    if (status == STATUS_OK) {
        test_matmul();
        test_matmul_blocks();
    }
    backends_close();
}

static void test_usage(void)
{
    struct kernels *k;
    struct error error;
    setenv("CLIPIPE_CPU_ISA", "mmx", 1);
    CHECK(kernels_open(&k, "cpu", PRECISION_FP32, 0, &error) == STATUS_USAGE,
          "an unknown instruction set was accepted");
    unsetenv("CLIPIPE_CPU_ISA");
    setenv("CLIPIPE_CPU_BF16", "abacus", 1);
    CHECK(kernels_open(&k, "cpu", PRECISION_FP32, 0, &error) == STATUS_USAGE,
          "an unknown way to multiply was accepted");
    unsetenv("CLIPIPE_CPU_BF16");
    CHECK(kernels_open(&k, "abacus", PRECISION_FP32, 0, &error) == STATUS_USAGE,
          "an unknown device was accepted");
    CHECK(strcmp(kernels_precision_names[PRECISION_FP32], "fp32") == 0, "fp32");
    CHECK(strcmp(kernels_precision_names[PRECISION_AMP_BF16], "amp_bf16") == 0, "amp_bf16");
}

int main(void)
{
    static const char *const sets[] = {"baseline", "avx2", "avx512"};
    test_usage();
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        setenv("CLIPIPE_CPU_ISA", sets[i], 1);
        setenv("CLIPIPE_CPU_BF16", "convert", 1);
        for (int precision = PRECISION_FP32; precision <= PRECISION_AMP_BF16; precision++) {
            if (!backends_open((enum precision)precision))
                continue;
            test_all();
            if (i == 0) /* not a matter of the instruction set */
                test_matmul_blocks();
            backends_close();
        }
    }
    test_onednn_bf16();
    return check_report("cpu_against_ref");
}
