/* What PRECISION_AMP_BF16 means. The rounding itself, on every bfloat16 and on what lies
 * between two, by both backends and each instruction set; and every operation of the reference
 * against itself in fp32: from the same inputs, its results are those of fp32, rounded.
 * (test_cpu_against_ref.c has the operations of the cpu backend.) */
#include <math.h>

#include "kernels/kernels.h"
#include "tests/kernels/kernel_data.h"
#include "tests/unit/check.h"

enum { patterns = 65536 };

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* By distance: the nearer of the two bfloat16 about a finite x, the even one where it lies in
 * the middle. Past the largest, the next stands for 2^128, as IEEE 754 has it. */
static uint16_t nearest(float x)
{
    const uint16_t down = (uint16_t)(bits_of(x) >> 16), up = (uint16_t)(down + 1);
    const double below = data_float_of_bf16(down);
    const bool overflows = (up & 0x7fff) == 0x7f80;
    const double above = overflows ? copysign(0x1p128, x) : data_float_of_bf16(up);
    const double to_below = fabs(x - below), to_above = fabs(above - x);
    if (to_below == to_above)
        return down % 2 == 0 ? down : up;
    return to_below < to_above ? down : up;
}

static bool is_nan_bf16(uint16_t value)
{
    return (value & 0x7fff) > 0x7f80;
}

/* Every pattern with this lower half, rounded by k. */
static void test_round(struct kernels *k, uint32_t lower, const char *what)
{
    float *x = data_allocate(patterns * sizeof *x);
    uint16_t *y = data_allocate(patterns * sizeof *y);
    for (uint32_t i = 0; i < patterns; i++)
        x[i] = float_of(i << 16 | lower);
    k->round(k, y, x, patterns);
    for (uint32_t i = 0; i < patterns; i++) {
        if (isnan(x[i]))
            CHECK(is_nan_bf16(y[i]) && (y[i] & 0x8000) == (i & 0x8000),
                  "%s: the NaN %08x becomes %04x", what, (unsigned)bits_of(x[i]), y[i]);
        else if (isinf(x[i]))
            CHECK(y[i] == i, "%s: %g becomes %04x", what, (double)x[i], y[i]);
        else
            CHECK(y[i] == nearest(x[i]), "%s: %08x becomes %04x, expected %04x", what,
                  (unsigned)bits_of(x[i]), y[i], nearest(x[i]));
    }
    data_free_all();
}

/* Every bfloat16 read: a sum of one row gives back its value. */
static void test_read(struct kernels *k, const char *what)
{
    uint16_t *x = data_allocate(patterns * sizeof *x);
    float *y = data_allocate(patterns * sizeof *y);
    for (uint32_t i = 0; i < patterns; i++)
        x[i] = (uint16_t)i;
    memset(y, 0, patterns * sizeof *y);
    k->sum_rows(k, y, x, 1, patterns);
    for (uint32_t i = 0; i < patterns; i++)
        CHECK(is_nan_bf16(x[i]) ? isnan(y[i]) : y[i] == data_float_of_bf16(x[i]),
              "%s: %04x is read as %g", what, (unsigned)i, (double)y[i]);
    data_free_all();
}

static void test_conversion(struct kernels *k, const char *what)
{
    test_round(k, 0, what);
    test_round(k, 1, what);      /* NaNs whose payload is in the lower half alone */
    test_round(k, 0x7fff, what); /* just below a tie, on it, just above */
    test_round(k, 0x8000, what);
    test_round(k, 0x8001, what);
    test_round(k, 0xffff, what);
    test_read(k, what);
    for (size_t n = 0; n < 40; n++) { /* no more than n values are written */
        const float *x = data_normal(n, 1);
        uint16_t *y = data_allocate((n + 1) * sizeof *y);
        y[n] = 0xc5c5;
        k->round(k, y, x, n);
        CHECK(y[n] == 0xc5c5, "%s: rounding %zu values wrote more", what, n);
        for (size_t i = 0; i < n; i++)
            CHECK(y[i] == nearest(x[i]), "%s: %g, value %zu of %zu, becomes %04x", what,
                  (double)x[i], i, n, y[i]);
        data_free_all();
    }
}

