/* test_config.c - configurations that are accepted and refused, and the closed forms and the
 * parameter table against open_clip's published profile of its models. */
#include <dirent.h>
#include <math.h>
#include <stdlib.h>

#include "model/config.h"
#include "model/parameters.h"
#include "tests/unit/check.h"

/* ---- the presets: pipelines/models ---- */

/* What is published of a model: docs/model_profile.csv of open_clip, in two decimals, and for
 * CLIPA's own the counts of its papers and repository. 0: not published. */
struct profile {
    const char *name;
    double image_millions, text_millions, total_millions, total_tolerance;
    double image_gflops, text_gflops, total_gflops;
};

static const struct profile profiles[] = {
    {"ViT-B-32", 87.85, 63.43, 151.28, 0.005, 8.82, 5.96, 14.78},
    {"ViT-B-16", 86.19, 63.43, 149.62, 0.005, 35.13, 5.96, 41.09},
    {"ViT-L-16", 304.09, 123.65, 427.74, 0.005, 123.11, 13.30, 136.41},
    {"ViT-L-14", 303.97, 123.65, 427.62, 0.005, 162.03, 13.30, 175.33},
    {"ViT-H-14", 632.08, 354.03, 986.11, 0.005, 334.59, 47.09, 381.68},
    {"ViT-L-14-CLIPA", 303.96, 110.25, 414.21, 0.005, 162.03, 5.47, 167.50},
    {"ViT-L-14-CLIPA-336", 304.29, 110.25, 414.54, 0.005, 381.92, 5.47, 387.39},
    {"ViT-H-14-CLIPA", 632.07, 336.16, 968.24, 0.005, 334.59, 19.43, 354.02},
    {"ViT-H-14-CLIPA-336", 632.48, 336.16, 968.64, 0.005, 781.45, 19.43, 800.88},
    {"ViT-bigG-14-CLIPA", 1844.90, 672.32, 2517.22, 0.005, 0, 0, 1007.9},
    {"ViT-bigG-14-CLIPA-336", 0, 672.32, 0, 0, 0, 0, 2 * 1136},
    {"ViT-B-16-CL16", 86.19, 63.40, 149.59, 0.005, 0, 0, 2 * 18.17},
    {"ViT-L-16-CL16-GAP", 304.09, 0, 0, 0, 0, 0, 2 * 62.92},
    {"ViT-L-16-CL16-Syntax-GAP", 304.09, 0, 0, 0, 0, 0, 2 * 62.92},
    {"ViT-L-16-CL8-Syntax-GAP", 304.09, 0, 0, 0, 0, 0, 0},
    {"ViT-L-16-CL32-GAP", 304.09, 123.62, 427.70, 0.005, 0, 0, 2 * 64.29},
    {"ViT-H-14-CL8-SyntaxMask-GAP", 632.08, 0, 0, 0, 334.59, 0, 0},
    {"ViT-H-14-CL32-GAP", 632.08, 353.99, 986.06, 0.005, 334.59, 19.43, 2 * 177.0},
    {"ViT-L-14-CL32-GAP-BigVision", 303.96, 110.25, 414.21, 0.005, 162.03, 5.47, 167.50},
    {"ViT-H-14-CL32-GAP-BigVision", 632.07, 336.16, 968.24, 0.005, 334.59, 19.43, 354.02},
    {"ViT-S-16-CLIPA", 0, 0, 55.6, 0.05, 0, 0, 2 * 5.29},
    {"ViT-B-16-CLIPA", 0, 0, 140.7, 0.05, 0, 0, 2 * 18.78},
    {"ViT-L-16-CLIPA", 0, 0, 414.3, 0.05, 0, 0, 2 * 64.29},
    {"ViT-S-32", 0, 0, 0, 0, 0, 0, 0},
    {"ViT-S-16", 0, 0, 0, 0, 0, 0, 0},
    {"ViT-L-14-336", 304.29, 123.65, 427.94, 0.005, 0, 0, 0},
    {"ViT-bigG-14", 1844.91, 694.66, 2539.57, 0.005, 0, 0, 0},
    {"ViT-Ti-4-cifar", 0, 0, 1.5, 0.05, 0, 0, 0},
    {"ViT-Ti-10-scenes", 0, 0, 1.4, 0.05, 0, 0, 0},
};

enum { PROFILES = sizeof profiles / sizeof profiles[0] };

