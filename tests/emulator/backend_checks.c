#include "tests/emulator/backend_checks.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/launch.h"
#include "kernels/kernels.h"
#include "tests/kernels/kernel_data.h"

const char *const backend_check_names[BACKEND_CHECKS] = {
    [CHECK_MATMUL] = "matmul",
    [CHECK_ELEMENTWISE] = "elementwise",
    [CHECK_SUMS] = "sums",
    [CHECK_NORM] = "norm",
    [CHECK_ATTENTION] = "attention",
    [CHECK_PATCHES] = "patches",
    [CHECK_TOKENS] = "tokens",
    [CHECK_LOSS] = "loss",
    [CHECK_SPECIAL_VALUES] = "special values",
    [CHECK_BF16] = "bf16",
    [CHECK_FAILURE] = "failure",
};

/* |got - want| <= bound * max(1, |want|), inputs of size 1; float carries 6e-8, bf16 4e-3. */
enum tolerance { EXACT, ELEMENT, SUM, TRANSCENDENTAL, NORM, SOFTMAX, GRADIENT_SUM, LOSS, BF16 };

static const double bounds[] = {
    [EXACT] = 0,             /* copies and single additions round the same way */
    [ELEMENT] = 3e-7,        /* a few roundings of one value */
    [SUM] = 3e-5,            /* sums of up to 1000 products in float, against double */
    [TRANSCENDENTAL] = 5e-6, /* exp's argument, up to 30, rounded twice: 30 * 1.2e-7 */
    [NORM] = 2e-5,           /* two sums over a row, divided by a deviation near 1 */
    [SOFTMAX] = 3e-5,        /* scores up to 20, each off by 20 * 6e-8, become factors */
    [GRADIENT_SUM] = 2e-4,   /* float sums of 700 rows that went through the above */
    [LOSS] = 2e-5,           /* logits up to 100, each off by 100 * 6e-8, become factors */
    [BF16] = 8e-3,           /* one rounding to 8 bits, and one more of what it was made from */
};

enum { pass_ref, pass_device, pass_again, passes };

static struct kernels *backends[passes];
static bool large, tiny, aligned;
static size_t passed_count, failed_count;
static char first_failure[256];

__attribute__((format(printf, 2, 3))) static void check(bool condition, const char *format, ...)
{
    va_list args;
    if (condition) {
        passed_count++;
        return;
    }
    va_start(args, format);
    if (failed_count++ == 0)
        vsnprintf(first_failure, sizeof first_failure, format, args);
    va_end(args);
}

/* ---- arrays in both memories ---- */

static void *device_blocks[512];
static size_t device_block_count;

static void *device_allocate(size_t bytes)
{
    void *block = backends[pass_device]->allocate(backends[pass_device], bytes);
    if (block == NULL || device_block_count == 512) {
        fprintf(stderr, "backend checks: no device memory for %zu bytes\n", bytes);
        exit(71);
    }
    device_blocks[device_block_count++] = block;
    return block;
}

static void free_all(void)
{
    while (device_block_count > 0)
        backends[pass_device]->release(backends[pass_device],
                                       device_blocks[--device_block_count]);
    data_free_all();
}

/* `host` on the device, where it ends at the end of its memory. */
static void *on_device(const void *host, size_t bytes)
{
    void *device = device_allocate(bytes);
    backends[pass_device]->upload(backends[pass_device], device, host, bytes);
    return device;
}

/* An input: the host's for the reference, the device's for the other passes. */
struct input {
    const float *at[passes];
};

static struct input input_of(const float *host, size_t n)
{
    const float *device = on_device(host, n * sizeof *host);
    return (struct input){{host, device, device}};
}

static struct input input_normal(size_t n, double deviation)
{
    return input_of(data_normal(n, deviation), n);
}

struct integers {
    const int32_t *at[passes];
};

static struct integers integers_of(const int32_t *host, size_t n)
{
    const int32_t *device = on_device(host, n * sizeof *host);
    return (struct integers){{host, device, device}};
}

enum { guard_words = 8 };
static const uint32_t guard = 0xc0ffee00;

/* An output, once for each pass, between guard words: 16 bytes from the start of its memory, or
 * one word where alignment is to be missing. */
struct output {
    size_t n;
    float *at[passes];
};

static struct output output_filled(size_t n, const float *before)
{
    const size_t offset = aligned ? 4 : 1, words = offset + n + guard_words;
    float *block = data_allocate(words * sizeof *block);
    struct output out = {.n = n};
    for (size_t i = 0; i < words; i++)
        memcpy(&block[i], &guard, sizeof guard);
    for (size_t i = 0; i < n; i++)
        block[offset + i] = before == NULL ? NAN : before[i];
    out.at[pass_ref] = block + offset;
    for (int pass = pass_device; pass < passes; pass++)
        out.at[pass] = (float *)on_device(block, words * sizeof *block) + offset;
    return out;
}

/* Overwritten by the operation: NaN before. */
static struct output output_make(size_t n)
{
    return output_filled(n, NULL);
}

/* Added to by the operation. */
static struct output output_make_sum(size_t n)
{
    return output_filled(n, data_normal(n, 1));
}

