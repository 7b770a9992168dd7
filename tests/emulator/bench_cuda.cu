/* bench_cuda [--quick] - time of the CUDA backend in bf16, as Markdown on stdout. Run by
 * `make bench-cuda`.
 *
 * The median of several runs by the device's own clock, after a warm-up, on random data, each
 * run on another part of blocks that are together far larger than the cache; beside it the time
 * that the bytes that must be moved or the operations that must be done would take at the
 * ceilings that are measured first: a large copy on the device and a large product. Training is
 * timed by the wall, from records in host memory to new parameters. tests/bench/bench_torch.py
 * prints the same rows of PyTorch. --quick leaves the models out. */
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_graph.h"
#include "kernels/cuda/launch.h"

extern "C" {
#include "base/rng.h"
#include "tests/emulator/bench_cuda_model.h"
}

enum { runs = 11, warm_up = 3, parameter_count = 65536 };

static struct kernels *k;
static const struct cuda_queue *q;

/* Random values, read or written; every operation takes its arrays from these. */
static const size_t block_bytes = (size_t)4 << 30;
static char *inputs[2], *outputs[2];
static float *statistics, *parameters;
static size_t turn; /* of the run, for another part of each block */

static double copy_rate, product_rate; /* bytes and operations a second */

static void stop(const char *what, const char *why)
{
    fprintf(stderr, "bench_cuda: %s: %s\n", what, why);
    exit(STATUS_UNAVAILABLE);
}

static void *allocate(size_t bytes)
{
    void *memory = k->allocate(k, bytes);
    if (memory == NULL)
        stop("memory", "refused");
    return memory;
}

/* This run's part of a block, for an array of bf16. */
static void *part(char *block, size_t count)
{
    const size_t bytes = (2 * count + 511) / 512 * 512;
    if (bytes > block_bytes)
        stop("an array", "too large");
    return block + turn % (block_bytes / bytes) * bytes;
}

/* ---- timing ---- */

struct shape {
    size_t B, T, C, H; /* or rows, columns, inner, as B, T, C */
};

typedef void operation(const struct shape *s);

static int compare(const void *a, const void *b)
{
    const float left = *(const float *)a, right = *(const float *)b;
    return (left > right) - (left < right);
}

