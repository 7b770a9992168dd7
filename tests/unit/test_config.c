/* test_config.c - configurations that are accepted and refused, and the closed forms and the
 * parameter table against open_clip's published profile of its models. */
#include <math.h>
#include <stdlib.h>

#include "model/config.h"
#include "model/parameters.h"
#include "tests/unit/check.h"

/* ---- the profile: docs/model_profile.csv of open_clip, in millions and GFLOPs ---- */

#define FULL_TEXT "\"context_length\": 77, \"vocab_size\": 49408"
#define TEXT_B "\"text_cfg\": {\"width\": 512, \"heads\": 8, \"layers\": 12, " FULL_TEXT "}}"
#define TEXT_L "\"text_cfg\": {\"width\": 768, \"heads\": 12, \"layers\": 12, " FULL_TEXT "}}"
#define TEXT_H "\"text_cfg\": {\"width\": 1024, \"heads\": 16, \"layers\": 24, " FULL_TEXT "}}"
#define CLIPA_IMAGE "\"no_ln_pre\": true, \"pool_type\": \"avg\", \"final_ln_after_pool\": true"
#define CLIPA_TEXT "\"context_length\": 32, \"vocab_size\": 32000," \
                   " \"hf_tokenizer_name\": \"bert-base-uncased\"," \
                   " \"tokenizer_kwargs\": {\"strip_sep_token\": true}," \
                   " \"pool_type\": \"last\", \"no_causal_mask\": true"

struct profile {
    const char *name, *json;
    double image_millions, text_millions, image_gflops, text_gflops;
};

static const struct profile profiles[] = {
    {"ViT-B-32",
     "{\"embed_dim\": 512, \"vision_cfg\": {\"image_size\": 224, \"layers\": 12,"
     " \"width\": 768, \"patch_size\": 32}, " TEXT_B,
     87.85, 63.43, 8.82, 5.96},
    {"ViT-B-16",
     "{\"embed_dim\": 512, \"vision_cfg\": {\"image_size\": 224, \"layers\": 12,"
     " \"width\": 768, \"patch_size\": 16}, " TEXT_B,
     86.19, 63.43, 35.13, 5.96},
    {"ViT-L-16",
     "{\"embed_dim\": 768, \"vision_cfg\": {\"image_size\": 224, \"layers\": 24,"
     " \"width\": 1024, \"patch_size\": 16}, " TEXT_L,
     304.09, 123.65, 123.11, 13.30},
    {"ViT-L-14",
     "{\"embed_dim\": 768, \"vision_cfg\": {\"image_size\": 224, \"layers\": 24,"
     " \"width\": 1024, \"patch_size\": 14}, " TEXT_L,
     303.97, 123.65, 162.03, 13.30},
    {"ViT-H-14",
     "{\"embed_dim\": 1024, \"vision_cfg\": {\"image_size\": 224, \"layers\": 32,"
     " \"width\": 1280, \"head_width\": 80, \"patch_size\": 14}, " TEXT_H,
     632.08, 354.03, 334.59, 47.09},
    {"ViT-L-14-CLIPA",
     "{\"embed_dim\": 768, \"vision_cfg\": {\"image_size\": 224, \"layers\": 24,"
     " \"width\": 1024, \"patch_size\": 14, " CLIPA_IMAGE "},"
     " \"text_cfg\": {\"width\": 768, \"heads\": 12, \"layers\": 12, " CLIPA_TEXT "}}",
     303.96, 110.25, 162.03, 5.47},
    {"ViT-L-14-CLIPA-336",
     "{\"embed_dim\": 768, \"vision_cfg\": {\"image_size\": 336, \"layers\": 24,"
     " \"width\": 1024, \"patch_size\": 14, " CLIPA_IMAGE "},"
     " \"text_cfg\": {\"width\": 768, \"heads\": 12, \"layers\": 12, " CLIPA_TEXT "}}",
     304.29, 110.25, 381.92, 5.47},
    {"ViT-H-14-CLIPA",
     "{\"embed_dim\": 1024, \"vision_cfg\": {\"image_size\": 224, \"layers\": 32,"
     " \"width\": 1280, \"head_width\": 80, \"patch_size\": 14, " CLIPA_IMAGE "},"
     " \"text_cfg\": {\"width\": 1024, \"heads\": 16, \"layers\": 24, " CLIPA_TEXT "}}",
     632.07, 336.16, 334.59, 19.43},
};

