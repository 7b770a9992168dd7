/* test_optimizer.c - AdamW over a whole parameter block against the same formulas in double,
 * written out here: which tensors decay under each policy, by name, clipping, the clamp of the
 * logit scale, the gaps. */
#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "model/optimizer.h"
#include "tests/unit/check.h"

static const char *const config_json =
    "{\"embed_dim\": 5,"
    " \"vision_cfg\": {\"image_size\": 6, \"patch_size\": 3, \"layers\": 1, \"width\": 3,"
    "   \"head_width\": 3, \"ls_init_value\": 0.1},"
    " \"text_cfg\": {\"context_length\": 3, \"vocab_size\": 7, \"width\": 5, \"heads\": 1,"
    "   \"layers\": 1, \"proj_bias\": true}}";

/* What decays, and under which policies; nothing else does. */
enum { OPEN_CLIP_3 = 1 << DECAY_OPEN_CLIP_3, OPEN_CLIP_4 = 1 << DECAY_OPEN_CLIP_4,
       KERNELS = 1 << DECAY_KERNELS, ALL = OPEN_CLIP_3 | OPEN_CLIP_4 | KERNELS };

static const struct {
    const char *name;
    int policies;
} decaying[] = {
    {"positional_embedding", OPEN_CLIP_3},
    {"visual.positional_embedding", OPEN_CLIP_3},
    {"token_embedding.weight", OPEN_CLIP_3 | OPEN_CLIP_4},
    {"visual.proj", ALL},
    {"visual.conv1.weight", ALL},
    {"visual.transformer.resblocks.0.attn.in_proj_weight", ALL},
    {"visual.transformer.resblocks.0.attn.out_proj.weight", ALL},
    {"visual.transformer.resblocks.0.mlp.c_fc.weight", ALL},
    {"visual.transformer.resblocks.0.mlp.c_proj.weight", ALL},
    {"transformer.resblocks.0.attn.in_proj_weight", ALL},
    {"transformer.resblocks.0.attn.out_proj.weight", ALL},
    {"transformer.resblocks.0.mlp.c_fc.weight", ALL},
    {"transformer.resblocks.0.mlp.c_proj.weight", ALL},
    {"text_projection.weight", ALL},
};

static bool should_decay(const char *name, enum decay_policy policy)
{
    for (size_t i = 0; i < sizeof decaying / sizeof decaying[0]; i++)
        if (strcmp(decaying[i].name, name) == 0)
            return (decaying[i].policies & 1 << policy) != 0;
    return false;
}

static const struct optimizer_settings settings = {
    .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-6, .weight_decay = 0.2, .clip_norm = 1.5};

enum { STEPS = 5 };

/* Floats against doubles over five steps of about 1e-2 each. */
static const double tolerance = 2e-6;

struct fixture {
    struct kernels *kernels;
    struct clip_config config;
    struct parameters table;
    struct optimizer optimizer;
    float *parameters, *gradients; /* backend memory */
    float *host;
    double *p, *m, *v, *g;         /* what is expected */
};

