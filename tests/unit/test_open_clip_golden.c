/* test_open_clip_golden.c - training against open_clip on PyTorch: embeddings, losses, the
 * first gradient of every tensor, and every tensor after 20 steps of AdamW, for the
 * configurations of tests/reference/make_training_golden.py, which says what the files that are
 * read here hold. In bfloat16 nothing may be off by more than twice what open_clip's autocast is
 * off by. */
#include <math.h>
#include <stdlib.h>

#include "base/number.h"
#include "model/clip.h"
#include "model/optimizer.h"
#include "model/patch_dropout.h"
#include "model/schedule.h"
#include "stream/safetensors.h"
#include "tests/unit/check.h"

#define DIRECTORY "tests/reference/training/"

static const char *const names[] = {
    "openai",      "logit-bias",      "clipa",         "clipa-dropout",  "norm-then-mean",
    "layer-scale", "fixed-positions", "no-projection", "gap-with-class",
};

/* The golden values are computed in double, ours in float: 6e-8 by operation, some hundred
 * operations deep. Adam divides the gradient of every element by that element's own size, so
 * that what is 2e-6 of a tensor is more of its small elements, which move as far as the large
 * ones: 1e-4 of the way was the most that was seen. */
static const struct {
    double embedding;    /* of unit vectors */
    double loss;         /* relative, before the first step */
    double trained_loss; /* and later */
    double gradient;     /* norm of the error, by the norm of the tensor's gradient */
    double change;       /* the same of the way from the first parameters */
} tolerances = {
    .embedding = 2e-6,
    .loss = 1e-6,
    .trained_loss = 5e-6,
    .gradient = 2e-5,
    .change = 1e-3,
};

enum {
    STREAM_PIXELS = 1,
    STREAM_POSITIONS,
    STREAM_TOKENS,
    STREAM_LENGTHS,
    STREAM_SIGNS,
    STREAM_SAMPLES
};

/* ---- the hash that both sides draw from ---- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static uint64_t hash(uint64_t stream, uint64_t index)
{
    return mix(mix(stream) + index * 0x9e3779b97f4a7c15);
}

static uint64_t name_hash(const char *name)
{
    uint64_t h = 0xcbf29ce484222325;
    for (; *name != '\0'; name++)
        h = (h ^ (uint8_t)*name) * 0x100000001b3;
    return h;
}

static uint64_t step_stream(uint64_t stream, size_t step)
{
    return stream + 16 * (step + 1);
}

static double uniform(uint64_t stream, uint64_t index)
{
    return 2 * ((double)(hash(stream, index) >> 11) * 0x1p-53) - 1;
}

/* ---- a golden file ---- */

struct golden {
    const char *name;
    struct safetensors file;
    struct clip_config config;
    size_t count, kept, steps, projections, samples, batches, several;
    struct schedule schedule;
    struct optimizer_settings settings;
};

static double fact(const struct golden *golden, const char *key)
{
    double value = NAN;
    const char *text = metadata_get(&golden->file.header.metadata, key);
    CHECK(text != NULL && number_parse_real(text, &value), "%s: %s", golden->name, key);
    return value;
}

/* `count` values of tensor `name` + `suffix`. */
static const double *values(const struct golden *golden, const char *name, const char *suffix,
                            size_t count)
{
    char full[TENSOR_NAME_MAX + 1];
    snprintf(full, sizeof full, "%s%s", name, suffix);
    const struct tensor *tensor = safetensors_find(&golden->file, full);
    bool good = tensor != NULL && tensor->dtype == DTYPE_F64 &&
                tensor->size == count * sizeof(double);
    CHECK(good, "%s: tensor %s of %zu values", golden->name, full, count);
    return good ? tensor->data : NULL;
}