/* The profile has two decimals. */
static void test_profile(const struct profile *profile)
{
    struct clip_config config;
    struct parameters table;
    struct error error = {0};
    enum status status =
        clip_config_parse(&config, profile->json, strlen(profile->json), NULL, &error);
    CHECK(status == STATUS_OK, "%s: %s", profile->name, error.text);
    if (status != STATUS_OK)
        return;
    size_t image = clip_config_image_parameters(&config);
    size_t text = clip_config_text_parameters(&config);
    CHECK_NEAR((double)image * 1e-6, profile->image_millions, 0.00501, "%s", profile->name);
    CHECK_NEAR((double)text * 1e-6, profile->text_millions, 0.00501, "%s", profile->name);
    CHECK_NEAR(clip_config_image_flops(&config, clip_config_patches(&config)) * 1e-9,
               profile->image_gflops, 0.00501, "%s", profile->name);
    CHECK_NEAR(clip_config_text_flops(&config) * 1e-9, profile->text_gflops, 0.00501, "%s",
               profile->name);

    CHECK(parameters_init(&table, &config, &error) == STATUS_OK, "%s", error.text);
    CHECK(table.total == image + text + 1, "%s: %zu in the table, %zu by the closed form",
          profile->name, table.total, image + text + 1);
    parameters_free(&table);
    clip_config_free(&config);
}

/* CLIPA's reduced sequences: 36 of 196 patches of L/16, and 8 tokens. */
static void test_reduced_flops(void)
{
    static const char json[] =
        "{\"embed_dim\": 768, \"vision_cfg\": {\"image_size\": 96, \"layers\": 24,"
        " \"width\": 1024, \"patch_size\": 16}, \"text_cfg\": {\"context_length\": 8,"
        " \"width\": 768, \"heads\": 12, \"layers\": 12}}";
    struct clip_config config;
    struct error error = {0};
    CHECK(clip_config_parse(&config, json, strlen(json), NULL, &error) == STATUS_OK, "%s",
          error.text);
    CHECK_NEAR(clip_config_image_flops(&config, 36) * 1e-9, 22.5, 0.05, "37 image tokens");
    CHECK_NEAR(clip_config_text_flops(&config) * 1e-9, 1.4, 0.05, "8 text tokens");
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
        CHECK(a->decays == (a->rank >= 2) &&
                  a->decays == (a->offset < table.decay_floats),
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
    {BEGIN "\"ls_init_value\": 0.1" MIDDLE FINISH, "vision_cfg.ls_init_value is not supported"},
    {BEGIN "\"patch_dropout\": 0.5" MIDDLE FINISH, "vision_cfg.patch_dropout is not supported"},
    {BEGIN "\"pos_embed_type\": \"sin_cos_2d\"" MIDDLE FINISH, "vision_cfg.pos_embed_type is"},
    {BEGIN MIDDLE "\"hf_model_name\": \"roberta\"" FINISH, "text_cfg.hf_model_name is not"},
    {BEGIN MIDDLE "\"proj_bias\": true" FINISH, "text_cfg.proj_bias is not supported"},
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
    {BEGIN MIDDLE "}, \"custom_text\": true, \"x\": {" FINISH, "custom_text is not supported"},
    {BEGIN MIDDLE "}, \"init_logit_bias\": -10, \"x\": {" FINISH, "init_logit_bias is not"},
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
    for (size_t i = 0; i < sizeof profiles / sizeof profiles[0]; i++)
        test_profile(&profiles[i]);
    test_reduced_flops();
    test_table();
    test_initial_values();
    test_defaults();
    test_round_trip();
    test_refusals();
    return check_report("test_config");
}
