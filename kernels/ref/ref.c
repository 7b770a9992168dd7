#include "kernels/ref/ref.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "kernels/ref/ref_operations.h"

struct ref {
    struct kernels kernels; /* first, so that k points to the whole */
    struct error failure;   /* the first since the last check; status 0 where there is none */
};

static void ref_close(struct kernels *k)
{
    free(k->state);
}

static enum status ref_check(struct kernels *k, struct error *error)
{
    struct ref *ref = k->state;
    const enum status status = ref->failure.status;
    if (status != STATUS_OK)
        *error = ref->failure;
    ref->failure.status = STATUS_OK;
    return status;
}

void *ref_scratch(struct kernels *k, size_t count, size_t element_bytes)
{
    struct ref *ref = k->state;
    void *scratch = calloc(count == 0 ? 1 : count, element_bytes);
    if (scratch == NULL && ref->failure.status == STATUS_OK)
        error_memory(&ref->failure, (unsigned long long)count * element_bytes,
                     "scratch of the ref backend");
    return scratch;
}

static bool ref_idle(struct kernels *k)
{
    (void)k;
    return true;
}

static void *ref_allocate(struct kernels *k, size_t bytes)
{
    (void)k;
    if (bytes > SIZE_MAX - 64)
        return NULL;
    return aligned_alloc(64, size_round_up(bytes == 0 ? 1 : bytes, 64));
}

static void ref_release(struct kernels *k, void *memory)
{
    (void)k;
    free(memory);
}

static void ref_copy(struct kernels *k, void *to, const void *from, size_t bytes)
{
    (void)k;
    if (bytes > 0)
        memcpy(to, from, bytes);
}

static void ref_zero(struct kernels *k, void *memory, size_t bytes)
{
    (void)k;
    if (bytes > 0)
        memset(memory, 0, bytes);
}

static const struct kernels operations = {
    .name = "ref",
    .close = ref_close,
    .check = ref_check,
    .idle = ref_idle,
    .allocate = ref_allocate,
    .release = ref_release,
    .upload = ref_copy,
    .download = ref_copy,
    .zero = ref_zero,
    .round = ref_round,
    .matmul = ref_matmul,
    .sum_rows = ref_sum_rows,
    .add = ref_add,
    .activation_forward = ref_activation_forward,
    .activation_backward = ref_activation_backward,
    .layer_scale_forward = ref_layer_scale_forward,
    .layer_scale_backward = ref_layer_scale_backward,
    .residual_norm_forward = ref_residual_norm_forward,
    .norm_backward = ref_norm_backward,
    .attention_forward = ref_attention_forward,
    .attention_backward = ref_attention_backward,
    .unpack_patches = ref_unpack_patches,
    .embed_patches_forward = ref_embed_patches_forward,
    .embed_patches_backward = ref_embed_patches_backward,
    .embed_tokens_forward = ref_embed_tokens_forward,
    .embed_tokens_backward = ref_embed_tokens_backward,
    .pick_token_forward = ref_pick_token_forward,
    .pick_token_backward = ref_pick_token_backward,
    .mean_tokens_forward = ref_mean_tokens_forward,
    .mean_tokens_backward = ref_mean_tokens_backward,
    .normalize_forward = ref_normalize_forward,
    .normalize_backward = ref_normalize_backward,
    .contrastive_loss = ref_contrastive_loss,
    .adamw = ref_adamw,
    .sum_squares = ref_sum_squares,
    .clamp = ref_clamp,
    .move_average = ref_move_average,
};

enum status ref_open(struct kernels **k, enum precision precision, int threads,
                     struct error *error)
{
    (void)threads;
    struct ref *ref = calloc(1, sizeof *ref);
    if (ref == NULL)
        return error_memory(error, sizeof *ref, "the ref backend");
    ref->kernels = operations;
    ref->kernels.precision = precision;
    ref->kernels.state = ref;
    *k = &ref->kernels;
    return STATUS_OK;
}
