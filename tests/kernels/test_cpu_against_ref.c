/* Every operation of the cpu backend against the reference, at each instruction set that this
 * processor has: random values, odd sizes, "=" outputs poisoned with NaN before, "+=" outputs
 * holding values, guard words after each output, and twice, for the same bits. */
#include <math.h>

#include "kernels/kernels.h"
#include "tests/kernels/kernel_data.h"
#include "tests/unit/check.h"

/* |cpu - ref| <= bound * max(1, |ref|), with inputs of size 1. float carries 6e-8. */
enum tolerance { EXACT, ELEMENT, SUM, TRANSCENDENTAL, NORM, SOFTMAX, GRADIENT_SUM, LOSS };

static const struct {
    double bound;
    const char *reason;
} tolerances[] = {
    [EXACT] = {0, "copies and single additions round the same way"},
    [ELEMENT] = {3e-7, "a few roundings of one value"},
    [SUM] = {3e-5, "sums of up to 1000 products in float, against double"},
    [TRANSCENDENTAL] = {5e-6, "exp's argument, up to 30, rounded twice: 30 * 1.2e-7"},
    [NORM] = {2e-5, "two sums over a row, divided by a deviation near 1"},
    [SOFTMAX] = {3e-5, "scores up to 20, each off by 20 * 6e-8, become factors"},
    [GRADIENT_SUM] = {2e-4, "float sums of 700 rows that went through the above"},
    [LOSS] = {2e-5, "logits up to 100, each off by 100 * 6e-8, become factors"},
};

enum { pass_ref, pass_cpu, pass_again, passes };

static struct kernels *backends[passes]; /* ref, cpu, cpu */

/* ---- outputs ---- */

enum { guard_words = 16 };
static const uint32_t guard = 0xc0ffee00;

/* One output of an operation, once for each pass; one word off alignment. */
struct output {
    size_t n;
    float *at[passes];
};

/* Makes an output that the operation overwrites: NaN everywhere before. */
static struct output output_make(size_t n)
{
    struct output out = {.n = n};
    for (int pass = 0; pass < passes; pass++) {
        float *block = data_allocate((1 + n + guard_words) * sizeof *block);
        out.at[pass] = block + 1;
        for (size_t i = 0; i < n; i++)
            out.at[pass][i] = NAN;
        for (size_t i = 0; i < guard_words; i++)
            memcpy(&out.at[pass][n + i], &guard, sizeof guard);
    }
    return out;
}

/* Makes an output that the operation adds to. */
static struct output output_make_sum(size_t n)
{
    struct output out = output_make(n);
    for (size_t i = 0; i < n; i++) {
        const float before = (float)rng_normal(&data_rng);
        for (int pass = 0; pass < passes; pass++)
            out.at[pass][i] = before;
    }
    return out;
}

static void output_check_bounds(const struct output *out, const char *what)
{
    for (int pass = 0; pass < passes; pass++)
        for (size_t i = 0; i < guard_words; i++)
            CHECK(memcmp(&out->at[pass][out->n + i], &guard, sizeof guard) == 0,
                  "%s: pass %d wrote past its %zu values", what, pass, out->n);
}

static void output_check(const struct output *out, enum tolerance tolerance, const char *what)
{
    const char *isa = getenv("CLIPIPE_CPU_ISA");
    double worst = 0;
    size_t worst_at = 0;
    output_check_bounds(out, what);
    for (size_t i = 0; i < out->n; i++) {
        const double want = out->at[pass_ref][i], got = out->at[pass_cpu][i];
        const double error = fabs(got - want) / fmax(1, fabs(want));
        if (!isnan(worst) && !(error <= worst)) { /* a NaN stays the worst */
            worst = error;
            worst_at = i;
        }
    }
    CHECK(worst <= tolerances[tolerance].bound,
          "%s, %s: value %zu of %zu is %.9g, expected %.9g, off by %g (%s)", isa, what,
          worst_at, out->n, out->n > 0 ? (double)out->at[pass_cpu][worst_at] : 0.0,
          out->n > 0 ? (double)out->at[pass_ref][worst_at] : 0.0, worst,
          tolerances[tolerance].reason);
    CHECK(memcmp(out->at[pass_cpu], out->at[pass_again], out->n * sizeof(float)) == 0,
          "%s, %s: two runs differ", isa, what);
}