static void test_conversions(void)
{
    static const char *const sets[] = {"baseline", "avx2", "avx512"};
    struct kernels *k;
    struct error error;
    CHECK(kernels_open(&k, "ref", PRECISION_AMP_BF16, 0, &error) == STATUS_OK, "%s",
          error.text);
    CHECK(activation_bytes(k) == 2, "an activation has %zu bytes", activation_bytes(k));
    test_conversion(k, "ref");
    kernels_close(k);
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        setenv("CLIPIPE_CPU_ISA", sets[i], 1);
        const enum status status = kernels_open(&k, "cpu", PRECISION_AMP_BF16, 2, &error);
        if (status == STATUS_UNAVAILABLE)
            continue;
        CHECK(status == STATUS_OK, "%s: %s", sets[i], error.text);
        if (status != STATUS_OK)
            continue;
        test_conversion(k, sets[i]);
        kernels_close(k);
    }
}

/* ---- the reference in bf16 against the reference in fp32 ---- */

static struct kernels *refs[2]; /* by precision */

/* The same values as activations in both precisions, or a float output of each. */
struct pair {
    size_t n;
    void *at[2];
    bool activation;
};

/* n normal values that bfloat16 holds. */
static struct pair pair_normal(size_t n)
{
    uint16_t *narrow = data_bf16(data_normal(n, 1), n);
    float *wide = data_allocate(n * sizeof *wide);
    for (size_t i = 0; i < n; i++)
        wide[i] = data_float_of_bf16(narrow[i]);
    return (struct pair){n, {wide, narrow}, true};
}

/* n floats for each to add to. */
static struct pair pair_floats(size_t n)
{
    const float *x = data_normal(n, 1);
    struct pair pair = {.n = n};
    for (int i = 0; i < 2; i++)
        pair.at[i] = memcpy(data_allocate(n * sizeof *x), x, n * sizeof *x);
    return pair;
}

/* An activation of bf16 is that of fp32, rounded; a float is the same. */
static void pair_check(const struct pair *pair, const char *what)
{
    const float *want = pair->at[PRECISION_FP32];
    const uint16_t *narrow = pair->at[PRECISION_AMP_BF16];
    const float *wide = pair->at[PRECISION_AMP_BF16];
    for (size_t i = 0; i < pair->n; i++) {
        if (pair->activation)
            CHECK(narrow[i] == nearest(want[i]), "%s: value %zu is %g in bf16, %.9g in fp32",
                  what, i, (double)data_float_of_bf16(narrow[i]), (double)want[i]);
        else
            CHECK(wide[i] == want[i], "%s: value %zu is %.9g from bf16, %.9g from fp32", what,
                  i, (double)wide[i], (double)want[i]);
    }
}

static void test_ref_matmul(void)
{
    enum { rows = 9, columns = 11, inner = 13, n = rows * columns };
    const struct pair a = pair_normal(rows * inner), b = pair_normal(inner * columns);
    const struct pair x = pair_normal(n);
    const struct pair out = pair_normal(n), activated = pair_normal(n), before = pair_normal(n);
    const struct pair din = pair_normal(n), sum = pair_floats(n), a_sums = pair_floats(rows);
    const float *bias = data_normal(columns, 1);
    for (int i = 0; i < 2; i++) {
        struct matmul args = {.rows = rows, .columns = columns, .inner = inner, .a = a.at[i],
                              .a_transposed = true, .b = b.at[i], .bias = bias,
                              .out = out.at[i], .activation = ACTIVATION_GELU_TANH};
        refs[i]->matmul(refs[i], &args);
        args.epilogue = EPILOGUE_ACTIVATION;
        args.out = activated.at[i];
        args.before = before.at[i];
        refs[i]->matmul(refs[i], &args);
        args.epilogue = EPILOGUE_ACTIVATION_BACKWARD;
        args.bias = NULL;
        args.out = din.at[i];
        args.before = x.at[i];
        refs[i]->matmul(refs[i], &args);
        args.epilogue = EPILOGUE_NONE;
        args.accumulate = true;
        args.out = sum.at[i];
        args.a_sums = a_sums.at[i];
        refs[i]->matmul(refs[i], &args);
    }
    pair_check(&out, "matmul");
    pair_check(&activated, "matmul, activated");
    pair_check(&before, "matmul, before the activation");
    pair_check(&din, "matmul, activation backward");
    pair_check(&sum, "matmul, accumulated");
    pair_check(&a_sums, "matmul, sums of a");
    data_free_all();
}

