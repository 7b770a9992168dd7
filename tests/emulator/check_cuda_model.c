/* Whole models on the CUDA backend: loss and gradients against the CPU backend for the
 * configurations of the fidelity golden files, training on scenes, and equal bits in a second
 * run and after a resume. In bf16 the rule is check_cuda's: the error against the CPU in fp32
 * is at most twice what the CPU's own bf16 has. */
#include "tests/emulator/check_cuda_model.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "formats/scene.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cuda/cuda_backend.h"
#include "model/clip.h"
#include "model/optimizer.h"
#include "stream/safetensors.h"
#include "tests/unit/check.h"

#define DIRECTORY "tests/reference/training/"

static const char *const golden_names[] = {
    "openai",      "logit-bias",      "clipa",         "clipa-dropout",  "norm-then-mean",
    "layer-scale", "fixed-positions", "no-projection", "gap-with-class",
};

/* A model that learns scenes in a minute. */
static const char scene_model[] =
    "{\"embed_dim\": 64,"
    " \"vision_cfg\": {\"image_size\": 32, \"layers\": 3, \"width\": 128, \"head_width\": 64,"
    "                  \"patch_size\": 8},"
    " \"text_cfg\": {\"context_length\": 12, \"vocab_size\": 256, \"width\": 128, \"heads\": 2,"
    "                \"layers\": 2}}";

enum { SCENE_BATCH = 64, SCENE_SIDE = 32, STEPS = 50, SAVED_STEP = 20, RESUMED_STEPS = 10 };

/* Relative. fp32 sums of some hundred operations differ in the last bits; a tensor alone, or a
 * curve of 50 steps of Adam, carries that further. */
static const double loss_tolerance = 1e-5, gradient_tolerance = 5e-5, tensor_tolerance = 5e-4,
                    early_loss_tolerance = 1e-3, curve_tolerance = 0.05;

static void stop(const char *why)
{
    fprintf(stderr, "check_cuda: %s\n", why);
    exit(STATUS_SYSTEM);
}

static void *allocate(size_t bytes)
{
    void *memory = calloc(bytes == 0 ? 1 : bytes, 1);
    if (memory == NULL)
        stop("no memory");
    return memory;
}

/* ---- one model on one backend ---- */

struct run {
    bool cuda;
    struct kernels *k;
    struct clip *clip;
    struct optimizer optimizer;
};

static void run_open(struct run *run, bool cuda, enum precision precision,
                     const struct clip_config *config, const struct clip_shape *shape)
{
    struct error error;
    *run = (struct run){.cuda = cuda};
    enum status status = cuda ? clipipe_cuda_open(&run->k, precision, sizeof *run->k, &error)
                              : cpu_open(&run->k, precision, 0, &error);
    if (status == STATUS_OK)
        status = clip_open(&run->clip, run->k, config, shape, &error);
    if (status != STATUS_OK)
        stop(error.text);
}

static void run_close(struct run *run)
{
    optimizer_free(&run->optimizer);
    clip_close(run->clip);
    run->k->close(run->k);
}

static double length(const float *x, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static double distance(const float *a, const float *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum);
}

/* ---- loss, embeddings and gradients ---- */

/* What a model makes of a batch, in host memory. */
struct result {
    float loss, *gradients, *image, *text;
};

struct comparison {
    const char *name;
    struct clip_config config;
    struct clip_batch batch;
    size_t kept, floats, embeddings;
    float *parameters;
};