/* ---- operations ---- */

static const size_t sizes[] = {1, 3, 7, 17, 33, 65, 129};
enum { size_count = sizeof sizes / sizeof sizes[0] };

static void test_matmul_case(size_t rows, size_t columns, size_t inner, unsigned flags)
{
    const bool accumulate = flags & 4, with_bias = !accumulate && flags & 8;
    const float *a = data_normal(rows * inner, 1), *b = data_normal(inner * columns, 1);
    const float *bias = with_bias ? data_normal(columns, 1) : NULL;
    struct output out = accumulate ? output_make_sum(rows * columns)
                                   : output_make(rows * columns);
    char what[96];
    for (int pass = 0; pass < passes; pass++)
        backends[pass]->matmul(backends[pass], &(struct matmul){
            .rows = rows, .columns = columns, .inner = inner, .a = a,
            .a_transposed = flags & 1, .b = b, .b_transposed = (flags & 2) != 0, .bias = bias,
            .out = out.at[pass], .accumulate = accumulate});
    snprintf(what, sizeof what, "matmul %zu x %zu x %zu, flags %u", rows, columns, inner,
             flags);
    output_check(&out, SUM, what);
    data_free_all();
}

static void test_matmul(void)
{
    for (size_t i = 0; i < size_count; i++)
        for (unsigned flags = 0; flags < 16; flags++)
            test_matmul_case(sizes[i], sizes[(i + 2 + flags) % size_count],
                             sizes[(i + 5) % size_count], flags);
    test_matmul_case(5, 7, 0, 0);
    test_matmul_case(5, 7, 0, 4);
    test_matmul_case(5, 7, 0, 8);
    test_matmul_case(0, 7, 3, 0);
    /* More shapes than the cache holds in any set: evicted ones must come back right. */
    for (size_t n = 1; n < 400; n++)
        test_matmul_case(1 + n % 5, n, 3, 0);
    for (size_t n = 1; n < 400; n += 40)
        test_matmul_case(1 + n % 5, n, 3, 0);
}

static void test_elementwise_case(size_t n)
{
    const float *a = data_normal(n, 1), *b = data_normal(n, 1);
    char what[64];
    struct output sum = output_make(n), in_place = output_make_sum(n);
    struct output clamped = output_make_sum(n);
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->add(k, sum.at[pass], a, b, n);
        k->add(k, in_place.at[pass], in_place.at[pass], b, n);
        k->clamp(k, clamped.at[pass], n, -0.5f, 0.25f);
    }
    snprintf(what, sizeof what, "add, clamp of %zu", n);
    output_check(&sum, EXACT, what);
    output_check(&in_place, EXACT, what);
    output_check(&clamped, EXACT, what);

    const double want = backends[pass_ref]->sum_squares(backends[pass_ref], a, n);
    const double got = backends[pass_cpu]->sum_squares(backends[pass_cpu], a, n);
    CHECK_NEAR(got, want, 1e-12 * (1 + want), "sum_squares of %zu", n);
    CHECK(got == backends[pass_again]->sum_squares(backends[pass_again], a, n),
          "sum_squares of %zu: two runs differ", n);
    data_free_all();
}

static void test_sum_rows_case(size_t N, size_t C)
{
    const float *in = data_normal(N * C, 1);
    struct output out = output_make_sum(C);
    char what[64];
    for (int pass = 0; pass < passes; pass++)
        backends[pass]->sum_rows(backends[pass], out.at[pass], in, N, C);
    snprintf(what, sizeof what, "sum_rows %zu x %zu", N, C);
    output_check(&out, GRADIENT_SUM, what);
    data_free_all();
}

