/* test_clip.c - the whole model: its gradients against finite differences of its loss, its
 * loss over pieces against the loss at once, backends against each other, embeddings against
 * values that open_clip computed, and what it refuses. */
#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "model/clip.h"
#include "model/patch_dropout.h"
#include "tests/unit/check.h"

/* Central differences of fourth order in floats: the loss near ln(B) is known to 1e-7, which
 * a step of 0.008 turns into 1e-5; the method's own error is h^4 f^(5) / 30. */
static const double difference_step = 0.008;
static const double difference_tolerance = 1e-4;
/* Sums over pieces are taken in another order. */
static const double order_tolerance = 1e-5;
/* fp32 sums of a backend against sums in double. */
static const double backend_tolerance = 1e-4;

struct model_case {
    const char *name;
    const char *json;
    size_t kept;
};

/* Every pooling, norm, mask and activation occurs; sizes are odd on purpose. */
static const struct model_case cases[] = {
    {"openai: class token, ln_pre, causal, argmax, quick_gelu",
     "{\"embed_dim\": 6, \"quick_gelu\": true,"
     " \"vision_cfg\": {\"image_size\": 8, \"patch_size\": 4, \"layers\": 2, \"width\": 8,"
     "   \"head_width\": 4},"
     " \"text_cfg\": {\"context_length\": 5, \"vocab_size\": 11, \"width\": 6, \"heads\": 2,"
     "   \"layers\": 2}}",
     4},
    {"clipa: mean then norm, no ln_pre, no mask, last, gelu",
     "{\"embed_dim\": 5,"
     " \"vision_cfg\": {\"image_size\": 12, \"patch_size\": 4, \"layers\": 1, \"width\": 6,"
     "   \"head_width\": 3, \"no_ln_pre\": true, \"pool_type\": \"avg\","
     "   \"final_ln_after_pool\": true},"
     " \"text_cfg\": {\"context_length\": 4, \"vocab_size\": 9, \"width\": 8, \"heads\": 4,"
     "   \"layers\": 1, \"pool_type\": \"last\", \"no_causal_mask\": true}}",
     5},
    {"norm then mean, ln_pre, first, tanh, odd sizes",
     "{\"embed_dim\": 3,"
     " \"vision_cfg\": {\"image_size\": 11, \"patch_size\": 3, \"layers\": 2, \"width\": 5,"
     "   \"head_width\": 3, \"mlp_ratio\": 2.5, \"pool_type\": \"avg\","
     "   \"act_kwargs\": {\"approximate\": \"tanh\"}, \"norm_kwargs\": {\"eps\": 1e-3}},"
     " \"text_cfg\": {\"context_length\": 3, \"vocab_size\": 7, \"width\": 9, \"heads\": 3,"
     "   \"layers\": 2, \"mlp_ratio\": 1.3, \"pool_type\": \"first\", \"no_causal_mask\": true,"
     "   \"act_kwargs\": {\"approximate\": \"tanh\"}}}",
     7},
    {"class token without ln_pre, one patch, eos",
     "{\"embed_dim\": 4,"
     " \"vision_cfg\": {\"image_size\": 4, \"patch_size\": 2, \"layers\": 1, \"width\": 4,"
     "   \"head_width\": 2, \"no_ln_pre\": true},"
     " \"text_cfg\": {\"context_length\": 6, \"vocab_size\": 8, \"width\": 4, \"heads\": 1,"
     "   \"layers\": 1, \"pool_type\": \"eos\", \"eos_id\": 7}}",
     1},
    {"layer scale, mean of all then norm, linear projection with a bias, logit bias",
     "{\"embed_dim\": 5, \"init_logit_bias\": -3, \"nonscalar_logit_scale\": true,"
     " \"vision_cfg\": {\"image_size\": 6, \"patch_size\": 2, \"layers\": 2, \"width\": 6,"
     "   \"head_width\": 3, \"pool_type\": \"avg_all\", \"final_ln_after_pool\": true,"
     "   \"ls_init_value\": 0.5},"
     " \"text_cfg\": {\"context_length\": 4, \"vocab_size\": 7, \"width\": 6, \"heads\": 2,"
     "   \"layers\": 2, \"ls_init_value\": 0.7, \"proj_bias\": true}}",
     6},
    {"norm then mean of all, no projection, layer scale, one wide layer",
     "{\"embed_dim\": 4,"
     " \"vision_cfg\": {\"image_size\": 6, \"patch_size\": 3, \"layers\": 1, \"width\": 3,"
     "   \"head_width\": 3, \"pool_type\": \"avg_all\", \"no_ln_pre\": true,"
     "   \"mlp_ratio\": 0.4, \"ls_init_value\": -0.5},"
     " \"text_cfg\": {\"context_length\": 4, \"vocab_size\": 7, \"width\": 4, \"heads\": 2,"
     "   \"layers\": 1, \"proj_type\": \"none\"}}",
     3},
    {"positions that are fixed",
     "{\"embed_dim\": 3,"
     " \"vision_cfg\": {\"image_size\": 6, \"patch_size\": 2, \"layers\": 1, \"width\": 4,"
     "   \"head_width\": 2, \"pos_embed_type\": \"sin_cos_2d\"},"
     " \"text_cfg\": {\"context_length\": 3, \"vocab_size\": 5, \"width\": 4, \"heads\": 1,"
     "   \"layers\": 1}}",
     4},
};

