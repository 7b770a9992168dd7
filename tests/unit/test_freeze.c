/* test_freeze.c - which tensors are trained under every lock: written out by name for a small
 * model, and that what is frozen neither moves, nor decays, nor counts in the gradient's norm,
 * nor gets moments, whatever the gradient is. */
#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "model/freeze.h"
#include "model/optimizer.h"
#include "tests/unit/check.h"

/* ---- which ---- */

static const char *const config_format =
    "{\"embed_dim\": 4,"
    " \"vision_cfg\": {\"image_size\": 4, \"patch_size\": 2, \"layers\": 3, \"width\": 4,"
    "   \"head_width\": 2, \"ls_init_value\": 0.1%s},"
    " \"text_cfg\": {\"context_length\": 3, \"vocab_size\": 5, \"width\": 4, \"heads\": 2,"
    "   \"layers\": 2%s},"
    " \"init_logit_bias\": -10}";

/* The groups of each tower from its beginning, by the start of the names of their tensors; a
 * group ends with NULL. */
enum { NAMES = 6 };

static const char *const image_groups[][NAMES] = {
    {"visual.class_embedding", "visual.positional_embedding", "visual.conv1.",
     "visual.ln_pre."},
    {"visual.transformer.resblocks.0."},
    {"visual.transformer.resblocks.1."},
    {"visual.transformer.resblocks.2.", "visual.ln_post."},
    {"visual.proj"},
};
static const char *const text_groups[][NAMES] = {
    {"positional_embedding", "token_embedding."},
    {"transformer.resblocks.0."},
    {"transformer.resblocks.1.", "ln_final."},
    {"text_projection"},
};

enum { IMAGE_GROUPS = 5, TEXT_GROUPS = 4 };

struct model {
    struct clip_config config;
    struct parameters table;
};

static void model_open(struct model *m, const char *vision, const char *text)
{
    char json[1024];
    struct error error = {0};
    snprintf(json, sizeof json, config_format, vision, text);
    enum status status = clip_config_parse(&m->config, json, strlen(json), NULL, &error);
    if (status == STATUS_OK)
        status = parameters_init(&m->table, &m->config, &error);
    CHECK(status == STATUS_OK, "%s", error.text);
    if (status != STATUS_OK)
        exit(check_report("test_freeze"));
}

static void model_close(struct model *m)
{
    parameters_free(&m->table);
    clip_config_free(&m->config);
}

/* Where `name` stands among groups, or -1. */
static int find_group(const char *name, const char *const groups[][NAMES], int count)
{
    for (int group = 0; group < count; group++)
        for (int i = 0; i < NAMES && groups[group][i] != NULL; i++)
            if (strncmp(name, groups[group][i], strlen(groups[group][i])) == 0)
                return group;
    return -1;
}

/* The last `image` and `text` groups are trained. */
static void expect(const struct model *m, const struct freeze *freeze, int image, int text,
                   int text_count)
{
    size_t seen = 0;
    for (size_t i = 0; i < m->table.count; i++) {
        const struct parameter *p = &m->table.list[i];
        int of_image = find_group(p->name, image_groups, IMAGE_GROUPS);
        int of_text = of_image >= 0 ? -1 : find_group(p->name, text_groups, TEXT_GROUPS);
        bool trained = of_image >= 0  ? of_image >= IMAGE_GROUPS - image
                       : of_text >= 0 ? of_text >= text_count - text
                                      : true;
        seen += of_image >= 0 || of_text >= 0;
        CHECK(p->frozen == !trained, "%s with %zu and %zu groups", p->name,
              freeze->image_groups, freeze->text_groups);
    }
    CHECK(seen == m->table.count - 2, "%zu of %zu tensors are in groups", seen, m->table.count);
}

static void test_groups(const char *vision, const char *text, int text_count)
{
    struct model m;
    model_open(&m, vision, text);
    for (int image = 0; image <= IMAGE_GROUPS + 1; image++)
        for (int groups = 0; groups <= TEXT_GROUPS + 1; groups++)
            for (int locks = 0; locks < 4; locks++) {
                const struct freeze freeze = {.image = (locks & 1) != 0,
                                              .text = (locks & 2) != 0,
                                              .image_groups = (size_t)image,
                                              .text_groups = (size_t)groups};
                freeze_apply(&freeze, &m.config, &m.table);
                expect(&m, &freeze, freeze.image ? image : IMAGE_GROUPS,
                       freeze.text ? groups : text_count, text_count);
                CHECK(freeze_whole_image(&freeze) == (freeze.image && image == 0), "image");
                CHECK(freeze_whole_text(&freeze) == (freeze.text && groups == 0), "text");
            }
    model_close(&m);
}

/* ---- what a step leaves alone ---- */

