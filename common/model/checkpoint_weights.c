#include "model/checkpoint_weights.h"

#include <fnmatch.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/positional.h"
#include "model/step_directory.h"

/* ---- files ---- */

static bool file_exists(const char *directory, const char *name)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%s", directory, name);
    return length < (int)sizeof path && access(path, F_OK) == 0;
}

/* Says what is there in the place of a file that can be read. */
static enum status describe_absence(const char *directory, struct error *error)
{
    static const char *const indices[] = {"open_clip_model.safetensors.index.json",
                                          "model.safetensors.index.json"};
    static const char *const pickles[] = {"open_clip_pytorch_model.bin", "pytorch_model.bin"};
    for (size_t i = 0; i < 2; i++)
        if (file_exists(directory, indices[i])) {
            error_set(error, STATUS_DATA, "%s: the weights are in pieces, which %s lists: not "
                                          "supported", directory, indices[i]);
            return error_hint(error, "convert-checkpoint.py %s/%s puts them together",
                              directory, indices[i]);
        }
    for (size_t i = 0; i < 2; i++)
        if (file_exists(directory, pickles[i])) {
            error_set(error, STATUS_DATA, "%s: the weights are a pickle, %s: not supported",
                      directory, pickles[i]);
            return error_hint(error, "convert-checkpoint.py %s/%s makes safetensors of it",
                              directory, pickles[i]);
        }
    return error_set(error, STATUS_NO_INPUT, "%s has no " CHECKPOINT_MODEL_NAME, directory);
}

enum status checkpoint_weights_find(const char *directory, const char **name,
                                    struct error *error)
{
    static const char *const names[] = {CHECKPOINT_MODEL_NAME,
                                        "open_clip_pytorch_model.safetensors",
                                        "model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (file_exists(directory, names[i])) {
            *name = names[i];
            return STATUS_OK;
        }
    return describe_absence(directory, error);
}

/* ---- names ---- */

static bool is_buffer(const char *name)
{
    static const char *const patterns[] = {
        "attn_mask",
        "text.attn_mask",
        "transformer.embeddings.position_ids",
        "text.transformer.embeddings.position_ids",
        "visual.*.num_batches_tracked",
        "input_resolution",
        "context_length",
        "vocab_size",
    };
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++)
        if (fnmatch(patterns[i], name, 0) == 0)
            return true;
    return false;
}

/* The flat name of what CustomTextCLIP calls text.NAME; any other name as it is. */
static const char *flat_name(const char *name)
{
    static const char *const starts[] = {"positional_embedding", "text_projection",
                                         "token_embedding.", "transformer.", "ln_final."};
    if (strncmp(name, "text.", 5) != 0)
        return name;
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++)
        if (strncmp(name + 5, starts[i], strlen(starts[i])) == 0)
            return name + 5;
    return name;
}

static enum status refuse_foreign(const char *name, struct error *error)
{
    static const char *const origins[][2] = {
        {"module.", "names as a training wrote them: convert-checkpoint.py removes 'module.'"},
        {"text_model.", "names of another library, transformers: take open_clip's files"},
        {"vision_model.", "names of another library, transformers: take open_clip's files"},
        {"visual.trunk.", "an image tower of timm, which is not supported"},
    };
    error_set(error, STATUS_DATA, "tensor %s is not one of the model's", name);
    for (size_t i = 0; i < sizeof origins / sizeof origins[0]; i++)
        if (strncmp(name, origins[i][0], strlen(origins[i][0])) == 0)
            error_hint(error, "%s", origins[i][1]);
    return STATUS_DATA;
}

/* ---- values ---- */

static float float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits. */
static float float_from_half(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 0x1f, fraction = half & 0x3ff;
    if (exponent == 0) { /* zero and subnormals: fraction * 2^-24 */
        float value = (float)fraction * 0x1p-24f;
        return sign != 0 ? -value : value;
    }
    if (exponent == 0x1f)
        return float_from_bits(sign | 0x7f800000 | fraction << 13);
    return float_from_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13);
}

static bool is_real(enum dtype dtype)
{
    return dtype == DTYPE_F32 || dtype == DTYPE_F16 || dtype == DTYPE_BF16;
}

static void copy_values(float *out, const struct tensor *tensor, size_t count)
{
    const uint16_t *half = tensor->data;
    if (tensor->dtype == DTYPE_F32)
        memcpy(out, tensor->data, count * sizeof *out);
    else if (tensor->dtype == DTYPE_F16)
        for (size_t i = 0; i < count; i++)
            out[i] = float_from_half(half[i]);
    else
        for (size_t i = 0; i < count; i++)
            out[i] = float_from_bits((uint32_t)half[i] << 16);
}

/* ---- one tensor ---- */

static bool is_single(int rank, const size_t *shape)
{
    return rank == 0 || (rank == 1 && shape[0] == 1);
}