enum { CASES = sizeof cases / sizeof cases[0] };

/* ---- a model with random parameters and a random batch ---- */

struct fixture {
    struct kernels *kernels;
    struct clip_config config;
    struct clip *clip;
    struct clip_batch batch;
    uint8_t *patches;
    int32_t *position, *tokens;
    float *parameters; /* what the model was given */
};

static void fill_batch(struct fixture *f, size_t count, size_t kept, struct rng *rng)
{
    const struct clip_config *c = &f->config;
    size_t P = c->vision.patch_size, grid = clip_config_patches(c), L = c->text.context_length;
    size_t bytes = count * kept * P * P * 3;
    f->patches = malloc(bytes);
    f->position = malloc(count * kept * sizeof *f->position);
    f->tokens = malloc(count * L * sizeof *f->tokens);
    uint32_t *order = malloc(grid * sizeof *order);

    for (size_t i = 0; i < bytes; i++)
        f->patches[i] = (uint8_t)rng_next(rng);
    for (size_t i = 0; i < count; i++) {
        rng_permutation(rng, order, grid);
        for (size_t j = 0; j < kept; j++)
            f->position[i * kept + j] = (int32_t)order[j];
    }
    for (size_t i = 0; i < count * L; i++)
        f->tokens[i] = (int32_t)rng_below(rng, c->text.vocab_size);
    free(order);
    f->batch = (struct clip_batch){count, f->patches, f->position, f->tokens};
}

/* Away from the symmetric starting point, so that no gradient is small by accident. */
static void fill_parameters(struct fixture *f, struct rng *rng)
{
    const struct parameters *table = &f->clip->table;
    f->parameters = calloc(table->floats, sizeof *f->parameters);
    for (size_t i = 0; i < table->count; i++) {
        const struct parameter *p = &table->list[i];
        double centre = p->distribution == DISTRIBUTION_CONSTANT ? p->scale : 0;
        for (size_t j = 0; j < p->count; j++)
            f->parameters[p->offset + j] = (float)(centre + 0.4 * rng_normal(rng));
    }
    f->parameters[table->logit_scale] = 1.1f;
    clip_set_parameters(f->clip, f->parameters);
}

static bool fixture_open(struct fixture *f, const struct model_case *model, const char *device,
                         size_t batch, size_t count, bool training)
{
    struct error error = {0};
    *f = (struct fixture){0};
    struct clip_shape shape = {.batch = batch,
                               .most = count > batch ? count : batch,
                               .kept = model->kept,
                               .training = training};
    enum status status = kernels_open(&f->kernels, device, PRECISION_FP32, 2, &error);
    if (status == STATUS_OK)
        status = clip_config_parse(&f->config, model->json, strlen(model->json), NULL, &error);
    if (status == STATUS_OK)
        status = clip_open(&f->clip, f->kernels, &f->config, &shape, &error);
    CHECK(status == STATUS_OK, "%s on %s: %s", model->name, device, error.text);
    if (status != STATUS_OK)
        return false;
    struct rng rng;
    rng_init(&rng, 7, 0, count, RNG_TEST);
    fill_batch(f, count, model->kept, &rng);
    fill_parameters(f, &rng);
    return true;
}