static double seconds_of(operation *run, const struct shape *s)
{
    cudaEvent_t begin, end;
    float times[runs];
    struct error error;
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    for (int i = -warm_up; i < runs; i++) {
        turn++;
        cudaEventRecord(begin, (cudaStream_t)q->stream);
        run(s);
        cudaEventRecord(end, (cudaStream_t)q->stream);
        cudaEventSynchronize(end);
        if (i >= 0)
            cudaEventElapsedTime(&times[i], begin, end);
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    if (k->check(k, &error) != STATUS_OK)
        stop("an operation", error.text);
    qsort(times, runs, sizeof times[0], compare);
    return times[runs / 2] / 1e3;
}

static void row(const char *name, const struct shape *s, operation *run, double bytes,
                double operations)
{
    const double seconds = seconds_of(run, s);
    const double by_bytes = bytes / copy_rate, by_operations = operations / product_rate;
    const double floor = by_bytes > by_operations ? by_bytes : by_operations;
    printf("| %s | %zu x %zu x %zu | %.3f | %.0f | %.0f | %.3f | %.0f%% |\n", name, s->B, s->T,
           s->C, 1e3 * seconds, bytes / seconds / 1e9, operations / seconds / 1e12, 1e3 * floor,
           100 * floor / seconds);
    fflush(stdout);
}

/* ---- operations ---- */

static void run_copy(const struct shape *)
{
    cudaMemcpyAsync(outputs[0], inputs[0], block_bytes, cudaMemcpyDeviceToDevice,
                    (cudaStream_t)q->stream);
}

/* The product B x T x C, as a linear layer; more is said by what calls it. */
static struct matmul linear(const struct shape *s)
{
    struct matmul m = {};
    m.rows = s->B;
    m.columns = s->T;
    m.inner = s->C;
    m.a = part(inputs[0], s->B * s->C);
    m.b = part(inputs[1], s->C * s->T);
    m.b_transposed = true;
    m.out = part(outputs[0], s->B * s->T);
    return m;
}

static void run_product(const struct shape *s)
{
    const struct matmul m = linear(s);
    k->matmul(k, &m);
}

static void run_bias(const struct shape *s)
{
    struct matmul m = linear(s);
    m.bias = parameters;
    k->matmul(k, &m);
}

static void run_activation(const struct shape *s, enum activation kind)
{
    struct matmul m = linear(s);
    m.bias = parameters;
    m.epilogue = EPILOGUE_ACTIVATION;
    m.activation = kind;
    m.before = part(outputs[1], s->B * s->T);
    k->matmul(k, &m);
}

static void run_erf(const struct shape *s) { run_activation(s, ACTIVATION_GELU); }
static void run_tanh(const struct shape *s) { run_activation(s, ACTIVATION_GELU_TANH); }
static void run_quick(const struct shape *s) { run_activation(s, ACTIVATION_QUICK_GELU); }

static void run_activation_backward(const struct shape *s, enum activation kind)
{
    struct matmul m = linear(s);
    m.b_transposed = false;
    m.epilogue = EPILOGUE_ACTIVATION_BACKWARD;
    m.activation = kind;
    m.before = part(outputs[1], s->B * s->T);
    k->matmul(k, &m);
}

static void run_erf_backward(const struct shape *s)
{
    run_activation_backward(s, ACTIVATION_GELU);
}

static void run_tanh_backward(const struct shape *s)
{
    run_activation_backward(s, ACTIVATION_GELU_TANH);
}

static void run_quick_backward(const struct shape *s)
{
    run_activation_backward(s, ACTIVATION_QUICK_GELU);
}

/* dweight[T,C] += dy[B,T]^T x[B,C], and the sums of dy. */
static void run_weight_gradient(const struct shape *s)
{
    struct matmul m = {};
    m.rows = s->T;
    m.columns = s->C;
    m.inner = s->B;
    m.a = part(inputs[0], s->B * s->T);
    m.a_transposed = true;
    m.b = part(inputs[1], s->B * s->C);
    m.out = part(outputs[0], 2 * s->T * s->C);
    m.accumulate = true;
    m.a_sums = statistics;
    k->matmul(k, &m);
}

static void run_add(const struct shape *s)
{
    const size_t n = s->B * s->T * s->C;
    k->add(k, part(outputs[0], n), part(inputs[0], n), part(inputs[1], n), n);
}

static void run_gelu(const struct shape *s)
{
    const size_t n = s->B * s->T * s->C;
    k->activation_forward(k, part(outputs[0], n), part(inputs[0], n), n, ACTIVATION_GELU);
}

static void run_gelu_backward(const struct shape *s)
{
    const size_t n = s->B * s->T * s->C;
    k->activation_backward(k, part(outputs[0], n), part(inputs[0], n), part(inputs[1], n), n,
                           ACTIVATION_GELU);
}

static void run_norm(const struct shape *s)
{
    const size_t N = s->B * s->T, n = N * s->C;
    k->residual_norm_forward(k, part(outputs[0], n), part(outputs[1], n), statistics,
                             statistics + N, part(inputs[0], n), part(inputs[1], n), parameters,
                             parameters, N, s->C, 1e-5f);
}

static void run_norm_backward(const struct shape *s)
{
    const size_t N = s->B * s->T, n = N * s->C;
    float *sums = statistics + 2 * N;
    k->norm_backward(k, part(outputs[0], n), sums, sums + s->C, part(inputs[0], n),
                     part(inputs[1], n), statistics, statistics + N, parameters, N, s->C);
}

static void run_sum_rows(const struct shape *s)
{
    const size_t N = s->B * s->T;
    k->sum_rows(k, statistics, part(inputs[0], N * s->C), N, s->C);
}

static struct attention attention_of(const struct shape *s)
{
    struct attention a = {};
    a.B = s->B;
    a.T = s->T;
    a.H = s->H;
    a.D = s->C / s->H;
    return a;
}

static void run_attention(const struct shape *s)
{
    const struct attention a = attention_of(s);
    const size_t n = s->B * s->T * s->C;
    k->attention_forward(k, part(outputs[0], n), statistics, part(inputs[0], 3 * n), &a);
}

static void run_attention_backward(const struct shape *s)
{
    const struct attention a = attention_of(s);
    const size_t n = s->B * s->T * s->C;
    k->attention_backward(k, part(outputs[0], 3 * n), part(inputs[1], n),
                          part(inputs[0], 3 * n), part(inputs[1], n), statistics, &a);
}

static void run_loss(const struct shape *s)
{
    float *out = statistics, *units = (float *)part(inputs[0], 4 * s->B * s->C);
    k->contrastive_loss(k, out, (float *)part(outputs[0], 2 * s->B * s->C),
                        (float *)part(outputs[1], 2 * s->B * s->C), out + 1, units,
                        units + s->B * s->C, parameters, s->B, s->C);
}

static void run_adamw(const struct shape *s)
{
    struct adamw args = {};
    args.lr = 1e-6f;
    args.beta1 = 0.9f;
    args.beta2 = 0.95f;
    args.eps = 1e-6f;
    args.gradient_scale = 1;
    args.step = 10;
    k->adamw(k, (float *)part(outputs[0], 2 * s->C), (float *)part(outputs[1], 2 * s->C),
             (float *)part(inputs[1], 2 * s->C), (float *)part(inputs[0], 2 * s->C), s->C,
             &args);
}

/* ---- the tables of kernels ---- */

/* Random bits that are numbers of size 1, in bf16 and, by their upper half, in fp32. */
static void fill_random(char *memory, uint64_t seed)
{
    const size_t n = (size_t)1 << 24;
    uint16_t *host = (uint16_t *)malloc(n * sizeof *host);
    struct rng rng;
    if (host == NULL)
        stop("memory", "refused");
    rng_init(&rng, seed, 0, 0, RNG_TEST);
    for (size_t i = 0; i < n; i++) {
        const float x = (float)rng_normal(&rng);
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        host[i] = (uint16_t)(bits >> 16);
    }
    for (size_t at = 0; at < block_bytes; at += n * sizeof *host)
        k->upload(k, memory + at, host, n * sizeof *host);
    free(host);
}

static void fill_parameters(void)
{
    static float host[parameter_count];
    struct rng rng;
    rng_init(&rng, 9, 0, 0, RNG_TEST);
    for (size_t i = 0; i < parameter_count; i++)
        host[i] = (float)rng_normal(&rng);
    k->upload(k, parameters, host, sizeof host);
    k->zero(k, statistics, (size_t)256 << 20);
}

static void table(const char *title)
{
    printf("\n%s\n\n| operation | shape | ms | GB/s | TFLOP/s | floor, ms | of the floor's "
           "rate |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |\n", title);
}

static void bench_tower(const struct shape *s)
{
    const double n = (double)(s->B * s->T * s->C), products = 2.0 * (double)s->T * n;
    row("add", s, run_add, 6 * n, 0);
    row("GELU", s, run_gelu, 4 * n, 0);
    row("GELU backward", s, run_gelu_backward, 6 * n, 0);
    row("add + norm", s, run_norm, 8 * n, 0);
    row("norm backward", s, run_norm_backward, 8 * n, 0);
    row("sum of rows", s, run_sum_rows, 2 * n, 0);
    row("attention", s, run_attention, 8 * n, 2 * products);
    row("attention backward", s, run_attention_backward, 16 * n, 5 * products);
}

/* rows x hidden x width, and the products of the same size beside it. */
static void bench_products(size_t rows, size_t width)
{
    const struct shape fc = {rows, 4 * width, width, 0};
    const struct shape projection = {rows, width, 4 * width, 0};
    const struct shape qkv = {rows, 3 * width, width, 0};
    const double r = (double)rows, w = (double)width;
    const double small = 2 * r * w + 8 * w * w, large = 8 * r * w; /* bytes */
    const double flops = 8 * r * w * w;
    row("product", &fc, run_product, small + large, flops);
    row("product, bias, GELU", &fc, run_erf, small + 2 * large, flops);
    row("product, bias, GELU tanh", &fc, run_tanh, small + 2 * large, flops);
    row("product, bias, quick GELU", &fc, run_quick, small + 2 * large, flops);
    row("product, GELU backward", &fc, run_erf_backward, small + 2 * large, flops);
    row("product, GELU tanh backward", &fc, run_tanh_backward, small + 2 * large, flops);
    row("product, quick GELU backward", &fc, run_quick_backward, small + 2 * large, flops);
    row("product, bias", &projection, run_bias, small + large, flops);
    row("product, bias", &qkv, run_bias, 8 * r * w + 6 * w * w, 6 * r * w * w);
    row("gradient of a weight, of a bias", &fc, run_weight_gradient,
        2 * r * w + large + 32 * w * w, flops);
}

static void bench_kernels(void)
{
    static const struct shape towers[] = {
        {4096, 8, 512, 8},   {4096, 16, 512, 8},  {4096, 8, 1024, 16}, {2048, 37, 1024, 16},
        {2048, 37, 1280, 16}, {4096, 50, 768, 12}, {1024, 77, 512, 8},  {512, 197, 768, 12},
        {256, 257, 1280, 16},
    };
    static const struct shape products[] = {
        {4096 * 50, 768, 0, 0}, {4096 * 16, 512, 0, 0}, {2048 * 37, 1024, 0, 0},
        {2048 * 8, 768, 0, 0},  {1024 * 37, 1280, 0, 0}};
    static const struct shape losses[] = {
        {4096, 1, 512, 0}, {32768, 1, 512, 0}, {65536, 1, 512, 0}, {32768, 1, 1024, 0}};
    static const struct shape sizes[] = {{1, 1, 150000000, 0}, {1, 1, 428000000, 0}};
    table("Attention, norms and what is left alone between products: B x T x C");
    for (size_t i = 0; i < sizeof towers / sizeof towers[0]; i++)
        bench_tower(&towers[i]);
    table("Products: rows x columns x inner");
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++)
        bench_products(products[i].B, products[i].T);
    table("Contrastive loss with both gradients, four products: N x 1 x E. AdamW: parameters");
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++) {
        const double n = (double)losses[i].B;
        row("contrastive loss", &losses[i], run_loss, 0, 8 * n * n * (double)losses[i].C);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        row("AdamW", &sizes[i], run_adamw, 28 * (double)sizes[i].C, 0);
}

