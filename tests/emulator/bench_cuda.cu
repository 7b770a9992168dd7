/* bench_cuda - time of the CUDA kernels, as rows of a Markdown table on stdout: the median of
 * several runs by the device's own clock, on random data, beside the time that the bytes they
 * must move or the operations they must do would take at the ceilings measured first: a large
 * copy on the device, a large fp32 matrix product. Run by `make bench-cuda`. */
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"

extern "C" {
#include "base/rng.h"
}

enum { runs = 15, warm_up = 3 };

static struct kernels *k;
static const struct cuda_queue *q;

/* Blocks large enough for every shape; x and w are only read. */
static const size_t block_bytes = (size_t)4 << 30;
static void *x, *w, *y, *z, *scratch;
static float *statistics;

struct shape {
    size_t B, T, C, H;
};

typedef void operation(const struct shape *s);

static double copy_rate, product_rate; /* bytes and operations a second */

static void stop(const char *what, const char *why)
{
    fprintf(stderr, "bench_cuda: %s: %s\n", what, why);
    exit(69);
}

static void *allocate(size_t bytes)
{
    void *memory = k->allocate(k, bytes);
    if (memory == NULL)
        stop("memory", "refused");
    return memory;
}

static int compare(const void *a, const void *b)
{
    const float left = *(const float *)a, right = *(const float *)b;
    return (left > right) - (left < right);
}