__attribute__((format(printf, 3, 4))) static void output_check(const struct output *out,
                                                               enum tolerance tolerance,
                                                               const char *format, ...)
{
    const size_t offset = aligned ? 4 : 1, words = offset + out->n + guard_words;
    float *got[passes];
    double worst = 0;
    size_t worst_at = 0;
    char what[128];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    for (int pass = pass_device; pass < passes; pass++) {
        float *words_back = data_allocate(words * sizeof *words_back);
        backends[pass]->download(backends[pass], words_back, out->at[pass] - offset,
                                 words * sizeof *words_back);
        got[pass] = words_back + offset;
        for (size_t i = 0; i < words; i++)
            if (i < offset || i >= offset + out->n)
                check(memcmp(&words_back[i], &guard, sizeof guard) == 0,
                      "%s: wrote outside its %zu values", what, out->n);
    }
    for (size_t i = 0; i < out->n; i++) {
        const double want = out->at[pass_ref][i];
        const double error = fabs(got[pass_device][i] - want) / fmax(1, fabs(want));
        if (!isnan(worst) && !(error <= worst)) { /* a NaN stays the worst */
            worst = error;
            worst_at = i;
        }
    }
    check(worst <= bounds[tolerance], "%s: value %zu of %zu is %.9g, expected %.9g", what,
          worst_at, out->n, out->n > 0 ? (double)got[pass_device][worst_at] : 0.0,
          out->n > 0 ? (double)out->at[pass_ref][worst_at] : 0.0);
    check(memcmp(got[pass_device], got[pass_again], out->n * sizeof(float)) == 0,
          "%s: two runs differ", what);
}

/* ---- operations ---- */

static const size_t sizes[] = {1, 3, 8, 17, 33, 64, 129};
enum { size_count = sizeof sizes / sizeof sizes[0] };

static void check_matmul_case(size_t rows, size_t columns, size_t inner, unsigned flags)
{
    const bool accumulate = flags & 4, with_bias = !accumulate && flags & 8;
    const struct input a = input_normal(rows * inner, 1), b = input_normal(inner * columns, 1);
    const struct input bias = input_normal(columns, 1);
    const struct output out = accumulate ? output_make_sum(rows * columns)
                                         : output_make(rows * columns);
    for (int pass = 0; pass < passes; pass++)
        backends[pass]->matmul(backends[pass], &(struct matmul){
            .rows = rows, .columns = columns, .inner = inner, .a = a.at[pass],
            .a_transposed = flags & 1, .b = b.at[pass], .b_transposed = (flags & 2) != 0,
            .bias = with_bias ? bias.at[pass] : NULL, .out = out.at[pass],
            .accumulate = accumulate});
    output_check(&out, SUM, "matmul %zu x %zu x %zu, flags %u", rows, columns, inner, flags);
    free_all();
}

static void check_matmul(void)
{
    for (size_t i = 0; i < size_count; i++)
        for (unsigned flags = 0; flags < 16; flags++)
            check_matmul_case(sizes[i], sizes[(i + 2 + flags) % size_count],
                              sizes[(i + 5) % size_count], flags);
    check_matmul_case(5, 7, 0, 0);
    check_matmul_case(5, 7, 0, 4);
    check_matmul_case(5, 7, 0, 8);
    check_matmul_case(0, 7, 3, 0);
    for (size_t n = 1; n < 700 && large; n++) /* more shapes than there are plans */
        check_matmul_case(1 + n % 5, n, 3, 0);
}

static void check_elementwise_case(size_t n)
{
    const struct input a = input_normal(n, 1), b = input_normal(n, 1);
    const struct output sum = output_make(n), in_place = output_make_sum(n);
    const struct output clamped = output_make_sum(n);
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->add(k, sum.at[pass], a.at[pass], b.at[pass], n);
        k->add(k, in_place.at[pass], in_place.at[pass], b.at[pass], n);
        k->clamp(k, clamped.at[pass], n, -0.5f, 0.25f);
    }
    output_check(&sum, EXACT, "add of %zu", n);
    output_check(&in_place, EXACT, "add in place of %zu", n);
    output_check(&clamped, EXACT, "clamp of %zu", n);
    free_all();
}

static void check_activation_case(size_t n, enum activation kind)
{
    const struct input in = input_normal(n, 3), dout = input_normal(n, 1);
    const struct output out = output_make(n), din = output_make(n);
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->activation_forward(k, out.at[pass], in.at[pass], n, kind);
        k->activation_backward(k, din.at[pass], dout.at[pass], in.at[pass], n, kind);
    }
    output_check(&out, TRANSCENDENTAL, "activation %d of %zu", (int)kind, n);
    output_check(&din, TRANSCENDENTAL, "slope of activation %d of %zu", (int)kind, n);
    free_all();
}

/* The tails keep their relative accuracy. */
static void check_activation_tails(enum activation kind)
{
    enum { n = 4801 };
    float x[n], want[n], got[n];
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)i / 200 - 12);
    const struct input in = input_of(x, n);
    float *out = device_allocate(sizeof got);
    backends[pass_ref]->activation_forward(backends[pass_ref], want, x, n, kind);
    backends[pass_device]->activation_forward(backends[pass_device], out, in.at[pass_device], n,
                                              kind);
    backends[pass_device]->download(backends[pass_device], got, out, sizeof got);
    for (size_t i = 0; i < n; i++) {
        const double error = fabs((double)got[i] - want[i]) / (fabs(want[i]) + 1e-12);
        check(error <= bounds[TRANSCENDENTAL], "activation %d at %g: relative error %g",
              (int)kind, x[i], error);
    }
    free_all();
}

static void check_adamw_case(size_t n, int64_t step)
{
    float *second = data_normal(n, 1);
    const struct input gradient = input_normal(n, 1);
    for (size_t i = 0; i < n; i++)
        second[i] = fabsf(second[i]);
    const struct output parameter = output_make_sum(n), m = output_make_sum(n);
    const struct output v = output_filled(n, second);
    const struct adamw args = {.lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-6f,
                               .weight_decay = 0.2f, .gradient_scale = 0.7f, .step = step};
    for (int pass = 0; pass < passes; pass++)
        backends[pass]->adamw(backends[pass], parameter.at[pass], m.at[pass], v.at[pass],
                              gradient.at[pass], n, &args);
    output_check(&parameter, ELEMENT, "adamw of %zu at step %lld", n, (long long)step);
    output_check(&m, ELEMENT, "first moment of %zu", n);
    output_check(&v, ELEMENT, "second moment of %zu", n);
    free_all();
}