static void test_ref_elementwise(void)
{
    enum { N = 9, C = 13, n = N * C };
    const struct pair a = pair_normal(n), b = pair_normal(n), sum = pair_normal(n);
    const struct pair y = pair_normal(n), dx = pair_normal(n), scaled = pair_normal(n);
    const struct pair dscaled = pair_normal(n), sums = pair_floats(C), dgamma = pair_floats(C);
    const struct pair unpacked = pair_normal(3 * 4);
    const float *gamma = data_normal(C, 1);
    const float mean[3] = {0.5f, 0.25f, 0.1f}, std[3] = {0.3f, 0.2f, 0.1f};
    const uint8_t bytes[12] = {0, 51, 102, 255, 1, 2, 3, 4, 5, 6, 7, 8};
    for (int kind = 0; kind < 3; kind++) {
        for (int i = 0; i < 2; i++) {
            struct kernels *k = refs[i];
            k->activation_forward(k, y.at[i], a.at[i], n, (enum activation)kind);
            k->activation_backward(k, dx.at[i], b.at[i], a.at[i], n, (enum activation)kind);
        }
        pair_check(&y, "activation");
        pair_check(&dx, "activation backward");
    }
    for (int i = 0; i < 2; i++) {
        struct kernels *k = refs[i];
        k->add(k, sum.at[i], a.at[i], b.at[i], n);
        k->sum_rows(k, sums.at[i], a.at[i], N, C);
        k->layer_scale_forward(k, scaled.at[i], a.at[i], gamma, N, C);
        k->layer_scale_backward(k, dscaled.at[i], dgamma.at[i], b.at[i], a.at[i], gamma, N, C);
        k->unpack_patches(k, unpacked.at[i], bytes, 1, 2, mean, std);
    }
    pair_check(&sum, "add");
    pair_check(&sums, "sum_rows");
    pair_check(&scaled, "layer scale");
    pair_check(&dscaled, "layer scale backward");
    pair_check(&dgamma, "layer scale gamma");
    pair_check(&unpacked, "unpack_patches");
    data_free_all();
}

/* What is normalised is the sum as it was written, so fp32 is given that. */
static void test_ref_norm(void)
{
    enum { N = 9, C = 13, n = N * C };
    const struct pair residual = pair_normal(n), delta = pair_normal(n), dy = pair_normal(n);
    const struct pair sum = pair_normal(n), normed = pair_normal(n), dresidual = pair_normal(n);
    const struct pair mean = pair_floats(N), rstd = pair_floats(N);
    const struct pair dgamma = pair_floats(C), dbeta = pair_floats(C);
    const struct pair unit = pair_floats(n), inverse = pair_floats(N), dx = pair_normal(n);
    const float *gamma = data_normal(C, 1), *beta = data_normal(C, 1);
    const float *dunit = data_normal(n, 1);
    struct kernels *fp32 = refs[PRECISION_FP32], *bf16 = refs[PRECISION_AMP_BF16];
    float *wide = sum.at[PRECISION_FP32];

    bf16->residual_norm_forward(bf16, sum.at[1], normed.at[1], mean.at[1], rstd.at[1],
                                residual.at[1], delta.at[1], gamma, beta, N, C, 1e-5f);
    fp32->add(fp32, wide, residual.at[0], delta.at[0], n);
    pair_check(&sum, "residual sum");
    for (size_t i = 0; i < n; i++)
        wide[i] = data_float_of_bf16(((const uint16_t *)sum.at[1])[i]);
    fp32->residual_norm_forward(fp32, NULL, normed.at[0], mean.at[0], rstd.at[0], wide, NULL,
                                gamma, beta, N, C, 1e-5f);
    for (int i = 0; i < 2; i++) {
        struct kernels *k = refs[i];
        k->norm_backward(k, dresidual.at[i], dgamma.at[i], dbeta.at[i], dy.at[i], sum.at[i],
                         mean.at[i], rstd.at[i], gamma, N, C);
        k->normalize_forward(k, unit.at[i], inverse.at[i], residual.at[i], N, C);
        k->normalize_backward(k, dx.at[i], dunit, unit.at[i], inverse.at[i], N, C);
    }
    pair_check(&normed, "norm");
    pair_check(&mean, "mean");
    pair_check(&rstd, "rstd");
    pair_check(&dresidual, "norm backward");
    pair_check(&dgamma, "norm gamma");
    pair_check(&dbeta, "norm beta");
    pair_check(&unit, "unit length");
    pair_check(&inverse, "inverse length");
    pair_check(&dx, "unit length backward");
    data_free_all();
}