static bool load_preset(struct clip_config *config, const char *name,
                        const struct clip_overrides *overrides)
{
    char path[256];
    struct error error = {0};
    snprintf(path, sizeof path, "pipelines/models/%s.json", name);
    enum status status = clip_config_load(config, path, overrides, &error);
    CHECK(status == STATUS_OK, "%s", error.text);
    return status == STATUS_OK;
}

/* Nothing to compare with where `want` is 0. */
static void check_published(double got, double want, double tolerance, const char *name,
                            const char *what)
{
    if (want != 0)
        CHECK_NEAR(got, want, tolerance, "%s: %s", name, what);
}

/* To all digits that are printed for parameters, and three at least for FLOPs. */
static void test_profile(const struct profile *profile)
{
    struct clip_config config;
    struct parameters table;
    struct error error = {0};
    const char *name = profile->name;
    if (!load_preset(&config, name, NULL))
        return;
    double image = (double)clip_config_image_parameters(&config) * 1e-6;
    double text = (double)clip_config_text_parameters(&config) * 1e-6;
    double image_flops = clip_config_image_flops(&config, clip_config_patches(&config)) * 1e-9;
    double text_flops = clip_config_text_flops(&config) * 1e-9;
    check_published(image, profile->image_millions, 0.00501, name, "image parameters");
    check_published(text, profile->text_millions, 0.00501, name, "text parameters");
    check_published(image + text, profile->total_millions, profile->total_tolerance + 1e-5,
                    name, "parameters");
    check_published(image_flops, profile->image_gflops, 0.00501, name, "image FLOPs");
    check_published(text_flops, profile->text_gflops, 0.00501, name, "text FLOPs");
    check_published(image_flops + text_flops, profile->total_gflops,
                    0.001 * profile->total_gflops, name, "FLOPs");

    CHECK(parameters_init(&table, &config, &error) == STATUS_OK, "%s", error.text);
    CHECK(table.total == clip_config_parameters(&config),
          "%s: %zu parameters in the table, %zu by the closed form", name, table.total,
          clip_config_parameters(&config));
    parameters_free(&table);
    clip_config_free(&config);
}

/* Every file is in the list above, so that none is there that was not compared. */
static void test_every_preset_is_listed(void)
{
    DIR *directory = opendir("pipelines/models");
    size_t found = 0;
    CHECK(directory != NULL, "pipelines/models");
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        char *end = strstr(entry->d_name, ".json");
        if (end == NULL)
            continue;
        *end = '\0';
        size_t i = 0;
        while (i < PROFILES && strcmp(profiles[i].name, entry->d_name) != 0)
            i++;
        CHECK(i < PROFILES, "%s has no profile", entry->d_name);
        found++;
    }
    if (directory != NULL)
        closedir(directory);
    CHECK(found == PROFILES, "%zu presets, %d profiles", found, (int)PROFILES);
}

/* CLIPA's reduced sequences, in billions of multiply-adds of one forward pass as its papers and
 * the throughputs derived from them have it: image size, text length, all patches kept. */
struct reduced {
    const char *name;
    size_t image_size, context_length;
    double gmacs, tolerance;
};

static const struct reduced reduced[] = {
    {"ViT-S-16-CLIPA", 64, 32, 1.06, 0.00501},  {"ViT-S-16-CLIPA", 96, 32, 1.50, 0.00501},
    {"ViT-S-16-CLIPA", 112, 32, 1.79, 0.00501}, {"ViT-S-16-CLIPA", 160, 32, 2.96, 0.00501},
    {"ViT-S-16-CLIPA", 224, 32, 5.29, 0.00501}, {"ViT-B-16-CLIPA", 64, 32, 2.68, 0.00501},
    {"ViT-B-16-CLIPA", 96, 32, 4.41, 0.00501},  {"ViT-B-16-CLIPA", 112, 32, 5.54, 0.00501},
    {"ViT-B-16-CLIPA", 160, 32, 10.05, 0.00501}, {"ViT-L-16-CLIPA", 64, 32, 7.90, 0.00501},
    {"ViT-L-16-CLIPA", 96, 32, 14.01, 0.00501}, {"ViT-L-16-CLIPA", 112, 32, 18.00, 0.00501},
    {"ViT-L-16-CLIPA", 160, 32, 33.82, 0.00501}, {"ViT-L-14-CLIPA", 84, 8, 11.94, 0.00501},
    {"ViT-H-14-CLIPA", 56, 8, 13.15, 0.00501},  {"ViT-H-14-CLIPA", 70, 8, 18.85, 0.00501},
    {"ViT-H-14-CLIPA", 84, 8, 25.84, 0.00501},  {"ViT-bigG-14-CLIPA", 84, 8, 73.4, 0.0501},
    {"ViT-B-16-CL16", 112, 16, 4.93, 0.00501},
    {"ViT-L-16-CL16-Syntax-GAP", 64, 16, 6.53, 0.00501},
    {"ViT-L-16-CL8-Syntax-GAP", 96, 8, 11.95, 0.00501},
};