static void fixture_close(struct fixture *f)
{
    clip_close(f->clip);
    clip_config_free(&f->config);
    kernels_close(f->kernels);
    free(f->patches);
    free(f->position);
    free(f->tokens);
    free(f->parameters);
}

/* Returns the gradient block in host memory. */
static float *step_gradients(struct fixture *f, float *loss)
{
    struct error error = {0};
    size_t bytes = f->clip->table.floats * sizeof(float);
    float *gradients = malloc(bytes);
    enum status status = clip_step_gradients(f->clip, &f->batch, loss, &error);
    CHECK(status == STATUS_OK, "%s", error.text);
    f->kernels->download(f->kernels, gradients, f->clip->gradients, bytes);
    return gradients;
}

/* ---- gradients against differences ---- */

static double loss_at(struct fixture *f, size_t offset, double step)
{
    struct error error = {0};
    float value = (float)((double)f->parameters[offset] + step), loss = NAN;
    struct kernels *k = f->kernels;
    k->upload(k, f->clip->parameters + offset, &value, sizeof value);
    CHECK(clip_loss(f->clip, &f->batch, &loss, &error) == STATUS_OK, "%s", error.text);
    k->upload(k, f->clip->parameters + offset, &f->parameters[offset], sizeof value);
    return (double)loss;
}

static double difference(struct fixture *f, size_t offset)
{
    double h = difference_step;
    double near = loss_at(f, offset, h) - loss_at(f, offset, -h);
    double far = loss_at(f, offset, 2 * h) - loss_at(f, offset, -2 * h);
    return (8 * near - far) / (12 * h);
}

static void check_tensor(struct fixture *f, const struct model_case *model,
                         const struct parameter *p, const float *gradients)
{
    for (size_t i = 0; i < p->count; i++) {
        double gradient = (double)gradients[p->offset + i];
        if (p->fixed)
            CHECK(gradient == 0, "%s: %s[%zu] has gradient %g", model->name, p->name, i,
                  gradient);
        else
            CHECK_NEAR(gradient, difference(f, p->offset + i), difference_tolerance,
                       "%s: %s[%zu]", model->name, p->name, i);
    }
}

static void test_gradients(const struct model_case *model)
{
    struct fixture f;
    if (!fixture_open(&f, model, "ref", 3, 3, true)) {
        fixture_close(&f);
        return;
    }
    float loss = NAN, alone = NAN;
    struct error error = {0};
    float *gradients = step_gradients(&f, &loss);
    CHECK(clip_loss(f.clip, &f.batch, &alone, &error) == STATUS_OK, "%s", error.text);
    CHECK(loss == alone, "%s: loss %.9g with gradients, %.9g without", model->name,
          (double)loss, (double)alone);
    for (size_t i = 0; i < f.clip->table.count; i++)
        check_tensor(&f, model, &f.clip->table.list[i], gradients);
    free(gradients);
    fixture_close(&f);
}

/* ---- accumulation ---- */

static double largest_difference(const struct parameters *table, const float *a, const float *b,
                                 const char **where)
{
    double largest = 0;
    for (size_t i = 0; i < table->count; i++) {
        const struct parameter *p = &table->list[i];
        for (size_t j = p->offset; j < p->offset + p->count; j++) {
            double error = fabs((double)a[j] - (double)b[j]);
            if (!(error <= largest)) {
                largest = error;
                *where = p->name;
            }
        }
    }
    return largest;
}