static void test_layer_scale_case(size_t N, size_t C)
{
    const float *in = data_normal(N * C, 1), *dout = data_normal(N * C, 1);
    const float *gamma = data_normal(C, 1);
    struct output out = output_make(N * C), din = output_make(N * C);
    struct output dgamma = output_make_sum(C);
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
    float *in = data_normal(n, 3);
    const float *dout = data_normal(n, 1);
    struct output out = output_make(n), din = output_make(n), in_place = output_make(n);
    char what[64];
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->activation_forward(k, out.at[pass], in, n, kind);
        k->activation_backward(k, din.at[pass], dout, in, n, kind);
        memcpy(in_place.at[pass], dout, n * sizeof *dout);
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
    float *x = data_allocate(n * sizeof *x);
    float *want = data_allocate(n * sizeof *want), *got = data_allocate(n * sizeof *got);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)i / 2000 - 12);
    backends[pass_ref]->activation_forward(backends[pass_ref], want, x, n, kind);
    backends[pass_cpu]->activation_forward(backends[pass_cpu], got, x, n, kind);
    double worst = 0, worst_x = 0;
    for (size_t i = 0; i < n; i++) {
        const double error = fabs((double)got[i] - want[i]) / (fabs(want[i]) + 1e-12);
        if (!isnan(worst) && !(error <= worst)) { /* a NaN stays the worst */
            worst = error;
            worst_x = x[i];
        }
    }
    CHECK(worst <= tolerances[TRANSCENDENTAL].bound,
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

/* A NaN, with or without bits in its payload, is seen and not hidden; huge values stay finite
 * where the function is. */
static void test_special_values(void)
{
    struct kernels *k = backends[pass_cpu];
    const float nans[] = {NAN, float_of(0x7fffffff), float_of(0xffffffff),
                          float_of(0x7fc00001)};
    for (size_t place = 0; place < 19; place++) {
        for (size_t which = 0; which < 4; which++) {
            float x[19], y[19], one[19];
            for (size_t i = 0; i < 19; i++)
                x[i] = one[i] = 1;
            x[place] = nans[which];
            for (int kind = 0; kind < 3; kind++) {
                k->activation_forward(k, y, x, 19, (enum activation)kind);
                CHECK(isnan(y[place]), "activation %d hides NaN %zu", kind, which);
                k->activation_backward(k, y, one, x, 19, (enum activation)kind);
                CHECK(isnan(y[place]), "activation %d backward hides NaN %zu", kind, which);
            }
            float lse[19], attended[19], mean, rstd;
            const struct attention shape = {1, 6, 1, 1, false};
            k->residual_norm_forward(k, NULL, y, &mean, &rstd, x, NULL, one, one, 1, 19, 1e-5f);
            CHECK(isnan(y[0]), "layer norm hides NaN %zu", which);
            if (place < 18) {
                k->attention_forward(k, attended, lse, x, &shape);
                CHECK(isnan(attended[place % 3 == 0 ? place / 3 : 0]),
                      "attention hides NaN %zu at %zu", which, place);
            }
            CHECK(isnan(k->sum_squares(k, x, 19)), "sum_squares hides NaN %zu", which);
            k->clamp(k, x, 19, 0, 2);
            CHECK(isnan(x[place]), "clamp hides NaN %zu", which);
        }
    }
    const float huge[4] = {-3e38f, 3e38f, -1e5f, 1e5f}, ones[4] = {1, 1, 1, 1};
    const float want_slope[4] = {0, 1, 0, 1};
    float y[4];
    for (int kind = 0; kind < 3; kind++) {
        k->activation_forward(k, y, huge, 4, (enum activation)kind);
        CHECK(y[1] == huge[1] && y[3] == huge[3] && fabsf(y[2]) < 1e-30f,
              "activation %d of huge values: %g %g %g %g", kind, y[0], y[1], y[2], y[3]);
        k->activation_backward(k, y, ones, huge, 4, (enum activation)kind);
        for (size_t i = 0; i < 4; i++)
            CHECK_NEAR(y[i], want_slope[i], 1e-30, "slope of activation %d at %g", kind,
                       huge[i]);
    }
}

static void test_norm_case(size_t N, size_t C, bool with_delta)
{
    const float *residual = data_normal(N * C, 1), *dnormed = data_normal(N * C, 1);
    const float *delta = with_delta ? data_normal(N * C, 1) : NULL;
    const float *gamma = data_normal(C, 1), *beta = data_normal(C, 1);
    struct output residual_out = output_make(with_delta ? N * C : 0);
    struct output normed = output_make(N * C);
    struct output mean = output_make(N), rstd = output_make(N), in_place = output_make(N * C);
    struct output dresidual = output_make_sum(N * C), dgamma = output_make_sum(C);
    struct output dbeta = output_make_sum(C);
    const float eps = 1e-2f; /* keeps rows of one or three values well conditioned */
    char what[64];
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->residual_norm_forward(k, with_delta ? residual_out.at[pass] : NULL, normed.at[pass],
                                 mean.at[pass], rstd.at[pass], residual, delta, gamma, beta, N,
                                 C, eps);
        memcpy(in_place.at[pass], residual, N * C * sizeof(float));
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
    float *in = data_normal(N * E, 1);
    const float *dout = data_normal(N * E, 1);
    if (N > 1)
        memset(in, 0, E * sizeof *in); /* a row without a direction */
    struct output out = output_make(N * E), inverse = output_make(N), din = output_make(N * E);
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
    const float *qkv = data_normal(B * T * 3 * C, deviation), *dout = data_normal(B * T * C, 1);
    struct output out = output_make(B * T * C), lse = output_make(B * shape.H * T);
    struct output dqkv = output_make(B * T * 3 * C);
    char what[96];
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->attention_forward(k, out.at[pass], lse.at[pass], qkv, &shape);
        k->attention_backward(k, dqkv.at[pass], dout, qkv, out.at[pass], lse.at[pass], &shape);
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
    const float *features = data_normal(B * K * C, 1), *class_embedding = data_normal(C, 1);
    const float *positional = data_normal((1 + grid) * C, 1);
    const float *dout = data_normal(B * (1 + K) * C, 1);
    struct output unpacked = output_make(B * K * P * P * 3), out = output_make(B * (1 + K) * C);
    struct output dfeatures = output_make(B * K * C), dclass = output_make_sum(C);
    struct output dpositional = output_make_sum((1 + grid) * C);
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
    const float *in = data_normal(B * T * C, 1), *dpooled = data_normal(B * C, 1);
    struct output out = output_make(B * T * C), dtable = output_make_sum(V * C);
    struct output dpositional = output_make_sum(T * C);
    struct output picked = output_make(B * C), dpicked = output_make(B * T * C);
    struct output averaged = output_make(B * C), daveraged = output_make(B * T * C);
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
    struct output loss = output_make(1), loss_alone = output_make(1);
    struct output dscale = output_make_sum(1);
    struct output dimage = output_make(B * E), dtext = output_make(B * E);
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
    struct output parameter = output_make_sum(n);
    struct output m = output_make_sum(n), v = output_make_sum(n);
    const struct adamw args = {.lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-6f,
                               .weight_decay = 0.2f, .gradient_scale = 0.7f, .step = step};
    char what[64];
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        for (size_t i = 0; i < n; i++)
            v.at[pass][i] = fabsf(v.at[pass][i]);
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

int main(void)
{
    static const char *const sets[] = {"baseline", "avx2", "avx512"};
    struct error error;
    CHECK(kernels_open(&backends[pass_ref], "ref", 0, &error) == STATUS_OK, "%s", error.text);
    setenv("CLIPIPE_CPU_ISA", "mmx", 1);
    CHECK(kernels_open(&backends[pass_cpu], "cpu", 0, &error) == STATUS_USAGE,
          "an unknown instruction set was accepted");
    CHECK(kernels_open(&backends[pass_cpu], "abacus", 0, &error) == STATUS_USAGE,
          "an unknown device was accepted");
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        setenv("CLIPIPE_CPU_ISA", sets[i], 1);
        const enum status status = kernels_open(&backends[pass_cpu], "cpu", 3, &error);
        if (status == STATUS_UNAVAILABLE)
            continue;
        CHECK(status == STATUS_OK, "%s: %s", sets[i], error.text);
        if (status != STATUS_OK)
            continue;
        backends[pass_again] = backends[pass_cpu];
        test_all();
        kernels_close(backends[pass_cpu]);
    }
    kernels_close(backends[pass_ref]);
    return check_report("cpu_against_ref");
}