static void test_reduced_flops(const struct reduced *r)
{
    struct clip_config config;
    const struct clip_overrides overrides = {.image_size = r->image_size,
                                             .context_length = r->context_length};
    if (!load_preset(&config, r->name, &overrides))
        return;
    double flops = clip_config_image_flops(&config, clip_config_patches(&config)) +
                   clip_config_text_flops(&config);
    CHECK_NEAR(flops * 0.5e-9, r->gmacs, r->tolerance, "%s at %zu, %zu", r->name, r->image_size,
               r->context_length);
    clip_config_free(&config);
}

/* 30% of the patches masked: 179 of 256. The text tower is part of it. */
static void test_masked_flops(void)
{
    struct clip_config config;
    if (!load_preset(&config, "ViT-H-14-CLIPA", NULL))
        return;
    double flops =
        clip_config_image_flops(&config, 179) + clip_config_text_flops(&config);
    CHECK_NEAR(flops * 0.5e-9, 125.8, 0.0501, "H/14 with 30%% of the patches masked");
    clip_config_free(&config);
}

/* ---- the table ---- */

static const char tiny[] =
    "{\"embed_dim\": 5, \"vision_cfg\": {\"image_size\": 9, \"patch_size\": 4, \"layers\": 2,"
    " \"width\": 6, \"head_width\": 3}, \"text_cfg\": {\"context_length\": 7,"
    " \"vocab_size\": 11, \"width\": 8, \"heads\": 2, \"layers\": 1}}";

static void check_place(const struct parameters *table, size_t index, const char *name,
                        int rank, size_t first)
{
    const struct parameter *p = &table->list[index];
    CHECK(strcmp(p->name, name) == 0, "tensor %zu is %s, expected %s", index, p->name, name);
    CHECK(p->rank == rank && (rank == 0 || p->shape[0] == first), "%s: rank %d, first %zu",
          name, p->rank, p->shape[0]);
}

static void test_table(void)
{
    struct clip_config config;
    struct parameters table;
    struct error error = {0};
    CHECK(clip_config_parse(&config, tiny, strlen(tiny), NULL, &error) == STATUS_OK, "%s",
          error.text);
    CHECK(parameters_init(&table, &config, &error) == STATUS_OK, "%s", error.text);
    CHECK(table.count == 14 + 3 * 12, "%zu tensors", table.count);
    check_place(&table, 0, "positional_embedding", 2, 7);
    check_place(&table, 1, "text_projection", 2, 8);
    check_place(&table, 2, "logit_scale", 0, 0);
    check_place(&table, 3, "visual.class_embedding", 1, 6);
    check_place(&table, 4, "visual.positional_embedding", 2, 5);
    check_place(&table, 6, "visual.conv1.weight", 4, 6);
    check_place(&table, 9, "visual.transformer.resblocks.0.ln_1.weight", 1, 6);
    check_place(&table, 23, "visual.transformer.resblocks.1.attn.in_proj_weight", 2, 18);
    check_place(&table, 43, "transformer.resblocks.0.mlp.c_fc.weight", 2, 32);
    check_place(&table, 47, "token_embedding.weight", 2, 11);
    check_place(&table, 49, "ln_final.bias", 1, 8);

    for (size_t i = 0; i < table.count; i++) {
        const struct parameter *a = &table.list[i];
        CHECK((a->decay != DECAY_NEVER) == (a->rank >= 2) &&
                  (a->decay != DECAY_NEVER) == (a->offset < table.decay_floats) &&
                  (a->decay == DECAY_ALWAYS) == (a->offset < table.matrix_floats),
              "%s: rank %d at %zu of %zu", a->name, a->rank, a->offset, table.decay_floats);
        CHECK(a->offset % 16 == 0 && a->offset + a->count <= table.floats, "%s", a->name);
        for (size_t j = 0; j < i; j++) {
            const struct parameter *b = &table.list[j];
            CHECK(a->offset + a->count <= b->offset || b->offset + b->count <= a->offset,
                  "%s lies over %s", a->name, b->name);
        }
    }
    CHECK(table.text.blocks[0].fc_weight == table.list[43].offset, "the block's own offset");
    CHECK(parameters_find(&table, "visual.proj") == &table.list[5], "visual.proj");
    CHECK(parameters_find(&table, "visual.prot") == NULL, "visual.prot");
    parameters_free(&table);
    clip_config_free(&config);
}