static void random_batch(struct comparison *c, size_t count)
{
    const struct vision_config *vision = &c->config.vision;
    const struct text_config *text = &c->config.text;
    const size_t places = vision->grid * vision->grid, L = text->context_length;
    const size_t bytes = count * c->kept * vision->patch_size * vision->patch_size * 3;
    uint8_t *patches = allocate(bytes);
    int32_t *position = allocate(count * c->kept * sizeof *position),
            *tokens = allocate(count * L * sizeof *tokens);
    struct rng rng;
    rng_init(&rng, 7, 0, 0, RNG_TEST);
    for (size_t i = 0; i < bytes; i++)
        patches[i] = (uint8_t)rng_next(&rng);
    for (size_t i = 0; i < count; i++) {
        const size_t first = rng_below(&rng, places), end = 2 + rng_below(&rng, L - 2);
        for (size_t j = 0; j < c->kept; j++)
            position[i * c->kept + j] = (int32_t)((first + j) % places);
        for (size_t j = 0; j < end; j++)
            tokens[i * L + j] = (int32_t)rng_below(&rng, text->vocab_size - 1);
        tokens[i * L + end] = (int32_t)text->vocab_size - 1;
    }
    c->batch = (struct clip_batch){count, patches, position, tokens};
}

/* at_once < count: in pieces that are computed twice. */
static struct result compute(const struct comparison *c, bool cuda, enum precision precision,
                             size_t at_once)
{
    const size_t N = c->batch.count;
    const struct clip_shape shape = {
        .batch = at_once, .most = N, .kept = c->kept, .training = true,
        .recompute = at_once < N ? RECOMPUTE_BLOCK : RECOMPUTE_NONE};
    struct run run;
    struct error error = {0};
    struct result r = {.loss = NAN};
    run_open(&run, cuda, precision, &c->config, &shape);
    clip_set_parameters(run.clip, c->parameters);
    enum status status = clip_step_gradients(run.clip, &c->batch, &r.loss, &error);
    r.gradients = allocate(c->floats * sizeof *r.gradients);
    r.image = allocate(c->embeddings * sizeof *r.image);
    r.text = allocate(c->embeddings * sizeof *r.text);
    run.k->download(run.k, r.gradients, run.clip->gradients, c->floats * sizeof(float));
    if (status == STATUS_OK)
        status = clip_encode_image(run.clip, c->batch.patches, c->batch.position, N, r.image,
                                   &error);
    if (status == STATUS_OK)
        status = clip_encode_text(run.clip, c->batch.tokens, N, r.text, &error);
    CHECK(status == STATUS_OK, "%s: %s", c->name, error.text);
    run_close(&run);
    return r;
}

static void result_free(struct result *r)
{
    free(r->gradients);
    free(r->image);
    free(r->text);
}

static void compare_fp32(const struct comparison *c, const struct result *cpu,
                         const struct result *cuda, const char *how)
{
    struct parameters table;
    struct error error;
    const double norm = length(cpu->gradients, c->floats);
    CHECK_NEAR((double)cuda->loss, (double)cpu->loss, loss_tolerance * fabs((double)cpu->loss),
               "%s, fp32%s: loss", c->name, how);
    CHECK(distance(cuda->gradients, cpu->gradients, c->floats) <= gradient_tolerance * norm,
          "%s, fp32%s: gradients are off by %.3g of %.3g", c->name, how,
          distance(cuda->gradients, cpu->gradients, c->floats), norm);
    CHECK(distance(cuda->image, cpu->image, c->embeddings) <=
              loss_tolerance * sqrt((double)c->batch.count),
          "%s, fp32%s: image embeddings", c->name, how);
    CHECK(distance(cuda->text, cpu->text, c->embeddings) <=
              loss_tolerance * sqrt((double)c->batch.count),
          "%s, fp32%s: text embeddings", c->name, how);
    if (parameters_init(&table, &c->config, &error) != STATUS_OK)
        stop(error.text);
    for (size_t i = 0; i < table.count; i++) {
        const struct parameter *p = &table.list[i];
        const double size = length(cpu->gradients + p->offset, p->count);
        const double off =
            distance(cuda->gradients + p->offset, cpu->gradients + p->offset, p->count);
        CHECK(off <= tensor_tolerance * size + 1e-6 * norm,
              "%s, fp32%s: the gradient of %s is off by %.3g of %.3g", c->name, how, p->name,
              off, size);
    }
    parameters_free(&table);
}

