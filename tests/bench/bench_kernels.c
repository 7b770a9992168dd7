/* bench_kernels [THREADS [MILLISECONDS [noref]]] - time of each operation of the cpu backend,
 * as rows of a Markdown table on stdout: what a call takes, what rate that is, and how many
 * times faster it is than the reference (timed once, on an eighth of the batch). A second table
 * has those that take activations in bf16, with their time in that of fp32.
 *
 * A time is the least of several runs: on a machine that others use too, the mean says how
 * busy they were. The first line is the most memory that a loss of B = 16384 took beyond its
 * arguments, against the size of B x B logits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "base/number.h"
#include "base/rng.h"
#include "kernels/kernels.h"

static struct kernels *cpu, *cpu_bf16, *ref;
static int64_t milliseconds = 100;
static bool with_ref = true;
static struct rng rng;

/* Values as activations, whose precision is an open backend's. */
struct values {
    float *fp32;
    void *bf16;
};

/* One set of arrays large enough for every shape. x, z, w, gamma are only read, so that values
 * stay of their size however often an operation runs; y, u, t, sums are written. */
static struct values x, z, w, y, u, t;
static float *gamma_values, *sums, *statistics;
static const size_t most = (size_t)128 * 65 * 4 * 384;
static uint8_t *bytes;
static int32_t *integers;

struct shape {
    size_t B, T, C, H;
};

typedef void operation(struct kernels *k, const struct shape *s);

