#include "model/clip.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

/* ---- memory ---- */

static size_t patch_bytes(const struct clip *clip)
{
    size_t P = clip->config->vision.patch_size;
    return P * P * 3;
}

/* The towers take turns, so the second's scratch lies over the first's. */
static void take_activations(struct clip *clip, struct arena *arena)
{
    size_t B = clip->shape.batch, most = clip->shape.most, E = clip->config->embed_dim;
    bool training = clip->shape.training;

    clip->patches = arena_take(arena, B, clip->shape.kept, patch_bytes(clip));
    clip->position = arena_take(arena, B, clip->shape.kept, sizeof *clip->position);
    clip->tokens =
        arena_take(arena, B, clip->config->text.context_length, sizeof *clip->tokens);
    clip->row = arena_take(arena, B, 1, sizeof *clip->row);
    clip->image_unit = arena_take_floats(arena, most, E);
    clip->text_unit = arena_take_floats(arena, most, E);
    clip->dimage_unit = training ? arena_take_floats(arena, most, E) : NULL;
    clip->dtext_unit = training ? arena_take_floats(arena, most, E) : NULL;
    clip->loss = arena_take_floats(arena, 1, 1);
    image_tower_take(&clip->image, arena, B);
    text_tower_take(&clip->text, arena, B);

    size_t scratch = arena->used;
    image_tower_take_scratch(&clip->image, arena, B);
    size_t end = arena->used;
    arena->used = scratch;
    text_tower_take_scratch(&clip->text, arena, B);
    if (arena->used < end)
        arena->used = end;
}

static enum status measure_activations(struct clip *clip, size_t activation_bytes,
                                       size_t *bytes, struct error *error)
{
    struct arena arena = {.activation_bytes = activation_bytes};
    take_activations(clip, &arena);
    if (arena.overflow)
        return error_set(error, STATUS_SYSTEM, "a batch of %zu samples is beyond any memory",
                         clip->shape.batch);
    *bytes = arena.used;
    return STATUS_OK;
}

static enum status allocate_activations(struct clip *clip, struct error *error)
{
    size_t bytes = 0, each = activation_bytes(clip->kernels);
    enum status status = measure_activations(clip, each, &bytes, error);
    if (status != STATUS_OK)
        return status;
    clip->activations = clip->kernels->allocate(clip->kernels, bytes);
    if (clip->activations == NULL) {
        error_memory(error, bytes, "the activations");
        return error_hint(error, "use a smaller --batch-size with a larger --accum-freq");
    }
    struct arena arena = {.base = clip->activations, .activation_bytes = each};
    take_activations(clip, &arena);
    return STATUS_OK;
}

static enum status allocate_parameters(struct clip *clip, struct error *error)
{
    struct kernels *k = clip->kernels;
    size_t bytes = clip->table.floats * sizeof(float);
    clip->parameters = k->allocate(k, bytes);
    if (clip->parameters == NULL)
        return error_memory(error, bytes, "the parameters");
    k->zero(k, clip->parameters, bytes);
    clip->weights.value = clip->parameters;
    if (k->precision == PRECISION_AMP_BF16) {
        size_t rounded_bytes = clip->table.decay_floats * sizeof *clip->rounded;
        clip->rounded = k->allocate(k, rounded_bytes);
        if (clip->rounded == NULL)
            return error_memory(error, rounded_bytes, "the rounded parameters");
        clip->weights.rounded = clip->rounded;
    }
    if (!clip->shape.training)
        return STATUS_OK;
    clip->gradients = k->allocate(k, bytes);
    if (clip->gradients == NULL)
        return error_memory(error, bytes, "the gradients");
    k->zero(k, clip->gradients, bytes);
    return STATUS_OK;
}

static enum status allocate_host(struct clip *clip, struct error *error)
{
    size_t B = clip->shape.batch, K = clip->shape.kept, positions;
    if (!size_multiply(B, K, &positions))
        return error_memory(error, SIZE_MAX, "patch positions");
    clip->host_position = calloc(positions, sizeof *clip->host_position);
    clip->host_row = calloc(B, sizeof *clip->host_row);
    clip->host_seen = calloc(clip_config_patches(clip->config), 1);
    if (clip->host_position == NULL || clip->host_row == NULL || clip->host_seen == NULL)
        return error_memory(error, positions * sizeof *clip->host_position, "patch positions");
    for (size_t i = 0; i < positions; i++)
        clip->host_position[i] = (int32_t)(i % K);
    return STATUS_OK;
}