/* ---- initial values ---- */

static void check_start(const struct parameters *table, const float *block, const char *name,
                        double spread)
{
    const struct parameter *p = parameters_find(table, name);
    double sum = 0, squares = 0, n = (double)p->count;
    for (size_t i = 0; i < p->count; i++) {
        double value = (double)block[p->offset + i];
        sum += value;
        squares += value * value;
    }
    CHECK_NEAR(sqrt(squares / n), spread, 5 * spread / sqrt(n), "%s: spread", name);
    CHECK_NEAR(sum / n, 0.0, 5 * spread / sqrt(n), "%s: mean", name);
}

static void test_initial_values(void)
{
    static const char json[] =
        "{\"embed_dim\": 48, \"vision_cfg\": {\"image_size\": 32, \"patch_size\": 8,"
        " \"layers\": 2, \"width\": 64}, \"text_cfg\": {\"context_length\": 16,"
        " \"vocab_size\": 300, \"width\": 96, \"heads\": 4, \"layers\": 3}}";
    struct clip_config config;
    struct parameters table;
    struct error error = {0};
    CHECK(clip_config_parse(&config, json, strlen(json), NULL, &error) == STATUS_OK, "%s",
          error.text);
    CHECK(parameters_init(&table, &config, &error) == STATUS_OK, "%s", error.text);
    float *a = calloc(table.floats, sizeof *a), *b = calloc(table.floats, sizeof *b);
    parameters_initialize(&table, a, 1);

    check_start(&table, a, "token_embedding.weight", 0.02);
    check_start(&table, a, "positional_embedding", 0.01);
    check_start(&table, a, "text_projection", 1 / sqrt(96));
    check_start(&table, a, "transformer.resblocks.2.attn.in_proj_weight", 1 / sqrt(96));
    check_start(&table, a, "transformer.resblocks.0.attn.out_proj.weight", 1 / sqrt(96 * 6));
    check_start(&table, a, "transformer.resblocks.1.mlp.c_fc.weight", 1 / sqrt(2 * 96));
    check_start(&table, a, "transformer.resblocks.1.mlp.c_proj.weight", 1 / sqrt(96 * 6));
    check_start(&table, a, "visual.positional_embedding", 1 / sqrt(64));
    check_start(&table, a, "visual.proj", 1 / sqrt(64));
    /* A uniform distribution in [-a, a) has the spread a / sqrt(3). */
    check_start(&table, a, "visual.conv1.weight", 1 / sqrt(3 * 64) / sqrt(3));
    check_start(&table, a, "visual.transformer.resblocks.0.attn.in_proj_weight",
                sqrt(6.0 / (4 * 64)) / sqrt(3));
    check_start(&table, a, "visual.transformer.resblocks.1.mlp.c_proj.weight",
                1 / sqrt(256) / sqrt(3));
    CHECK(a[table.vision.blocks[0].norm_1_weight] == 1, "norms begin as the identity");
    CHECK(a[table.text.blocks[0].qkv_bias] == 0, "biases of qkv begin at zero");
    CHECK_NEAR((double)a[table.logit_scale], log(1 / 0.07), 1e-6, "logit scale");

    parameters_initialize(&table, b, 1);
    CHECK(memcmp(a, b, table.floats * sizeof *a) == 0, "the same seed, other values");
    parameters_initialize(&table, b, 2);
    CHECK(memcmp(a, b, table.floats * sizeof *a) != 0, "another seed, the same values");
    free(a);
    free(b);
    parameters_free(&table);
    clip_config_free(&config);
}

/* ---- what is accepted ---- */

