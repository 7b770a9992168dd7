#include "tests/emulator/backend_checks.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>

#include "kernels/kernels.h"
#include "tests/kernels/kernel_data.h"

const char *const backend_check_names[BACKEND_CHECKS] = {
    [CHECK_MATMUL] = "matmul",
    [CHECK_ELEMENTWISE] = "elementwise",
    [CHECK_SUMS] = "sums",
    [CHECK_NORM] = "norm",
    [CHECK_ATTENTION] = "attention",
    [CHECK_LONG_HEADS] = "long heads",
    [CHECK_PATCHES] = "patches",
    [CHECK_TOKENS] = "tokens",
    [CHECK_LOSS] = "loss",
    [CHECK_SPECIAL_VALUES] = "special values",
    [CHECK_COPIES] = "copies",
    [CHECK_FAILURE] = "failure",
};

/* |got - want| <= value * max(1, |want|), inputs of size 1; float carries 6e-8. */
enum tolerance {
    EXACT,
    ELEMENT,
    SUM,
    PRODUCT,
    TRANSCENDENTAL,
    NORM,
    LOG_SUM,
    SOFTMAX,
    SOFTMAX_GRADIENT,
    GRADIENT_SUM,
    LOSS
};

/* Where the reference and the backend agree to `value` before they round to bf16, few values
 * fall to different sides of a rounding, and those differ by one unit in the last place, at
 * most 2^-7 of the value: so much is allowed to each, and to all together `norm`, of
 * |got - want| / |want| over the array, which one more rounding of every value (1.7e-3) would
 * exceed. Attention is allowed what the matrix instructions need: probabilities and their
 * gradients rounded to bf16, and a backward pass that starts from rounded results. */
static const struct {
    double value, bf16_value, bf16_norm;
} bounds[] = {
    [EXACT] = {0, 0, 0},                    /* copies and single additions round the same way */
    [ELEMENT] = {3e-7, 3e-7, 1e-3},         /* a few roundings of one value */
    [SUM] = {3e-5, 3e-5, 1e-3},             /* up to 1000 products in float, against double */
    [PRODUCT] = {3e-5, 6e-2, 5e-3},         /* that, of size 10, in bf16 rounded on its way */
    [TRANSCENDENTAL] = {5e-6, 5e-6, 1e-3},  /* exp's argument, up to 30, rounded twice */
    [NORM] = {2e-5, 2e-5, 1e-3},            /* two sums of a row, over a deviation near 1 */
    [LOG_SUM] = {3e-5, 1e-4, 0},            /* scores up to 20; bf16: the approximate 2^x */
    [SOFTMAX] = {3e-5, 8e-2, 8e-3},         /* scores up to 20, off by 20 * 6e-8, as factors */
    [SOFTMAX_GRADIENT] = {2e-4, 16e-2, 16e-3}, /* that, multiplied out */
    [GRADIENT_SUM] = {2e-4, 2e-4, 1e-3},    /* float sums of 700 rows of the above */
    [LOSS] = {2e-5, 2e-5, 1e-3},            /* logits up to 100, off by 100 * 6e-8, factors */
};

enum { norm_counts_from = 64 }; /* values: in fewer, one unit may be much of the norm */

enum { pass_ref, pass_device, pass_again, passes };

static struct kernels *backends[passes];
static enum backend_sizes how_large;
static bool aligned, bf16; /* bf16: what activations are */
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

/* ---- activations: fp32 or bf16, as the backends' precision says ---- */

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
    if (isnan(x))
        return 0x7fff;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static size_t value_bytes(void)
{
    return bf16 ? sizeof(uint16_t) : sizeof(float);
}

static float get_value(const void *from, bool half, size_t i)
{
    return half ? bf16_to_float(((const uint16_t *)from)[i]) : ((const float *)from)[i];
}

/* The values as activations, in the host's memory. */
static void *values_of(const float *x, size_t n)
{
    void *values = data_allocate(n * value_bytes());
    if (!bf16)
        memcpy(values, x, n * sizeof *x);
    for (size_t i = 0; i < n && bf16; i++)
        ((uint16_t *)values)[i] = bf16_of(x[i]);
    return values;
}

static void upload_values(void *device, const float *x, size_t n)
{
    struct kernels *k = backends[pass_device];
    k->upload(k, device, values_of(x, n), n * value_bytes());
}

static void download_values(float *x, const void *device, size_t n)
{
    struct kernels *k = backends[pass_device];
    void *values = data_allocate(n * value_bytes());
    k->download(k, values, device, n * value_bytes());
    for (size_t i = 0; i < n; i++)
        x[i] = get_value(values, bf16, i);
}

/* An input: the host's for the reference, the device's for the other passes. */
struct input {
    const void *at[passes];
};