static void test_accumulation(const struct model_case *model)
{
    enum { COUNT = 8 };
    static const size_t pieces[] = {2, 3, 8}; /* four; three, the last smaller; one */
    struct fixture whole;
    float loss = NAN;
    if (!fixture_open(&whole, model, "ref", COUNT, COUNT, true))
        return;
    float *expected = step_gradients(&whole, &loss);

    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct fixture f;
        float piece_loss = NAN;
        const char *where = "";
        if (!fixture_open(&f, model, "ref", pieces[i], COUNT, true))
            continue;
        free(step_gradients(&f, &piece_loss)); /* a second step starts from zero again */
        float *gradients = step_gradients(&f, &piece_loss);
        double error = largest_difference(&whole.clip->table, gradients, expected, &where);
        CHECK(error <= order_tolerance, "%s: pieces of %zu: %s differs by %g", model->name,
              pieces[i], where, error);
        CHECK_NEAR((double)piece_loss, (double)loss, order_tolerance, "%s: pieces of %zu",
                   model->name, pieces[i]);
        free(gradients);
        fixture_close(&f);
    }
    free(expected);
    fixture_close(&whole);
}

/* ---- backends ---- */

static void test_backends(const struct model_case *model)
{
    struct fixture ref, cpu;
    const char *where = "";
    float loss_ref = NAN, loss_cpu = NAN, loss_again = NAN;
    if (!fixture_open(&ref, model, "ref", 3, 5, true) ||
        !fixture_open(&cpu, model, "cpu", 3, 5, true))
        return;
    float *expected = step_gradients(&ref, &loss_ref);
    float *got = step_gradients(&cpu, &loss_cpu);
    float *again = step_gradients(&cpu, &loss_again);
    size_t bytes = ref.clip->table.floats * sizeof *got;
    double error = largest_difference(&ref.clip->table, got, expected, &where);
    CHECK(error <= backend_tolerance, "%s: %s differs by %g", model->name, where, error);
    CHECK_NEAR((double)loss_cpu, (double)loss_ref, backend_tolerance, "%s", model->name);
    CHECK(memcmp(got, again, bytes) == 0, "%s: a second step gave other bits", model->name);
    free(expected);
    free(got);
    free(again);
    fixture_close(&ref);
    fixture_close(&cpu);
}

/* ---- memory ---- */

/* The same model with another shape. */
static bool fixture_reshape(struct fixture *f, const struct clip_shape *shape)
{
    struct error error = {0};
    clip_close(f->clip);
    f->clip = NULL;
    enum status status = clip_open(&f->clip, f->kernels, &f->config, shape, &error);
    CHECK(status == STATUS_OK, "%s", error.text);
    if (status == STATUS_OK)
        clip_set_parameters(f->clip, f->parameters);
    return status == STATUS_OK;
}

/* Which of the text tower's activations the first two layers share. */
static void check_sharing(const struct fixture *f, const char *model)
{
    const struct block_activations *a = f->clip->text.transformer.blocks;
    enum recompute recompute = f->clip->shape.recompute;
    if (f->config.text.transformer.layers < 2)
        return;
    CHECK((a[0].activated == a[1].activated) == (recompute != RECOMPUTE_NONE) &&
              (a[0].fc == a[1].fc) == (recompute == RECOMPUTE_BLOCK) &&
              a[0].input != a[1].input,
          "%s: activations of %d", model, recompute);
}

static size_t activation_memory(const struct fixture *f, enum precision precision)
{
    size_t bytes = 0;
    struct error error = {0};
    CHECK(clip_activation_bytes(&f->config, &f->clip->shape, precision, &bytes, &error) ==
              STATUS_OK,
          "%s", error.text);
    return bytes;
}