static bool golden_open(struct golden *golden, const char *name)
{
    char path[256];
    struct error error = {0};
    *golden = (struct golden){.name = name};
    snprintf(path, sizeof path, DIRECTORY "%s.safetensors", name);
    enum status status = safetensors_open(&golden->file, path, &error);
    const char *config = metadata_get(&golden->file.header.metadata, "config");
    if (status == STATUS_OK && config != NULL)
        status = clip_config_parse(&golden->config, config, strlen(config), NULL, &error);
    CHECK(status == STATUS_OK && config != NULL, "%s: %s", path, error.text);
    if (status != STATUS_OK || config == NULL)
        return false;

    golden->count = (size_t)fact(golden, "count");
    golden->kept = (size_t)fact(golden, "kept");
    golden->steps = (size_t)fact(golden, "steps");
    golden->projections = (size_t)fact(golden, "projections");
    golden->samples = (size_t)fact(golden, "samples");
    golden->batches = (size_t)fact(golden, "batches");
    golden->several = (size_t)fact(golden, "several");
    golden->schedule = (struct schedule){.kind = SCHEDULE_COSINE,
                                         .lr = fact(golden, "lr"),
                                         .warmup = (int64_t)fact(golden, "warmup"),
                                         .steps = (int64_t)golden->steps};
    golden->settings = (struct optimizer_settings){.beta1 = fact(golden, "beta1"),
                                                   .beta2 = fact(golden, "beta2"),
                                                   .eps = fact(golden, "eps"),
                                                   .weight_decay = fact(golden, "wd"),
                                                   .clip_norm = fact(golden, "clip_norm")};
    return true;
}

static void golden_close(struct golden *golden)
{
    clip_config_free(&golden->config);
    safetensors_close(&golden->file);
}

/* ---- the same model and batches ---- */

struct run {
    const struct golden *golden;
    const char *device;
    struct kernels *kernels;
    struct clip *clip;
    struct clip_batch batch;
    uint8_t *patches;
    int32_t *position, *tokens;
    float *start, *now; /* parameter blocks; now holds gradients, too */
};

static void set_start(struct run *run)
{
    const struct parameters *table = &run->clip->table;
    parameters_initialize(table, run->start, 0);
    for (size_t i = 0; i < table->count; i++) {
        const struct parameter *p = &table->list[i];
        const double *start = values(run->golden, p->name, ".start", 2);
        uint64_t stream = name_hash(p->name);
        for (size_t j = 0; start != NULL && !p->fixed && j < p->count; j++)
            run->start[p->offset + j] = (float)(start[0] + start[1] * uniform(stream, j));
    }
    clip_set_parameters(run->clip, run->start);
}

static void fill_tokens(struct run *run, size_t step)
{
    const struct text_config *text = &run->golden->config.text;
    size_t L = text->context_length, V = text->vocab_size;
    for (size_t i = 0; i < run->batch.count; i++) {
        int32_t *row = run->tokens + i * L;
        size_t n = 3 + hash(step_stream(STREAM_LENGTHS, step), i) % (L - 2);
        for (size_t j = 0; j < L; j++) {
            uint64_t h = hash(step_stream(STREAM_TOKENS, step), i * L + j);
            row[j] = j < n ? (int32_t)(1 + h % (V - 3)) : 0;
        }
        row[0] = (int32_t)(V - 2);
        row[n - 1] = (int32_t)(V - 1);
    }
}

static void fill_batch(struct run *run, size_t step)
{
    const struct vision_config *vision = &run->golden->config.vision;
    size_t K = run->golden->kept, places = vision->grid * vision->grid;
    size_t patch_bytes = vision->patch_size * vision->patch_size * 3;
    for (size_t i = 0; i < run->batch.count * K * patch_bytes; i++)
        run->patches[i] = (uint8_t)(hash(step_stream(STREAM_PIXELS, step), i) >> 56);
    for (size_t i = 0; i < run->batch.count; i++) {
        uint64_t first = hash(step_stream(STREAM_POSITIONS, step), i) % places;
        for (size_t j = 0; j < K; j++)
            run->position[i * K + j] = (int32_t)((first + j * (places - 1)) % places);
    }
    fill_tokens(run, step);
}

