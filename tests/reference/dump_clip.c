/* dump_clip.c - one batch through a model, written down so that another program can repeat it.
 *
 *   dump_clip MODEL DEVICE COUNT BATCH KEPT SEED OUT
 *
 * MODEL is a configuration, whose parameters are then drawn, or a directory with the weights of
 * a model, ours or open_clip's. COUNT samples of KEPT patches pass through BATCH at a time;
 * where that is less than all of them, activations are computed again for the backward pass.
 *
 * OUT/step-00000000 is the initial model and OUT/step-00000003 the model after three steps of
 * AdamW on the same batch (the settings are below); OUT/batch.safetensors holds the batch, its
 * embeddings and loss, and the gradient of every parameter, NAME.grad, before the first step.
 * check_open_clip.py computes the same with open_clip. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/number.h"
#include "base/rng.h"
#include "model/checkpoint.h"

enum { STEPS = 3 };

static const double learning_rate = 1e-3;
static const struct optimizer_settings settings = {
    .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-6, .weight_decay = 0.2, .clip_norm = 0.5};

struct run {
    struct kernels *kernels;
    struct checkpoint checkpoint; /* of a MODEL that is a directory */
    struct clip_config config;
    struct clip *clip;
    struct optimizer optimizer;
    struct clip_batch batch;
    uint8_t *patches;
    int32_t *position, *tokens;
    float *image, *text, *gradients;
    float loss;
};

static void *allocate(size_t bytes)
{
    void *memory = calloc(1, bytes);
    if (memory == NULL)
        abort();
    return memory;
}

static void fill_batch(struct run *r, size_t count, size_t kept, uint64_t seed)
{
    size_t P = r->config.vision.patch_size, grid = clip_config_patches(&r->config);
    size_t L = r->config.text.context_length, bytes = count * kept * P * P * 3;
    uint32_t *order = allocate(grid * sizeof *order);
    struct rng rng;
    rng_init(&rng, seed, 0, 0, RNG_TEST);
    r->patches = allocate(bytes);
    r->position = allocate(count * kept * sizeof *r->position);
    r->tokens = allocate(count * L * sizeof *r->tokens);
    for (size_t i = 0; i < bytes; i++)
        r->patches[i] = (uint8_t)rng_next(&rng);
    for (size_t i = 0; i < count; i++) {
        rng_permutation(&rng, order, grid);
        for (size_t j = 0; j < kept; j++)
            r->position[i * kept + j] = (int32_t)order[j];
    }
    for (size_t i = 0; i < count * L; i++)
        r->tokens[i] = (int32_t)rng_below(&rng, r->config.text.vocab_size);
    r->batch = (struct clip_batch){count, r->patches, r->position, r->tokens};
    free(order);
}

static enum status write_batch(struct run *r, const char *path, struct error *error)
{
    const struct parameters *table = &r->clip->table;
    size_t count = r->batch.count, kept = r->clip->shape.kept, E = r->config.embed_dim;
    size_t P = r->config.vision.patch_size, L = r->config.text.context_length;
    struct tensor *tensors = allocate((table->count + 6) * sizeof *tensors);
    size_t used = 0;
    tensor_init(&tensors[used++], "patches", DTYPE_U8, 3,
                (size_t[]){count, kept, P * P * 3}, r->patches);
    tensor_init(&tensors[used++], "position", DTYPE_I32, 2, (size_t[]){count, kept},
                r->position);
    tensor_init(&tensors[used++], "tokens", DTYPE_I32, 2, (size_t[]){count, L}, r->tokens);
    tensor_init(&tensors[used++], "image", DTYPE_F32, 2, (size_t[]){count, E}, r->image);
    tensor_init(&tensors[used++], "text", DTYPE_F32, 2, (size_t[]){count, E}, r->text);
    tensor_init(&tensors[used++], "loss", DTYPE_F32, 0, NULL, &r->loss);
    for (size_t i = 0; i < table->count; i++) {
        const struct parameter *p = &table->list[i];
        char name[TENSOR_NAME_MAX + 1];
        snprintf(name, sizeof name, "%s.grad", p->name);
        tensor_init(&tensors[used++], name, DTYPE_F32, p->rank, p->shape,
                    r->gradients + p->offset);
    }
    static const struct metadata none;
    enum status status = safetensors_write(path, tensors, used, &none, NULL, error);
    free(tensors);
    return status;
}