static struct input input_of(const void *host, size_t bytes)
{
    const void *device = on_device(host, bytes);
    return (struct input){{host, device, device}};
}

static struct input floats_normal(size_t n, double deviation)
{
    return input_of(data_normal(n, deviation), n * sizeof(float));
}

static struct input values_normal(size_t n, double deviation)
{
    return input_of(values_of(data_normal(n, deviation), n), n * value_bytes());
}

static struct input integers_of(const int32_t *host, size_t n)
{
    return input_of(host, n * sizeof *host);
}

enum { guard_bytes = 32, guard = 0xc5 };

/* An output, once for each pass, between guard bytes: 16 bytes from the start of its memory, or
 * one element where alignment is to be missing. */
struct output {
    size_t n, offset, bytes; /* offset and bytes of all the values, guards apart */
    bool half;
    void *at[passes];
};

/* before: values to start from; NULL: NaN, or whatever has all bits set. */
static struct output output_filled(size_t n, bool half, const float *before)
{
    const size_t each = half ? sizeof(uint16_t) : sizeof(float);
    struct output out = {.n = n, .offset = aligned ? 16 : each, .bytes = n * each};
    out.half = half;
    const size_t whole = out.offset + out.bytes + guard_bytes;
    uint8_t *block = data_allocate(whole);
    memset(block, guard, whole);
    memset(block + out.offset, 0xff, out.bytes);
    for (size_t i = 0; i < n && before != NULL; i++) {
        if (half)
            ((uint16_t *)(void *)(block + out.offset))[i] = bf16_of(before[i]);
        else
            memcpy(block + out.offset + i * each, &before[i], each);
    }
    out.at[pass_ref] = block + out.offset;
    for (int pass = pass_device; pass < passes; pass++)
        out.at[pass] = (uint8_t *)on_device(block, whole) + out.offset;
    return out;
}

/* Overwritten by the operation, and added to by it; of activations and of floats. */
static struct output values_out(size_t n)
{
    return output_filled(n, bf16, NULL);
}

static struct output values_sum(size_t n)
{
    return output_filled(n, bf16, data_normal(n, 1));
}

static struct output floats_out(size_t n)
{
    return output_filled(n, false, NULL);
}

static struct output floats_sum(size_t n)
{
    return output_filled(n, false, data_normal(n, 1));
}

/* Brings one pass's values back and looks at its guards. */
static const void *output_fetch(const struct output *out, int pass, const char *what)
{
    const size_t whole = out->offset + out->bytes + guard_bytes;
    uint8_t *block = data_allocate(whole);
    size_t written = 0;
    backends[pass]->download(backends[pass], block, (uint8_t *)out->at[pass] - out->offset,
                             whole);
    for (size_t i = 0; i < whole; i++)
        if (i < out->offset || i >= out->offset + out->bytes)
            written += block[i] != guard;
    check(written == 0, "%s: wrote outside its %zu values", what, out->n);
    return block + out->offset;
}

/* The error allowed to one value. */
static double allowed(const struct output *out, enum tolerance tolerance, double want)
{
    const double size = fmax(1, fabs(want));
    if (!bf16)
        return bounds[tolerance].value * size;
    const bool ulp = out->half && tolerance != EXACT;
    return bounds[tolerance].bf16_value * size + (ulp ? fabs(want) * 0x1p-7 : 0);
}

__attribute__((format(printf, 3, 4))) static void output_check(const struct output *out,
                                                               enum tolerance tolerance,
                                                               const char *format, ...)
{
    double error_squares = 0, squares = 1e-30;
    size_t wrong = 0, wrong_at = 0;
    char what[128];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    const void *want_values = out->at[pass_ref];
    const void *got_values = output_fetch(out, pass_device, what);
    for (size_t i = 0; i < out->n; i++) {
        const double want = get_value(want_values, out->half, i);
        const double error = fabs(get_value(got_values, out->half, i) - want);
        if (!(error <= allowed(out, tolerance, want)) && wrong++ == 0)
            wrong_at = i;
        error_squares += error * error;
        squares += want * want;
    }
    check(wrong == 0, "%s: %zu of %zu values are wrong, value %zu is %.9g, expected %.9g", what,
          wrong, out->n, wrong_at,
          out->n > 0 ? (double)get_value(got_values, out->half, wrong_at) : 0.0,
          out->n > 0 ? (double)get_value(want_values, out->half, wrong_at) : 0.0);
    if (out->half && out->n >= norm_counts_from)
        check(sqrt(error_squares / squares) <= bounds[tolerance].bf16_norm,
              "%s: off by %g of the norm", what, sqrt(error_squares / squares));
    const void *again = output_fetch(out, pass_again, what);
    check(memcmp(got_values, again, out->bytes) == 0, "%s: two runs differ", what);
}

/* ---- operations ---- */