/* 2e-3 of the loss besides, since a single number may be right by chance. */
static void compare_bf16(const struct comparison *c, const struct result *truth,
                         const struct result *naive, const struct result *ours)
{
    const double losses[2] = {fabs((double)ours->loss - (double)truth->loss),
                              fabs((double)naive->loss - (double)truth->loss)};
    CHECK(losses[0] <= 2 * losses[1] + 2e-3 * (double)truth->loss,
          "%s, bf16: loss is off by %.3g, the cpu's by %.3g", c->name, losses[0], losses[1]);
    const struct {
        const char *name;
        const float *truth, *naive, *ours;
        size_t count;
    } arrays[] = {
        {"gradients", truth->gradients, naive->gradients, ours->gradients, c->floats},
        {"image embeddings", truth->image, naive->image, ours->image, c->embeddings},
        {"text embeddings", truth->text, naive->text, ours->text, c->embeddings},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        const double norm = length(arrays[i].truth, arrays[i].count);
        const double off = distance(arrays[i].ours, arrays[i].truth, arrays[i].count);
        const double bound = distance(arrays[i].naive, arrays[i].truth, arrays[i].count);
        CHECK(off <= 2 * bound, "%s, bf16: %s are off by %.3g of their norm, the cpu's by %.3g",
              c->name, arrays[i].name, off / norm, bound / norm);
        printf("%s, bf16: %s off by %.2e, the cpu's by %.2e\n", c->name, arrays[i].name,
               off / norm, bound / norm);
    }
}

static void check_configuration(const char *name)
{
    enum { COUNT = 12 };
    char path[256];
    struct safetensors file;
    struct error error = {0};
    struct comparison c = {.name = name};
    snprintf(path, sizeof path, DIRECTORY "%s.safetensors", name);
    enum status status = safetensors_open(&file, path, &error);
    const char *json = status == STATUS_OK ? metadata_get(&file.header.metadata, "config") : "";
    if (status == STATUS_OK)
        status = clip_config_parse(&c.config, json, strlen(json), NULL, &error);
    CHECK(status == STATUS_OK, "%s: %s", path, error.text);
    if (status != STATUS_OK)
        return;
    c.kept = c.config.vision.grid * c.config.vision.grid;
    c.kept -= c.kept > 2; /* not all, and in another order */
    c.embeddings = COUNT * c.config.embed_dim;
    random_batch(&c, COUNT);

    struct run first;
    const struct clip_shape shape = {.batch = COUNT, .kept = c.kept, .training = true};
    run_open(&first, false, PRECISION_FP32, &c.config, &shape);
    c.floats = first.clip->table.floats;
    c.parameters = allocate(c.floats * sizeof *c.parameters);
    if (clip_initialize(first.clip, 3, &error) != STATUS_OK)
        stop(error.text);
    clip_get_parameters(first.clip, c.parameters);
    run_close(&first);

    struct result truth = compute(&c, false, PRECISION_FP32, COUNT);
    struct result ours = compute(&c, true, PRECISION_FP32, COUNT);
    struct result pieces = compute(&c, true, PRECISION_FP32, 5);
    compare_fp32(&c, &truth, &ours, "");
    compare_fp32(&c, &truth, &pieces, " in pieces");
    struct result naive = compute(&c, false, PRECISION_AMP_BF16, COUNT);
    struct result ours_16 = compute(&c, true, PRECISION_AMP_BF16, COUNT);
    compare_bf16(&c, &truth, &naive, &ours_16);
    result_free(&truth);
    result_free(&ours);
    result_free(&pieces);
    result_free(&naive);
    result_free(&ours_16);
    free(c.parameters);
    free((void *)c.batch.patches);
    free((void *)c.batch.position);
    free((void *)c.batch.tokens);
    clip_config_free(&c.config);
    safetensors_close(&file);
}

/* ---- training on scenes ---- */

struct scenes {
    struct clip_config config;
    uint8_t *images, *patches;
    int32_t *tokens;
};

