#include "model/batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/number.h"
#include "model/patch_dropout.h"
#include "stream/position.h"

/* ---- records ---- */

static size_t patch_bytes(const struct clip_config *config)
{
    return config->vision.patch_size * config->vision.patch_size * 3;
}

static enum status find_patches(struct record *record, const struct clip_config *config,
                                struct image_input *out, struct error *error)
{
    const struct tensor *patches, *position;
    enum status status = record_require(record, "patches", DTYPE_U8, 3, &patches, error);
    if (status == STATUS_OK)
        status = record_require(record, "patches.position", DTYPE_I32, 2, &position, error);
    if (status != STATUS_OK)
        return status;
    if (patches->shape[2] != patch_bytes(config)) {
        error_set(error, STATUS_DATA, "patches of %zu bytes, the model takes %zu x %zu pixels",
                  patches->shape[2], config->vision.patch_size, config->vision.patch_size);
        return error_hint(error, "give token-reduce --patch %zu", config->vision.patch_size);
    }
    if (position->shape[1] != patches->shape[1] || patches->shape[1] == 0)
        return error_set(error, STATUS_DATA, "%zu patches by image with %zu positions",
                         patches->shape[1], position->shape[1]);
    *out = (struct image_input){patches->shape[0], patches->shape[1], patches->data,
                                position->data};
    return STATUS_OK;
}

static enum status find_images(struct record *record, const struct clip_config *config,
                               struct image_input *out, struct error *error)
{
    const struct tensor *image;
    enum status status = record_require(record, "image", DTYPE_U8, 4, &image, error);
    if (status != STATUS_OK)
        return status;
    size_t side = config->vision.image_size;
    if (image->shape[1] != side || image->shape[2] != side || image->shape[3] != 3) {
        error_set(error, STATUS_DATA, "images of %zu x %zu pixels, the model takes %zu x %zu",
                  image->shape[2], image->shape[1], side, side);
        return error_hint(error, "give image-decode --size %zu, or train-step "
                                 "--force-image-size %zu",
                          side, image->shape[2]);
    }
    *out = (struct image_input){image->shape[0], clip_config_patches(config), image->data, NULL};
    return STATUS_OK;
}

enum status image_input_find(struct record *record, const struct clip_config *config,
                             struct image_input *out, struct error *error)
{
    return record_find(record, "patches") != NULL ? find_patches(record, config, out, error)
                                                  : find_images(record, config, out, error);
}

void image_input_copy(const struct image_input *input, const struct clip_config *config,
                      size_t from, size_t count, uint8_t *patches, int32_t *position)
{
    if (input->position == NULL) {
        size_t pixels = config->vision.image_size * config->vision.image_size * 3;
        clip_cut_patches(config, patches, input->pixels + from * pixels, count);
        return;
    }
    size_t bytes = input->kept * patch_bytes(config);
    memcpy(patches, input->pixels + from * bytes, count * bytes);
    memcpy(position, input->position + from * input->kept,
           count * input->kept * sizeof position[0]);
}

enum status text_input_find(struct record *record, const struct clip_config *config,
                            const int32_t **tokens, size_t *batch, struct error *error)
{
    const struct tensor *tensor;
    enum status status = record_require(record, "text_tokens", DTYPE_I32, 2, &tensor, error);
    if (status != STATUS_OK)
        return status;
    if (tensor->shape[1] != config->text.context_length) {
        error_set(error, STATUS_DATA, "captions of %zu tokens, the model takes %zu",
                  tensor->shape[1], config->text.context_length);
        return error_hint(error, "give token-reduce --text truncate:%zu, or train-step "
                                 "--force-context-length %zu",
                          config->text.context_length, tensor->shape[1]);
    }
    *tokens = tensor->data;
    *batch = tensor->shape[0];
    return STATUS_OK;
}

/* ---- batches ---- */

/* calloc for a product of three sizes, NULL where it does not fit. */
static void *allocate(size_t count, size_t row, size_t element)
{
    size_t size;
    return size_multiply(row, element, &size) ? calloc(count, size) : NULL;
}

static bool drops_patches(const struct batch_builder *builder)
{
    return builder->kept < builder->arriving;
}

enum status batch_builder_init(struct batch_builder *builder, const struct clip_config *config,
                               size_t capacity, uint64_t seed, struct record *first,
                               struct error *error)
{
    struct image_input images;
    *builder = (struct batch_builder){.config = config, .seed = seed, .capacity = capacity};
    enum status status = image_input_find(first, config, &images, error);
    if (status != STATUS_OK)
        return status;
    builder->arriving = images.kept;
    builder->kept = patch_dropout_kept(config->vision.patch_dropout, images.kept);
    builder->has_position = record_find(first, "position") != NULL;
    builder->patches = allocate(capacity, builder->kept, patch_bytes(config));
    builder->tokens = allocate(capacity, config->text.context_length, sizeof(int32_t));
    bool missing = builder->patches == NULL || builder->tokens == NULL;
    if (images.position != NULL || drops_patches(builder)) {
        builder->position = allocate(capacity, builder->kept, sizeof(int32_t));
        missing |= builder->position == NULL;
    }
    if (drops_patches(builder)) {
        builder->one_patches = allocate(1, images.kept, patch_bytes(config));
        builder->one_position = allocate(1, images.kept, sizeof(int32_t));
        builder->chosen = allocate(1, builder->kept, sizeof(uint32_t));
        missing |= builder->one_patches == NULL || builder->one_position == NULL ||
                   builder->chosen == NULL;
    }
    if (missing) {
        batch_builder_free(builder);
        return error_memory(error, capacity * images.kept * patch_bytes(config), "a batch");
    }
    return STATUS_OK;
}