static const size_t sizes[] = {1, 3, 8, 17, 33, 64, 129};
enum { size_count = sizeof sizes / sizeof sizes[0] };

static bool at_least(enum backend_sizes size)
{
    return how_large >= size;
}

struct product {
    size_t rows, columns, inner;
    bool a_transposed, b_transposed, accumulate, bias, a_sums, before;
    enum matmul_epilogue epilogue;
    enum activation activation;
};

static void check_product(const struct product *p)
{
    const size_t n = p->rows * p->columns;
    const bool backward = p->epilogue == EPILOGUE_ACTIVATION_BACKWARD;
    const struct input a = values_normal(p->rows * p->inner, 1);
    const struct input b = values_normal(p->inner * p->columns, 1);
    const struct input bias = floats_normal(p->columns, 1), slope_at = values_normal(n, 2);
    const struct output out = p->accumulate ? floats_sum(n) : values_out(n);
    const struct output before = values_out(n), a_sums = floats_sum(p->rows);
    for (int pass = 0; pass < passes; pass++)
        backends[pass]->matmul(backends[pass], &(struct matmul){
            .rows = p->rows, .columns = p->columns, .inner = p->inner, .a = a.at[pass],
            .a_transposed = p->a_transposed, .b = b.at[pass], .b_transposed = p->b_transposed,
            .bias = p->bias ? bias.at[pass] : NULL, .out = out.at[pass],
            .accumulate = p->accumulate, .a_sums = p->a_sums ? a_sums.at[pass] : NULL,
            .epilogue = p->epilogue, .activation = p->activation,
            .before = backward    ? (void *)slope_at.at[pass]
                      : p->before ? before.at[pass]
                                  : NULL});
    const bool plain = !p->bias && p->epilogue == EPILOGUE_NONE;
    output_check(&out, plain ? SUM : PRODUCT,
                 "matmul %zu x %zu x %zu, a^T %d, b^T %d, epilogue %d of %d", p->rows,
                 p->columns, p->inner, p->a_transposed, p->b_transposed, (int)p->epilogue,
                 (int)p->activation);
    if (p->before)
        output_check(&before, PRODUCT, "before of matmul %zu x %zu x %zu", p->rows, p->columns,
                     p->inner);
    if (p->a_sums)
        output_check(&a_sums, SUM, "a_sums of matmul %zu x %zu x %zu", p->rows, p->columns,
                     p->inner);
    free_all();
}

/* Every combination that kernels.h allows, by the bits of `what`. */
static void check_product_kinds(size_t rows, size_t columns, size_t inner, unsigned what)
{
    struct product p = {.rows = rows, .columns = columns, .inner = inner,
                        .a_transposed = what & 1, .b_transposed = (what & 2) != 0};
    check_product(&p);
    p.bias = true;
    check_product(&p);
    p.epilogue = EPILOGUE_ACTIVATION;
    p.activation = (enum activation)(what % 3);
    check_product(&p);
    p.before = true;
    p.bias = what & 1;
    check_product(&p);
    p.before = p.bias = false;
    p.epilogue = EPILOGUE_ACTIVATION_BACKWARD;
    check_product(&p);
    p.epilogue = EPILOGUE_NONE;
    p.accumulate = true;
    check_product(&p);
    p.a_sums = true;
    check_product(&p);
}

static void check_matmul(void)
{
    if (!at_least(SIZES_SMALL))
        return; /* no kernels of ours */
    for (size_t i = 0; i < size_count; i += at_least(SIZES_LARGE) ? 1 : 3)
        for (unsigned what = 0; what < 6; what++)
            check_product_kinds(sizes[i], sizes[(i + 2 + what) % size_count],
                                sizes[(i + 5) % size_count], what);
    for (unsigned what = 0; what < 3; what++)
        check_product_kinds(5, 7, 0, what); /* empty sums */
    check_product_kinds(0, 7, 3, 0);
    for (size_t n = 1; n < 700 && at_least(SIZES_LARGE); n++) /* more shapes than plans */
        check_product(&(struct product){.rows = 1 + n % 5, .columns = n, .inner = 3});
}

static void check_elementwise_case(size_t n)
{
    const struct input a = values_normal(n, 1), b = values_normal(n, 1);
    const struct input in = floats_normal(n, 1);
    const struct output sum = values_out(n), in_place = values_sum(n), rounded = values_out(n);
    const struct output clamped = floats_sum(n), average = floats_sum(n);
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->round(k, rounded.at[pass], in.at[pass], n);
        k->add(k, sum.at[pass], a.at[pass], b.at[pass], n);
        k->add(k, in_place.at[pass], in_place.at[pass], b.at[pass], n);
        k->clamp(k, clamped.at[pass], n, -0.5f, 0.25f);
        k->move_average(k, average.at[pass], in.at[pass], n, 0.1f);
    }
    output_check(&rounded, EXACT, "round of %zu", n);
    output_check(&sum, EXACT, "add of %zu", n);
    output_check(&in_place, EXACT, "add in place of %zu", n);
    output_check(&clamped, EXACT, "clamp of %zu", n);
    output_check(&average, ELEMENT, "moving average of %zu", n);
    free_all();
}