struct state {
    size_t floats;
    float *parameters, *m, *v; /* host memory */
};

static struct state state_take(struct kernels *k, const struct optimizer *o,
                               const float *parameters)
{
    size_t n = o->table->floats;
    struct state s = {n, calloc(3 * n, sizeof(float)), NULL, NULL};
    s.m = s.parameters + n;
    s.v = s.m + n;
    k->download(k, s.parameters, parameters, n * sizeof(float));
    optimizer_get_moments(o, s.m, s.v);
    return s;
}

/* Frozen tensors: the parameters as they were and moments of zero; the others moved. */
static void compare(const struct parameters *table, const struct state *before,
                    const struct state *after, const char *device)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct parameter *p = &table->list[i];
        size_t bytes = p->count * sizeof(float), moments = 0;
        bool same = memcmp(before->parameters + p->offset, after->parameters + p->offset,
                           bytes) == 0;
        for (size_t j = 0; j < p->count; j++)
            moments += after->m[p->offset + j] != 0 || after->v[p->offset + j] != 0;
        CHECK(same == p->frozen, "%s: %s %s", device, p->name, same ? "stayed" : "moved");
        CHECK(moments == (p->frozen ? 0 : p->count), "%s: %s has %zu moments", device, p->name,
              moments);
    }
}

/* Every value of the gradient is 2, those of frozen tensors are NaN. */
static double fill_gradient(const struct parameters *table, float *host)
{
    double squares = 0;
    memset(host, 0, table->floats * sizeof *host);
    for (size_t i = 0; i < table->count; i++)
        for (size_t j = 0; j < table->list[i].count; j++) {
            host[table->list[i].offset + j] = table->list[i].frozen ? NAN : 2;
            squares += table->list[i].frozen ? 0 : 4;
        }
    return sqrt(squares);
}

static void test_step(const char *device, const struct freeze *freeze, enum decay_policy policy)
{
    const struct optimizer_settings settings = {.beta1 = 0.9,
                                                .beta2 = 0.95,
                                                .eps = 1e-6,
                                                .weight_decay = 0.2,
                                                .decay_policy = policy,
                                                .clip_norm = 1};
    struct model m;
    struct kernels *k = NULL;
    struct optimizer optimizer = {0};
    struct error error = {0};
    model_open(&m, "", "");
    freeze_apply(freeze, &m.config, &m.table);
    enum status status = kernels_open(&k, device, PRECISION_FP32, 2, &error);
    if (status == STATUS_OK)
        status = optimizer_init(&optimizer, k, &m.table, &settings, &error);
    CHECK(status == STATUS_OK, "%s: %s", device, error.text);
    if (status != STATUS_OK)
        exit(check_report("test_freeze"));

    size_t bytes = m.table.floats * sizeof(float);
    float *host = malloc(bytes), *parameters = k->allocate(k, bytes);
    float *gradients = k->allocate(k, bytes);
    parameters_initialize(&m.table, host, 1);
    k->upload(k, parameters, host, bytes);
    struct state before = state_take(k, &optimizer, parameters);
    double expected = fill_gradient(&m.table, host);
    k->upload(k, gradients, host, bytes);
    double norm = optimizer_gradient_norm(&optimizer, gradients);
    CHECK_NEAR(norm, expected, 1e-6 * expected, "%s: norm of what is trained", device);
    optimizer_step(&optimizer, parameters, gradients, norm, 0.01);
    struct state after = state_take(k, &optimizer, parameters);
    compare(&m.table, &before, &after, device);

    k->release(k, parameters);
    k->release(k, gradients);
    optimizer_free(&optimizer);
    kernels_close(k);
    free(host);
    free(before.parameters);
    free(after.parameters);
    model_close(&m);
}

int main(void)
{
    static const struct freeze freezes[] = {
        {.image = true},
        {.text = true},
        {.image = true, .text = true},
        {.image = true, .image_groups = 2},
        {.text = true, .text_groups = 1},
        {.image = true, .image_groups = 4, .text = true, .text_groups = 3},
        {.image = false},
    };
    test_groups("", "", TEXT_GROUPS);
    test_groups(", \"no_ln_pre\": true, \"pos_embed_type\": \"sin_cos_2d\"",
                ", \"proj_bias\": true", TEXT_GROUPS);
    test_groups("", ", \"proj_type\": \"none\"", TEXT_GROUPS - 1);
    for (size_t i = 0; i < sizeof freezes / sizeof freezes[0]; i++)
        for (enum decay_policy policy = DECAY_OPEN_CLIP_3; policy <= DECAY_KERNELS; policy++) {
            test_step("ref", &freezes[i], policy);
            test_step("cpu", &freezes[i], policy);
        }
    return check_report("test_freeze");
}