/* The median time of a call. */
static double seconds_of(operation *run, const struct shape *s)
{
    cudaEvent_t begin, end;
    float times[runs];
    struct error error;
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    for (int i = -warm_up; i < runs; i++) {
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
        stop("a kernel", error.text);
    qsort(times, runs, sizeof times[0], compare);
    return times[runs / 2] / 1e3;
}

static void row(const char *name, const struct shape *s, operation *run, double bytes,
                double operations)
{
    const double seconds = seconds_of(run, s);
    const double by_bytes = bytes / copy_rate, by_operations = operations / product_rate;
    const double floor = by_bytes > by_operations ? by_bytes : by_operations;
    printf("| %s | %zu x %zu x %zu, %zu heads | %.3f | %.0f | %.3f | %.0f%% |\n", name, s->B,
           s->T, s->C, s->H, 1e3 * seconds, bytes / seconds / 1e9, 1e3 * floor,
           100 * floor / seconds);
    fflush(stdout);
}

/* ---- operations ---- */

static void run_copy(const struct shape *s)
{
    (void)s;
    cudaMemcpyAsync(y, x, block_bytes / 2, cudaMemcpyDeviceToDevice, (cudaStream_t)q->stream);
}

static void run_product(const struct shape *s)
{
    struct matmul product = {};
    product.rows = product.columns = product.inner = s->C;
    product.a = (const float *)x;
    product.b = (const float *)w;
    product.b_transposed = true;
    product.out = (float *)y;
    k->matmul(k, &product);
}

static void run_add(const struct shape *s)
{
    cuda_add(q, ELEMENT_BF16, y, x, w, s->B * s->T * s->C);
}

static void run_gelu(const struct shape *s)
{
    cuda_activation_forward(q, ELEMENT_BF16, y, x, s->B * s->T * s->C, ACTIVATION_GELU);
}

static void run_gelu_backward(const struct shape *s)
{
    cuda_activation_backward(q, ELEMENT_BF16, y, w, x, s->B * s->T * s->C, ACTIVATION_GELU);
}

static void run_norm(const struct shape *s)
{
    cuda_residual_norm_forward(q, ELEMENT_BF16, y, z, statistics, statistics + s->B * s->T, x,
                               w, (const float *)w, (const float *)w, s->B * s->T, s->C, 1e-5f);
}

static void run_norm_backward(const struct shape *s)
{
    float *sums = statistics + 2 * s->B * s->T;
    cuda_norm_backward(q, ELEMENT_BF16, y, sums, sums + s->C, w, x, statistics,
                       statistics + s->B * s->T, (const float *)w, s->B * s->T, s->C,
                       (float *)scratch);
}

static void run_sum_rows(const struct shape *s)
{
    cuda_sum_rows(q, ELEMENT_BF16, statistics, x, s->B * s->T, s->C, s->C, (float *)scratch);
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

static void run_attention_mma(const struct shape *s)
{
    const struct attention a = attention_of(s);
    if (!cuda_attention_forward_mma(q, (bf16 *)y, statistics, (const bf16 *)x, &a))
        stop("attention", "shape refused");
}

static void run_attention_backward_mma(const struct shape *s)
{
    const struct attention a = attention_of(s);
    if (!cuda_attention_backward_mma(q, (bf16 *)z, (const bf16 *)w, (const bf16 *)x,
                                     (const bf16 *)y, statistics, &a))
        stop("attention backward", "shape refused");
}

static void run_attention(const struct shape *s)
{
    const struct attention a = attention_of(s);
    k->attention_forward(k, (float *)y, statistics, (const float *)x, &a);
}

static void run_attention_backward(const struct shape *s)
{
    const struct attention a = attention_of(s);
    k->attention_backward(k, (float *)z, (const float *)w, (const float *)x, (const float *)y,
                          statistics, &a);
}

static void run_loss(const struct shape *s)
{
    float *scale = statistics, *loss = statistics + 1, *dscale = statistics + 2;
    k->zero(k, scale, 3 * sizeof *scale);
    k->contrastive_loss(k, loss, (float *)y, (float *)z, dscale, (const float *)x,
                        (const float *)w, scale, s->B, s->C);
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
    k->adamw(k, (float *)y, (float *)z, (float *)scratch, (const float *)x, s->C, &args);
}

/* ---- the table ---- */

static void fill_random(void *memory, uint64_t seed)
{
    const size_t n = (size_t)1 << 24;
    float *host = (float *)malloc(n * sizeof *host);
    struct rng rng;
    if (host == NULL)
        stop("memory", "refused");
    rng_init(&rng, seed, 0, 0, RNG_TEST);
    for (size_t i = 0; i < n; i++) { /* two bf16 of size 1 in each float, itself of size 1 */
        const float pair[2] = {(float)rng_uniform(&rng) - 0.5f,
                               (float)rng_uniform(&rng) - 0.5f};
        uint32_t high, low, word;
        memcpy(&high, &pair[0], sizeof high);
        memcpy(&low, &pair[1], sizeof low);
        word = (high & 0xffff0000u) | low >> 16;
        memcpy(&host[i], &word, sizeof word);
    }
    for (size_t at = 0; at < block_bytes; at += n * sizeof *host)
        k->upload(k, (char *)memory + at, host, n * sizeof *host);
    free(host);
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
    row("attention, bf16", s, run_attention_mma, 8 * n, 0);
    row("attention backward, bf16", s, run_attention_backward_mma, 16 * n, 0);
    row("attention, fp32", s, run_attention, 16 * n, 2 * products);
    row("attention backward, fp32", s, run_attention_backward, 32 * n, 5 * products);
}

int main(void)
{
    static const struct shape towers[] = {
        {4096, 8, 512, 8},  {4096, 16, 512, 8},  {2048, 50, 768, 12},
        {1024, 77, 768, 12}, {512, 197, 768, 12}, {256, 257, 1280, 16},
    };
    struct error error;
    struct cudaDeviceProp device;
    int driver = 0, runtime = 0;
    if (clipipe_cuda_open(&k, sizeof *k, &error) != STATUS_OK)
        stop("cannot open", error.text);
    q = cuda_backend_queue(k);
    x = allocate(block_bytes);
    w = allocate(block_bytes);
    y = allocate(block_bytes);
    z = allocate(block_bytes);
    scratch = allocate(block_bytes / 2);
    statistics = (float *)allocate((size_t)256 << 20);
    fill_random(x, 1);
    fill_random(w, 2);
    k->zero(k, scratch, block_bytes / 2);
    cudaGetDeviceProperties(&device, 0);
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);

    const struct shape large = {1, 1, 8192, 1};
    copy_rate = (double)block_bytes / seconds_of(run_copy, &large);
    product_rate = 2.0 * 8192 * 8192 * 8192 / seconds_of(run_product, &large);
    printf("%s, driver %d, runtime %d: copy %.0f GB/s (read + written), fp32 product %.1f "
           "TFLOP/s\n\n", device.name, driver, runtime, copy_rate / 1e9, product_rate / 1e12);
    printf("| kernel | B x T x C | ms | GB/s | floor, ms | of the floor's rate |\n"
           "| --- | --- | ---: | ---: | ---: | ---: |\n");
    for (size_t i = 0; i < sizeof towers / sizeof towers[0]; i++)
        bench_tower(&towers[i]);
    static const struct shape losses[] = {{4096, 1, 512, 1}, {32768, 1, 512, 1}};
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++) {
        const double n = (double)losses[i].B;
        row("contrastive loss, fp32", &losses[i], run_loss, 0, 8 * n * n * 512);
    }
    const struct shape parameters = {1, 1, 150000000, 1};
    row("AdamW", &parameters, run_adamw, 28.0 * 150000000, 0);
    k->close(k);
    return 0;
}
