#include "kernels/cpu/cpu.h"

#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "kernels/cpu/cpu_product.h"
#include "kernels/cpu/cpu_state.h"

void cpu_fail(struct cpu *cpu, const struct error *failure)
{
    if (cpu->failure.status == STATUS_OK)
        cpu->failure = *failure;
}

void *cpu_scratch(struct cpu *cpu, size_t count, size_t element_bytes)
{
    struct error error;
    size_t bytes;
    if (!size_multiply(count, element_bytes, &bytes))
        bytes = SIZE_MAX;
    if (buffer_reserve(&cpu->scratch, bytes == 0 ? 1 : bytes, &error) != STATUS_OK) {
        error_prefix(&error, "scratch of the cpu backend");
        cpu_fail(cpu, &error);
        return NULL;
    }
    return cpu->scratch.data;
}

int cpu_parts(const struct cpu *cpu, size_t n, size_t cost)
{
    const size_t values_per_thread = 16384;
    size_t work;
    if (!size_multiply(n, cost, &work))
        work = SIZE_MAX;
    size_t parts = work / values_per_thread;
    if (parts > (size_t)cpu->threads)
        parts = (size_t)cpu->threads;
    if (parts > n)
        parts = n;
    return parts == 0 ? 1 : (int)parts;
}

struct range cpu_range(size_t n, int parts, int part, size_t step)
{
    const size_t steps = n / step + (n % step != 0);
    const size_t each = steps / (size_t)parts, more = steps % (size_t)parts;
    const size_t index = (size_t)part;
    size_t first = (index * each + (index < more ? index : more)) * step;
    size_t end = first + (each + (index < more)) * step;
    first = first < n ? first : n;
    end = end < n ? end : n;
    return (struct range){first, end - first};
}

static void cpu_close(struct kernels *k)
{
    struct cpu *cpu = k->state;
    product_cache_close(cpu->products);
    buffer_free(&cpu->scratch);
    free(cpu);
}

static enum status cpu_check(struct kernels *k, struct error *error)
{
    struct cpu *cpu = k->state;
    const enum status status = cpu->failure.status;
    if (status != STATUS_OK)
        *error = cpu->failure;
    cpu->failure.status = STATUS_OK;
    return status;
}

static bool cpu_idle(struct kernels *k)
{
    (void)k;
    return true;
}

static void *cpu_allocate(struct kernels *k, size_t bytes)
{
    (void)k;
    if (bytes > SIZE_MAX - 64)
        return NULL;
    return aligned_alloc(64, size_round_up(bytes == 0 ? 1 : bytes, 64));
}

static void cpu_release(struct kernels *k, void *memory)
{
    (void)k;
    free(memory);
}

static void cpu_copy(struct kernels *k, void *to, const void *from, size_t bytes)
{
    (void)k;
    if (bytes > 0)
        memcpy(to, from, bytes);
}

static void cpu_zero(struct kernels *k, void *memory, size_t bytes)
{
    (void)k;
    if (bytes > 0)
        memset(memory, 0, bytes);
}