/* fp32 is given the output that bf16 rounded, too. */
static void test_ref_attention(void)
{
    enum { B = 2, T = 7, H = 3, D = 5, n = B * T * H * D };
    const struct attention shape = {B, T, H, D, true};
    const struct pair qkv = pair_normal(3 * n), dout = pair_normal(n), rounded = pair_normal(n);
    const struct pair out = pair_normal(n), dqkv = pair_normal(3 * n);
    const struct pair lse = pair_floats(B * H * T);
    for (int i = 0; i < 2; i++) {
        struct kernels *k = refs[i];
        k->attention_forward(k, out.at[i], lse.at[i], qkv.at[i], &shape);
        k->attention_backward(k, dqkv.at[i], dout.at[i], qkv.at[i], rounded.at[i], lse.at[i],
                              &shape);
    }
    pair_check(&out, "attention");
    pair_check(&lse, "log-sum-exp");
    pair_check(&dqkv, "attention backward");
    data_free_all();
}

static void test_ref_tokens(void)
{
    enum { B = 3, T = 4, C = 5, grid = 9, V = 6 };
    const struct pair in = pair_normal(B * T * C), dout = pair_normal(B * (1 + T) * C);
    const struct pair patches = pair_normal(B * (1 + T) * C);
    const struct pair dfeatures = pair_normal(B * T * C);
    const struct pair tokens = pair_normal(B * T * C), picked = pair_normal(B * C);
    const struct pair dpicked = pair_normal(B * T * C), mean = pair_normal(B * C);
    const struct pair dmean = pair_normal(B * T * C), dclass = pair_floats(C);
    const struct pair dpositional = pair_floats((1 + grid) * C), dtable = pair_floats(V * C);
    const struct pair dplace = pair_floats(T * C);
    const float *positional = data_normal((1 + grid) * C, 1), *table = data_normal(V * C, 1);
    const int32_t *position = data_distinct(B, T, grid), *token = data_integers(B * T, V);
    const int32_t *row = data_integers(B, T);
    for (int i = 0; i < 2; i++) {
        struct kernels *k = refs[i];
        k->embed_patches_forward(k, patches.at[i], in.at[i], position, table, positional, B, T,
                                 C);
        k->embed_patches_backward(k, dfeatures.at[i], dclass.at[i], dpositional.at[i],
                                  dout.at[i], position, B, T, C);
        k->embed_tokens_forward(k, tokens.at[i], token, table, positional, B, T, C);
        k->embed_tokens_backward(k, dtable.at[i], dplace.at[i], dout.at[i], token, B, T, C);
        k->pick_token_forward(k, picked.at[i], in.at[i], row, B, T, C);
        k->pick_token_backward(k, dpicked.at[i], dout.at[i], row, B, T, C);
        k->mean_tokens_forward(k, mean.at[i], in.at[i], B, T, C, 1);
        k->mean_tokens_backward(k, dmean.at[i], dout.at[i], B, T, C, 1);
    }
    pair_check(&patches, "patches");
    pair_check(&dfeatures, "patches backward");
    pair_check(&dclass, "class");
    pair_check(&dpositional, "positions");
    pair_check(&tokens, "tokens");
    pair_check(&dtable, "table");
    pair_check(&dplace, "token positions");
    pair_check(&picked, "picked token");
    pair_check(&dpicked, "picked token backward");
    pair_check(&mean, "mean of tokens");
    pair_check(&dmean, "mean of tokens backward");
    data_free_all();
}

int main(void)
{
    struct error error;
    rng_init(&data_rng, 13, 0, 0, RNG_TEST);
    test_conversions();
    for (int i = 0; i < 2; i++)
        if (kernels_open(&refs[i], "ref", (enum precision)i, 0, &error) != STATUS_OK) {
            CHECK(false, "%s", error.text);
            return check_report("bf16");
        }
    test_ref_matmul();
    test_ref_elementwise();
    test_ref_norm();
    test_ref_attention();
    test_ref_tokens();
    kernels_close(refs[0]);
    kernels_close(refs[1]);
    return check_report("bf16");
}