/* What is computed again has the same bits, and takes less memory. */
static void test_recompute(const struct model_case *model, const char *device)
{
    struct fixture f, lean;
    float loss = NAN, lean_loss = NAN;
    if (!fixture_open(&f, model, device, 3, 3, true) ||
        !fixture_open(&lean, model, device, 3, 3, true))
        return;
    float *a = step_gradients(&f, &loss);
    size_t more = activation_memory(&f, PRECISION_FP32);
    CHECK(activation_memory(&f, PRECISION_AMP_BF16) < more, "%s: bfloat16 takes no less",
          model->name);
    check_sharing(&f, model->name);
    for (enum recompute r = RECOMPUTE_LIGHT; r <= RECOMPUTE_BLOCK; r++) {
        struct clip_shape shape = lean.clip->shape;
        shape.recompute = r;
        if (!fixture_reshape(&lean, &shape))
            break;
        check_sharing(&lean, model->name);
        size_t less = activation_memory(&lean, PRECISION_FP32);
        CHECK(f.config.text.transformer.layers < 2 || less < more, "%s: %zu bytes, then %zu",
              model->name, more, less);
        more = less;
        float *b = step_gradients(&lean, &lean_loss);
        CHECK(loss == lean_loss, "%s: loss %.9g, recomputing %.9g", model->name, (double)loss,
              (double)lean_loss);
        CHECK(memcmp(a, b, f.clip->table.floats * sizeof *a) == 0,
              "%s on %s: gradients differ with %d", model->name, device, r);
        free(b);
    }
    free(a);
    fixture_close(&f);
    fixture_close(&lean);
}

/* A frozen tower has no gradient; that of the rest is the same, in pieces, too. */
static void test_frozen_towers(const struct model_case *model)
{
    struct fixture f;
    float loss, frozen_loss;
    if (!fixture_open(&f, model, "ref", 2, 5, true))
        return;
    float *all = step_gradients(&f, &loss);
    for (int frozen = 1; frozen <= 3; frozen++) {
        struct clip_shape shape = f.clip->shape;
        shape.image_frozen = frozen & 1;
        shape.text_frozen = frozen & 2;
        if (!fixture_reshape(&f, &shape))
            break;
        float *got = step_gradients(&f, &frozen_loss);
        CHECK(loss == frozen_loss, "%s: loss %.9g, frozen %.9g", model->name, (double)loss,
              (double)frozen_loss);
        for (size_t i = 0; i < f.clip->table.count; i++) {
            const struct parameter *p = &f.clip->table.list[i];
            bool image = strncmp(p->name, "visual.", 7) == 0;
            bool logit = strncmp(p->name, "logit", 5) == 0;
            bool zero = !logit && (frozen & (image ? 1 : 2)) != 0;
            for (size_t j = p->offset; j < p->offset + p->count; j++)
                CHECK(got[j] == (zero ? 0 : all[j]), "%s: %s with frozen %d", model->name,
                      p->name, frozen);
        }
        free(got);
    }
    free(all);
    fixture_close(&f);
}

/* ---- embeddings ---- */

/* Without gradients one layer's memory serves all; the results may not differ by a bit, nor
 * by how many samples pass at once. */
static void test_encode(const struct model_case *model)
{
    enum { COUNT = 7 };
    struct fixture training, evaluation;
    struct error error = {0};
    if (!fixture_open(&training, model, "ref", COUNT, COUNT, true) ||
        !fixture_open(&evaluation, model, "ref", 3, COUNT, false))
        return;
    size_t E = training.config.embed_dim, count = COUNT * E;
    float *a = calloc(count, sizeof *a), *b = calloc(count, sizeof *b);

    clip_encode_image(training.clip, training.patches, training.position, COUNT, a, &error);
    clip_encode_image(evaluation.clip, training.patches, training.position, COUNT, b, &error);
    CHECK(memcmp(a, b, count * sizeof *a) == 0, "%s: image embeddings", model->name);
    for (size_t i = 0; i < COUNT; i++) {
        double square = 0;
        for (size_t j = 0; j < E; j++)
            square += (double)a[i * E + j] * (double)a[i * E + j];
        CHECK_NEAR(square, 1.0, 1e-6, "%s: length of embedding %zu", model->name, i);
    }
    clip_encode_text(training.clip, training.tokens, COUNT, a, &error);
    clip_encode_text(evaluation.clip, training.tokens, COUNT, b, &error);
    CHECK(memcmp(a, b, count * sizeof *a) == 0, "%s: text embeddings", model->name);
    free(a);
    free(b);
    fixture_close(&training);
    fixture_close(&evaluation);
}

/* What open_clip 3.3 computes, in double precision, for parameters and a batch that a formula
 * gives: the embeddings of the third sample and the loss of all three. */
struct golden {
    size_t model; /* in cases */
    double image[6], text[6], loss;
};