static void check_elementwise(void)
{
    for (size_t i = 0; i < size_count; i++) {
        check_elementwise_case(sizes[i]);
        check_adamw_case(sizes[i], 1 + (int64_t)i * 1000);
        for (int kind = 0; kind < 3; kind++)
            check_activation_case(sizes[i], (enum activation)kind);
    }
    check_elementwise_case(0);
    check_elementwise_case(20003); /* more than one round of all blocks */
    check_adamw_case(20001, 10);
    for (int kind = 0; kind < 3; kind++)
        check_activation_tails((enum activation)kind);
}

static void check_sums_case(size_t N, size_t C)
{
    const struct input in = input_normal(N * C, 1), dout = input_normal(N * C, 1);
    const struct input gamma = input_normal(C, 1);
    const struct output sum = output_make_sum(C), scaled = output_make(N * C);
    const struct output din = output_make(N * C), dgamma = output_make_sum(C);
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->sum_rows(k, sum.at[pass], in.at[pass], N, C);
        k->layer_scale_forward(k, scaled.at[pass], in.at[pass], gamma.at[pass], N, C);
        k->layer_scale_backward(k, din.at[pass], dgamma.at[pass], dout.at[pass], in.at[pass],
                                gamma.at[pass], N, C);
    }
    output_check(&sum, GRADIENT_SUM, "sum_rows %zu x %zu", N, C);
    output_check(&scaled, EXACT, "layer scale %zu x %zu", N, C);
    output_check(&din, EXACT, "layer scale backward %zu x %zu", N, C);
    output_check(&dgamma, GRADIENT_SUM, "layer scale gradient %zu x %zu", N, C);
    free_all();
}

static void check_squares_case(size_t n)
{
    const struct input a = input_normal(n, 1);
    struct kernels *k = backends[pass_device];
    const double want = backends[pass_ref]->sum_squares(backends[pass_ref], a.at[pass_ref], n);
    const double got = k->sum_squares(k, a.at[pass_device], n);
    check(fabs(got - want) <= 1e-12 * (1 + want), "sum_squares of %zu: %.17g, expected %.17g",
          n, got, want);
    check(got == k->sum_squares(k, a.at[pass_device], n), "sum_squares of %zu: runs differ", n);
    free_all();
}

static void check_sums(void)
{
    for (size_t i = 0; i < size_count && !tiny; i++) {
        check_squares_case(sizes[i]);
        for (size_t j = 0; j < size_count; j += 2)
            check_sums_case(sizes[i], sizes[j]);
    }
    check_sums_case(703, tiny ? 3 : 129);
    check_sums_case(0, 5);
    check_squares_case(0);
    check_squares_case(tiny ? 40003 : 100003);
}

static void check_norm_case(size_t N, size_t C, bool with_delta)
{
    const struct input residual = input_normal(N * C, 1), dnormed = input_normal(N * C, 1);
    const struct input delta = input_normal(N * C, 1);
    const struct input gamma = input_normal(C, 1), beta = input_normal(C, 1);
    const struct output in_place = output_filled(N * C, residual.at[pass_ref]);
    const struct output normed = output_make(N * C);
    const struct output mean = output_make(N), rstd = output_make(N);
    const struct output dresidual = output_make_sum(N * C), dgamma = output_make_sum(C);
    const struct output dbeta = output_make_sum(C);
    const float eps = 1e-2f; /* keeps rows of one or three values well conditioned */
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->residual_norm_forward(k, with_delta ? in_place.at[pass] : NULL, normed.at[pass],
                                 mean.at[pass], rstd.at[pass], in_place.at[pass],
                                 with_delta ? delta.at[pass] : NULL, gamma.at[pass],
                                 beta.at[pass], N, C, eps);
        k->norm_backward(k, dresidual.at[pass], dgamma.at[pass], dbeta.at[pass],
                         dnormed.at[pass], in_place.at[pass], mean.at[pass], rstd.at[pass],
                         gamma.at[pass], N, C);
    }
    output_check(&in_place, EXACT, "residual %zu x %zu", N, C);
    output_check(&normed, NORM, "norm %zu x %zu", N, C);
    output_check(&mean, NORM, "mean %zu x %zu", N, C);
    output_check(&rstd, NORM, "rstd %zu x %zu", N, C);
    output_check(&dresidual, GRADIENT_SUM, "norm backward %zu x %zu", N, C);
    output_check(&dgamma, GRADIENT_SUM, "dgamma %zu x %zu", N, C);
    output_check(&dbeta, GRADIENT_SUM, "dbeta %zu x %zu", N, C);
    free_all();
}

static void check_normalize_case(size_t N, size_t E)
{
    float *values = data_normal(N * E, 1);
    if (N > 1)
        memset(values, 0, E * sizeof *values); /* a row without a direction */
    const struct input in = input_of(values, N * E), dout = input_normal(N * E, 1);
    const struct output out = output_make(N * E), inverse = output_make(N);
    const struct output din = output_make(N * E);
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->normalize_forward(k, out.at[pass], inverse.at[pass], in.at[pass], N, E);
        k->normalize_backward(k, din.at[pass], dout.at[pass], out.at[pass], inverse.at[pass], N,
                              E);
    }
    output_check(&out, ELEMENT, "normalize %zu x %zu", N, E);
    output_check(&inverse, ELEMENT, "inverse length %zu x %zu", N, E);
    if (E > 1) /* with one value, din is the rounding error of 1 - 1 */
        output_check(&din, SUM, "normalize backward %zu x %zu", N, E);
    free_all();
}