static void fixture_open(struct fixture *f, const char *device,
                         const struct optimizer_settings *with)
{
    struct error error = {0};
    struct rng rng;
    *f = (struct fixture){0};
    enum status status = kernels_open(&f->kernels, device, PRECISION_FP32, 2, &error);
    if (status == STATUS_OK)
        status = clip_config_parse(&f->config, config_json, strlen(config_json), NULL, &error);
    if (status == STATUS_OK)
        status = parameters_init(&f->table, &f->config, &error);
    if (status == STATUS_OK)
        status = optimizer_init(&f->optimizer, f->kernels, &f->table, with, &error);
    CHECK(status == STATUS_OK, "%s: %s", device, error.text);
    if (status != STATUS_OK)
        exit(check_report("test_optimizer"));

    size_t n = f->table.floats;
    f->host = calloc(n, sizeof *f->host);
    f->p = calloc(4 * n, sizeof *f->p);
    f->m = f->p + n;
    f->v = f->m + n;
    f->g = f->v + n;
    f->parameters = f->kernels->allocate(f->kernels, n * sizeof(float));
    f->gradients = f->kernels->allocate(f->kernels, n * sizeof(float));
    rng_init(&rng, 5, 0, 0, RNG_TEST);
    for (size_t i = 0; i < f->table.count; i++)
        for (size_t j = 0; j < f->table.list[i].count; j++)
            f->host[f->table.list[i].offset + j] = (float)rng_normal(&rng);
    f->kernels->upload(f->kernels, f->parameters, f->host, n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        f->p[i] = (double)f->host[i];
}

static void fixture_close(struct fixture *f)
{
    f->kernels->release(f->kernels, f->parameters);
    f->kernels->release(f->kernels, f->gradients);
    optimizer_free(&f->optimizer);
    parameters_free(&f->table);
    clip_config_free(&f->config);
    kernels_close(f->kernels);
    free(f->host);
    free(f->p);
}

/* A gradient for every parameter and none for the gaps; returns its norm. */
static double make_gradient(struct fixture *f, int step, double scale)
{
    struct rng rng;
    double squares = 0;
    rng_init(&rng, 6, (uint64_t)step, 0, RNG_TEST);
    memset(f->host, 0, f->table.floats * sizeof *f->host);
    for (size_t i = 0; i < f->table.count; i++)
        for (size_t j = 0; j < f->table.list[i].count; j++) {
            size_t at = f->table.list[i].offset + j;
            f->host[at] = (float)(scale * rng_normal(&rng));
            f->g[at] = (double)f->host[at];
            squares += f->g[at] * f->g[at];
        }
    f->kernels->upload(f->kernels, f->gradients, f->host, f->table.floats * sizeof(float));
    return sqrt(squares);
}

static void expect_step(struct fixture *f, int step, double norm, double lr)
{
    const struct optimizer_settings *s = &f->optimizer.settings;
    double scale = s->clip_norm > 0 && norm > s->clip_norm ? s->clip_norm / norm : 1;
    for (size_t i = 0; i < f->table.count; i++) {
        const struct parameter *t = &f->table.list[i];
        double decay = should_decay(t->name, s->decay_policy) ? lr * s->weight_decay : 0;
        for (size_t at = t->offset; at < t->offset + t->count; at++) {
            double g = scale * f->g[at];
            f->m[at] = s->beta1 * f->m[at] + (1 - s->beta1) * g;
            f->v[at] = s->beta2 * f->v[at] + (1 - s->beta2) * g * g;
            double m = f->m[at] / (1 - pow(s->beta1, step));
            double v = f->v[at] / (1 - pow(s->beta2, step));
            f->p[at] -= decay * f->p[at] + lr * m / (sqrt(v) + s->eps);
        }
    }
    double *log_scale = &f->p[f->table.logit_scale];
    *log_scale = fmin(fmax(*log_scale, 0), log(100));
}

static void compare(struct fixture *f, const char *device)
{
    f->kernels->download(f->kernels, f->host, f->parameters,
                         f->table.floats * sizeof *f->host);
    for (size_t i = 0; i < f->table.count; i++)
        for (size_t j = 0; j < f->table.list[i].count; j++) {
            size_t at = f->table.list[i].offset + j;
            CHECK_NEAR((double)f->host[at], f->p[at], tolerance, "%s: %s[%zu]", device,
                       f->table.list[i].name, j);
            f->host[at] = 0;
        }
    for (size_t at = 0; at < f->table.floats; at++)
        CHECK(f->host[at] == 0, "%s: the gap at %zu holds %g", device, at, (double)f->host[at]);
}

static void test_steps(const char *device, double gradient_scale, enum decay_policy policy)
{
    struct fixture f;
    struct optimizer_settings with = settings;
    with.decay_policy = policy;
    fixture_open(&f, device, &with);
    for (int step = 1; step <= STEPS; step++) {
        double lr = 0.01 / step;
        double expected = make_gradient(&f, step, gradient_scale);
        double norm = optimizer_gradient_norm(&f.optimizer, f.gradients);
        CHECK_NEAR(norm, expected, 1e-5 * expected, "%s: norm at step %d", device, step);
        optimizer_step(&f.optimizer, f.parameters, f.gradients, norm, lr);
        expect_step(&f, step, expected, lr);
    }
    CHECK(f.optimizer.step == STEPS, "%lld steps", (long long)f.optimizer.step);
    compare(&f, device);
    fixture_close(&f);
}

/* Every tensor by name; and all names of the list are tensors of the model. */
static void test_policy(enum decay_policy policy)
{
    static const char *const names[] = {"open_clip-3", "open_clip-4", "kernels"};
    struct fixture f;
    struct optimizer_settings with = settings;
    with.decay_policy = policy;
    fixture_open(&f, "ref", &with);
    CHECK(strcmp(decay_policy_names[policy], names[policy]) == 0, "%s", names[policy]);
    for (size_t i = 0; i < f.table.count; i++)
        CHECK(decay_policy_covers(policy, &f.table.list[i]) ==
                  should_decay(f.table.list[i].name, policy),
              "%s: %s", names[policy], f.table.list[i].name);
    for (size_t i = 0; i < sizeof decaying / sizeof decaying[0]; i++)
        CHECK(parameters_find(&f.table, decaying[i].name) != NULL, "%s", decaying[i].name);

    /* Nothing is frozen: the ranges are the whole block, in order. */
    size_t end = 0;
    for (size_t i = 0; i < f.optimizer.range_count; i++) {
        CHECK(f.optimizer.ranges[i].begin == end, "%s: range %zu", names[policy], i);
        end = f.optimizer.ranges[i].end;
    }
    CHECK(end == f.table.floats, "%s: ranges end at %zu", names[policy], end);
    fixture_close(&f);
}

/* With a large learning rate the scale would leave [0, ln 100] on either side. */
static void test_clamp(double gradient, double expected)
{
    struct fixture f;
    fixture_open(&f, "ref", &settings);
    memset(f.host, 0, f.table.floats * sizeof *f.host);
    f.host[f.table.logit_scale] = (float)gradient;
    f.kernels->upload(f.kernels, f.gradients, f.host, f.table.floats * sizeof *f.host);
    optimizer_step(&f.optimizer, f.parameters, f.gradients, 1, 100);
    f.kernels->download(f.kernels, f.host, f.parameters, f.table.floats * sizeof *f.host);
    CHECK_NEAR((double)f.host[f.table.logit_scale], expected, 1e-6, "clamped");
    fixture_close(&f);
}

static void test_moments(void)
{
    struct fixture f;
    fixture_open(&f, "ref", &settings);
    size_t n = f.table.floats;
    float *moments = calloc(4 * n, sizeof *moments);
    for (size_t i = 0; i < 2 * n; i++)
        moments[i] = (float)i;
    optimizer_set_moments(&f.optimizer, moments, moments + n);
    optimizer_get_moments(&f.optimizer, moments + 2 * n, moments + 3 * n);
    CHECK(memcmp(moments, moments + 2 * n, 2 * n * sizeof *moments) == 0, "moments changed");
    free(moments);
    fixture_close(&f);
}

static void test_bad_norm(void)
{
    struct fixture f;
    fixture_open(&f, "ref", &settings);
    make_gradient(&f, 1, 1);
    f.host[3] = NAN;
    f.kernels->upload(f.kernels, f.gradients, f.host, f.table.floats * sizeof *f.host);
    CHECK(isnan(optimizer_gradient_norm(&f.optimizer, f.gradients)), "NaN is seen");
    fixture_close(&f);
}

int main(void)
{
    for (enum decay_policy policy = DECAY_OPEN_CLIP_3; policy <= DECAY_KERNELS; policy++) {
        test_policy(policy);
        test_steps("ref", 0.05, policy); /* below the clipping norm */
        test_steps("ref", 5, policy);    /* above */
        test_steps("cpu", 0.05, policy);
        test_steps("cpu", 5, policy);
    }
    test_clamp(-1, log(100));
    test_clamp(1, 0);
    test_moments();
    test_bad_norm();
    return check_report("test_optimizer");
}