static enum status check_shape(const struct clip_config *config, const struct clip_shape *shape,
                               struct error *error)
{
    if (shape->batch == 0 || shape->most < shape->batch)
        return error_set(error, STATUS_USAGE, "a batch of %zu samples of %zu", shape->batch,
                         shape->most);
    if (shape->kept == 0 || shape->kept > clip_config_patches(config))
        return error_set(error, STATUS_DATA, "%zu patches by image, expected 1 to %zu",
                         shape->kept, clip_config_patches(config));
    return STATUS_OK;
}

/* All that does not need a backend. */
static enum status init_model(struct clip *clip, const struct clip_config *config,
                              const struct clip_shape *shape, struct error *error)
{
    clip->config = config;
    clip->shape = *shape;
    if (clip->shape.most == 0)
        clip->shape.most = shape->batch;
    enum status status = check_shape(config, &clip->shape, error);
    if (status == STATUS_OK)
        status = parameters_init(&clip->table, config, error);
    if (status == STATUS_OK)
        status = image_tower_init(&clip->image, config, &clip->table.vision, shape->kept,
                                  shape->training && !shape->image_frozen, shape->recompute,
                                  error);
    if (status == STATUS_OK)
        status = text_tower_init(&clip->text, config, &clip->table.text,
                                 shape->training && !shape->text_frozen, shape->recompute,
                                 error);
    return status;
}

static void free_model(struct clip *clip)
{
    image_tower_free(&clip->image);
    text_tower_free(&clip->text);
    parameters_free(&clip->table);
}

enum status clip_activation_bytes(const struct clip_config *config,
                                  const struct clip_shape *shape, enum precision precision,
                                  size_t *bytes, struct error *error)
{
    const struct kernels of_precision = {.precision = precision};
    struct clip clip = {0};
    enum status status = init_model(&clip, config, shape, error);
    if (status == STATUS_OK)
        status = measure_activations(&clip, activation_bytes(&of_precision), bytes, error);
    free_model(&clip);
    return status;
}

enum status clip_open(struct clip **out, struct kernels *k, const struct clip_config *config,
                      const struct clip_shape *shape, struct error *error)
{
    struct clip *clip = calloc(1, sizeof *clip);
    if (clip == NULL)
        return error_memory(error, sizeof *clip, "the model");
    clip->kernels = k;
    enum status status = init_model(clip, config, shape, error);
    if (status == STATUS_OK)
        status = allocate_parameters(clip, error);
    if (status == STATUS_OK)
        status = allocate_activations(clip, error);
    if (status == STATUS_OK)
        status = allocate_host(clip, error);
    if (status != STATUS_OK) {
        clip_close(clip);
        return status;
    }
    *out = clip;
    return STATUS_OK;
}

void clip_close(struct clip *clip)
{
    if (clip == NULL)
        return;
    struct kernels *k = clip->kernels;
    k->release(k, clip->activations);
    k->release(k, clip->parameters);
    k->release(k, clip->gradients);
    k->release(k, clip->rounded);
    free_model(clip);
    free(clip->host_position);
    free(clip->host_row);
    free(clip->host_seen);
    free(clip);
}

void clip_set_parameters(struct clip *clip, const float *host)
{
    clip->kernels->upload(clip->kernels, clip->parameters, host,
                          clip->table.floats * sizeof *host);
}

void clip_get_parameters(struct clip *clip, float *host)
{
    clip->kernels->download(clip->kernels, host, clip->parameters,
                            clip->table.floats * sizeof *host);
}

enum status clip_initialize(struct clip *clip, uint64_t seed, struct error *error)
{
    size_t bytes = clip->table.floats * sizeof(float);
    float *host = malloc(bytes);
    if (host == NULL)
        return error_memory(error, bytes, "initial parameters");
    parameters_initialize(&clip->table, host, seed);
    clip_set_parameters(clip, host);
    free(host);
    return clip->kernels->check(clip->kernels, error);
}

float clip_logit_scale(struct clip *clip)
{
    float log_scale;
    clip->kernels->download(clip->kernels, &log_scale,
                            clip->parameters + clip->table.logit_scale, sizeof log_scale);
    return expf(log_scale);
}

/* ---- what comes from outside ---- */

/* Kernels index with these and do not look. */
static enum status check_tokens(const struct clip *clip, const int32_t *tokens, size_t count,
                                struct error *error)
{
    size_t L = clip->config->text.context_length, V = clip->config->text.vocab_size;
    for (size_t i = 0; i < count * L; i++)
        if (tokens[i] < 0 || (size_t)tokens[i] >= V)
            return error_set(error, STATUS_DATA,
                             "sample %zu of the batch: token %zu is %" PRId32
                             ", expected 0 to %zu",
                             i / L, i % L, tokens[i], V - 1);
    return STATUS_OK;
}