static void check_norm(void)
{
    for (size_t i = 0; i < size_count && !tiny; i++)
        for (size_t j = 0; j < size_count; j += 2) {
            check_norm_case(sizes[i], sizes[j], (i + j / 2) % 2 == 0);
            check_normalize_case(sizes[i], sizes[j]);
        }
    check_norm_case(tiny ? 2050 : 300, tiny ? 3 : 36, true);
    if (tiny)
        return;
    check_norm_case(0, 5, true);
    check_norm_case(2, 768, true);
    check_norm_case(3, 1280, false);
    check_norm_case(2, 1664, true);
    check_norm_case(2, 1001, true);
    if (large)
        check_norm_case(1500, 129, true); /* more rows than shares */
}

static void check_attention_case(struct attention shape, double deviation)
{
    const size_t B = shape.B, T = shape.T, C = shape.H * shape.D;
    const struct input qkv = input_normal(B * T * 3 * C, deviation);
    const struct input dout = input_normal(B * T * C, 1);
    const struct output out = output_make(B * T * C), lse = output_make(B * shape.H * T);
    const struct output dqkv = output_make(B * T * 3 * C);
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->attention_forward(k, out.at[pass], lse.at[pass], qkv.at[pass], &shape);
        k->attention_backward(k, dqkv.at[pass], dout.at[pass], qkv.at[pass], out.at[pass],
                              lse.at[pass], &shape);
    }
    output_check(&out, SOFTMAX, "attention B %zu T %zu H %zu D %zu causal %d", B, T, shape.H,
                 shape.D, shape.causal);
    output_check(&lse, SOFTMAX, "lse B %zu T %zu H %zu D %zu causal %d", B, T, shape.H, shape.D,
                 shape.causal);
    output_check(&dqkv, GRADIENT_SUM, "attention backward B %zu T %zu H %zu D %zu causal %d", B,
                 T, shape.H, shape.D, shape.causal);
    free_all();
}

static void check_attention(void)
{
    if (tiny) {
        check_attention_case((struct attention){.B = 2, .T = 35, .H = 1, .D = 8}, 1);
        check_attention_case((struct attention){.B = 1, .T = 270, .H = 1, .D = 3}, 1);
        return;
    }
    static const size_t head_sizes[] = {1, 17, 32, 64, 80, 88, 96, 104, 128};
    for (int causal = 0; causal < 2; causal++) {
        for (size_t j = 0; j < sizeof head_sizes / sizeof head_sizes[0]; j += large ? 1 : 3)
            check_attention_case((struct attention){.B = 1 + j % 2, .T = sizes[j % size_count],
                                                    .H = 1 + j % 3, .D = head_sizes[j],
                                                    .causal = causal}, 1);
        check_attention_case((struct attention){.B = 2, .T = 50, .H = 2, .D = 8,
                                                .causal = causal}, 1);
        check_attention_case((struct attention){.B = 0, .T = 3, .H = 1, .D = 4,
                                                .causal = causal}, 1);
        check_attention_case((struct attention){.B = 1, .T = 0, .H = 1, .D = 4,
                                                .causal = causal}, 1);
        if (large) {
            check_attention_case((struct attention){.B = 1, .T = 610, .H = 1, .D = 20,
                                                    .causal = causal}, 1);
            check_attention_case((struct attention){.B = 1, .T = 197, .H = 2, .D = 64,
                                                    .causal = causal}, 1);
            check_attention_case((struct attention){.B = 1, .T = 140, .H = 1, .D = 200,
                                                    .causal = causal}, 0.5);
        }
    }
    check_attention_case((struct attention){.B = 1, .T = 65, .H = 2, .D = 32}, 2.5);
}

static void check_patches_case(size_t B, size_t K, size_t C, size_t P)
{
    const size_t grid = 2 * K + 1, count = B * K * P * P * 3;
    const float mean[3] = {0.48f, 0.46f, 0.41f}, std[3] = {0.27f, 0.26f, 0.28f};
    uint8_t *host_bytes = data_allocate(count);
    for (size_t i = 0; i < count; i++)
        host_bytes[i] = (uint8_t)rng_next(&data_rng);
    const uint8_t *device_bytes = on_device(host_bytes, count);
    const struct integers position = integers_of(data_distinct(B, K, grid), B * K);
    const struct input features = input_normal(B * K * C, 1), class_row = input_normal(C, 1);
    const struct input positional = input_normal((1 + grid) * C, 1);
    const struct input dout = input_normal(B * (1 + K) * C, 1);
    const struct output unpacked = output_make(count), out = output_make(B * (1 + K) * C);
    const struct output dfeatures = output_make(B * K * C), dclass = output_make_sum(C);
    const struct output dpositional = output_make_sum((1 + grid) * C);
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->unpack_patches(k, unpacked.at[pass], pass == pass_ref ? host_bytes : device_bytes,
                          B * K, P, mean, std);
        k->embed_patches_forward(k, out.at[pass], features.at[pass], position.at[pass],
                                 class_row.at[pass], positional.at[pass], B, K, C);
        k->embed_patches_backward(k, dfeatures.at[pass], dclass.at[pass], dpositional.at[pass],
                                  dout.at[pass], position.at[pass], B, K, C);
    }
    output_check(&unpacked, ELEMENT, "unpack B %zu K %zu P %zu", B, K, P);
    output_check(&out, EXACT, "embed patches B %zu K %zu C %zu", B, K, C);
    output_check(&dfeatures, EXACT, "dfeatures B %zu K %zu C %zu", B, K, C);
    output_check(&dclass, SUM, "dclass B %zu K %zu C %zu", B, K, C);
    output_check(&dpositional, SUM, "dpositional B %zu K %zu C %zu", B, K, C);
    free_all();
}

