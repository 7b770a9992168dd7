/* Training from synthetic records, timed by the wall from records in host memory to new
 * parameters. */
#include "tests/emulator/bench_cuda_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "model/clip.h"
#include "model/optimizer.h"

enum { STEPS = 8, WARM_UP_STEPS = 3 };

static const struct model {
    const char *name, *json;
    size_t batch;
} models[] = {
    {"B/16, 112 pixels, 16 tokens",
     "{\"embed_dim\": 512,"
     " \"vision_cfg\": {\"image_size\": 112, \"layers\": 12, \"width\": 768,"
     "                  \"patch_size\": 16},"
     " \"text_cfg\": {\"context_length\": 16, \"vocab_size\": 49408, \"width\": 512,"
     "                \"heads\": 8, \"layers\": 12}}", 4096},
    {"L/16, 96 pixels, 8 tokens",
     "{\"embed_dim\": 768,"
     " \"vision_cfg\": {\"image_size\": 96, \"layers\": 24, \"width\": 1024,"
     "                  \"patch_size\": 16},"
     " \"text_cfg\": {\"context_length\": 8, \"vocab_size\": 49408, \"width\": 768,"
     "                \"heads\": 12, \"layers\": 12}}", 2048},
    {"H/14, 84 pixels, 8 tokens",
     "{\"embed_dim\": 1024,"
     " \"vision_cfg\": {\"image_size\": 84, \"layers\": 32, \"width\": 1280,"
     "                  \"head_width\": 80, \"patch_size\": 14},"
     " \"text_cfg\": {\"context_length\": 8, \"vocab_size\": 49408, \"width\": 1024,"
     "                \"heads\": 16, \"layers\": 24}}", 1024},
};

/* One batch in host memory. */
struct records {
    uint8_t *patches;
    int32_t *tokens;
};

static enum status make_records(struct records *records, const struct clip_config *config,
                                size_t count, struct error *error)
{
    const size_t L = config->text.context_length, P = config->vision.patch_size;
    const size_t bytes = count * clip_config_patches(config) * P * P * 3;
    struct rng rng;
    records->patches = malloc(bytes);
    records->tokens = malloc(count * L * sizeof *records->tokens);
    if (records->patches == NULL || records->tokens == NULL)
        return error_memory(error, bytes, "records");
    rng_init(&rng, 4, 0, 0, RNG_TEST);
    for (size_t i = 0; i < bytes; i++)
        records->patches[i] = (uint8_t)rng_next(&rng);
    for (size_t i = 0; i < count * L; i++)
        records->tokens[i] = (int32_t)(i % L == L - 1
                                           ? config->text.vocab_size - 1
                                           : rng_below(&rng, config->text.vocab_size - 2));
    return STATUS_OK;
}

/* A model, its optimiser and a batch; a zeroed struct is empty. */
struct training {
    struct clip_config config;
    struct clip *clip;
    struct optimizer optimizer;
    struct records records;
};

static enum status training_open(struct training *t, struct kernels *k,
                                 const struct model *model, struct error *error)
{
    static const struct optimizer_settings settings = {
        .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-6, .weight_decay = 0.2, .clip_norm = 1};
    enum status status =
        clip_config_parse(&t->config, model->json, strlen(model->json), NULL, error);
    if (status != STATUS_OK)
        return status;
    const struct clip_shape shape = {.batch = model->batch,
                                     .kept = clip_config_patches(&t->config),
                                     .training = true,
                                     .recompute = RECOMPUTE_LIGHT};
    status = clip_open(&t->clip, k, &t->config, &shape, error);
    if (status == STATUS_OK)
        status = clip_initialize(t->clip, 1, error);
    if (status == STATUS_OK)
        status = optimizer_init(&t->optimizer, k, &t->clip->table, &settings, error);
    if (status == STATUS_OK)
        status = make_records(&t->records, &t->config, model->batch, error);
    return status;
}

static void training_close(struct training *t)
{
    free(t->records.patches);
    free(t->records.tokens);
    optimizer_free(&t->optimizer);
    clip_close(t->clip);
    clip_config_free(&t->config);
}

/* *seconds of a step: forward, backward, AdamW with clipping. */
static enum status time_steps(struct training *t, size_t batch_size, double *seconds,
                              struct error *error)
{
    const struct clip_batch batch = {
        .count = batch_size, .patches = t->records.patches, .tokens = t->records.tokens};
    struct clip *clip = t->clip;
    int64_t begin = 0;
    for (int i = -WARM_UP_STEPS; i < STEPS; i++) {
        float loss;
        if (i == 0)
            begin = clock_now_ns();
        if (clip_step_gradients(clip, &batch, &loss, error) != STATUS_OK)
            return error->status;
        optimizer_step(&t->optimizer, clip->parameters, clip->gradients,
                       optimizer_gradient_norm(&t->optimizer, clip->gradients), 1e-5);
    }
    const enum status status = clip->kernels->check(clip->kernels, error);
    *seconds = (double)(clock_now_ns() - begin) / 1e9 / STEPS;
    return status;
}

enum status bench_models(struct kernels *k, struct error *error)
{
    printf("\nTraining from synthetic records in host memory, light recompute, AdamW with "
           "clipping; MFU by 989 TFLOP/s\n\n"
           "| model | batch | ms a step | samples/s | TFLOP/s | MFU |\n"
           "| --- | ---: | ---: | ---: | ---: | ---: |\n");
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof models / sizeof models[0] && status == STATUS_OK; i++) {
        const struct model *model = &models[i];
        struct training t = {0};
        double seconds = 0;
        status = training_open(&t, k, model, error);
        if (status == STATUS_OK)
            status = time_steps(&t, model->batch, &seconds, error);
        if (status == STATUS_OK) {
            const double flops =
                3 * (double)model->batch *
                (clip_config_image_flops(&t.config, clip_config_patches(&t.config)) +
                 clip_config_text_flops(&t.config));
            printf("| %s | %zu | %.1f | %.0f | %.0f | %.1f%% |\n", model->name, model->batch,
                   1e3 * seconds, (double)model->batch / seconds, flops / seconds / 1e12,
                   100 * flops / seconds / 989e12);
            fflush(stdout);
        }
        training_close(&t);
    }
    return status;
}