static const struct golden goldens[] = {
    {0,
     {0.3567368, -0.0581081, -0.4456238, -0.6235556, -0.5082196, -0.15386},
     {0.0471047, 0.4500761, 0.6413696, 0.531017, 0.1709188, -0.2695652},
     1.1719506},
    {1,
     {0.5140488, 0.182076, -0.2355299, -0.5423624, -0.5941135},
     {0.2560252, 0.5918928, 0.649384, 0.4014597, -0.0352773},
     1.439835},
};

static void fill_by_formula(struct fixture *f)
{
    const struct parameters *table = &f->clip->table;
    for (size_t i = 0; i < table->count; i++) {
        const struct parameter *p = &table->list[i];
        double centre = p->distribution == DISTRIBUTION_CONSTANT && p->scale == 1 ? 1 : 0;
        for (size_t j = 0; j < p->count; j++)
            f->parameters[p->offset + j] =
                (float)(centre + 0.3 * sin((double)i + 0.7 * (double)j));
    }
    f->parameters[table->logit_scale] = 1.1f;
    clip_set_parameters(f->clip, f->parameters);

    size_t P = f->config.vision.patch_size, grid = clip_config_patches(&f->config);
    size_t K = f->clip->shape.kept, L = f->config.text.context_length;
    for (size_t i = 0; i < f->batch.count * K * P * P * 3; i++)
        f->patches[i] = (uint8_t)(37 * i % 251);
    for (size_t i = 0; i < f->batch.count * K; i++)
        f->position[i] = (int32_t)((i / K + (grid % 2 + 1) * (i % K)) % grid);
    for (size_t i = 0; i < f->batch.count * L; i++)
        f->tokens[i] = (int32_t)((5 * i + 3) % f->config.text.vocab_size);
}

static void test_golden(const struct golden *golden, const char *device)
{
    enum { COUNT = 3 };
    const struct model_case *model = &cases[golden->model];
    struct fixture f;
    struct error error = {0};
    float image[COUNT * 6], text[COUNT * 6], loss = NAN;
    if (!fixture_open(&f, model, device, COUNT, COUNT, false))
        return;
    fill_by_formula(&f);
    size_t E = f.config.embed_dim;
    clip_encode_image(f.clip, f.patches, f.position, COUNT, image, &error);
    clip_encode_text(f.clip, f.tokens, COUNT, text, &error);
    clip_loss(f.clip, &f.batch, &loss, &error);
    for (size_t e = 0; e < E; e++) {
        CHECK_NEAR((double)image[2 * E + e], golden->image[e], 2e-6, "%s: image[%zu]",
                   model->name, e);
        CHECK_NEAR((double)text[2 * E + e], golden->text[e], 2e-6, "%s: text[%zu]", model->name,
                   e);
    }
    CHECK_NEAR((double)loss, golden->loss, 2e-6, "%s", model->name);
    fixture_close(&f);
}

/* Whole images: no positions is the same as all positions in order, in every piece. */
static void test_whole_images(void)
{
    enum { COUNT = 5, PATCHES = 4, E = 6 };
    struct fixture f;
    struct error error = {0};
    float with[COUNT * E], without[COUNT * E];
    if (!fixture_open(&f, &cases[0], "ref", 2, COUNT, false))
        return;
    for (int32_t i = 0; i < COUNT * PATCHES; i++)
        f.position[i] = i % PATCHES;
    clip_encode_image(f.clip, f.patches, f.position, COUNT, with, &error);
    clip_encode_image(f.clip, f.patches, NULL, COUNT, without, &error);
    CHECK(memcmp(with, without, sizeof with) == 0, "embeddings differ");
    fixture_close(&f);
}

static void test_pool_rows(void)
{
    static const int32_t tokens[] = {3, 9, 5, 9, 2};
    static const int32_t no_end[] = {1, 2, 3, 4, 6};
    struct text_config text = {.context_length = 5, .pool = TEXT_POOL_ARGMAX, .eos_id = 5};
    CHECK(text_tower_pool_row(&text, tokens) == 1, "argmax takes the first maximum");
    text.pool = TEXT_POOL_LAST;
    CHECK(text_tower_pool_row(&text, tokens) == 4, "last");
    text.pool = TEXT_POOL_FIRST;
    CHECK(text_tower_pool_row(&text, tokens) == 0, "first");
    text.pool = TEXT_POOL_EOS;
    CHECK(text_tower_pool_row(&text, tokens) == 2, "eos");
    CHECK(text_tower_pool_row(&text, no_end) == 0, "eos that does not occur");
}