/* at_once: samples that pass through the towers together. */
static bool run_open(struct run *run, const struct golden *golden, const char *device,
                     enum precision precision, size_t at_once, enum recompute recompute)
{
    const struct clip_config *config = &golden->config;
    size_t N = golden->count, K = golden->kept, P = config->vision.patch_size;
    const struct clip_shape shape = {
        .batch = at_once, .most = N, .kept = K, .training = true, .recompute = recompute};
    struct error error = {0};
    *run = (struct run){.golden = golden, .device = device};
    enum status status = kernels_open(&run->kernels, device, precision, 1, &error);
    if (status == STATUS_OK)
        status = clip_open(&run->clip, run->kernels, config, &shape, &error);
    CHECK(status == STATUS_OK, "%s on %s: %s", golden->name, device, error.text);
    if (status != STATUS_OK)
        return false;
    run->patches = malloc(N * K * P * P * 3);
    run->position = malloc(N * K * sizeof *run->position);
    run->tokens = malloc(N * config->text.context_length * sizeof *run->tokens);
    run->start = calloc(run->clip->table.floats, sizeof *run->start);
    run->now = calloc(run->clip->table.floats, sizeof *run->now);
    run->batch = (struct clip_batch){N, run->patches, run->position, run->tokens};
    set_start(run);
    fill_batch(run, 0);
    return true;
}

static void run_close(struct run *run)
{
    clip_close(run->clip);
    kernels_close(run->kernels);
    free(run->patches);
    free(run->position);
    free(run->tokens);
    free(run->start);
    free(run->now);
}

/* ---- comparing ---- */

/* The largest errors, for a report. */
static double worst_embedding, worst_loss, worst_trained_loss, worst_gradient, worst_change;
static double worst_rough_embedding, worst_rough_loss, worst_rough_gradient;

static void keep_worst(double *worst, double error)
{
    if (!(error <= *worst))
        *worst = error;
}

/* Norm, projections, samples of x[count], as make_training_golden.py describes them. */
static void sketch(const struct golden *golden, const char *name, const double *x, size_t count,
                   double *out)
{
    uint64_t signs = name_hash(name) + STREAM_SIGNS, picks = name_hash(name) + STREAM_SAMPLES;
    double squares = 0, *sums = out + 1, *samples = sums + golden->projections;
    memset(out, 0, (1 + golden->projections) * sizeof *out);
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = hash(signs, i);
        squares += x[i] * x[i];
        for (size_t k = 0; k < golden->projections; k++)
            sums[k] += bits >> k & 1 ? -x[i] : x[i];
    }
    out[0] = sqrt(squares);
    for (size_t k = 0; k < golden->samples; k++)
        samples[k] = x[hash(picks, k) % count];
}

/* The norm of the error by the norm of what is right, which may be zero but for rounding: the
 * logit bias, which no softmax sees. */
static double projected_error(const struct golden *golden, const double *got,
                              const double *want)
{
    double squares = 0;
    for (size_t k = 1; k <= golden->projections; k++)
        squares += (got[k] - want[k]) * (got[k] - want[k]);
    return sqrt(squares / (double)golden->projections) / fmax(want[0], 1e-9);
}

/* The same; one sample alone may not be off by more. */
static double sketch_error(const struct golden *golden, const double *got, const double *want)
{
    double largest = fabs(got[0] - want[0]);
    const double *samples = want + 1 + golden->projections;
    for (size_t k = 0; k < golden->samples; k++)
        largest = fmax(largest, fabs(got[1 + golden->projections + k] - samples[k]));
    return fmax(projected_error(golden, got, want), largest / fmax(want[0], 1e-9));
}

/* A bias of all keys adds the same to every score of a query, so that its gradient is zero.
 * Adam divides one rounding error by another there, and walks at random, by less than half a
 * step of lr at a time: the eps of 1e-6 is above such gradients. It changes nothing. */