void batch_builder_free(struct batch_builder *builder)
{
    free(builder->patches);
    free(builder->position);
    free(builder->tokens);
    free(builder->one_patches);
    free(builder->one_position);
    free(builder->chosen);
    buffer_free(&builder->keys);
    buffer_free(&builder->given_keys);
    *builder = (struct batch_builder){.config = NULL};
}

static enum status take_keys(struct batch_builder *builder, struct record *record, size_t from,
                             size_t count, struct error *error)
{
    struct ragged keys;
    if (record_find(record, "key") == NULL)
        return STATUS_OK;
    enum status status = record_require_ragged(record, "key", DTYPE_U8, &keys, error);
    for (size_t i = from; status == STATUS_OK && i < from + count; i++) {
        status = buffer_append(&builder->keys, (const uint8_t *)keys.data + keys.offsets[i],
                               (size_t)(keys.offsets[i + 1] - keys.offsets[i]), error);
        if (status == STATUS_OK)
            status = buffer_append(&builder->keys, "", 1, error);
    }
    return status;
}

/* The patches of samples from..from+count behind those that the batch has. */
static void take_images(struct batch_builder *builder, const struct image_input *images,
                        const int64_t *positions, size_t from, size_t count)
{
    const size_t bytes = patch_bytes(builder->config), kept = builder->kept;
    uint8_t *patches = builder->patches + builder->count * kept * bytes;
    int32_t *position = builder->position == NULL ? NULL
                                                  : builder->position + builder->count * kept;
    if (!drops_patches(builder)) {
        image_input_copy(images, builder->config, from, count, patches, position);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        /* Without positions the stream's samples are told apart by their number. */
        const struct sample_identity id = position_identity(
            positions, positions == NULL ? i : from + i, builder->seen);
        struct rng rng;
        rng_init(&rng, builder->seed, id.epoch, id.sample, RNG_PATCH_DROPOUT);
        image_input_copy(images, builder->config, from + i, 1, builder->one_patches,
                         builder->one_position);
        patch_dropout_choose(&rng, builder->arriving, kept, builder->chosen);
        patch_dropout_gather(patches + i * kept * bytes, position + i * kept,
                             builder->one_patches,
                             images->position == NULL ? NULL : builder->one_position,
                             builder->chosen, kept, bytes);
    }
}

enum status batch_builder_take(struct batch_builder *builder, struct record *record,
                               size_t from, size_t *taken, struct error *error)
{
    struct image_input images;
    const int32_t *tokens;
    const int64_t *positions;
    size_t texts, length = builder->config->text.context_length;
    enum status status = image_input_find(record, builder->config, &images, error);
    if (status == STATUS_OK)
        status = text_input_find(record, builder->config, &tokens, &texts, error);
    if (status == STATUS_OK)
        status = position_find(record, &positions, error);
    if (status != STATUS_OK)
        return status;
    const bool whole = builder->position == NULL;
    if (images.kept != builder->arriving ||
        (!drops_patches(builder) && (images.position == NULL) != whole) ||
        (positions != NULL) != builder->has_position)
        return error_set(error, STATUS_DATA,
                         "the stream changed: %zu patches by image, %zu in its first record",
                         images.kept, builder->arriving);

    size_t count = images.batch - from, room = builder->capacity - builder->count;
    if (count > room)
        count = room;
    size_t at = builder->count;
    take_images(builder, &images, positions, from, count);
    memcpy(builder->tokens + at * length, tokens + from * length,
           count * length * sizeof tokens[0]);
    if (positions != NULL && count > 0)
        memcpy(builder->last_position, positions + 3 * (from + count - 1),
               sizeof builder->last_position);
    builder->count += count;
    builder->seen += count;
    *taken = count;
    return take_keys(builder, record, from, count, error);
}

void batch_builder_clear(struct batch_builder *builder)
{
    const struct buffer keys = builder->given_keys;
    builder->given_keys = builder->keys;
    builder->given_count = builder->count;
    builder->keys = keys;
    builder->keys.size = 0;
    builder->count = 0;
}

enum status batch_builder_write_keys(const struct batch_builder *builder, const char *path,
                                     char *text, size_t size, struct error *error)
{
    const struct buffer *keys = &builder->given_keys;
    struct buffer lines = {0};
    size_t used = 0;
    text[0] = '\0';
    enum status status = STATUS_OK;
    for (size_t at = 0; status == STATUS_OK && at < keys->size;) {
        const char *key = (const char *)keys->data + at;
        size_t length = strlen(key);
        if (used + length + 2 < size)
            used += (size_t)snprintf(text + used, size - used, " %s", key);
        status = buffer_append(&lines, key, length, error);
        if (status == STATUS_OK)
            status = buffer_append(&lines, "\n", 1, error);
        at += length + 1;
    }
    if (status == STATUS_OK)
        status = io_write_file(path, lines.data, lines.size, error);
    buffer_free(&lines);
    return status;
}

struct clip_batch batch_builder_batch(const struct batch_builder *builder)
{
    return (struct clip_batch){builder->count, builder->patches, builder->position,
                               builder->tokens};
}
