/* test_trainer.c - a run: accumulated gradients are those of the large batch; the averaged
 * weights follow their formula; a run that stops and resumes has the bits of one that did not;
 * a loss that is no number changes nothing; what a run costs is what it takes. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/rng.h"
#include "model/trainer.h"
#include "model/training_cost.h"
#include "tests/unit/check.h"

static const char *const config_json =
    "{\"embed_dim\": 8,"
    " \"vision_cfg\": {\"image_size\": 8, \"patch_size\": 4, \"layers\": 3, \"width\": 16,"
    "   \"head_width\": 8},"
    " \"text_cfg\": {\"context_length\": 5, \"vocab_size\": 30, \"width\": 8, \"heads\": 2,"
    "   \"layers\": 2}}";

enum { SAMPLES = 8, PATCHES = 4, PATCH_BYTES = 48, TOKENS = 5, VOCABULARY = 30, STEPS = 6 };

static const struct trainer_settings settings = {
    .optimizer = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-6, .weight_decay = 0.2},
    .schedule = {.kind = SCHEDULE_COSINE, .lr = 1e-2, .warmup = 2, .steps = STEPS},
};

static char root[256]; /* a temporary directory */

/* ---- a run and its data ---- */

struct run {
    struct kernels *kernels;
    struct clip_config config;
    struct trainer trainer;
};

static void must(enum status status, const struct error *error)
{
    CHECK(status == STATUS_OK, "%s", error->text);
    if (status != STATUS_OK)
        exit(check_report("test_trainer"));
}

static void run_open(struct run *r, const char *device, size_t batch,
                     const struct trainer_settings *with)
{
    struct error error = {0};
    const struct clip_shape shape = {
        .batch = batch, .most = SAMPLES, .kept = PATCHES, .training = true};
    *r = (struct run){0};
    must(kernels_open(&r->kernels, device, PRECISION_FP32, 2, &error), &error);
    must(clip_config_parse(&r->config, config_json, strlen(config_json), NULL, &error), &error);
    must(trainer_open(&r->trainer, r->kernels, &r->config, &shape, with, &error), &error);
    must(trainer_initialize(&r->trainer, 3, &error), &error);
}

static void run_close(struct run *r)
{
    trainer_close(&r->trainer);
    clip_config_free(&r->config);
    kernels_close(r->kernels);
}

struct data {
    uint8_t patches[SAMPLES * PATCHES * PATCH_BYTES];
    int32_t tokens[SAMPLES * TOKENS];
    struct clip_batch batch;
};

/* Data that depends on the step's number alone. */
static void data_fill(struct data *data, int64_t step)
{
    struct rng rng;
    rng_init(&rng, 9, 0, (uint64_t)step, RNG_TEST);
    for (size_t i = 0; i < sizeof data->patches; i++)
        data->patches[i] = (uint8_t)rng_next(&rng);
    for (size_t i = 0; i < SAMPLES * TOKENS; i++)
        data->tokens[i] = (int32_t)rng_below(&rng, VOCABULARY);
    data->batch = (struct clip_batch){SAMPLES, data->patches, NULL, data->tokens};
}

static struct trainer_step run_step(struct run *r)
{
    struct error error = {0};
    struct data data;
    struct trainer_step result;
    int64_t step = r->trainer.optimizer.step;
    const int64_t position[3] = {0, step, SAMPLES};
    data_fill(&data, step);
    must(trainer_step(&r->trainer, &data.batch, position, &result, &error), &error);
    return result;
}

/* A block of backend memory, to be freed. */
static float *download(const struct run *r, const float *block)
{
    size_t bytes = r->trainer.clip->table.floats * sizeof(float);
    float *host = malloc(bytes);
    r->kernels->download(r->kernels, host, block, bytes);
    return host;
}

/* ---- accumulation ---- */

static float *gradients_of(struct run *r, size_t batch, float *loss)
{
    struct error error = {0};
    struct data data;
    run_open(r, "cpu", batch, &settings);
    data_fill(&data, 0);
    must(clip_step_gradients(r->trainer.clip, &data.batch, loss, &error), &error);
    return download(r, r->trainer.clip->gradients);
}

/* The relative error of every tensor's gradient in norm. Floats sum in another order: 6e-8 by
 * operation. */