static void forget_key_bias(const struct run *run, const struct parameter *p, double *x)
{
    if (strstr(p->name, "attn.in_proj_bias") == NULL)
        return;
    double furthest = 0, bound = run->golden->schedule.lr * (double)run->golden->steps / 2;
    size_t C = p->count / 3;
    for (size_t i = C; i < 2 * C; i++) {
        furthest = fmax(furthest, fabs(x[i]));
        x[i] = 0;
    }
    CHECK(furthest <= bound, "%s on %s: %s moved keys by %g", run->golden->name, run->device,
          p->name, furthest);
}

/* now - from, or now where from is NULL, tensor by tensor. */
static void check_tensors(const struct run *run, const float *from, const char *suffix,
                          double tolerance, double *worst)
{
    enum { SKETCH_MAX = 64 };
    const struct golden *golden = run->golden;
    const struct parameters *table = &run->clip->table;
    size_t size = 1 + golden->projections + golden->samples;
    double got[SKETCH_MAX];
    double *x = malloc(table->floats * sizeof *x);
    CHECK(size <= SKETCH_MAX && x != NULL, "a sketch of %zu", size);
    for (size_t i = 0; i < table->count; i++) {
        const struct parameter *p = &table->list[i];
        const double *want = values(golden, p->name, suffix, size);
        if (want == NULL)
            continue;
        for (size_t j = 0; j < p->count; j++)
            x[j] = (double)run->now[p->offset + j] -
                   (from == NULL ? 0 : (double)from[p->offset + j]);
        if (from != NULL)
            forget_key_bias(run, p, x);
        sketch(golden, p->name, x, p->count, got);
        double error = sketch_error(golden, got, want);
        CHECK(error <= tolerance, "%s on %s: %s%s is off by %g of its norm, %g", golden->name,
              run->device, p->name, suffix, error, want[0]);
        keep_worst(worst, error);
    }
    free(x);
}

static void check_unit_vectors(const struct run *run, const char *what, const float *got,
                               size_t count)
{
    const double *want = values(run->golden, what, "", count);
    for (size_t i = 0; want != NULL && i < count; i++) {
        CHECK_NEAR((double)got[i], want[i], tolerances.embedding, "%s on %s: %s[%zu]",
                   run->golden->name, run->device, what, i);
        keep_worst(&worst_embedding, fabs((double)got[i] - want[i]));
    }
}

static void check_embeddings(struct run *run)
{
    size_t N = run->golden->count, count = N * run->golden->config.embed_dim;
    float *got = calloc(count, sizeof *got);
    struct error error = {0};
    clip_encode_image(run->clip, run->patches, run->position, N, got, &error);
    check_unit_vectors(run, "image", got, count);
    clip_encode_text(run->clip, run->tokens, N, got, &error);
    check_unit_vectors(run, "text", got, count);
    free(got);
}

static void check_loss(const struct run *run, size_t step, double loss, double want)
{
    double error = fabs(loss - want) / want;
    CHECK(error <= (step == 0 ? tolerances.loss : tolerances.trained_loss),
          "%s on %s: loss of step %zu is %.9g, expected %.9g", run->golden->name, run->device,
          step, loss, want);
    keep_worst(step == 0 ? &worst_loss : &worst_trained_loss, error);
}

/* Leaves the gradients in run->now. */
static float step_gradients(struct run *run)
{
    struct error error = {0};
    float loss = NAN;
    enum status status = clip_step_gradients(run->clip, &run->batch, &loss, &error);
    CHECK(status == STATUS_OK, "%s on %s: %s", run->golden->name, run->device, error.text);
    run->kernels->download(run->kernels, run->now, run->clip->gradients,
                           run->clip->table.floats * sizeof *run->now);
    return loss;
}