/* Ties go to even, and the largest floats to infinity. */
static void check_rounding(void)
{
    enum { n = 11 };
    static const uint32_t bits[n] = {0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0x80000000,
                                     0x7f7fffff, 0xff7f8000, 0x7f800000, 0x00008000, 0x00018000,
                                     0x7f7f7fff};
    static const uint16_t want[n] = {0x3f80, 0x3f82, 0x3f81, 0x3f80, 0x8000, 0x7f80,
                                     0xff80, 0x7f80, 0x0000, 0x0002, 0x7f7f};
    struct kernels *k = backends[pass_device];
    float x[n];
    uint16_t got[n];
    memcpy(x, bits, sizeof x);
    void *out = device_allocate(sizeof x);
    k->round(k, out, input_of(x, sizeof x).at[pass_device], n);
    k->download(k, got, out, sizeof got);
    for (size_t i = 0; i < n && bf16; i++)
        check(got[i] == want[i], "%08x is rounded to %04x, expected %04x", (unsigned)bits[i],
              (unsigned)got[i], (unsigned)want[i]);
    free_all();
}

static void check_activation_case(size_t n, enum activation kind)
{
    const struct input in = values_normal(n, 3), dout = values_normal(n, 1);
    const struct output out = values_out(n), din = values_out(n);
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
    enum { n = 2401 };
    float x[n], want[n], got[n];
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)i / 100 - 12);
    const struct input in = input_of(values_of(x, n), n * value_bytes());
    const double tolerance = bounds[TRANSCENDENTAL].value + (bf16 ? 0x1p-7 : 0);
    void *want_values = data_allocate(n * value_bytes()), *out = device_allocate(sizeof got);
    backends[pass_ref]->activation_forward(backends[pass_ref], want_values, in.at[pass_ref], n,
                                           kind);
    backends[pass_device]->activation_forward(backends[pass_device], out, in.at[pass_device], n,
                                              kind);
    download_values(got, out, n);
    for (size_t i = 0; i < n; i++) {
        want[i] = get_value(want_values, bf16, i);
        const double error = fabs((double)got[i] - want[i]) / (fabs(want[i]) + 1e-12);
        check(error <= tolerance, "activation %d at %g: relative error %g", (int)kind, x[i],
              error);
    }
    free_all();
}

static void check_adamw_case(size_t n, int64_t step)
{
    float *second = data_normal(n, 1);
    const struct input gradient = floats_normal(n, 1);
    for (size_t i = 0; i < n; i++)
        second[i] = fabsf(second[i]);
    const struct output parameter = floats_sum(n), m = floats_sum(n);
    const struct output v = output_filled(n, false, second);
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
    for (size_t i = 0; i < size_count; i += at_least(SIZES_MEDIUM) ? 1 : 3) {
        check_elementwise_case(sizes[i]);
        check_adamw_case(sizes[i], 1 + (int64_t)i * 1000);
        for (int kind = 0; kind < 3; kind++)
            check_activation_case(sizes[i], (enum activation)kind);
    }
    check_rounding();
    check_elementwise_case(0);
    if (!at_least(SIZES_MEDIUM))
        return;
    check_elementwise_case(34003); /* more than one round of all blocks */
    check_adamw_case(20001, 10);
    for (int kind = 0; kind < 3; kind++)
        check_activation_tails((enum activation)kind);
}

static void check_sums_case(size_t N, size_t C)
{
    const struct input in = values_normal(N * C, 1), dout = values_normal(N * C, 1);
    const struct input gamma = floats_normal(C, 1);
    const struct output sum = floats_sum(C), scaled = values_out(N * C);
    const struct output din = values_out(N * C), dgamma = floats_sum(C);
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
    const struct input a = floats_normal(n, 1);
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
    const bool tiny = !at_least(SIZES_SMALL);
    for (size_t i = 0; i < size_count && !tiny; i += at_least(SIZES_MEDIUM) ? 2 : 3) {
        check_squares_case(sizes[i]);
        for (size_t j = 0; j < size_count; j += 2)
            check_sums_case(sizes[i], sizes[j]);
    }
    check_sums_case(703, tiny ? 3 : 40);
    check_sums_case(0, 5);
    check_squares_case(0);
    check_squares_case(40003);
    if (at_least(SIZES_MEDIUM))
        check_sums_case(9, 776);
    if (at_least(SIZES_LARGE)) {
        check_sums_case(70001, 40);
        check_sums_case(3001, 768);
        check_squares_case(20000003);
    }
}