static enum status compute(struct run *r, struct error *error)
{
    size_t count = r->batch.count, E = r->config.embed_dim;
    size_t bytes = r->clip->table.floats * sizeof(float);
    r->image = allocate(count * E * sizeof *r->image);
    r->text = allocate(count * E * sizeof *r->text);
    r->gradients = allocate(bytes);
    enum status status =
        clip_encode_image(r->clip, r->patches, r->position, count, r->image, error);
    if (status == STATUS_OK)
        status = clip_encode_text(r->clip, r->tokens, count, r->text, error);
    if (status == STATUS_OK)
        status = clip_step_gradients(r->clip, &r->batch, &r->loss, error);
    r->kernels->download(r->kernels, r->gradients, r->clip->gradients, bytes);
    return status;
}

static enum status train(struct run *r, struct error *error)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < STEPS && status == STATUS_OK; i++) {
        float loss;
        status = clip_step_gradients(r->clip, &r->batch, &loss, error);
        double norm = optimizer_gradient_norm(&r->optimizer, r->clip->gradients);
        optimizer_step(&r->optimizer, r->clip->parameters, r->clip->gradients, norm,
                       learning_rate);
    }
    return status;
}

static enum status dump(struct run *r, const char *out, struct error *error)
{
    char path[4096];
    struct checkpoint_source source = {.clip = r->clip, .optimizer = &r->optimizer};
    enum status status = checkpoint_save(out, &source, 2, error);
    if (status == STATUS_OK)
        status = compute(r, error);
    snprintf(path, sizeof path, "%s/batch.safetensors", out);
    if (status == STATUS_OK)
        status = write_batch(r, path, error);
    if (status == STATUS_OK)
        status = train(r, error);
    if (status == STATUS_OK)
        status = checkpoint_save(out, &source, 2, error);
    return status;
}

static enum status load_config(struct run *r, const char *model, struct error *error)
{
    struct stat about;
    if (stat(model, &about) != 0 || !S_ISDIR(about.st_mode))
        return clip_config_load(&r->config, model, NULL, error);
    enum status status = checkpoint_open(&r->checkpoint, model, error);
    r->config = r->checkpoint.config;
    return status;
}

static enum status open_model(struct run *r, const struct clip_shape *shape, uint64_t seed,
                              struct error *error)
{
    enum status status = clip_open(&r->clip, r->kernels, &r->config, shape, error);
    if (status != STATUS_OK)
        return status;
    return r->checkpoint.path != NULL
               ? checkpoint_load_parameters(&r->checkpoint, r->clip, error)
               : clip_initialize(r->clip, seed, error);
}

int main(int argc, char **argv)
{
    int64_t count, batch, kept, seed;
    if (argc != 8 || !number_parse_integer(argv[3], &count) ||
        !number_parse_integer(argv[4], &batch) || !number_parse_integer(argv[5], &kept) ||
        !number_parse_integer(argv[6], &seed)) {
        fprintf(stderr, "usage: dump_clip MODEL DEVICE COUNT BATCH KEPT SEED OUT\n");
        return STATUS_USAGE;
    }
    struct run r = {0};
    struct error error = {0};
    struct clip_shape shape = {.batch = (size_t)batch,
                               .most = (size_t)count,
                               .kept = (size_t)kept,
                               .training = true,
                               .recompute = batch < count ? RECOMPUTE_BLOCK : RECOMPUTE_NONE};
    enum status status = kernels_open(&r.kernels, argv[2], PRECISION_FP32, 0, &error);
    if (status == STATUS_OK)
        status = load_config(&r, argv[1], &error);
    if (status == STATUS_OK)
        status = open_model(&r, &shape, (uint64_t)seed, &error);
    if (status == STATUS_OK)
        status = optimizer_init(&r.optimizer, r.kernels, &r.clip->table, &settings, &error);
    if (status == STATUS_OK) {
        fill_batch(&r, (size_t)count, (size_t)kept, (uint64_t)seed);
        status = dump(&r, argv[7], &error);
    }
    if (status != STATUS_OK)
        fprintf(stderr, "dump_clip: %s\n", error.text);
    return (int)status;
}