static void train(struct run *run, const double *losses)
{
    struct optimizer optimizer;
    struct error error = {0};
    struct clip *clip = run->clip;
    CHECK(optimizer_init(&optimizer, run->kernels, &clip->table, &run->golden->settings,
                         &error) == STATUS_OK,
          "%s", error.text);
    for (size_t step = 0; step < run->golden->steps; step++) {
        fill_batch(run, step);
        check_loss(run, step, (double)step_gradients(run), losses[step]);
        if (step == 0)
            check_tensors(run, NULL, ".gradient", tolerances.gradient, &worst_gradient);
        optimizer_step(&optimizer, clip->parameters, clip->gradients,
                       optimizer_gradient_norm(&optimizer, clip->gradients),
                       schedule_lr(&run->golden->schedule, (int64_t)step));
    }
    clip_get_parameters(clip, run->now);
    check_tensors(run, run->start, ".change", tolerances.change, &worst_change);
    optimizer_free(&optimizer);
}

static void test_golden(const struct golden *golden, const char *device)
{
    struct run run;
    const double *losses = values(golden, "loss", "", golden->steps);
    if (losses == NULL || !run_open(&run, golden, device, PRECISION_FP32, golden->count,
                                    RECOMPUTE_NONE))
        return;
    check_embeddings(&run);
    train(&run, losses);
    run_close(&run);
}

/* In pieces, whose activations are computed again: the gradient is that of the whole batch. */
static void test_pieces(const struct golden *golden, enum recompute recompute)
{
    struct run run;
    const double *losses = values(golden, "loss", "", golden->steps);
    if (losses == NULL || !run_open(&run, golden, "cpu", PRECISION_FP32, 4, recompute))
        return;
    check_loss(&run, 0, (double)step_gradients(&run), losses[0]);
    check_tensors(&run, NULL, ".gradient", tolerances.gradient, &worst_gradient);
    run_close(&run);
}

/* ---- bfloat16 ---- */

static double root_mean_square(const double *x, size_t count)
{
    double squares = 0;
    for (size_t i = 0; i < count; i++)
        squares += x[i] * x[i];
    return sqrt(squares / (double)count);
}

/* The rule: twice theirs. */
static void check_rough(const struct run *run, const char *what, double error, double theirs,
                        double *worst)
{
    CHECK(error <= 2 * theirs, "%s on %s in bfloat16: %s is off by %g, autocast by %g",
          run->golden->name, run->device, what, error, theirs);
    keep_worst(worst, error / theirs);
}

static void check_rough_embeddings(struct run *run)
{
    size_t N = run->golden->count, count = N * run->golden->config.embed_dim;
    const double *theirs = values(run->golden, "bf16.embedding_error", "", 1);
    const double *want[2] = {values(run->golden, "image", "", count),
                             values(run->golden, "text", "", count)};
    float *got = calloc(2 * count, sizeof *got);
    double *errors = calloc(2 * count, sizeof *errors);
    struct error error = {0};
    clip_encode_image(run->clip, run->patches, run->position, N, got, &error);
    clip_encode_text(run->clip, run->tokens, N, got + count, &error);
    for (size_t i = 0; i < 2 * count && theirs != NULL; i++)
        errors[i] = (double)got[i] - want[i / count][i % count];
    if (theirs != NULL)
        check_rough(run, "an embedding", root_mean_square(errors, 2 * count), theirs[0],
                    &worst_rough_embedding);
    free(errors);
    free(got);
}

/* Adds to squares[] of each tensor the relative square error of the gradients in run->now, of
 * batch `step`. */
static void add_rough_gradients(const struct run *run, size_t step, double *squares)
{
    enum { SKETCH_MAX = 64 };
    const struct golden *golden = run->golden;
    const struct parameters *table = &run->clip->table;
    const size_t row = 1 + golden->projections;
    double got[SKETCH_MAX];
    double *x = malloc(table->floats * sizeof *x);
    for (size_t i = 0; i < table->count && x != NULL; i++) {
        const struct parameter *p = &table->list[i];
        const double *want = values(golden, p->name, ".gradients", golden->several * row);
        if (want == NULL)
            continue;
        for (size_t j = 0; j < p->count; j++)
            x[j] = (double)run->now[p->offset + j];
        sketch(golden, p->name, x, p->count, got);
        double error = projected_error(golden, got, want + step * row);
        squares[i] += error * error;
    }
    free(x);
}