/* The words of a caption as numbers, between start and end. */
static void caption_tokens(const char *caption, const struct text_config *text, int32_t *tokens)
{
    const size_t L = text->context_length, V = text->vocab_size;
    size_t count = 0;
    memset(tokens, 0, L * sizeof *tokens);
    tokens[count++] = (int32_t)V - 2;
    while (*caption != '\0' && count < L - 1) {
        uint32_t word = 2166136261u;
        for (; *caption != '\0' && *caption != ' '; caption++)
            word = (word ^ (uint8_t)*caption) * 16777619u;
        caption += *caption == ' ';
        tokens[count++] = (int32_t)(1 + word % (V - 3));
    }
    tokens[count] = (int32_t)V - 1;
}

static struct clip_batch draw(struct scenes *s, size_t step)
{
    const size_t pixels = (size_t)SCENE_SIDE * SCENE_SIDE * 3;
    for (size_t i = 0; i < SCENE_BATCH; i++) {
        struct scene scene;
        scene_draw(&scene, 11, SCENE_TRAIN, step * SCENE_BATCH + i, SCENE_SIDE,
                   s->images + i * pixels);
        caption_tokens(scene.caption, &s->config.text,
                       s->tokens + i * s->config.text.context_length);
    }
    clip_cut_patches(&s->config, s->patches, s->images, SCENE_BATCH);
    return (struct clip_batch){SCENE_BATCH, s->patches, NULL, s->tokens};
}

/* Everything that a training run goes on from. */
struct state {
    float *parameters, *m, *v;
    int64_t step;
};

static void state_free(struct state *state)
{
    free(state->parameters);
    free(state->m);
    free(state->v);
}

static struct state save(struct run *run)
{
    const size_t bytes = run->clip->table.floats * sizeof(float);
    struct state state = {allocate(bytes), allocate(bytes), allocate(bytes),
                          run->optimizer.step};
    clip_get_parameters(run->clip, state.parameters);
    optimizer_get_moments(&run->optimizer, state.m, state.v);
    return state;
}

/* from NULL: from the start. */
static void begin(struct run *run, struct scenes *s, bool cuda, enum precision precision,
                  const struct state *from)
{
    static const struct optimizer_settings settings = {
        .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-6, .weight_decay = 0.1, .clip_norm = 1};
    const struct clip_shape shape = {
        .batch = SCENE_BATCH, .kept = clip_config_patches(&s->config), .training = true};
    struct error error;
    run_open(run, cuda, precision, &s->config, &shape);
    if (clip_initialize(run->clip, 5, &error) != STATUS_OK ||
        optimizer_init(&run->optimizer, run->k, &run->clip->table, &settings, &error) !=
            STATUS_OK)
        stop(error.text);
    if (from != NULL) {
        clip_set_parameters(run->clip, from->parameters);
        optimizer_set_moments(&run->optimizer, from->m, from->v);
        run->optimizer.step = from->step;
    }
}

static void train(struct run *run, struct scenes *s, size_t steps, float *losses)
{
    for (size_t i = 0; i < steps; i++) {
        struct error error = {0};
        const size_t step = (size_t)run->optimizer.step;
        const struct clip_batch batch = draw(s, step);
        const enum status status =
            clip_step_gradients(run->clip, &batch, &losses[i], &error);
        CHECK(status == STATUS_OK, "step %zu: %s", step, error.text);
        optimizer_step(&run->optimizer, run->clip->parameters, run->clip->gradients,
                       optimizer_gradient_norm(&run->optimizer, run->clip->gradients),
                       1e-3 * fmin(1, (double)(step + 1) / 10));
    }
}

static void curve(struct scenes *s, bool cuda, enum precision precision, float losses[STEPS])
{
    struct run run;
    begin(&run, s, cuda, precision, NULL);
    train(&run, s, STEPS, losses);
    run_close(&run);
}

static double mean_difference(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < STEPS; i++)
        sum += fabs((double)a[i] - (double)b[i]);
    return sum / STEPS;
}