static void test_defaults(void)
{
    static const char json[] =
        "{\"embed_dim\": 512, \"vision_cfg\": {}, \"text_cfg\": {}, \"custom_text\": false}";
    struct clip_config c;
    struct error error = {0};
    CHECK(clip_config_parse(&c, json, strlen(json), NULL, &error) == STATUS_OK, "%s",
          error.text);
    CHECK(c.vision.transformer.layers == 12 && c.vision.transformer.width == 768 &&
              c.vision.transformer.heads == 12 && c.vision.transformer.hidden == 3072 &&
              c.vision.image_size == 224 && c.vision.patch_size == 16 && c.vision.grid == 14,
          "vision");
    CHECK(c.vision.norm_pre && c.vision.pool == IMAGE_POOL_CLASS &&
              !c.vision.transformer.causal,
          "vision's ways");
    CHECK(c.text.transformer.layers == 12 && c.text.transformer.width == 512 &&
              c.text.transformer.heads == 8 && c.text.context_length == 77 &&
              c.text.vocab_size == 49408,
          "text");
    CHECK(c.text.transformer.causal && c.text.pool == TEXT_POOL_ARGMAX && c.text.eos_id == 2,
          "text's ways");
    CHECK(c.text.transformer.activation == ACTIVATION_GELU, "the exact GELU");
    CHECK_NEAR((double)c.text.transformer.norm_eps, 1e-5, 1e-10, "eps");
    CHECK_NEAR(c.preprocess.mean[0], 0.48145466, 0.0, "OpenAI's mean");
    CHECK(strcmp(c.preprocess.interpolation, "bicubic") == 0, "%s", c.preprocess.interpolation);
    clip_config_free(&c);
}

/* Written and read again; overrides are in what is written; other keys beside are not ours. */
static void test_round_trip(void)
{
    static const char json[] =
        "{\"model_cfg\": {\"embed_dim\": 6, \"quick_gelu\": true,"
        " \"vision_cfg\": {\"image_size\": 32, \"patch_size\": 8, \"layers\": 1, \"width\": 13,"
        "   \"head_width\": 13, \"mlp_ratio\": 4.9231, \"ls_init_value\": null,"
        "   \"patch_dropout\": 0.0},"
        " \"text_cfg\": {\"width\": 8, \"heads\": 1, \"layers\": 1, \"pool_type\": \"eos\","
        "   \"eos_id\": 9, \"vocab_size\": 10}},"
        " \"preprocess_cfg\": {\"mean\": [0.5, 0.25, 0.125], \"std\": [1, 0.5, 0.1],"
        "   \"interpolation\": \"bilinear\", \"resize_mode\": \"squash\", \"size\": 32,"
        "   \"mode\": \"RGB\", \"fill_color\": 7}, \"note\": 1}";
    const struct clip_overrides overrides = {.image_size = 48, .context_length = 16};
    struct clip_config a, b;
    struct error error = {0};
    struct buffer text = {0};
    CHECK(clip_config_parse(&a, json, strlen(json), &overrides, &error) == STATUS_OK, "%s",
          error.text);
    CHECK(clip_config_format(&a, &text, &error) == STATUS_OK, "%s", error.text);
    CHECK(clip_config_parse(&b, (char *)text.data, text.size, NULL, &error) == STATUS_OK, "%s",
          error.text);
    CHECK(b.vision.image_size == 48 && b.vision.grid == 6, "image size %zu",
          b.vision.image_size);
    CHECK(b.text.context_length == 16, "context %zu", b.text.context_length);
    CHECK(b.vision.transformer.hidden == 64, "int(13 * 4.9231) is 64, not %zu",
          b.vision.transformer.hidden);
    CHECK(b.text.transformer.activation == ACTIVATION_QUICK_GELU, "quick_gelu");
    CHECK(b.text.pool == TEXT_POOL_EOS && b.text.eos_id == 9, "eos");
    CHECK(memcmp(a.preprocess.mean, b.preprocess.mean, sizeof a.preprocess.mean) == 0 &&
              memcmp(a.preprocess.std, b.preprocess.std, sizeof a.preprocess.std) == 0,
          "mean and std are the same doubles");
    CHECK(strcmp(b.preprocess.resize_mode, "squash") == 0 && b.preprocess.fill_color == 7,
          "preprocessing");
    CHECK(strcmp(a.model_json, b.model_json) == 0, "the model's object is the same");
    buffer_free(&text);
    clip_config_free(&a);
    clip_config_free(&b);
}

/* Fields of models that are not of the plain kind; what the table makes of them is in
 * test_special_table. */