static void check_norm_case(size_t N, size_t C, bool with_delta)
{
    float *start = data_normal(N * C, 1);
    const struct input dnormed = values_normal(N * C, 1), delta = values_normal(N * C, 1);
    const struct input gamma = floats_normal(C, 1), beta = floats_normal(C, 1);
    const struct output in_place = output_filled(N * C, bf16, start);
    const struct output normed = values_out(N * C);
    const struct output mean = floats_out(N), rstd = floats_out(N);
    const struct output dresidual = values_sum(N * C), dgamma = floats_sum(C);
    const struct output dbeta = floats_sum(C);
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
    const struct input in = input_of(values_of(values, N * E), N * E * value_bytes());
    const struct input dout = floats_normal(N * E, 1);
    const struct output out = floats_out(N * E), inverse = floats_out(N);
    const struct output din = values_out(N * E);
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
    if (!at_least(SIZES_SMALL)) {
        check_norm_case(2050, 3, true);
        return;
    }
    for (size_t i = 0; i < size_count; i += at_least(SIZES_MEDIUM) ? 2 : 3)
        for (size_t j = 0; j < size_count; j += 2) {
            check_norm_case(sizes[i], sizes[j], (i + j / 2) % 2 == 0);
            check_normalize_case(sizes[i], sizes[j]);
        }
    check_norm_case(0, 5, true);
    check_norm_case(3, 1280, false);
    if (!at_least(SIZES_MEDIUM))
        return;
    check_norm_case(300, 24, true);
    check_norm_case(2, 768, true);
    check_norm_case(2, 1664, true);
    check_norm_case(2, 1001, true);
    check_norm_case(1, 3336, true);
    check_norm_case(1100, 9, true); /* more rows than shares */
    if (at_least(SIZES_LARGE)) {
        check_norm_case(5000, 768, true);
        check_norm_case(1500, 1280, true);
    }
}

static void check_attention_case(struct attention shape, double deviation)
{
    const size_t B = shape.B, T = shape.T, C = shape.H * shape.D;
    const struct input qkv = values_normal(B * T * 3 * C, deviation);
    const struct input dout = values_normal(B * T * C, 1);
    const struct output out = values_out(B * T * C), lse = floats_out(B * shape.H * T);
    const struct output dqkv = values_out(B * T * 3 * C);
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->attention_forward(k, out.at[pass], lse.at[pass], qkv.at[pass], &shape);
        k->attention_backward(k, dqkv.at[pass], dout.at[pass], qkv.at[pass], out.at[pass],
                              lse.at[pass], &shape);
    }
    output_check(&out, SOFTMAX, "attention B %zu T %zu H %zu D %zu causal %d", B, T, shape.H,
                 shape.D, shape.causal);
    output_check(&lse, LOG_SUM, "lse B %zu T %zu H %zu D %zu causal %d", B, T, shape.H, shape.D,
                 shape.causal);
    output_check(&dqkv, SOFTMAX_GRADIENT,
                 "attention backward B %zu T %zu H %zu D %zu causal %d", B, T, shape.H, shape.D,
                 shape.causal);
    free_all();
}

/* bf16 takes matrix instructions where D is a multiple of 8, up to 128, and arrays are aligned,
 * and the plain path where not. Long sequences go by panels in both. */