static void *of(const struct kernels *k, const struct values *values)
{
    return k->precision == PRECISION_AMP_BF16 ? values->bf16 : values->fp32;
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double seconds_per_call(struct kernels *k, operation *run, const struct shape *s,
                               double budget)
{
    double best = INFINITY;
    const double start = seconds_now();
    do {
        const double before = seconds_now();
        run(k, s);
        best = fmin(best, seconds_now() - before);
    } while (seconds_now() - start < budget);
    return best;
}

/* ---- the operations; work is in GFLOP, traffic in GB ---- */

static void run_matmul_nt(struct kernels *k, const struct shape *s)
{
    k->matmul(k, &(struct matmul){.rows = s->B * s->T, .columns = 4 * s->C, .inner = s->C,
                                  .a = of(k, &x), .b = of(k, &w), .b_transposed = true,
                                  .bias = gamma_values, .out = of(k, &y)});
}

static void run_matmul_gelu(struct kernels *k, const struct shape *s)
{
    k->matmul(k, &(struct matmul){.rows = s->B * s->T, .columns = 4 * s->C, .inner = s->C,
                                  .a = of(k, &x), .b = of(k, &w), .b_transposed = true,
                                  .bias = gamma_values, .out = of(k, &y),
                                  .epilogue = EPILOGUE_ACTIVATION,
                                  .activation = ACTIVATION_GELU, .before = of(k, &u)});
}

static void run_matmul_gelu_backward(struct kernels *k, const struct shape *s)
{
    k->matmul(k, &(struct matmul){.rows = s->B * s->T, .columns = 4 * s->C, .inner = s->C,
                                  .a = of(k, &x), .b = of(k, &w), .out = of(k, &y),
                                  .epilogue = EPILOGUE_ACTIVATION_BACKWARD,
                                  .activation = ACTIVATION_GELU, .before = of(k, &z)});
}

static void run_matmul_nn(struct kernels *k, const struct shape *s)
{
    k->matmul(k, &(struct matmul){.rows = s->B * s->T, .columns = s->C, .inner = 4 * s->C,
                                  .a = of(k, &x), .b = of(k, &w), .out = of(k, &y)});
}

static void run_matmul_tn(struct kernels *k, const struct shape *s)
{
    k->matmul(k, &(struct matmul){.rows = 4 * s->C, .columns = s->C, .inner = s->B * s->T,
                                  .a = of(k, &x), .a_transposed = true, .b = of(k, &z),
                                  .out = t.fp32, .accumulate = true,
                                  .a_sums = sums});
}

static void run_sum_rows(struct kernels *k, const struct shape *s)
{
    k->sum_rows(k, sums, of(k, &x), s->B * s->T, s->C);
}

static void run_add(struct kernels *k, const struct shape *s)
{
    k->add(k, of(k, &y), of(k, &x), of(k, &z), s->B * s->T * s->C);
}

static void run_gelu(struct kernels *k, const struct shape *s)
{
    k->activation_forward(k, of(k, &y), of(k, &x), s->B * s->T * 4 * s->C, ACTIVATION_GELU);
}

static void run_gelu_backward(struct kernels *k, const struct shape *s)
{
    k->activation_backward(k, of(k, &y), of(k, &z), of(k, &x), s->B * s->T * 4 * s->C,
                           ACTIVATION_GELU);
}

static void run_gelu_tanh(struct kernels *k, const struct shape *s)
{
    k->activation_forward(k, of(k, &y), of(k, &x), s->B * s->T * 4 * s->C,
                          ACTIVATION_GELU_TANH);
}

static void run_quick_gelu(struct kernels *k, const struct shape *s)
{
    k->activation_forward(k, of(k, &y), of(k, &x), s->B * s->T * 4 * s->C,
                          ACTIVATION_QUICK_GELU);
}

static void run_norm(struct kernels *k, const struct shape *s)
{
    k->residual_norm_forward(k, of(k, &u), of(k, &y), statistics, statistics + s->B * s->T,
                             of(k, &x), of(k, &z), gamma_values, gamma_values, s->B * s->T,
                             s->C, 1e-5f);
}

static void run_norm_backward(struct kernels *k, const struct shape *s)
{
    k->norm_backward(k, of(k, &t), sums, sums + 4096, of(k, &z), of(k, &u), statistics,
                     statistics + s->B * s->T, gamma_values, s->B * s->T, s->C);
}

static void run_attention(struct kernels *k, const struct shape *s)
{
    k->attention_forward(k, of(k, &y), statistics, of(k, &x),
                         &(struct attention){s->B, s->T, s->H, s->C / s->H, false});
}

static void run_attention_causal(struct kernels *k, const struct shape *s)
{
    k->attention_forward(k, of(k, &t), sums, of(k, &x),
                         &(struct attention){s->B, s->T, s->H, s->C / s->H, true});
}

static void run_attention_backward(struct kernels *k, const struct shape *s)
{
    k->attention_backward(k, of(k, &t), of(k, &z), of(k, &x), of(k, &y), statistics,
                          &(struct attention){s->B, s->T, s->H, s->C / s->H, false});
}

static void run_unpack(struct kernels *k, const struct shape *s)
{
    const float mean[3] = {0.48f, 0.46f, 0.41f}, std[3] = {0.27f, 0.26f, 0.28f};
    k->unpack_patches(k, of(k, &y), bytes, s->B * s->T, 8, mean, std);
}

static void run_embed_patches(struct kernels *k, const struct shape *s)
{
    k->embed_patches_forward(k, of(k, &y), of(k, &x), integers, gamma_values, z.fp32, s->B,
                             s->T, s->C);
}

static void run_embed_patches_backward(struct kernels *k, const struct shape *s)
{
    k->embed_patches_backward(k, of(k, &y), sums, t.fp32, of(k, &x), integers, s->B, s->T,
                              s->C);
}

static void run_embed_tokens(struct kernels *k, const struct shape *s)
{
    k->embed_tokens_forward(k, of(k, &y), integers, w.fp32, z.fp32, s->B, s->T, s->C);
}

static void run_embed_tokens_backward(struct kernels *k, const struct shape *s)
{
    k->embed_tokens_backward(k, t.fp32, u.fp32, of(k, &x), integers, s->B, s->T, s->C);
}

static void run_mean_tokens(struct kernels *k, const struct shape *s)
{
    k->mean_tokens_forward(k, of(k, &y), of(k, &x), s->B, s->T, s->C, 1);
}

static void run_normalize(struct kernels *k, const struct shape *s)
{
    k->normalize_forward(k, y.fp32, statistics, of(k, &x), s->B, s->C);
}

static void run_normalize_backward(struct kernels *k, const struct shape *s)
{
    k->normalize_backward(k, of(k, &t), z.fp32, y.fp32, statistics, s->B, s->C);
}

/* C stands for E: with 128, the rows' length is near 1. */
static void run_loss(struct kernels *k, const struct shape *s)
{
    statistics[0] = logf(100);
    k->contrastive_loss(k, statistics + 1, y.fp32, t.fp32, statistics + 2, x.fp32, z.fp32,
                        statistics, s->B, s->C);
}

static void run_adamw(struct kernels *k, const struct shape *s)
{
    const struct adamw args = {1e-4f, 0.9f, 0.98f, 1e-6f, 0.2f, 1, 10};
    k->adamw(k, y.fp32, u.fp32, t.fp32, z.fp32, s->B * s->T * s->C, &args);
    k->clamp(k, t.fp32, s->B * s->T * s->C, 0, 1);
}

static void run_sum_squares(struct kernels *k, const struct shape *s)
{
    statistics[0] = (float)k->sum_squares(k, x.fp32, s->B * s->T * s->C);
}

/* ---- the table ---- */

enum size_of { TOKENS, HIDDEN, PRODUCTS, SCORES, LOGITS, PIXELS, SAMPLES };

static double size_of(enum size_of what, const struct shape *s)
{
    const double tokens = (double)s->B * (double)s->T, C = (double)s->C, B = (double)s->B;
    switch (what) {
    case TOKENS:
        return tokens * C;
    case HIDDEN:
        return tokens * 4 * C;
    case PRODUCTS:
        return tokens * 4 * C * C;
    case SCORES:
        return tokens * (double)s->T * C;
    case LOGITS:
        return B * B * C;
    case PIXELS:
        return tokens * 8 * 8 * 3;
    case SAMPLES:
        return B * C;
    }
    return 0;
}

/* `per_value` floating-point operations, or bytes of memory traffic, for each of `size`. */
static const struct row {
    const char *name;
    operation *run;
    enum size_of size;
    double per_value;
    bool flops;
} rows[] = {
    {"matmul x W^T + b", run_matmul_nt, PRODUCTS, 2, true},
    {"matmul, gelu", run_matmul_gelu, PRODUCTS, 2, true},
    {"matmul, gelu backward", run_matmul_gelu_backward, PRODUCTS, 2, true},
    {"matmul dy W", run_matmul_nn, PRODUCTS, 2, true},
    {"matmul += dy^T x, sums", run_matmul_tn, PRODUCTS, 2, true},
    {"sum_rows", run_sum_rows, TOKENS, 4, false},
    {"add", run_add, TOKENS, 12, false},
    {"gelu", run_gelu, HIDDEN, 8, false},
    {"gelu backward", run_gelu_backward, HIDDEN, 12, false},
    {"gelu tanh", run_gelu_tanh, HIDDEN, 8, false},
    {"quick gelu", run_quick_gelu, HIDDEN, 8, false},
    {"residual + norm", run_norm, TOKENS, 16, false},
    {"norm backward", run_norm_backward, TOKENS, 16, false},
    {"attention", run_attention, SCORES, 4, true},
    {"attention causal", run_attention_causal, SCORES, 4, true},
    {"attention backward", run_attention_backward, SCORES, 10, true},
    {"unpack_patches P=8", run_unpack, PIXELS, 5, false},
    {"embed_patches", run_embed_patches, TOKENS, 8, false},
    {"embed_patches backward", run_embed_patches_backward, TOKENS, 8, false},
    {"embed_tokens", run_embed_tokens, TOKENS, 8, false},
    {"embed_tokens backward", run_embed_tokens_backward, TOKENS, 8, false},
    {"mean_tokens", run_mean_tokens, TOKENS, 4, false},
    {"normalize", run_normalize, SAMPLES, 8, false},
    {"normalize backward", run_normalize_backward, SAMPLES, 12, false},
    {"adamw + clamp", run_adamw, TOKENS, 36, false},
    {"sum_squares", run_sum_squares, TOKENS, 4, false},
};

enum { row_count = sizeof rows / sizeof rows[0] };

static const struct row loss_row = {"contrastive_loss", run_loss, LOGITS, 8, true};

static bool takes_activations(const struct row *row)
{
    return row->run != run_adamw && row->run != run_sum_squares && row->run != run_loss;
}

/* Returns the seconds. */
static double print_row(const struct row *row, const struct shape *s)
{
    const double budget = (double)milliseconds * 1e-3;
    const double seconds = seconds_per_call(cpu, row->run, s, budget);
    const double rate = size_of(row->size, s) * row->per_value / seconds * 1e-9;
    printf("| %-22s | %4zu %3zu %4zu | %11.0f | %7.1f %-7s |", row->name, s->B, s->T, s->C,
           seconds * 1e9, rate, row->flops ? "GFLOP/s" : "GB/s");
    if (with_ref) {
        struct shape small = *s;
        small.B = s->B / 8;
        const double share = size_of(row->size, &small) / size_of(row->size, s);
        printf(" %7.1f |\n", seconds_per_call(ref, row->run, &small, 0) / share / seconds);
    } else {
        printf("       - |\n");
    }
    fflush(stdout);
    return seconds;
}

static void print_bf16_row(const struct row *row, const struct shape *s, double fp32_seconds)
{
    const double seconds = seconds_per_call(cpu_bf16, row->run, s, (double)milliseconds * 1e-3);
    const double rate = size_of(row->size, s) * row->per_value / seconds * 1e-9;
    printf("| %-22s | %4zu %3zu %4zu | %11.0f |", row->name, s->B, s->T, s->C, seconds * 1e9);
    if (row->flops)
        printf(" %7.1f GFLOP/s |", rate);
    else
        printf("               - |");
    printf(" %7.2f |\n", seconds / fp32_seconds);
    fflush(stdout);
}

static long peak_kilobytes(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

/* Comes first, before the peak has other causes. */
static void print_loss_memory(void)
{
    const size_t B = 16384;
    const long before = peak_kilobytes();
    run_loss(cpu, &(struct shape){.B = B, .T = 1, .C = 128});
    printf("contrastive_loss, B = %zu: %ld KiB more at the peak; the logits would be %zu "
           "KiB\n\n",
           B, peak_kilobytes() - before, B * B * sizeof(float) / 1024);
}

static float *normal_values(size_t n)
{
    float *values = cpu->allocate(cpu, n * sizeof *values);
    if (values == NULL) {
        fprintf(stderr, "bench_kernels: no memory for %zu values\n", n);
        exit(71);
    }
    for (size_t i = 0; i < n; i++)
        values[i] = (float)(0.1 * rng_normal(&rng));
    return values;
}

/* What is only read is made in both precisions; what is written takes the same memory. */
static struct values values_to_read(size_t n)
{
    struct values values = {normal_values(n), NULL};
    values.bf16 = normal_values((n + 1) / 2);
    cpu_bf16->round(cpu_bf16, values.bf16, values.fp32, n);
    return values;
}

static struct values values_to_write(size_t n)
{
    float *memory = normal_values(n);
    return (struct values){memory, memory};
}

/* What operations add to, or AdamW takes the root of. */
static void zero_sums(void)
{
    cpu->zero(cpu, t.fp32, most * sizeof *t.fp32);
}

static void make_data(void)
{
    rng_init(&rng, 1, 0, 0, RNG_TEST);
    x = values_to_read(most);
    z = values_to_read(most);
    w = values_to_read(most);
    y = values_to_write(most);
    u = values_to_write(most);
    t = values_to_write(most);
    zero_sums();
    gamma_values = normal_values(4096);
    sums = normal_values(128 * 65 * 8);
    statistics = normal_values(2 * 128 * 65 * 8);
    bytes = (uint8_t *)normal_values(most / 4);
    integers = (int32_t *)normal_values(128 * 65);
    for (size_t i = 0; i < (size_t)128 * 65; i++) /* positions of T patches, or tokens */
        integers[i] = (int32_t)(i % 65);
}

int main(int argc, char **argv)
{
    static const struct shape shapes[] = {
        {128, 17, 128, 4}, {128, 65, 128, 4}, {128, 17, 384, 6}, {128, 65, 384, 6},
    };
    enum { shape_count = sizeof shapes / sizeof shapes[0] };
    double seconds[shape_count][row_count];
    struct error error;
    int64_t threads = 0;
    if ((argc > 1 && !number_parse_integer(argv[1], &threads)) ||
        (argc > 2 && !number_parse_integer(argv[2], &milliseconds)) || argc > 4) {
        fprintf(stderr, "usage: bench_kernels [THREADS [MILLISECONDS [noref]]]\n");
        return 64;
    }
    with_ref = argc < 4;
    if (kernels_open(&cpu, "cpu", PRECISION_FP32, (int)threads, &error) != STATUS_OK ||
        kernels_open(&cpu_bf16, "cpu", PRECISION_AMP_BF16, (int)threads, &error) != STATUS_OK ||
        kernels_open(&ref, "ref", PRECISION_FP32, 0, &error) != STATUS_OK) {
        fprintf(stderr, "bench_kernels: %s\n", error.text);
        return error.status;
    }
    make_data();
    print_loss_memory();
    printf("| %-22s | %-13s | %11s | %15s | %-7s |\n", "operation", "   B   T    C", "ns/call",
           "rate", "x ref");
    printf("| ---------------------- | ------------- | ----------- | --------------- | ------- "
           "|\n");
    for (size_t i = 0; i < shape_count; i++)
        for (size_t r = 0; r < row_count; r++)
            seconds[i][r] = print_row(&rows[r], &shapes[i]);
    print_row(&loss_row, &(struct shape){.B = 1024, .T = 1, .C = 128});

    zero_sums();
    printf("\n| %-22s | %-13s | %11s | %15s | %-7s |\n", "operation in bf16", "   B   T    C",
           "ns/call", "rate", "x fp32");
    printf("| ---------------------- | ------------- | ----------- | --------------- | ------- "
           "|\n");
    for (size_t i = 0; i < shape_count; i++)
        for (size_t r = 0; r < row_count; r++)
            if (takes_activations(&rows[r]))
                print_bf16_row(&rows[r], &shapes[i], seconds[i][r]);
    kernels_close(cpu);
    kernels_close(cpu_bf16);
    kernels_close(ref);
    return 0;
}