/* An image whose bytes number its places, with one row and column beyond the last patch. */
static void test_cut_patches(void)
{
    struct clip_config config = {.vision = {.image_size = 5, .patch_size = 2, .grid = 2}};
    uint8_t image[5 * 5 * 3], patches[4 * 2 * 2 * 3];
    for (size_t i = 0; i < sizeof image; i++)
        image[i] = (uint8_t)i;
    clip_cut_patches(&config, patches, image, 1);
    for (size_t patch = 0; patch < 4; patch++)
        for (size_t y = 0; y < 2; y++)
            for (size_t x = 0; x < 2; x++) {
                size_t row = patch / 2 * 2 + y, column = patch % 2 * 2 + x;
                uint8_t got = patches[(patch * 4 + y * 2 + x) * 3 + 2];
                CHECK(got == (row * 5 + column) * 3 + 2, "patch %zu, y %zu, x %zu is %d", patch,
                      y, x, got);
            }
}

/* ---- patch dropout ---- */

/* Each patch is kept equally often, in ascending order, and its bytes go with its position. */
static void test_patch_dropout(void)
{
    enum { PATCHES = 9, KEPT = 4, DRAWS = 4000, BYTES = 3 };
    uint32_t chosen[PATCHES], times[PATCHES] = {0};
    uint8_t patches[PATCHES * BYTES], kept[KEPT * BYTES];
    int32_t position[PATCHES], kept_position[KEPT];
    struct rng rng;
    rng_init(&rng, 3, 0, 0, RNG_TEST);
    bool ascending = true;
    for (size_t draw = 0; draw < DRAWS; draw++) {
        patch_dropout_choose(&rng, PATCHES, KEPT, chosen);
        for (size_t i = 0; i < KEPT; i++) {
            ascending &= chosen[i] < PATCHES && (i == 0 || chosen[i] > chosen[i - 1]);
            times[chosen[i] % PATCHES]++;
        }
    }
    CHECK(ascending, "a choice that is not in order, or beyond the last patch");
    for (size_t i = 0; i < PATCHES; i++) /* five standard deviations of a binomial count */
        CHECK_NEAR((double)times[i], DRAWS * 4 / 9.0, 5 * sqrt(DRAWS * 4 / 9.0 * 5 / 9.0),
                   "patch %zu", i);

    for (size_t i = 0; i < sizeof patches; i++)
        patches[i] = (uint8_t)i;
    for (int32_t i = 0; i < PATCHES; i++)
        position[i] = 100 - i;
    patch_dropout_gather(kept, kept_position, patches, position, chosen, KEPT, BYTES);
    for (size_t i = 0; i < KEPT; i++)
        CHECK(kept[i * BYTES + 1] == chosen[i] * BYTES + 1 &&
                  kept_position[i] == 100 - (int32_t)chosen[i],
              "patch %u became byte %d at %d", chosen[i], kept[i * BYTES + 1],
              kept_position[i]);
    patch_dropout_gather(patches, kept_position, patches, NULL, chosen, KEPT, BYTES);
    CHECK(memcmp(patches, kept, sizeof kept) == 0, "in place");
    CHECK(kept_position[3] == (int32_t)chosen[3], "positions of whole images");
    patch_dropout_choose(&rng, PATCHES, PATCHES, chosen);
    CHECK(chosen[0] == 0 && chosen[8] == 8, "all of them");
}