/* ---- all of it ---- */

static void print_head(void)
{
    struct cudaDeviceProp device;
    struct cuda_graphs *graphs = NULL;
    struct error error;
    char date[32];
    int driver = 0, runtime = 0;
    const time_t now = time(NULL);
    struct tm utc;
    cudaGetDeviceProperties(&device, 0);
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (cuda_graphs_open(&graphs, NULL, &error) != STATUS_OK)
        graphs = NULL;
    strftime(date, sizeof date, "%Y-%m-%d", gmtime_r(&now, &utc));
    printf("%s, %.0f GB, %d multiprocessors; driver for CUDA %d.%d, runtime %d.%d, "
           "cublasLt %zu, cudnn %zu; %s\n", device.name, (double)device.totalGlobalMem / 1e9,
           device.multiProcessorCount, driver / 1000, driver % 1000 / 10, runtime / 1000,
           runtime % 1000 / 10, cublasLtGetVersion(),
           graphs == NULL ? 0 : cuda_graphs_version(graphs), date);
    cuda_graphs_close(graphs);
}

static void measure_ceilings(void)
{
    const struct shape large = {8192, 8192, 8192, 0};
    copy_rate = 2.0 * (double)block_bytes / seconds_of(run_copy, &large);
    product_rate = 2.0 * 8192 * 8192 * 8192 / seconds_of(run_product, &large);
    printf("\nCeilings: copy %.0f GB/s, read and written; bf16 product 8192 x 8192 x 8192 on "
           "random data %.0f TFLOP/s\n", copy_rate / 1e9, product_rate / 1e12);
}