/* A gradient that is zero but for rounding says nothing. */
static void check_rough_gradients(const struct run *run, const double *squares)
{
    const struct golden *golden = run->golden;
    const struct parameters *table = &run->clip->table;
    for (size_t i = 0; i < table->count; i++) {
        const char *name = table->list[i].name;
        const double *norm = values(golden, name, ".gradient",
                                    1 + golden->projections + golden->samples);
        const double *theirs = values(golden, name, ".bf16", 1);
        if (norm != NULL && theirs != NULL && norm[0] >= 1e-8)
            check_rough(run, name, sqrt(squares[i] / (double)golden->several), theirs[0],
                        &worst_rough_gradient);
    }
}

static void test_bfloat16(const struct golden *golden, const char *device)
{
    enum { BATCHES_MAX = 64 };
    struct run run;
    double errors[BATCHES_MAX];
    const double *losses = values(golden, "bf16.loss", "", golden->batches);
    const double *theirs = values(golden, "bf16.loss_error", "", 1);
    CHECK(golden->batches <= BATCHES_MAX, "%zu batches", golden->batches);
    if (losses == NULL || theirs == NULL ||
        !run_open(&run, golden, device, PRECISION_AMP_BF16, golden->count, RECOMPUTE_LIGHT))
        return;
    check_rough_embeddings(&run);
    double *squares = calloc(run.clip->table.count, sizeof *squares);
    for (size_t i = 0; i < golden->batches && squares != NULL; i++) {
        fill_batch(&run, i);
        errors[i] = (double)step_gradients(&run) - losses[i];
        if (i < golden->several)
            add_rough_gradients(&run, i, squares);
    }
    check_rough_gradients(&run, squares);
    check_rough(&run, "the loss", root_mean_square(errors, golden->batches), theirs[0],
                &worst_rough_loss);
    free(squares);
    run_close(&run);
}

/* As many tensors, each with its start, gradients and change, as there are parameters. */
static void test_complete(const struct golden *golden)
{
    struct parameters table;
    struct error error = {0};
    CHECK(parameters_init(&table, &golden->config, &error) == STATUS_OK, "%s", error.text);
    CHECK(golden->file.header.count == 6 + 5 * table.count,
          "%s: %zu tensors for %zu parameters", golden->name, golden->file.header.count,
          table.count);
    size_t patches = clip_config_patches(&golden->config);
    CHECK(patch_dropout_kept(golden->config.vision.patch_dropout, patches) == golden->kept,
          "%s: %zu of %zu patches are kept", golden->name, golden->kept, patches);
    parameters_free(&table);
}

int main(void)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct golden golden;
        if (golden_open(&golden, names[i])) {
            test_complete(&golden);
            test_golden(&golden, "ref");
            test_golden(&golden, "cpu");
            test_pieces(&golden, RECOMPUTE_BLOCK);
            test_pieces(&golden, RECOMPUTE_LIGHT);
            test_bfloat16(&golden, "ref");
            test_bfloat16(&golden, "cpu");
        }
        golden_close(&golden);
    }
    printf("largest errors: embeddings %.1e, loss %.1e, gradients %.1e; in training: loss "
           "%.1e, way %.1e\n",
           worst_embedding, worst_loss, worst_gradient, worst_trained_loss, worst_change);
    printf("in bfloat16, by autocast's own: embeddings %.2f, loss %.2f, gradients %.2f\n",
           worst_rough_embedding, worst_rough_loss, worst_rough_gradient);
    return check_report("test_open_clip_golden");
}