static enum status check_positions(struct clip *clip, const int32_t *position, size_t count,
                                   struct error *error)
{
    size_t K = clip->shape.kept, patches = clip_config_patches(clip->config);
    for (size_t sample = 0; sample < count; sample++) {
        memset(clip->host_seen, 0, patches);
        for (size_t j = 0; j < K; j++) {
            int32_t at = position[sample * K + j];
            if (at < 0 || (size_t)at >= patches)
                return error_set(error, STATUS_DATA,
                                 "sample %zu of the batch: patch %zu is at %" PRId32
                                 ", expected 0 to %zu",
                                 sample, j, at, patches - 1);
            if (clip->host_seen[at]++ != 0)
                return error_set(error, STATUS_DATA,
                                 "sample %zu of the batch: position %" PRId32 " occurs twice",
                                 sample, at);
        }
    }
    return STATUS_OK;
}

static enum status check_image_input(struct clip *clip, const int32_t *position, size_t count,
                                     struct error *error)
{
    if (position != NULL)
        return check_positions(clip, position, count, error);
    if (clip->shape.kept == clip_config_patches(clip->config))
        return STATUS_OK;
    return error_set(error, STATUS_DATA, "%zu of %zu patches are given without their positions",
                     clip->shape.kept, clip_config_patches(clip->config));
}

/* Whoever wrote the parameters does not tell; a call costs many times this. */
static void round_weights(struct clip *clip)
{
    struct kernels *k = clip->kernels;
    if (clip->rounded != NULL)
        k->round(k, clip->rounded, clip->parameters, clip->table.decay_floats);
}

/* ---- one piece of a batch through a tower; samples first..first+count-1 ---- */

static void forward_images(struct clip *clip, const uint8_t *patches, const int32_t *position,
                           size_t first, size_t count, float *unit)
{
    struct kernels *k = clip->kernels;
    size_t K = clip->shape.kept, sample_bytes = K * patch_bytes(clip);
    const int32_t *at = position == NULL ? clip->host_position : position + first * K;

    k->upload(k, clip->patches, patches + first * sample_bytes, count * sample_bytes);
    k->upload(k, clip->position, at, count * K * sizeof *at);
    image_tower_forward(&clip->image, k, &clip->weights, unit, clip->patches, clip->position,
                        count);
}

static void forward_texts(struct clip *clip, const int32_t *tokens, size_t first, size_t count,
                          float *unit)
{
    struct kernels *k = clip->kernels;
    size_t L = clip->config->text.context_length;
    const int32_t *from = tokens + first * L;

    for (size_t i = 0; i < count; i++)
        clip->host_row[i] = text_tower_pool_row(&clip->config->text, from + i * L);
    k->upload(k, clip->tokens, from, count * L * sizeof *from);
    k->upload(k, clip->row, clip->host_row, count * sizeof *clip->host_row);
    text_tower_forward(&clip->text, k, &clip->weights, unit, clip->tokens, clip->row, count);
}

enum status clip_encode_image(struct clip *clip, const uint8_t *patches,
                              const int32_t *position, size_t count, float *out,
                              struct error *error)
{
    struct kernels *k = clip->kernels;
    size_t E = clip->config->embed_dim, B = clip->shape.batch;
    enum status status = check_image_input(clip, position, count, error);
    if (status != STATUS_OK)
        return status;
    round_weights(clip);
    for (size_t first = 0; first < count; first += B) {
        size_t n = count - first < B ? count - first : B;
        forward_images(clip, patches, position, first, n, clip->image_unit);
        k->download(k, out + first * E, clip->image_unit, n * E * sizeof *out);
    }
    return k->check(k, error);
}

enum status clip_encode_text(struct clip *clip, const int32_t *tokens, size_t count, float *out,
                             struct error *error)
{
    struct kernels *k = clip->kernels;
    size_t E = clip->config->embed_dim, B = clip->shape.batch;
    enum status status = check_tokens(clip, tokens, count, error);
    if (status != STATUS_OK)
        return status;
    round_weights(clip);
    for (size_t first = 0; first < count; first += B) {
        size_t n = count - first < B ? count - first : B;
        forward_texts(clip, tokens, first, n, clip->text_unit);
        k->download(k, out + first * E, clip->text_unit, n * E * sizeof *out);
    }
    return k->check(k, error);
}

/* ---- the loss and its gradient ---- */

static void forward_piece(struct clip *clip, const struct clip_batch *batch, size_t first,
                          bool images, bool texts)
{
    size_t B = clip->shape.batch, E = clip->config->embed_dim;
    size_t n = batch->count - first < B ? batch->count - first : B;
    if (images)
        forward_images(clip, batch->patches, batch->position, first, n,
                       clip->image_unit + first * E);
    if (texts)
        forward_texts(clip, batch->tokens, first, n, clip->text_unit + first * E);
}