int main(int argc, char **argv)
{
    struct error error;
    const bool quick = argc == 2 && strcmp(argv[1], "--quick") == 0;
    if (argc > 2 || (argc == 2 && !quick)) {
        fprintf(stderr, "usage: bench_cuda [--quick]\n");
        return STATUS_USAGE;
    }
    if (clipipe_cuda_open(&k, PRECISION_AMP_BF16, sizeof *k, &error) != STATUS_OK) {
        fprintf(stderr, "bench_cuda: %s\n", error.text);
        return error.status;
    }
    q = cuda_backend_queue(k);
    for (int i = 0; i < 2; i++) {
        inputs[i] = (char *)allocate(block_bytes);
        outputs[i] = (char *)allocate(block_bytes);
        fill_random(inputs[i], (uint64_t)i);
        fill_random(outputs[i], (uint64_t)(2 + i));
    }
    statistics = (float *)allocate((size_t)256 << 20);
    parameters = (float *)allocate(parameter_count * sizeof *parameters);
    fill_parameters();
    print_head();
    measure_ceilings();
    bench_kernels();
    for (int i = 0; i < 2; i++) {
        k->release(k, inputs[i]);
        k->release(k, outputs[i]);
    }
    if (!quick && bench_models(k, &error) != STATUS_OK)
        stop("training", error.text);
    k->close(k);
    return 0;
}