static void check_patches(void)
{
    for (size_t i = 0; i < 5; i++)
        check_patches_case(1 + i, sizes[i], sizes[(i + 3) % size_count], 1 + i);
    check_patches_case(3, 2, 5, 16);
    if (large)
        check_patches_case(40, 33, 65, 4);
}

static void check_tokens_case(size_t B, size_t T, size_t C, size_t V)
{
    const struct integers tokens = integers_of(data_integers(B * T, V), B * T);
    const struct integers row = integers_of(data_integers(B, T), B);
    const struct input table = input_normal(V * C, 1), positional = input_normal(T * C, 1);
    const struct input in = input_normal(B * T * C, 1), dpooled = input_normal(B * C, 1);
    const struct output out = output_make(B * T * C), dtable = output_make_sum(V * C);
    const struct output dpositional = output_make_sum(T * C);
    const struct output picked = output_make(B * C), dpicked = output_make(B * T * C);
    const struct output averaged = output_make(B * C), daveraged = output_make(B * T * C);
    const size_t first = T > 1;
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->embed_tokens_forward(k, out.at[pass], tokens.at[pass], table.at[pass],
                                positional.at[pass], B, T, C);
        k->embed_tokens_backward(k, dtable.at[pass], dpositional.at[pass], in.at[pass],
                                 tokens.at[pass], B, T, C);
        k->pick_token_forward(k, picked.at[pass], in.at[pass], row.at[pass], B, T, C);
        k->pick_token_backward(k, dpicked.at[pass], dpooled.at[pass], row.at[pass], B, T, C);
        k->mean_tokens_forward(k, averaged.at[pass], in.at[pass], B, T, C, first);
        k->mean_tokens_backward(k, daveraged.at[pass], dpooled.at[pass], B, T, C, first);
    }
    output_check(&out, EXACT, "embed tokens B %zu T %zu C %zu V %zu", B, T, C, V);
    output_check(&dtable, GRADIENT_SUM, "dtable B %zu T %zu C %zu V %zu", B, T, C, V);
    output_check(&dpositional, SUM, "dpositional B %zu T %zu C %zu", B, T, C);
    output_check(&picked, EXACT, "pick token B %zu T %zu C %zu", B, T, C);
    output_check(&dpicked, EXACT, "pick token backward B %zu T %zu C %zu", B, T, C);
    output_check(&averaged, SUM, "mean of tokens B %zu T %zu C %zu", B, T, C);
    output_check(&daveraged, ELEMENT, "mean of tokens backward B %zu T %zu C %zu", B, T, C);
    free_all();
}

static void check_tokens(void)
{
    for (size_t i = 0; i < 6 && !tiny; i++)
        check_tokens_case(1 + i, sizes[i], sizes[(i + 2) % size_count], 5 + 100 * i);
    check_tokens_case(60, 33, 33, 3); /* runs of many pieces, sort in two chunks */
    if (large)
        check_tokens_case(40, 77, 300, 49408);
}

static void check_loss_case(size_t B, size_t E, double scale, bool matching)
{
    const float *image_rows = data_unit_rows(B, E);
    const float *text_rows = matching ? image_rows : data_unit_rows(B, E);
    const struct input image = input_of(image_rows, B * E), text = input_of(text_rows, B * E);
    const float log_scale = (float)log(scale);
    const struct input logit_scale = input_of(&log_scale, 1);
    const struct output loss = output_make(1), alone = output_make(1);
    const struct output dscale = output_make_sum(1);
    const struct output dimage = output_make(B * E), dtext = output_make(B * E);
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->contrastive_loss(k, loss.at[pass], dimage.at[pass], dtext.at[pass], dscale.at[pass],
                            image.at[pass], text.at[pass], logit_scale.at[pass], B, E);
        k->contrastive_loss(k, alone.at[pass], NULL, NULL, NULL, image.at[pass], text.at[pass],
                            logit_scale.at[pass], B, E);
    }
    output_check(&loss, LOSS, "loss B %zu E %zu s %g", B, E, scale);
    output_check(&alone, LOSS, "loss alone B %zu E %zu s %g", B, E, scale);
    output_check(&dscale, LOSS, "dlogit_scale B %zu E %zu s %g", B, E, scale);
    output_check(&dimage, LOSS, "dimage B %zu E %zu s %g", B, E, scale);
    output_check(&dtext, LOSS, "dtext B %zu E %zu s %g", B, E, scale);
    free_all();
}

static void check_loss(void)
{
    for (size_t i = 0; i < size_count && !tiny; i++)
        check_loss_case(sizes[i], sizes[size_count - 1 - i], 14.3, false);
    check_loss_case(tiny ? 40 : 300, 33, 100, false);
    check_loss_case(tiny ? 40 : 300, 33, 100, true);
    if (large && aligned)
        check_loss_case(4200, 2, 14.3, false); /* three tiles down, two across */

    const float unit[4] = {1, 0, 1, 0}, opposed[4] = {-1, 0, -1, 0}, log_scale = logf(100);
    struct kernels *k = backends[pass_device];
    float *loss = device_allocate(sizeof *loss), got = NAN;
    k->contrastive_loss(k, loss, NULL, NULL, NULL, on_device(unit, sizeof unit),
                        on_device(opposed, sizeof opposed),
                        on_device(&log_scale, sizeof log_scale), 2, 2);
    k->download(k, &got, loss, sizeof got);
    check(fabs(got - log(2)) <= 1e-5, "loss of opposed pairs: %g", (double)got);
    free_all();
}