static const char special[] =
    "{\"embed_dim\": 16, \"init_logit_scale\": 2.3, \"init_logit_bias\": -10,"
    " \"custom_text\": true,"
    " \"vision_cfg\": {\"image_size\": 32, \"patch_size\": 8, \"layers\": 1, \"width\": 8,"
    "   \"head_width\": 4, \"pos_embed_type\": \"sin_cos_2d\", \"patch_dropout\": 0.3,"
    "   \"pool_type\": \"avg_all\", \"final_ln_after_pool\": true, \"ls_init_value\": 0.125,"
    "   \"norm_kwargs\": {\"eps\": 1e-6, \"elementwise_affine\": true, \"bias\": true}},"
    " \"text_cfg\": {\"width\": 8, \"heads\": 1, \"layers\": 1, \"vocab_size\": 10,"
    "   \"context_length\": 5, \"ls_init_value\": 0, \"proj_bias\": true,"
    "   \"proj_type\": \"linear\", \"block_type\": null, \"final_ln_after_pool\": true}}";

static void test_special_fields(void)
{
    static const double no_dropout = 0;
    const struct clip_overrides overrides = {.patch_dropout = &no_dropout,
                                             .pos_embed_type = "learnable"};
    struct clip_config c;
    struct error error = {0};
    CHECK(clip_config_parse(&c, special, strlen(special), NULL, &error) == STATUS_OK, "%s",
          error.text);
    CHECK(c.has_logit_bias && c.init_logit_bias == -10 && !c.vector_logit_scale, "logit bias");
    CHECK(c.vision.fixed_positions && c.vision.patch_dropout == 0.3 &&
              c.vision.pool == IMAGE_POOL_MEAN_ALL && c.vision.norm_after_pool,
          "vision");
    CHECK(c.vision.transformer.layer_scale && c.vision.transformer.layer_scale_init == 0.125f &&
              c.text.transformer.layer_scale && c.text.transformer.layer_scale_init == 0,
          "layer scale, of which 0 is one");
    CHECK(c.text.projection == PROJECTION_LINEAR, "projection %d", (int)c.text.projection);
    CHECK(strstr(c.model_json, "custom_text") == NULL, "our tensors have the flat names");
    clip_config_free(&c);

    CHECK(clip_config_parse(&c, special, strlen(special), &overrides, &error) == STATUS_OK,
          "%s", error.text);
    CHECK(!c.vision.fixed_positions && c.vision.patch_dropout == 0, "overrides");
    clip_config_free(&c);
}

/* Names, order and shapes are open_clip's named_parameters() of the same model. */
static void test_special_table(void)
{
    struct clip_config config;
    struct parameters table;
    struct error error = {0};
    CHECK(clip_config_parse(&config, special, strlen(special), NULL, &error) == STATUS_OK, "%s",
          error.text);
    CHECK(parameters_init(&table, &config, &error) == STATUS_OK, "%s", error.text);
    CHECK(table.count == 16 + 2 * 14, "%zu tensors", table.count);
    CHECK(table.total == clip_config_parameters(&config), "%zu parameters", table.total);
    check_place(&table, 0, "positional_embedding", 2, 5);
    check_place(&table, 1, "logit_scale", 0, 0);
    check_place(&table, 2, "logit_bias", 0, 0);
    check_place(&table, 4, "visual.positional_embedding", 2, 17);
    check_place(&table, 15, "visual.transformer.resblocks.0.ls_1.gamma", 1, 8);
    check_place(&table, 22, "visual.transformer.resblocks.0.ls_2.gamma", 1, 8);
    check_place(&table, 42, "text_projection.weight", 2, 16);
    check_place(&table, 43, "text_projection.bias", 1, 16);
    CHECK(table.list[4].fixed && table.list[4].decay == DECAY_NEVER, "fixed positions");
    CHECK(!table.list[0].fixed && table.list[0].decay == DECAY_POSITION, "text positions");

    float *a = calloc(table.floats, sizeof *a);
    parameters_initialize(&table, a, 1);
    const float *row = a + table.vision.positional_embedding + 8; /* the patch at (0, 0) */
    CHECK(row[-8] == 0 && row[-1] == 0, "the class token has no position");
    CHECK(row[0] == 0 && row[2] == 1 && row[4] == 0 && row[6] == 1, "position (0, 0)");
    row += 8 * 6; /* (2, 1); the second frequency of two is 1/100 */
    CHECK_NEAR((double)row[0], sin(2), 1e-7, "sin x");
    CHECK_NEAR((double)row[1], sin(0.02), 1e-7, "sin x / 100");
    CHECK_NEAR((double)row[3], cos(0.02), 1e-7, "cos x / 100");
    CHECK_NEAR((double)row[4], sin(1), 1e-7, "sin y");
    CHECK_NEAR((double)row[7], cos(0.01), 1e-7, "cos y / 100");
    CHECK(a[table.logit_bias] == -10, "logit bias %g", (double)a[table.logit_bias]);
    CHECK(a[table.vision.blocks[0].out_scale] == 0.125f &&
              a[table.vision.blocks[0].proj_scale + 7] == 0.125f &&
              a[table.text.blocks[0].out_scale] == 0,
          "layer scales");
    free(a);
    parameters_free(&table);
    clip_config_free(&config);
}