static void compare_gradients(const struct parameters *table, const float *whole,
                              const float *pieces, size_t batch)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct parameter *p = &table->list[i];
        double error = 0, norm = 0;
        for (size_t at = p->offset; at < p->offset + p->count; at++) {
            error += pow((double)pieces[at] - (double)whole[at], 2);
            norm += pow((double)whole[at], 2);
        }
        CHECK(norm > 0, "%s has no gradient", p->name);
        CHECK_NEAR(sqrt(error / norm), 0, 1e-6, "%s in pieces of %zu", p->name, batch);
    }
}

static void test_accumulation(void)
{
    static const size_t batches[] = {4, 3, 2, 1};
    struct run whole, pieces;
    float loss, other;
    float *expected = gradients_of(&whole, SAMPLES, &loss);
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
        float *found = gradients_of(&pieces, batches[i], &other);
        const struct parameters *table = &pieces.trainer.clip->table;
        compare_gradients(table, expected, found, batches[i]);
        CHECK_NEAR((double)other, (double)loss, 1e-6, "loss in pieces of %zu", batches[i]);
        CHECK_NEAR((double)found[table->logit_scale], (double)expected[table->logit_scale],
                   1e-6 * fabs((double)expected[table->logit_scale]),
                   "dlogit_scale in pieces of %zu", batches[i]);
        free(found);
        run_close(&pieces);
    }
    free(expected);
    run_close(&whole);
}

/* ---- the average ---- */

static void test_average(const char *device, double decay)
{
    struct run r;
    struct trainer_settings with = settings;
    with.average_decay = decay;
    run_open(&r, device, SAMPLES, &with);
    const struct parameters *table = &r.trainer.clip->table;
    double *expected = calloc(table->floats, sizeof *expected);
    float *now = download(&r, r.trainer.clip->parameters);
    float *average = download(&r, r.trainer.average);
    for (size_t at = 0; at < table->floats; at++) {
        expected[at] = (double)now[at];
        CHECK(average[at] == now[at], "%s: the average begins with %g, not %g", device,
              (double)average[at], (double)now[at]);
    }
    for (int step = 1; step <= STEPS; step++) {
        run_step(&r);
        free(now);
        now = download(&r, r.trainer.clip->parameters);
        double keep = fmin(decay, (1.0 + step) / (10.0 + step));
        for (size_t at = 0; at < table->floats; at++)
            expected[at] = keep * expected[at] + (1 - keep) * (double)now[at];
    }
    free(average);
    average = download(&r, r.trainer.average);
    for (size_t at = 0; at < table->floats; at++)
        CHECK_NEAR((double)average[at], expected[at], 2e-6, "%s: average %zu, decay %g", device,
                   at, decay);
    free(expected);
    free(now);
    free(average);
    run_close(&r);
}

/* ---- resuming ---- */

static void same_bits(const struct run *a, const struct run *b, const float *x, const float *y,
                      const char *what)
{
    float *one = download(a, x), *other = download(b, y);
    CHECK(memcmp(one, other, a->trainer.clip->table.floats * sizeof *one) == 0, "%s", what);
    free(one);
    free(other);
}

static void compare_runs(const struct run *a, const struct run *b)
{
    const struct trainer *x = &a->trainer, *y = &b->trainer;
    same_bits(a, b, x->clip->parameters, y->clip->parameters, "parameters");
    same_bits(a, b, x->optimizer.m, y->optimizer.m, "first moments");
    same_bits(a, b, x->optimizer.v, y->optimizer.v, "second moments");
    if (x->average != NULL)
        same_bits(a, b, x->average, y->average, "average");
    CHECK(x->optimizer.step == y->optimizer.step, "steps");
    CHECK(memcmp(&x->progress, &y->progress, sizeof x->progress) == 0, "progress");
}

static void open_newest(struct checkpoint *c, const char *out)
{
    struct error warning, error = {0};
    must(checkpoint_open_latest(c, out, &warning, &error), &error);
}