/* A NaN is seen and not hidden; huge values stay finite where the function is. */
static void check_special_values(void)
{
    struct kernels *k = backends[pass_device];
    enum { n = 19 };
    float x[n], one[n], y[n], lse[n];
    for (size_t i = 0; i < n; i++)
        one[i] = 1;
    float *device_y = device_allocate(sizeof y), *statistic = device_allocate(8);
    const float *device_one = on_device(one, sizeof one);
    float *device_lse = device_allocate(sizeof lse), *device_x = device_allocate(sizeof x);
    for (size_t place = 0; place < n; place++) {
        memcpy(x, one, sizeof x);
        x[place] = NAN;
        k->upload(k, device_x, x, sizeof x);
        for (int kind = 0; kind < 3; kind++) {
            k->activation_forward(k, device_y, device_x, n, (enum activation)kind);
            k->download(k, y, device_y, sizeof y);
            check(isnan(y[place]), "activation %d hides NaN", kind);
            k->activation_backward(k, device_y, device_one, device_x, n, (enum activation)kind);
            k->download(k, y, device_y, sizeof y);
            check(isnan(y[place]), "slope of activation %d hides NaN", kind);
        }
        k->residual_norm_forward(k, NULL, device_y, statistic, statistic + 1, device_x, NULL,
                                 device_one, device_one, 1, n, 1e-5f);
        k->download(k, y, device_y, sizeof y);
        check(isnan(y[0]) && isnan(y[n - 1]), "layer norm hides NaN");
        if (place < 18) {
            const struct attention shape = {1, 6, 1, 1, false};
            k->attention_forward(k, device_y, device_lse, device_x, &shape);
            k->download(k, y, device_y, 6 * sizeof *y);
            check(isnan(y[place % 3 == 0 ? place / 3 : 0]), "attention hides NaN at %zu",
                  place);
        }
        check(isnan(k->sum_squares(k, device_x, n)), "sum_squares hides NaN");
        k->clamp(k, device_x, n, 0, 2);
        k->download(k, x, device_x, sizeof x);
        check(isnan(x[place]), "clamp hides NaN");
    }
    const float huge[4] = {-3e38f, 3e38f, -1e5f, 1e5f}, slope[4] = {0, 1, 0, 1};
    const float *device_huge = on_device(huge, sizeof huge);
    for (int kind = 0; kind < 3; kind++) {
        k->activation_forward(k, device_y, device_huge, 4, (enum activation)kind);
        k->download(k, y, device_y, sizeof huge);
        check(y[1] == huge[1] && y[3] == huge[3] && fabsf(y[2]) < 1e-30f,
              "activation %d of huge values: %g %g %g", kind, (double)y[1], (double)y[2],
              (double)y[3]);
        k->activation_backward(k, device_y, device_one, device_huge, 4, (enum activation)kind);
        k->download(k, y, device_y, sizeof huge);
        for (size_t i = 0; i < 4; i++)
            check(fabsf(y[i] - slope[i]) <= 1e-30f, "slope of activation %d at %g: %g", kind,
                  (double)huge[i], (double)y[i]);
    }
    free_all();
}

/* A refused allocation is remembered for check(), once; so is a shape without a kernel. */
static void check_failure(void)
{
    struct kernels *k = backends[pass_device];
    struct error error = {0};
    const float x = 0;
    float loss = 7, dummy = 0;
    check(k->check(k, &error) == STATUS_OK, "nothing had failed, but: %s", error.text);
    k->contrastive_loss(k, &loss, NULL, NULL, NULL, &x, &x, &x, SIZE_MAX / 100, 1);
    check(k->check(k, &error) == STATUS_SYSTEM && strstr(error.text, "cannot allocate"),
          "status %d, text '%s'", (int)error.status, error.text);
    check(k->check(k, &error) == STATUS_OK, "the failure was reported twice");
    k->attention_forward(k, &dummy, &dummy, &dummy, &(struct attention){1, 1, 1, 300, false});
    check(k->check(k, &error) == STATUS_UNAVAILABLE && strstr(error.text, "300"),
          "status %d, text '%s'", (int)error.status, error.text);
}

/* ---- bf16: launch.h directly, for what kernels.h does not know yet ---- */

static float bf16_to_float(uint16_t bits)
{
    const uint32_t word = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &word, sizeof x);
    return x;
}

static uint16_t bf16_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Values that bf16 holds exactly: as floats for the reference, as bf16 on the device. */
struct half_array {
    size_t n;
    float *host;
    void *device;
};

static struct half_array half_filled(size_t n, double deviation)
{
    float *host = data_normal(n, deviation);
    uint16_t *bits = data_allocate(n * sizeof *bits);
    for (size_t i = 0; i < n; i++) {
        bits[i] = bf16_of(host[i]);
        host[i] = bf16_to_float(bits[i]);
    }
    return (struct half_array){n, host, on_device(bits, n * sizeof *bits)};
}

/* An output: NaN before, all of it. */
static struct half_array half_make(size_t n)
{
    uint16_t *bits = data_allocate(n * sizeof *bits);
    memset(bits, 0xff, n * sizeof *bits);
    return (struct half_array){n, data_allocate(n * sizeof(float)),
                               on_device(bits, n * sizeof *bits)};
}

/* Each value by the bound, and the whole by its norm: |got - want| / |want|. */
static void half_check(const struct half_array *out, double norm_bound, const char *what,
                       size_t a, size_t b, size_t c)
{
    uint16_t *bits = data_allocate(out->n * sizeof *bits);
    double worst = 0, error_squares = 0, squares = 1e-30;
    backends[pass_device]->download(backends[pass_device], bits, out->device,
                                    out->n * sizeof *bits);
    for (size_t i = 0; i < out->n; i++) {
        const double want = out->host[i], error = fabs(bf16_to_float(bits[i]) - want);
        if (!isnan(worst) && !(error / fmax(1, fabs(want)) <= worst))
            worst = error / fmax(1, fabs(want));
        error_squares += error * error;
        squares += want * want;
    }
    const double norm = sqrt(error_squares / squares);
    check(norm <= norm_bound, "bf16 %s %zu %zu %zu: off by %g of the norm", what, a, b, c,
          norm);
    check(worst <= 10 * norm_bound, "bf16 %s %zu %zu %zu: a value off by %g", what, a, b, c,
          worst);
}