/* ---- what is refused ---- */

struct refusal {
    const char *json, *message;
};

#define BEGIN "{\"embed_dim\": 4, \"vision_cfg\": {"
#define MIDDLE "}, \"text_cfg\": {"
#define FINISH "}}"

static const struct refusal refusals[] = {
    {"", "line 1, column 0"},
    {"[1]", "not an object"},
    {"{\"embed_dim\": 4, \"embed_dim\": 4}", "duplicate"},
    {"{\"embed_dim\": 4, \"vision_cfg\": {}}", "text_cfg is missing"},
    {"{\"embed_dim\": 4, \"vision_cfg\": {}, \"text_cfg\": null}", "text_cfg is missing"},
    {"{\"embed_dim\": 4, \"vision_cfg\": 7, \"text_cfg\": {}}", "vision_cfg is 7, expected an"},
    {BEGIN MIDDLE "}, \"vision\": {" FINISH, "vision is not supported"},
    {BEGIN "\"foo\": 1" MIDDLE FINISH, "vision_cfg.foo is not supported"},
    {BEGIN MIDDLE "\"foo\": 1" FINISH, "text_cfg.foo is not supported"},
    {BEGIN "\"timm_model_name\": \"resnet\"" MIDDLE FINISH, "timm_model_name is not"},
    {BEGIN "\"ls_init_value\": \"a\"" MIDDLE FINISH,
     "vision_cfg.ls_init_value is \"a\", expected"},
    {BEGIN MIDDLE "\"ls_init_value\": 1e9" FINISH, "text_cfg.ls_init_value is 1e+09, expected"},
    {BEGIN "\"patch_dropout\": 1.0" MIDDLE FINISH, "vision_cfg.patch_dropout is 1, expected"},
    {BEGIN "\"patch_dropout\": -0.1" MIDDLE FINISH, "vision_cfg.patch_dropout is -0.1"},
    {BEGIN "\"pos_embed_type\": \"rope\"" MIDDLE FINISH, "one of learnable|sin_cos_2d"},
    {BEGIN "\"pos_embed_type\": \"sin_cos_2d\", \"width\": 66, \"head_width\": 22"
     MIDDLE FINISH,
     "a multiple of 4, found 66"},
    {BEGIN "\"qk_norm\": true" MIDDLE FINISH, "vision_cfg.qk_norm is not supported"},
    {BEGIN "\"norm_kwargs\": {\"elementwise_affine\": false}" MIDDLE FINISH,
     "vision_cfg.norm_kwargs.elementwise_affine is not supported, except as true"},
    {BEGIN MIDDLE "\"hf_model_name\": \"roberta\"" FINISH, "text_cfg.hf_model_name is not"},
    {BEGIN MIDDLE "\"proj_bias\": 1" FINISH, "text_cfg.proj_bias is 1, expected true or false"},
    {BEGIN MIDDLE "\"proj_type\": \"none\"" FINISH, "the width of embed_dim, 4, found 512"},
    {BEGIN MIDDLE "\"proj_type\": \"mlp\"" FINISH,
     "text_cfg.proj_type is \"mlp\", expected one"},
    {BEGIN MIDDLE "\"pool_type\": \"none\"" FINISH, "text_cfg.pool_type is \"none\""},
    {BEGIN "\"act_kwargs\": {\"slope\": 1}" MIDDLE FINISH, "act_kwargs.slope is not"},
    {BEGIN "\"act_kwargs\": {\"approximate\": \"sin\"}" MIDDLE FINISH, "one of none|tanh"},
    {BEGIN "\"norm_kwargs\": {\"eps\": 0}" MIDDLE FINISH, "vision_cfg.norm_kwargs.eps is 0"},
    {BEGIN "\"layers\": [2, 2, 2, 2]" MIDDLE FINISH, "vision_cfg.layers is a list"},
    {BEGIN "\"layers\": 0" MIDDLE FINISH, "vision_cfg.layers is 0, expected an integer from 1"},
    {BEGIN "\"layers\": 12.0" MIDDLE FINISH, "vision_cfg.layers is 12"},
    {BEGIN "\"width\": 100000000000" MIDDLE FINISH, "vision_cfg.width is 100000000000"},
    {BEGIN "\"image_size\": -224" MIDDLE FINISH, "vision_cfg.image_size is -224"},
    {BEGIN "\"image_size\": 8" MIDDLE FINISH, "vision_cfg.patch_size is 16, expected at most"},
    {BEGIN "\"image_size\": 65536, \"patch_size\": 1" MIDDLE FINISH, "65536 x 65536 patches"},
    {BEGIN "\"width\": 100" MIDDLE "\"heads\": 7" FINISH, "text_cfg.width is 512"},
    {BEGIN "\"width\": 32" MIDDLE FINISH, "vision_cfg.head_width is 64, expected at most"},
    {BEGIN "\"mlp_ratio\": 0" MIDDLE FINISH, "vision_cfg.mlp_ratio is 0"},
    {BEGIN "\"mlp_ratio\": 1e9" MIDDLE FINISH, "vision_cfg.mlp_ratio is 1e+09"},
    {BEGIN "\"pool_type\": \"none\"" MIDDLE FINISH, "vision_cfg.pool_type is \"none\""},
    {BEGIN MIDDLE "\"pool_type\": \"ar\"" FINISH, "text_cfg.pool_type is \"ar\", expected one"},
    {BEGIN MIDDLE "\"vocab_size\": 3000000000" FINISH, "text_cfg.vocab_size is 3000000000"},
    {BEGIN MIDDLE "\"no_causal_mask\": 1" FINISH, "no_causal_mask is 1, expected true"},
    {BEGIN MIDDLE "}, \"custom_text\": 1, \"x\": {" FINISH, "custom_text is 1, expected"},
    {BEGIN MIDDLE "}, \"init_logit_bias\": \"-10\", \"x\": {" FINISH,
     "init_logit_bias is \"-10\""},
    {BEGIN MIDDLE "}, \"multimodal_cfg\": {}, \"x\": {" FINISH,
     "multimodal_cfg is not supported"},
    {BEGIN "\"act_kwargs\": {\"approximate\": \"tanh\"}" MIDDLE "}, \"quick_gelu\": true}",
     "does not go with quick_gelu"},
    {"{\"model_cfg\": " BEGIN MIDDLE FINISH ", \"preprocess_cfg\": {\"mean\": [0.5, 0.5]}}",
     "preprocess_cfg.mean is a list, expected a list of three"},
    {"{\"model_cfg\": " BEGIN MIDDLE FINISH ", \"preprocess_cfg\": {\"std\": [1, 0, 1]}}",
     "preprocess_cfg.std is 0"},
    {"{\"model_cfg\": 3}", "not an object"},
};