/* CLIPA's numbers, and products just below a whole number. */
static void test_patch_dropout_kept(void)
{
    static const struct {
        double dropout;
        size_t patches, kept;
    } expected[] = {{0, 196, 196}, {0.3, 256, 179}, {0.4, 256, 153}, {0.4, 576, 345},
                    {0.5, 49, 24}, {0.99, 49, 1},   {0.9, 10, 1},    {0.75, 1, 1},
                    {0.1, 10, 9},  {0.7, 10, 3}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        CHECK(patch_dropout_kept(expected[i].dropout, expected[i].patches) == expected[i].kept,
              "%g of %zu: %zu", expected[i].dropout, expected[i].patches,
              patch_dropout_kept(expected[i].dropout, expected[i].patches));
}

/* ---- what is refused ---- */

static void test_bad_batches(void)
{
    struct fixture f;
    struct error error = {0};
    float loss;
    if (!fixture_open(&f, &cases[1], "ref", 2, 2, true))
        return;
    f.tokens[5] = 9; /* the vocabulary has 9 */
    CHECK(clip_step_gradients(f.clip, &f.batch, &loss, &error) == STATUS_DATA, "token 9");
    CHECK(strstr(error.text, "sample 1 of the batch: token 1 is 9") != NULL, "%s", error.text);
    f.tokens[5] = -1;
    CHECK(clip_loss(f.clip, &f.batch, &loss, &error) == STATUS_DATA, "token -1");
    f.tokens[5] = 0;

    int32_t kept = f.position[5];
    f.position[5] = f.position[6];
    CHECK(clip_step_gradients(f.clip, &f.batch, &loss, &error) == STATUS_DATA, "repeated");
    f.position[5] = 9; /* the grid has 9 */
    CHECK(clip_step_gradients(f.clip, &f.batch, &loss, &error) == STATUS_DATA, "position 9");
    f.position[5] = INT32_MIN;
    CHECK(clip_step_gradients(f.clip, &f.batch, &loss, &error) == STATUS_DATA, "position < 0");
    f.position[5] = kept;

    f.batch.position = NULL;
    CHECK(clip_step_gradients(f.clip, &f.batch, &loss, &error) == STATUS_DATA,
          "5 of 9 patches without positions");
    f.batch.position = f.position;
    f.batch.count = 3;
    CHECK(clip_step_gradients(f.clip, &f.batch, &loss, &error) == STATUS_DATA, "too many");
    f.batch.count = 0;
    CHECK(clip_step_gradients(f.clip, &f.batch, &loss, &error) == STATUS_DATA, "none");
    f.batch.count = 1;
    CHECK(clip_step_gradients(f.clip, &f.batch, &loss, &error) == STATUS_OK, "%s", error.text);
    CHECK_NEAR((double)loss, 0.0, 1e-6, "one sample alone has nothing to tell apart");
    fixture_close(&f);
}

static void test_bad_shapes(void)
{
    struct clip *clip = NULL;
    struct error error = {0};
    struct fixture f;
    if (!fixture_open(&f, &cases[0], "ref", 1, 1, false))
        return;
    struct clip_shape too_many = {.batch = 1, .kept = 5};
    CHECK(clip_open(&clip, f.kernels, &f.config, &too_many, &error) == STATUS_DATA,
          "5 of 4 patches");
    struct clip_shape nothing = {.kept = 4};
    CHECK(clip_open(&clip, f.kernels, &f.config, &nothing, &error) == STATUS_USAGE, "batch 0");
    struct clip_shape endless = {.batch = SIZE_MAX / 2, .kept = 4, .training = true};
    CHECK(clip_open(&clip, f.kernels, &f.config, &endless, &error) == STATUS_SYSTEM,
          "more memory than there is");
    fixture_close(&f);
}

int main(void)
{
    for (size_t i = 0; i < CASES; i++) {
        test_gradients(&cases[i]);
        test_accumulation(&cases[i]);
        test_backends(&cases[i]);
        test_recompute(&cases[i], "ref");
        test_recompute(&cases[i], "cpu");
        test_frozen_towers(&cases[i]);
        test_encode(&cases[i]);
    }
    for (size_t i = 0; i < sizeof goldens / sizeof goldens[0]; i++) {
        test_golden(&goldens[i], "ref");
        test_golden(&goldens[i], "cpu");
    }
    test_whole_images();
    test_pool_rows();
    test_cut_patches();
    test_patch_dropout();
    test_patch_dropout_kept();
    test_bad_batches();
    test_bad_shapes();
    return check_report("test_clip");
}