/* One rounding to bf16 leaves 1.7e-3 of a norm; attention rounds probabilities, their
 * gradients and results, and its backward pass starts from rounded results. */
static const double rounded_once = 2.5e-3, rounded_attention = 8e-3;

static void check_half_attention(struct attention shape, bool mma)
{
    struct kernels *ref = backends[pass_ref], *k = backends[pass_device];
    const struct cuda_queue *q = cuda_backend_queue(k);
    const size_t n = shape.B * shape.T * shape.H * shape.D, rows = shape.B * shape.H * shape.T;
    const struct half_array qkv = half_filled(3 * n, 1), dout = half_filled(n, 1);
    const struct half_array out = half_make(n), dqkv = half_make(3 * n);
    float *lse = data_allocate(rows * sizeof *lse), *got = data_allocate(rows * sizeof *got);
    float *device_lse = device_allocate(rows * sizeof *lse);
    float *scratch = device_allocate(cuda_attention_backward_floats(&shape) * sizeof *scratch);
    ref->attention_forward(ref, out.host, lse, qkv.host, &shape);
    ref->attention_backward(ref, dqkv.host, dout.host, qkv.host, out.host, lse, &shape);
    bool ran = mma ? cuda_attention_forward_mma(q, out.device, device_lse, qkv.device, &shape)
                   : cuda_attention_forward(q, ELEMENT_BF16, out.device, device_lse, qkv.device,
                                            &shape);
    ran = ran && (mma ? cuda_attention_backward_mma(q, dqkv.device, dout.device, qkv.device,
                                                    out.device, device_lse, &shape)
                      : cuda_attention_backward(q, ELEMENT_BF16, dqkv.device, dout.device,
                                                qkv.device, out.device, device_lse, &shape,
                                                scratch));
    check(ran, "bf16 attention T %zu D %zu is refused", shape.T, shape.D);
    k->download(k, got, device_lse, rows * sizeof *got);
    for (size_t i = 0; i < rows; i++)
        check(fabs(got[i] - lse[i]) <= 1e-4 * fmax(1, fabs(lse[i])), "bf16 lse %zu: %g", i,
              (double)got[i]);
    half_check(&out, rounded_attention, mma ? "attention mma" : "attention", shape.T, shape.H,
               shape.D);
    half_check(&dqkv, 2 * rounded_attention, mma ? "attention mma backward"
                                                 : "attention backward", shape.T, shape.H,
               shape.D);
    free_all();
}

static void check_half_rows(size_t N, size_t C)
{
    struct kernels *ref = backends[pass_ref];
    const struct cuda_queue *q = cuda_backend_queue(backends[pass_device]);
    const struct half_array residual = half_filled(N * C, 1), delta = half_filled(N * C, 1);
    const struct half_array dnormed = half_filled(N * C, 1), dresidual = half_filled(N * C, 1);
    const struct half_array summed = half_make(N * C), normed = half_make(N * C);
    const struct half_array active = half_make(N * C), slope = half_make(N * C);
    const struct half_array scaled = half_make(N * C), added = half_make(N * C);
    const struct input gamma = input_normal(C, 1), beta = input_normal(C, 1);
    float *statistics = data_allocate((2 * N + 3 * C) * sizeof *statistics);
    float *device = device_allocate((2 * N + 3 * C) * sizeof *device);
    float *scratch = device_allocate((cuda_norm_backward_floats(N, C) +
                                      cuda_sum_rows_floats(N, C)) * sizeof *scratch);
    memset(statistics, 0, (2 * N + 3 * C) * sizeof *statistics);
    backends[pass_device]->upload(backends[pass_device], device, statistics,
                                  (2 * N + 3 * C) * sizeof *device);
    float *sums = statistics + 2 * N, *device_sums = device + 2 * N;

    ref->residual_norm_forward(ref, summed.host, normed.host, statistics, statistics + N,
                               residual.host, delta.host, gamma.at[pass_ref],
                               beta.at[pass_ref], N, C, 1e-2f);
    cuda_residual_norm_forward(q, ELEMENT_BF16, summed.device, normed.device, device,
                               device + N, residual.device, delta.device,
                               gamma.at[pass_device], beta.at[pass_device], N, C, 1e-2f);
    half_check(&summed, rounded_once, "residual", N, C, 0);
    half_check(&normed, 2 * rounded_once, "norm", N, C, 0);
    ref->residual_norm_forward(ref, NULL, normed.host, statistics, statistics + N,
                               residual.host, NULL, gamma.at[pass_ref], beta.at[pass_ref], N, C,
                               1e-2f);
    cuda_residual_norm_forward(q, ELEMENT_BF16, NULL, normed.device, device, device + N,
                               residual.device, NULL, gamma.at[pass_device],
                               beta.at[pass_device], N, C, 1e-2f);
    ref->norm_backward(ref, dresidual.host, sums, sums + C, dnormed.host, residual.host,
                       statistics, statistics + N, gamma.at[pass_ref], N, C);
    cuda_norm_backward(q, ELEMENT_BF16, dresidual.device, device_sums, device_sums + C,
                       dnormed.device, residual.device, device, device + N,
                       gamma.at[pass_device], N, C, scratch);
    half_check(&dresidual, rounded_once, "norm backward", N, C, 0);

    ref->activation_forward(ref, active.host, residual.host, N * C, ACTIVATION_GELU);
    cuda_activation_forward(q, ELEMENT_BF16, active.device, residual.device, N * C,
                            ACTIVATION_GELU);
    ref->activation_backward(ref, slope.host, delta.host, residual.host, N * C,
                             ACTIVATION_QUICK_GELU);
    cuda_activation_backward(q, ELEMENT_BF16, slope.device, delta.device, residual.device,
                             N * C, ACTIVATION_QUICK_GELU);
    ref->layer_scale_forward(ref, scaled.host, residual.host, gamma.at[pass_ref], N, C);
    cuda_scale_columns(q, ELEMENT_BF16, scaled.device, residual.device,
                       gamma.at[pass_device], N, C);
    ref->add(ref, added.host, residual.host, delta.host, N * C);
    cuda_add(q, ELEMENT_BF16, added.device, residual.device, delta.device, N * C);
    ref->sum_rows(ref, sums + 2 * C, residual.host, N, C);
    cuda_sum_rows(q, ELEMENT_BF16, device_sums + 2 * C, residual.device, N, C, C, scratch);
    half_check(&active, rounded_once, "activation", N, C, 0);
    half_check(&slope, rounded_once, "slope", N, C, 0);
    half_check(&scaled, rounded_once, "layer scale", N, C, 0);
    half_check(&added, rounded_once, "add", N, C, 0);
    float *got = data_allocate(3 * C * sizeof *got);
    backends[pass_device]->download(backends[pass_device], got, device_sums,
                                    3 * C * sizeof *got);
    for (size_t c = 0; c < 3 * C; c++)
        check(fabs(got[c] - sums[c]) <= bounds[GRADIENT_SUM] * fmax(1, fabs(sums[c])),
              "bf16 sums of rows %zu %zu: %g, expected %g", N, C, (double)got[c],
              (double)sums[c]);
    free_all();
}