static bool has_shape(const struct tensor *tensor, const struct parameter *p)
{
    if (strncmp(p->name, "logit_", 6) == 0) /* open_clip takes either shape for both */
        return is_single(tensor->rank, tensor->shape);
    if (tensor->rank != p->rank)
        return false;
    for (int i = 0; i < p->rank; i++)
        if (tensor->shape[i] != p->shape[i])
            return false;
    return true;
}

static enum status wrong_tensor(const struct tensor *tensor, const struct parameter *p,
                                struct error *error)
{
    char found[256], wanted[256];
    struct tensor expected;
    tensor_init(&expected, p->name, DTYPE_F32, p->rank, p->shape, NULL);
    error_set(error, STATUS_DATA, "tensor %s is %s, expected %s", tensor->name,
              tensor_describe(tensor, found, sizeof found),
              tensor_describe(&expected, wanted, sizeof wanted));
    if (tensor->dtype == DTYPE_F64)
        error_hint(error, "F32, F16 and BF16 are read; convert-checkpoint.py makes F32 of F64");
    return STATUS_DATA;
}

/* The side of a square of `cells`; 0 where that is not whole. */
static size_t side_of(size_t cells)
{
    size_t side = (size_t)(sqrt((double)cells) + 0.5);
    return side * side == cells ? side : 0;
}

/* A positional embedding of another length, interpolated; false for any other tensor. */
static bool resizes(const struct tensor *tensor, const struct parameter *p)
{
    bool image = strcmp(p->name, "visual.positional_embedding") == 0;
    if (!image && strcmp(p->name, "positional_embedding") != 0)
        return false;
    return tensor->rank == 2 && tensor->shape[1] == p->shape[1] &&
           tensor->shape[0] > (image ? 1 : 0) &&
           (!image || side_of(tensor->shape[0] - 1) > 0);
}

static enum status copy_resized(float *out, const struct tensor *tensor,
                                const struct parameter *p, struct error *error)
{
    size_t rows = tensor->shape[0], C = tensor->shape[1];
    float *values = malloc(rows * C * sizeof *values);
    if (values == NULL)
        return error_memory(error, rows * C * sizeof *values, "positional embeddings");
    copy_values(values, tensor, rows * C);
    enum status status = STATUS_OK;
    if (strcmp(p->name, "positional_embedding") == 0)
        positional_resize_text(out, p->shape[0], values, rows, C);
    else
        status = positional_resize_image(out, side_of(p->shape[0] - 1), values,
                                         side_of(rows - 1), C, error);
    free(values);
    return status;
}

static enum status read_tensor(const struct tensor *tensor, const struct parameter *p,
                               bool resize, float *block, struct error *error)
{
    if (!is_real(tensor->dtype))
        return wrong_tensor(tensor, p, error);
    if (has_shape(tensor, p)) {
        copy_values(block + p->offset, tensor, p->count);
        return STATUS_OK;
    }
    if (resize && resizes(tensor, p))
        return copy_resized(block + p->offset, tensor, p, error);
    return wrong_tensor(tensor, p, error);
}

/* ---- all tensors ---- */

/* seen[i]: parameter i of the table has its values. */
static enum status read_all(const struct safetensors *file, const struct parameters *table,
                            bool resize, float *block, bool *seen, struct error *error)
{
    for (size_t i = 0; i < file->header.count; i++) {
        const struct tensor *tensor = &file->header.tensors[i];
        if (is_buffer(tensor->name))
            continue;
        const struct parameter *p = parameters_find(table, flat_name(tensor->name));
        if (p == NULL)
            return refuse_foreign(tensor->name, error);
        bool *mark = &seen[p - table->list];
        if (*mark)
            return error_set(error, STATUS_DATA, "tensors %s and text.%s are the same", p->name,
                             p->name);
        *mark = true;
        enum status status = read_tensor(tensor, p, resize, block, error);
        if (status != STATUS_OK)
            return status;
    }
    for (size_t i = 0; i < table->count; i++)
        if (!seen[i])
            return error_set(error, STATUS_DATA, "tensor %s is missing", table->list[i].name);
    return STATUS_OK;
}

enum status checkpoint_weights_read(const struct safetensors *file,
                                    const struct parameters *table, bool resize, float *block,
                                    struct error *error)
{
    bool *seen = calloc(table->count, sizeof *seen);
    if (seen == NULL)
        return error_memory(error, table->count, "reading weights");
    enum status status = read_all(file, table, resize, block, seen, error);
    free(seen);
    return status;
}

enum status checkpoint_weights_read_suffixed(const struct safetensors *file,
                                             const struct parameters *table,
                                             const char *suffix, float *block,
                                             struct error *error)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct parameter *p = &table->list[i];
        char name[TENSOR_NAME_MAX + 1];
        snprintf(name, sizeof name, "%s%s", p->name, suffix);
        const struct tensor *tensor = safetensors_find(file, name);
        if (tensor == NULL)
            return error_set(error, STATUS_DATA, "tensor %s is missing", name);
        enum status status = read_tensor(tensor, p, false, block, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}