/* Stopped before each step in turn. */
static void test_resume(const struct trainer_settings *with, size_t batch, const char *name)
{
    static const struct metadata none;
    const struct trainer_notes notes = {&none, &none, NULL, 0};
    struct run whole, part, rest;
    struct error error = {0};
    run_open(&whole, "cpu", batch, with);
    while (!trainer_done(&whole.trainer))
        run_step(&whole);
    CHECK(whole.trainer.optimizer.step == STEPS, "%d steps", STEPS);
    run_open(&part, "cpu", batch, with);
    for (int stop = 1; stop <= STEPS; stop++) {
        char out[300];
        struct checkpoint c;
        snprintf(out, sizeof out, "%s/%s-%d", root, name, stop);
        run_step(&part);
        must(trainer_save(&part.trainer, out, &notes, 2, &error), &error);
        open_newest(&c, out);
        CHECK(c.has_average == (with->average_decay > 0), "an average is saved");
        run_open(&rest, "cpu", batch, with);
        must(trainer_resume(&rest.trainer, &c, &error), &error);
        compare_runs(&part, &rest);
        while (!trainer_done(&rest.trainer))
            run_step(&rest);
        compare_runs(&whole, &rest);
        run_close(&rest);
        checkpoint_close(&c);
    }
    run_close(&part);
    run_close(&whole);
}

/* A checkpoint without an average, and a run that wants one, going on or starting anew. */
static void test_average_begins(void)
{
    static const struct metadata none;
    const struct trainer_notes notes = {&none, &none, NULL, 0};
    struct run r, next;
    struct checkpoint c;
    struct error error = {0};
    char out[300];
    struct trainer_settings with = settings;
    with.average_decay = 0.9;
    snprintf(out, sizeof out, "%s/plain", root);
    run_open(&r, "cpu", SAMPLES, &settings);
    run_step(&r);
    must(trainer_save(&r.trainer, out, &notes, 2, &error), &error);
    open_newest(&c, out);
    run_open(&next, "cpu", SAMPLES, &with);
    must(trainer_resume(&next.trainer, &c, &error), &error);
    same_bits(&r, &next, r.trainer.clip->parameters, next.trainer.average, "resumed");
    CHECK(next.trainer.optimizer.step == 1, "resumed at step 1");
    run_close(&next);
    run_open(&next, "cpu", SAMPLES, &with);
    must(trainer_start_from(&next.trainer, &c, &error), &error);
    same_bits(&r, &next, r.trainer.clip->parameters, next.trainer.average, "started");
    CHECK(next.trainer.optimizer.step == 0, "started at step 0");
    run_close(&next);
    checkpoint_close(&c);
    run_close(&r);
}

/* ---- a loss that is no number ---- */

static void test_not_finite(void)
{
    struct run r, untouched;
    struct trainer_settings with = settings;
    with.average_decay = 0.5;
    run_open(&r, "cpu", 4, &with);
    run_open(&untouched, "cpu", 4, &with);
    for (int i = 0; i < 2; i++) {
        run_step(&r);
        run_step(&untouched);
    }
    float *host = download(&r, r.trainer.clip->parameters);
    size_t at = r.trainer.clip->table.text.token_embedding;
    for (size_t i = 0; i < VOCABULARY * 8; i++)
        host[at + i] = INFINITY;
    clip_set_parameters(r.trainer.clip, host);
    struct trainer_step result = run_step(&r);
    CHECK(!result.taken && !isfinite(result.loss), "a step on a loss of %g",
          (double)result.loss);
    for (size_t i = 0; i < VOCABULARY * 8; i++)
        host[at + i] = 0;
    clip_set_parameters(r.trainer.clip, host);
    memset(host, 0, r.trainer.clip->table.floats * sizeof *host);
    float *rest = download(&untouched, untouched.trainer.clip->parameters);
    for (size_t i = 0; i < VOCABULARY * 8; i++)
        rest[at + i] = 0;
    clip_set_parameters(untouched.trainer.clip, rest);
    compare_runs(&untouched, &r);
    free(host);
    free(rest);
    run_close(&r);
    run_close(&untouched);
}

/* ---- what it costs ---- */

/* A backend that adds up what it is asked for. */
static struct kernels counting;
static void *(*counted_allocate)(struct kernels *k, size_t bytes);
static size_t allocated;

static void *count_allocate(struct kernels *k, size_t bytes)
{
    allocated += bytes;
    return counted_allocate(k, bytes);
}