static void check_half_embed(size_t B, size_t T, size_t C, size_t V)
{
    struct kernels *ref = backends[pass_ref];
    const struct cuda_queue *q = cuda_backend_queue(backends[pass_device]);
    const struct integers tokens = integers_of(data_integers(B * T, V), B * T);
    const struct input table = input_normal(V * C, 1), positional = input_normal(T * C, 1);
    const struct half_array out = half_make(B * T * C), back = half_make(B * T * C);
    const struct half_array pooled = half_make(B * C);
    ref->embed_tokens_forward(ref, out.host, tokens.at[pass_ref], table.at[pass_ref],
                              positional.at[pass_ref], B, T, C);
    cuda_embed_tokens_forward(q, ELEMENT_BF16, out.device, tokens.at[pass_device],
                              table.at[pass_device], positional.at[pass_device], B, T, C);
    half_check(&out, rounded_once, "embed tokens", B, T, C);
    ref->mean_tokens_forward(ref, pooled.host, out.host, B, T, C, 0);
    cuda_mean_tokens_forward(q, ELEMENT_BF16, pooled.device, out.device, B, T, C, 0);
    half_check(&pooled, 2 * rounded_once, "mean of tokens", B, T, C);
    ref->mean_tokens_backward(ref, back.host, pooled.host, B, T, C, 0);
    cuda_mean_tokens_backward(q, ELEMENT_BF16, back.device, pooled.device, B, T, C, 0);
    half_check(&back, 2 * rounded_once, "mean of tokens backward", B, T, C);
    free_all();
}

static void check_bf16(void)
{
    static const size_t head_sizes[] = {8, 32, 64, 80, 88, 96, 104, 128};
    if (tiny) {
        check_half_attention((struct attention){1, 70, 1, 8, false}, true);
        return;
    }
    check_half_rows(3, 768);
    check_half_rows(17, 40);
    check_half_rows(5, 33);
    check_half_embed(3, 5, 24, 50);
    for (int causal = 0; causal < 2; causal++) {
        for (size_t i = 0; i < sizeof head_sizes / sizeof head_sizes[0]; i += large ? 1 : 3)
            check_half_attention((struct attention){1 + i % 2, sizes[i % size_count], 1 + i % 3,
                                                    head_sizes[i], causal}, true);
        check_half_attention((struct attention){2, 50, 2, 64, causal}, true);
        check_half_attention((struct attention){1, 16, 3, 64, causal}, true);
        if (large)
            check_half_attention((struct attention){1, 197, 1, 64, causal}, true);
    }
    check_half_attention((struct attention){2, 35, 2, 24, true}, false);
}

size_t backend_check_run(enum backend_check which, struct kernels *ref, struct kernels *device,
                         enum backend_sizes how_large, uint64_t seed, size_t *passed,
                         char *first)
{
    static void (*const groups[BACKEND_CHECKS])(void) = {
        [CHECK_MATMUL] = check_matmul,
        [CHECK_ELEMENTWISE] = check_elementwise,
        [CHECK_SUMS] = check_sums,
        [CHECK_NORM] = check_norm,
        [CHECK_ATTENTION] = check_attention,
        [CHECK_PATCHES] = check_patches,
        [CHECK_TOKENS] = check_tokens,
        [CHECK_LOSS] = check_loss,
        [CHECK_SPECIAL_VALUES] = check_special_values,
        [CHECK_BF16] = check_bf16,
        [CHECK_FAILURE] = check_failure,
    };
    rng_init(&data_rng, seed, 0, 0, RNG_TEST);
    backends[pass_ref] = ref;
    backends[pass_device] = backends[pass_again] = device;
    passed_count = failed_count = 0;
    first_failure[0] = '\0';
    large = how_large == SIZES_LARGE;
    tiny = how_large == SIZES_TINY;
    for (int i = 0; i < 2; i++) {
        aligned = i == 0;
        groups[which]();
        if (!large)
            break;
    }
    *passed += passed_count;
    if (first != NULL)
        memcpy(first, first_failure, sizeof first_failure);
    return failed_count;
}