static void check_attention_masked(bool causal)
{
    static const struct {
        size_t B, T, H, D;
        enum backend_sizes from;
    } shapes[] = {
        {2, 17, 1, 64, SIZES_SMALL},   {1, 8, 3, 80, SIZES_SMALL},
        {0, 3, 1, 4, SIZES_SMALL},     {1, 0, 1, 4, SIZES_SMALL},
        {1, 50, 2, 64, SIZES_MEDIUM},  {1, 33, 1, 88, SIZES_MEDIUM},
        {1, 37, 1, 96, SIZES_MEDIUM},  {1, 16, 2, 104, SIZES_MEDIUM},
        {1, 64, 1, 128, SIZES_MEDIUM}, {1, 77, 1, 20, SIZES_MEDIUM},
        {2, 3, 2, 1, SIZES_MEDIUM},    {1, 5, 1, 200, SIZES_MEDIUM},
        {1, 197, 2, 64, SIZES_LARGE},  {2, 257, 2, 80, SIZES_LARGE},
        {1, 600, 3, 64, SIZES_LARGE},  {1, 600, 2, 128, SIZES_LARGE},
        {1, 577, 2, 88, SIZES_LARGE},  {1, 520, 2, 104, SIZES_LARGE},
        {1, 610, 1, 20, SIZES_LARGE},  {1, 140, 1, 200, SIZES_LARGE},
        {64, 50, 12, 64, SIZES_LARGE}, {64, 8, 16, 80, SIZES_LARGE},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        if (at_least(shapes[i].from))
            check_attention_case((struct attention){shapes[i].B, shapes[i].T, shapes[i].H,
                                                    shapes[i].D, causal},
                                 shapes[i].D > 128 ? 0.5 : 1);
}

static void check_attention(void)
{
    if (!at_least(SIZES_SMALL)) {
        check_attention_case((struct attention){2, 35, 1, 8, false}, 1);
        check_attention_case((struct attention){1, 270, 1, 3, false}, 1);
        if (bf16)
            check_attention_case((struct attention){1, 70, 1, 40, false}, 1);
        return;
    }
    check_attention_masked(false);
    check_attention_masked(true);
    if (!at_least(SIZES_MEDIUM))
        return;
    check_attention_case((struct attention){1, 65, 2, 32, false}, bf16 ? 1 : 2.5);
    check_attention_case((struct attention){1, 210, 1, 104, true}, 1);
    check_attention_case((struct attention){1, 300, 1, 12, true}, 1);
}

/* Heads that take panels where a block has 48 KiB of shared memory. */
static void check_long_heads(void)
{
    check_attention_case((struct attention){1, 170, 1, 40, false}, 1);
    if (!at_least(SIZES_SMALL) || !aligned)
        return;
    check_attention_case((struct attention){1, 170, 1, 40, true}, 1);
    check_attention_case((struct attention){1, 100, 1, 128, true}, 1);
    if (at_least(SIZES_MEDIUM)) {
        check_attention_case((struct attention){1, 90, 2, 88, false}, 1);
        check_attention_case((struct attention){1, 600, 1, bf16 ? 64 : 5, true}, 1);
    }
}

static void check_patches_case(size_t B, size_t K, size_t C, size_t P)
{
    const size_t grid = 2 * K + 1, count = B * K * P * P * 3;
    const float mean[3] = {0.48f, 0.46f, 0.41f}, std[3] = {0.27f, 0.26f, 0.28f};
    uint8_t *host_bytes = data_allocate(count);
    for (size_t i = 0; i < count; i++)
        host_bytes[i] = (uint8_t)rng_next(&data_rng);
    const struct input bytes = input_of(host_bytes, count);
    const struct input position = integers_of(data_distinct(B, K, grid), B * K);
    const struct input features = values_normal(B * K * C, 1), class_row = floats_normal(C, 1);
    const struct input positional = floats_normal((1 + grid) * C, 1);
    const struct input dout = values_normal(B * (1 + K) * C, 1);
    const struct output unpacked = values_out(count), out = values_out(B * (1 + K) * C);
    const struct output dfeatures = values_out(B * K * C), dclass = floats_sum(C);
    const struct output dpositional = floats_sum((1 + grid) * C);
    for (int pass = 0; pass < passes; pass++) {
        struct kernels *k = backends[pass];
        k->unpack_patches(k, unpacked.at[pass], bytes.at[pass], B * K, P, mean, std);
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
    check_patches_case(3, 2, 40, 16);
    check_patches_case(2, 3, 5, 14); /* 196 pixels: a multiple of 4 */
    if (!at_least(SIZES_MEDIUM))
        return;
    for (size_t i = 0; i < 5; i += 2)
        check_patches_case(1 + i, sizes[i], sizes[(i + 3) % size_count], 1 + i);
    check_patches_case(9, 33, 24, 2);
    if (at_least(SIZES_LARGE))
        check_patches_case(300, 50, 768, 16);
}

static void check_tokens_case(size_t B, size_t T, size_t C, size_t V)
{
    const struct input tokens = integers_of(data_integers(B * T, V), B * T);
    const struct input row = integers_of(data_integers(B, T), B);
    const struct input table = floats_normal(V * C, 1), positional = floats_normal(T * C, 1);
    const struct input in = values_normal(B * T * C, 1), dpooled = values_normal(B * C, 1);
    const struct output out = values_out(B * T * C), dtable = floats_sum(V * C);
    const struct output dpositional = floats_sum(T * C);
    const struct output picked = values_out(B * C), dpicked = values_out(B * T * C);
    const struct output averaged = values_out(B * C), daveraged = values_out(B * T * C);
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
    const bool tiny = !at_least(SIZES_SMALL);
    for (size_t i = 1; i < 6 && !tiny; i += at_least(SIZES_MEDIUM) ? 2 : 4)
        check_tokens_case(1 + i, sizes[i], sizes[(i + 2) % size_count], 5 + 100 * i);
    check_tokens_case(60, 33, tiny ? 3 : 8, 3); /* runs of many pieces, sort in two chunks */
    if (at_least(SIZES_MEDIUM))
        check_tokens_case(2, 9, 264, 40);
    if (at_least(SIZES_LARGE))
        check_tokens_case(40, 77, 768, 49408);
}

static void check_loss_case(size_t B, size_t E, double scale, bool matching)
{
    const float *image_rows = data_unit_rows(B, E);
    const float *text_rows = matching ? image_rows : data_unit_rows(B, E);
    const struct input image = input_of(image_rows, B * E * sizeof(float));
    const struct input text = input_of(text_rows, B * E * sizeof(float));
    const float log_scale = (float)log(scale);
    const struct input logit_scale = input_of(&log_scale, sizeof log_scale);
    const struct output loss = floats_out(1), alone = floats_out(1), dscale = floats_sum(1);
    const struct output dimage = floats_out(B * E), dtext = floats_out(B * E);
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
    const bool tiny = !at_least(SIZES_SMALL);
    for (size_t i = 0; i < size_count && !tiny; i += at_least(SIZES_MEDIUM) ? 2 : 3)
        check_loss_case(sizes[i], sizes[size_count - 1 - i], 14.3, false);
    check_loss_case(tiny ? 40 : 140, 33, 100, false);
    check_loss_case(40, 33, 100, true);
    if (at_least(SIZES_LARGE) && aligned && !bf16)
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

enum { special_count = 19 };

/* One NaN among ones. */
static void check_nan_at(size_t place)
{
    enum { n = special_count };
    struct kernels *k = backends[pass_device];
    float x[n], ones[n], y[n];
    for (size_t i = 0; i < n; i++)
        x[i] = ones[i] = 1;
    x[place] = NAN;
    void *in = device_allocate(sizeof x), *out = device_allocate(sizeof y);
    void *one = device_allocate(sizeof ones);
    const float *factors = on_device(ones, sizeof ones);
    float *floats = (float *)on_device(x, sizeof x), *lse = device_allocate(sizeof y);
    float *statistic = device_allocate(2 * sizeof *statistic);
    upload_values(in, x, n);
    upload_values(one, ones, n);
    k->round(k, out, floats, n);
    download_values(y, out, n);
    check(isnan(y[place]), "rounding hides NaN");
    for (int kind = 0; kind < 3; kind++) {
        k->activation_forward(k, out, in, n, (enum activation)kind);
        download_values(y, out, n);
        check(isnan(y[place]), "activation %d hides NaN", kind);
        k->activation_backward(k, out, one, in, n, (enum activation)kind);
        download_values(y, out, n);
        check(isnan(y[place]), "slope of activation %d hides NaN", kind);
    }
    k->residual_norm_forward(k, NULL, out, statistic, statistic + 1, in, NULL, factors, factors,
                             1, n, 1e-5f);
    download_values(y, out, n);
    check(isnan(y[0]) && isnan(y[n - 1]), "layer norm hides NaN");
    if (place < 18) {
        k->attention_forward(k, out, lse, in, &(struct attention){1, 6, 1, 1, false});
        download_values(y, out, 6);
        check(isnan(y[place % 3 == 0 ? place / 3 : 0]), "attention hides NaN at %zu", place);
    }
    check(isnan(k->sum_squares(k, floats, n)), "sum_squares hides NaN");
    k->clamp(k, floats, n, 0, 2);
    k->download(k, x, floats, sizeof x);
    check(isnan(x[place]), "clamp hides NaN");
    free_all();
}

/* The path of matrix instructions, where it is taken: a NaN in any of q, k, v. */
static void check_nan_in_heads(size_t place)
{
    enum { tokens = 3, D = 8, width = 3 * D };
    struct kernels *k = backends[pass_device];
    const struct attention shape = {1, tokens, 1, D, false};
    float x[tokens * width], y[tokens * width];
    for (size_t i = 0; i < tokens * width; i++)
        x[i] = 1;
    void *qkv = device_allocate(sizeof x), *dqkv = device_allocate(sizeof x);
    void *out = device_allocate(sizeof x), *dout = device_allocate(sizeof x);
    float *lse = device_allocate(tokens * sizeof *lse);
    upload_values(dout, x, tokens * D);
    x[place] = NAN;
    upload_values(qkv, x, tokens * width);
    k->attention_forward(k, out, lse, qkv, &shape);
    k->attention_backward(k, dqkv, dout, qkv, out, lse, &shape);
    download_values(y, out, tokens * D);
    const size_t row = place % width < D ? place / width : 0; /* of all rows, but for a query */
    check(isnan(y[row * D + place % D]), "attention hides NaN at %zu", place);
    download_values(y, dqkv, tokens * width);
    check(isnan(y[row * width]), "attention backward hides NaN at %zu", place);
    free_all();
}

/* A NaN is seen and not hidden; huge values stay finite where the function is. */
static void check_special_values(void)
{
    if (!at_least(SIZES_SMALL))
        return;
    for (size_t place = 0; place < special_count; place += at_least(SIZES_MEDIUM) ? 1 : 6)
        check_nan_at(place);
    for (size_t place = 0; place < 72; place += 11)
        check_nan_in_heads(place);
    const float huge[4] = {-3e38f, 3e38f, -1e5f, 1e5f}, slope[4] = {0, 1, 0, 1};
    const float ones[4] = {1, 1, 1, 1};
    float x[4], y[4];
    struct kernels *k = backends[pass_device];
    void *in = device_allocate(sizeof huge), *one = device_allocate(sizeof ones);
    void *out = device_allocate(sizeof y);
    upload_values(in, huge, 4);
    upload_values(one, ones, 4);
    download_values(x, in, 4);
    for (int kind = 0; kind < 3; kind++) {
        k->activation_forward(k, out, in, 4, (enum activation)kind);
        download_values(y, out, 4);
        check(y[1] == x[1] && y[3] == x[3] && fabsf(y[2]) < 1e-30f,
              "activation %d of huge values: %g %g %g", kind, (double)y[1], (double)y[2],
              (double)y[3]);
        k->activation_backward(k, out, one, in, 4, (enum activation)kind);
        download_values(y, out, 4);
        for (size_t i = 0; i < 4; i++)
            check(fabsf(y[i] - slope[i]) <= 1e-30f, "slope of activation %d at %g: %g", kind,
                  (double)huge[i], (double)y[i]);
    }
    free_all();
}

/* Uploads of several staging buffers, from memory that is used again at once, between
 * operations that read and write what is uploaded. */
static void check_copies(void)
{
    if (!at_least(SIZES_MEDIUM))
        return;
    enum { words = 6 * 1024 * 1024 + 3 };
    struct kernels *k = backends[pass_device];
    uint32_t *host = data_allocate(words * sizeof *host);
    uint32_t *device = device_allocate(words * sizeof *host);
    float kept[2] = {NAN, NAN};
    float *average = (float *)on_device(kept, sizeof kept);
    size_t wrong = 0;
    for (size_t i = 0; i < words; i++)
        host[i] = (uint32_t)(i * 2654435761u);
    k->upload(k, device, host, words * sizeof *host);
    memset(host, 0xee, words * sizeof *host);
    k->download(k, host, device, words * sizeof *host);
    for (size_t i = 0; i < words; i++)
        wrong += host[i] != (uint32_t)(i * 2654435761u);
    check(wrong == 0, "%zu of %d words are not what was uploaded", wrong, (int)words);

    float *value = (float *)device;
    for (int turn = 0; turn < 5; turn++) { /* what is uploaded is used before the next upload */
        const float x[2] = {(float)turn, (float)(10 * turn)};
        k->upload(k, value, x, sizeof x);
        if (turn == 0)
            k->upload(k, average, x, sizeof x);
        k->move_average(k, average, value, 2, 0.5f);
    }
    k->download(k, kept, average, sizeof kept);
    check(kept[0] == 3.0625f && kept[1] == 30.625f,
          "uploads and operations in turn give %g, %g", (double)kept[0], (double)kept[1]);
    k->zero(k, value, sizeof kept);
    k->download(k, kept, value, sizeof kept);
    check(kept[0] == 0 && kept[1] == 0, "zeroed memory holds %g", (double)kept[0]);
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

size_t backend_check_run(enum backend_check which, struct kernels *ref, struct kernels *device,
                         enum backend_sizes most, uint64_t seed, size_t *passed, char *first)
{
    static void (*const groups[BACKEND_CHECKS])(void) = {
        [CHECK_MATMUL] = check_matmul,
        [CHECK_ELEMENTWISE] = check_elementwise,
        [CHECK_SUMS] = check_sums,
        [CHECK_NORM] = check_norm,
        [CHECK_ATTENTION] = check_attention,
        [CHECK_LONG_HEADS] = check_long_heads,
        [CHECK_PATCHES] = check_patches,
        [CHECK_TOKENS] = check_tokens,
        [CHECK_LOSS] = check_loss,
        [CHECK_SPECIAL_VALUES] = check_special_values,
        [CHECK_COPIES] = check_copies,
        [CHECK_FAILURE] = check_failure,
    };
    rng_init(&data_rng, seed, 0, 0, RNG_TEST);
    backends[pass_ref] = ref;
    backends[pass_device] = backends[pass_again] = device;
    passed_count = failed_count = 0;
    first_failure[0] = '\0';
    how_large = most;
    bf16 = device->precision == PRECISION_AMP_BF16;
    aligned = true;
    groups[which]();
    if (at_least(SIZES_SMALL)) {
        aligned = false;
        how_large = at_least(SIZES_LARGE) ? SIZES_MEDIUM : most;
        groups[which]();
    }
    *passed += passed_count;
    if (first != NULL)
        memcpy(first, first_failure, sizeof first_failure);
    return failed_count;
}