static void backward_piece(struct clip *clip, const struct clip_batch *batch, size_t first)
{
    size_t B = clip->shape.batch, at = first * clip->config->embed_dim;
    size_t n = batch->count - first < B ? batch->count - first : B;
    if (!clip->shape.image_frozen)
        image_tower_backward(&clip->image, clip->kernels, &clip->weights, clip->gradients,
                             clip->dimage_unit + at, clip->image_unit + at, clip->position, n);
    if (!clip->shape.text_frozen)
        text_tower_backward(&clip->text, clip->kernels, &clip->weights, clip->gradients,
                            clip->dtext_unit + at, clip->text_unit + at, clip->tokens,
                            clip->row, n);
}

static enum status check_batch(struct clip *clip, const struct clip_batch *batch,
                               struct error *error)
{
    if (batch->count == 0 || batch->count > clip->shape.most)
        return error_set(error, STATUS_DATA, "a batch of %zu samples, expected 1 to %zu",
                         batch->count, clip->shape.most);
    enum status status = check_image_input(clip, batch->position, batch->count, error);
    if (status != STATUS_OK)
        return status;
    return check_tokens(clip, batch->tokens, batch->count, error);
}

static void contrast(struct clip *clip, size_t count, bool gradient)
{
    struct kernels *k = clip->kernels;
    size_t at = clip->table.logit_scale;
    k->contrastive_loss(k, clip->loss, gradient ? clip->dimage_unit : NULL,
                        gradient ? clip->dtext_unit : NULL,
                        gradient ? clip->gradients + at : NULL, clip->image_unit,
                        clip->text_unit, clip->parameters + at, count, clip->config->embed_dim);
}

enum status clip_loss(struct clip *clip, const struct clip_batch *batch, float *loss,
                      struct error *error)
{
    enum status status = check_batch(clip, batch, error);
    if (status != STATUS_OK)
        return status;
    round_weights(clip);
    for (size_t first = 0; first < batch->count; first += clip->shape.batch)
        forward_piece(clip, batch, first, true, true);
    contrast(clip, batch->count, false);
    clip->kernels->download(clip->kernels, loss, clip->loss, sizeof *loss);
    return clip->kernels->check(clip->kernels, error);
}

/* Backwards over the pieces: the last one's activations are still in the towers, so with one
 * piece nothing is computed twice. */
enum status clip_step_begin(struct clip *clip, const struct clip_batch *batch,
                            struct error *error)
{
    struct kernels *k = clip->kernels;
    size_t B = clip->shape.batch;
    enum status status = check_batch(clip, batch, error);
    if (status != STATUS_OK)
        return status;

    round_weights(clip);
    size_t pieces = (batch->count - 1) / B + 1;
    for (size_t piece = 0; piece < pieces; piece++)
        forward_piece(clip, batch, piece * B, true, true);
    k->zero(k, clip->gradients, clip->table.floats * sizeof *clip->gradients);
    contrast(clip, batch->count, true);
    backward_piece(clip, batch, (pieces - 1) * B);
    for (size_t piece = pieces - 1; piece-- > 0;) {
        forward_piece(clip, batch, piece * B, !clip->shape.image_frozen,
                      !clip->shape.text_frozen);
        backward_piece(clip, batch, piece * B);
    }
    return STATUS_OK;
}

enum status clip_step_end(struct clip *clip, float *loss, struct error *error)
{
    struct kernels *k = clip->kernels;
    k->download(k, loss, clip->loss, sizeof *loss);
    return k->check(k, error);
}

enum status clip_step_gradients(struct clip *clip, const struct clip_batch *batch, float *loss,
                                struct error *error)
{
    enum status status = clip_step_begin(clip, batch, error);
    return status == STATUS_OK ? clip_step_end(clip, loss, error) : status;
}

void clip_cut_patches(const struct clip_config *config, uint8_t *patches, const uint8_t *images,
                      size_t count)
{
    size_t S = config->vision.image_size, P = config->vision.patch_size;
    size_t grid = config->vision.grid, row_bytes = P * 3;
    for (size_t i = 0; i < count; i++, images += S * S * 3)
        for (size_t patch = 0; patch < grid * grid; patch++) {
            size_t top = patch / grid * P, left = patch % grid * P;
            for (size_t y = 0; y < P; y++, patches += row_bytes)
                memcpy(patches, images + ((top + y) * S + left) * 3, row_bytes);
        }
}