static void test_refusals(void)
{
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const struct refusal *r = &refusals[i];
        struct clip_config config;
        struct error error = {0};
        enum status status = clip_config_parse(&config, r->json, strlen(r->json), NULL, &error);
        CHECK(status == STATUS_DATA, "%s: status %d", r->json, status);
        CHECK(strstr(error.text, r->message) != NULL, "%s: '%s', expected '%s'", r->json,
              error.text, r->message);
        CHECK(config.model_json == NULL, "%s: something is left", r->json);
        if (status == STATUS_OK)
            clip_config_free(&config);
    }
    struct clip_config config;
    struct error error = {0};
    CHECK(clip_config_load(&config, "/nonexistent/model.json", NULL, &error) == STATUS_NO_INPUT,
          "no such file");
    CHECK(strstr(error.text, "/nonexistent/model.json") != NULL, "%s", error.text);
}

int main(void)
{
    for (size_t i = 0; i < PROFILES; i++)
        test_profile(&profiles[i]);
    test_every_preset_is_listed();
    for (size_t i = 0; i < sizeof reduced / sizeof reduced[0]; i++)
        test_reduced_flops(&reduced[i]);
    test_masked_flops();
    test_table();
    test_initial_values();
    test_defaults();
    test_special_fields();
    test_special_table();
    test_round_trip();
    test_refusals();
    return check_report("test_config");
}