static void check_curves(struct scenes *s)
{
    float truth[STEPS], naive[STEPS], ours[STEPS], ours_16[STEPS];
    curve(s, false, PRECISION_FP32, truth);
    curve(s, false, PRECISION_AMP_BF16, naive);
    curve(s, true, PRECISION_FP32, ours);
    curve(s, true, PRECISION_AMP_BF16, ours_16);
    for (int i = 0; i < STEPS; i++)
        CHECK_NEAR((double)ours[i], (double)truth[i],
                   i < 5 ? early_loss_tolerance : curve_tolerance, "fp32: loss of step %d", i);
    const double off = mean_difference(ours_16, truth), bound = mean_difference(naive, truth);
    CHECK(off <= 2 * bound + 0.01,
          "bf16: the curve is off by %.3g on average, the cpu's by %.3g", off, bound);
    CHECK(ours_16[STEPS - 1] < ours_16[0] - 0.5f && ours[STEPS - 1] < ours[0] - 0.5f,
          "it learns: from %.3f to %.3f", (double)ours[0], (double)ours[STEPS - 1]);
    printf("50 steps on scenes: loss %.4f to %.4f; from the cpu's fp32, on average: fp32 %.1e, "
           "bf16 %.1e, the cpu's bf16 %.1e\n", (double)ours[0], (double)ours[STEPS - 1],
           mean_difference(ours, truth), off, bound);
}

static void check_equal(const struct state *a, const struct state *b, size_t floats,
                        const char *what)
{
    const size_t bytes = floats * sizeof(float);
    CHECK(memcmp(a->parameters, b->parameters, bytes) == 0, "%s: other parameters", what);
    CHECK(memcmp(a->m, b->m, bytes) == 0 && memcmp(a->v, b->v, bytes) == 0, "%s: other moments",
          what);
}

/* Once through, once more, and once from what was saved on the way. */
static void check_repeat(struct scenes *s, enum precision precision)
{
    float losses[3][SAVED_STEP + RESUMED_STEPS];
    const size_t rest = RESUMED_STEPS * sizeof(float);
    struct run run;
    struct state saved = {0}, end[3];
    size_t floats = 0;
    for (int i = 0; i < 3; i++) {
        begin(&run, s, true, precision, i == 2 ? &saved : NULL);
        floats = run.clip->table.floats;
        if (i < 2)
            train(&run, s, SAVED_STEP, losses[i]);
        if (i == 0)
            saved = save(&run);
        train(&run, s, RESUMED_STEPS, losses[i] + SAVED_STEP);
        end[i] = save(&run);
        run_close(&run);
    }
    CHECK(memcmp(losses[0], losses[1], sizeof losses[0]) == 0, "a second run has other losses");
    CHECK(memcmp(losses[0] + SAVED_STEP, losses[2] + SAVED_STEP, rest) == 0,
          "a resumed run has other losses");
    check_equal(&end[0], &end[1], floats, "a second run");
    check_equal(&end[0], &end[2], floats, "a resumed run");
    state_free(&saved);
    for (int i = 0; i < 3; i++)
        state_free(&end[i]);
}

static void check_scenes(void)
{
    struct scenes s = {0};
    struct error error;
    if (clip_config_parse(&s.config, scene_model, strlen(scene_model), NULL, &error) !=
        STATUS_OK)
        stop(error.text);
    s.images = allocate((size_t)SCENE_BATCH * SCENE_SIDE * SCENE_SIDE * 3);
    s.patches = allocate((size_t)SCENE_BATCH * SCENE_SIDE * SCENE_SIDE * 3);
    s.tokens = allocate(SCENE_BATCH * s.config.text.context_length * sizeof *s.tokens);
    check_curves(&s);
    check_repeat(&s, PRECISION_FP32);
    check_repeat(&s, PRECISION_AMP_BF16);
    free(s.images);
    free(s.patches);
    free(s.tokens);
    clip_config_free(&s.config);
}

int check_models(int *passed)
{
    for (size_t i = 0; i < sizeof golden_names / sizeof golden_names[0]; i++)
        check_configuration(golden_names[i]);
    check_scenes();
    *passed = check_passed;
    return check_failed;
}