static void test_memory(enum precision precision, enum recompute recompute, size_t batch,
                        size_t kept, double decay, struct freeze freeze)
{
    struct clip_config config;
    struct kernels *k;
    struct trainer trainer;
    struct training_cost cost = {0};
    struct error error = {0};
    const struct clip_shape shape = {.batch = batch,
                                     .most = 3 * batch,
                                     .kept = kept,
                                     .training = true,
                                     .recompute = recompute};
    struct trainer_settings with = settings;
    with.average_decay = decay;
    with.freeze = freeze;
    must(kernels_open(&k, "ref", precision, 1, &error), &error);
    must(clip_config_parse(&config, config_json, strlen(config_json), NULL, &error), &error);
    must(training_cost_find(&cost, &config, &shape, &with.freeze, decay > 0, precision, &error),
         &error);
    counting = *k;
    counted_allocate = k->allocate;
    counting.allocate = count_allocate;
    allocated = 0;
    must(trainer_open(&trainer, &counting, &config, &shape, &with, &error), &error);
    const size_t *activations = cost.activation_bytes;
    size_t expected = 2 * cost.parameter_bytes + cost.moment_bytes + cost.average_bytes +
                      cost.rounded_bytes + activations[recompute];
    CHECK(allocated == expected, "%zu bytes taken, %zu foreseen", allocated, expected);
    CHECK(activations[RECOMPUTE_BLOCK] < activations[RECOMPUTE_LIGHT] &&
              activations[RECOMPUTE_LIGHT] < activations[RECOMPUTE_NONE],
          "recomputing saves");
    trainer_close(&trainer);
    clip_config_free(&config);
    kernels_close(k);
}

static void test_cost(void)
{
    struct clip_config config;
    struct training_cost cost;
    struct error error = {0};
    const struct clip_shape shape = {.batch = 2, .most = 2, .kept = PATCHES, .training = true};
    const struct freeze image = {.image = true}, text = {.text = true};
    const struct freeze last = {.image = true, .image_groups = 1};
    must(clip_config_parse(&config, config_json, strlen(config_json), NULL, &error), &error);
    double i = clip_config_image_flops(&config, PATCHES), t = clip_config_text_flops(&config);
    CHECK_NEAR(training_cost_sample_flops(&config, PATCHES, &image), i + 3 * t, 1e-6, "image");
    CHECK_NEAR(training_cost_sample_flops(&config, PATCHES, &text), 3 * i + t, 1e-6, "text");
    CHECK_NEAR(training_cost_sample_flops(&config, PATCHES, &last), 3 * i + 3 * t, 1e-6,
               "last");

    must(training_cost_find(&cost, &config, &shape, &image, false, PRECISION_FP32, &error),
         &error);
    CHECK(cost.parameters == clip_config_parameters(&config), "%zu", cost.parameters);
    CHECK(cost.trained_parameters == clip_config_text_parameters(&config) + 1,
          "%zu trained with a locked image tower", cost.trained_parameters);
    must(training_cost_find(&cost, &config, &shape, &last, false, PRECISION_FP32, &error),
         &error);
    CHECK(cost.trained_parameters == clip_config_text_parameters(&config) + 1 + 16 * 8,
          "%zu trained with its projection", cost.trained_parameters);

    const struct clip_shape huge = {
        .batch = (size_t)1 << 58, .most = (size_t)1 << 58, .kept = PATCHES, .training = true};
    CHECK(training_cost_find(&cost, &config, &huge, &image, false, PRECISION_FP32, &error) ==
              STATUS_SYSTEM,
          "2^58 samples");
    clip_config_free(&config);
}

int main(void)
{
    struct trainer_settings with = settings;
    snprintf(root, sizeof root, "/tmp/test_trainer.XXXXXX");
    if (mkdtemp(root) == NULL) {
        perror(root);
        return 1;
    }
    test_accumulation();
    test_average("ref", 0.9999);
    test_average("cpu", 0.9999);
    test_average("cpu", 0.3);
    test_resume(&with, SAMPLES, "plain");
    with.average_decay = 0.9;
    test_resume(&with, 2, "average");
    with.freeze = (struct freeze){.image = true, .image_groups = 2, .text = true};
    with.optimizer.decay_policy = DECAY_KERNELS;
    with.optimizer.clip_norm = 0.5;
    test_resume(&with, 3, "frozen");
    test_average_begins();
    test_not_finite();
    const struct freeze none = {.image = false}, image = {.image = true};
    const struct freeze text = {.text = true};
    for (enum recompute r = RECOMPUTE_NONE; r <= RECOMPUTE_BLOCK; r++) {
        test_memory(PRECISION_FP32, r, 2, PATCHES, 0, none);
        test_memory(PRECISION_AMP_BF16, r, 3, 1, 0.9, none);
        test_memory(PRECISION_FP32, r, 17, 3, 0, image);
        test_memory(PRECISION_AMP_BF16, r, 5, 2, 0, text);
    }
    test_cost();
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    if (system(command) != 0)
        CHECK(false, "%s stays", root);
    return check_report("test_trainer");
}