static const struct kernels operations = {
    .name = "cpu",
    .close = cpu_close,
    .check = cpu_check,
    .idle = cpu_idle,
    .allocate = cpu_allocate,
    .release = cpu_release,
    .upload = cpu_copy,
    .download = cpu_copy,
    .zero = cpu_zero,
    .round = cpu_round,
    .matmul = cpu_matmul,
    .sum_rows = cpu_sum_rows,
    .add = cpu_add,
    .activation_forward = cpu_activation_forward,
    .activation_backward = cpu_activation_backward,
    .layer_scale_forward = cpu_layer_scale_forward,
    .layer_scale_backward = cpu_layer_scale_backward,
    .residual_norm_forward = cpu_residual_norm_forward,
    .norm_backward = cpu_norm_backward,
    .attention_forward = cpu_attention_forward,
    .attention_backward = cpu_attention_backward,
    .unpack_patches = cpu_unpack_patches,
    .embed_patches_forward = cpu_embed_patches_forward,
    .embed_patches_backward = cpu_embed_patches_backward,
    .embed_tokens_forward = cpu_embed_tokens_forward,
    .embed_tokens_backward = cpu_embed_tokens_backward,
    .pick_token_forward = cpu_pick_token_forward,
    .pick_token_backward = cpu_pick_token_backward,
    .mean_tokens_forward = cpu_mean_tokens_forward,
    .mean_tokens_backward = cpu_mean_tokens_backward,
    .normalize_forward = cpu_normalize_forward,
    .normalize_backward = cpu_normalize_backward,
    .contrastive_loss = cpu_contrastive_loss,
    .adamw = cpu_adamw,
    .sum_squares = cpu_sum_squares,
    .clamp = cpu_clamp,
    .move_average = cpu_move_average,
};

#if defined(__x86_64__)
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

static bool has_baseline(void)
{
    return true;
}

/* Best first. */
static const struct instruction_set {
    const struct vector_kernels *vector;
    bool (*present)(void);
} instruction_sets[] = {
#if defined(__x86_64__)
    {&vector_avx512, has_avx512},
    {&vector_avx2, has_avx2},
#endif
    {&vector_baseline, has_baseline},
};

static enum status choose_instruction_set(const struct vector_kernels **vector,
                                          struct error *error)
{
    const char *wanted = getenv("CLIPIPE_CPU_ISA");
    for (size_t i = 0; i < sizeof instruction_sets / sizeof instruction_sets[0]; i++) {
        const struct instruction_set *set = &instruction_sets[i];
        if (wanted != NULL && strcmp(wanted, set->vector->isa) != 0)
            continue;
        if (set->present()) {
            *vector = set->vector;
            return STATUS_OK;
        }
        if (wanted != NULL)
            return error_set(error, STATUS_UNAVAILABLE,
                             "CLIPIPE_CPU_ISA: this processor has no %s", wanted);
    }
    return error_set(error, STATUS_USAGE,
                     "CLIPIPE_CPU_ISA: unknown instruction set '%s', expected baseline, avx2 "
                     "or avx512", wanted);
}

/* Without the instructions for it, oneDNN's products of bf16 take five times as long as those
 * of fp32. */
static enum status choose_products(bool *multiplies_bf16, struct error *error)
{
    const char *wanted = getenv("CLIPIPE_CPU_BF16");
    if (wanted != NULL && strcmp(wanted, "onednn") != 0 && strcmp(wanted, "convert") != 0)
        return error_set(error, STATUS_USAGE,
                         "CLIPIPE_CPU_BF16: unknown way '%s', expected onednn or convert",
                         wanted);
    *multiplies_bf16 = wanted == NULL ? product_has_bf16() : strcmp(wanted, "onednn") == 0;
    return STATUS_OK;
}

enum status cpu_open(struct kernels **k, enum precision precision, int threads,
                     struct error *error)
{
    if (threads < 0)
        return error_set(error, STATUS_USAGE, "%d threads, expected 0 or more", threads);
    struct cpu *cpu = calloc(1, sizeof *cpu);
    if (cpu == NULL)
        return error_memory(error, sizeof *cpu, "the cpu backend");
    cpu->kernels = operations;
    cpu->kernels.precision = precision;
    cpu->kernels.state = cpu;
    cpu->threads = threads == 0 ? omp_get_num_procs() : threads;
    omp_set_num_threads(cpu->threads);

    enum status status = choose_instruction_set(&cpu->vector, error);
    if (status == STATUS_OK)
        status = product_cache_open(&cpu->products, error);
    if (status == STATUS_OK)
        status = choose_products(&cpu->multiplies_bf16, error);
    if (status != STATUS_OK) {
        cpu_close(&cpu->kernels);
        return status;
    }
    *k = &cpu->kernels;
    return STATUS_OK;
}
