#include "model/config.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"

enum { CONFIG_FILE_MAX = 1 << 20 };

/* ---- what the JSON says, field by field ---- */

enum field_kind {
    FIELD_COUNT,   /* size_t in [low, high] */
    FIELD_ID,      /* int64_t in [low, high] */
    FIELD_REAL,    /* double in [low, high] */
    FIELD_OPTION,  /* struct option: the same, or null for none */
    FIELD_FLAG,    /* bool */
    FIELD_CHOICE,  /* int: the index in `names`, a list separated by '|' */
    FIELD_TRIPLE,  /* double[3], each in [low, high] */
    FIELD_OBJECT,  /* an object whose fields are `inner`, or null */
    FIELD_ANY,     /* says nothing about the model: kept, not read */
    FIELD_DEFAULT, /* not supported: nothing but the JSON value `names`, or null */
};

struct field {
    const char *name;
    enum field_kind kind;
    size_t offset; /* in the struct that the section fills */
    double low, high;
    const char *names;
    const struct field *inner;
};

struct option {
    bool given;
    double value;
};

struct raw_tower {
    size_t layers, width;
    double mlp_ratio, eps;
    int approximate; /* 0: "none", 1: "tanh" */
    struct option ls_init_value;
};

struct raw_vision {
    struct raw_tower tower;
    size_t head_width, patch_size, image_size;
    double patch_dropout;
    bool no_ln_pre, final_ln_after_pool;
    int pool_type, pos_embed_type;
};

struct raw_text {
    struct raw_tower tower;
    size_t heads, context_length, vocab_size;
    int64_t pad_id, eos_id;
    bool no_causal_mask, final_ln_after_pool, proj_bias;
    int pool_type, proj_type;
};

struct raw_model {
    size_t embed_dim;
    bool quick_gelu, custom_text, nonscalar_logit_scale;
    double init_logit_scale;
    struct option init_logit_bias;
    struct raw_vision vision;
    struct raw_text text;
};

#define LIMIT_WIDTH 65536
#define LIMIT_LAYERS 1000
#define LIMIT_SIDE 65536
#define LIMIT_MLP_RATIO 64
#define LIMIT_DROPOUT 0.999999
#define LIMIT_LOGIT_BIAS 1000
#define LIMIT_LAYER_SCALE 1000

#define COUNT(name, type, member, high) \
    {name, FIELD_COUNT, offsetof(type, member), 1, high, 0, 0}
#define ID(name, type, member) {name, FIELD_ID, offsetof(type, member), 0, INT32_MAX, 0, 0}
#define REAL(name, type, member, low, high) \
    {name, FIELD_REAL, offsetof(type, member), low, high, 0, 0}
#define OPTION(name, type, member, low, high) \
    {name, FIELD_OPTION, offsetof(type, member), low, high, 0, 0}
#define FLAG(name, type, member) {name, FIELD_FLAG, offsetof(type, member), 0, 0, 0, 0}
#define CHOICE(name, type, member, names) \
    {name, FIELD_CHOICE, offsetof(type, member), 0, 0, names, 0}
#define TRIPLE(name, type, member, low, high) \
    {name, FIELD_TRIPLE, offsetof(type, member), low, high, 0, 0}
#define OBJECT(name, offset, inner) {name, FIELD_OBJECT, offset, 0, 0, 0, inner}
#define ANY(name) {name, FIELD_ANY, 0, 0, 0, 0, 0}
#define DEFAULT(name, value) {name, FIELD_DEFAULT, 0, 0, 0, value, 0}
#define END {0, FIELD_ANY, 0, 0, 0, 0, 0}

/* Fields that open_clip has for blocks of other designs, each with what turns it off. */
#define OTHER_BLOCKS                                                                   \
    DEFAULT("block_type", "\"default\""), DEFAULT("qk_norm", "false"),                 \
        DEFAULT("scaled_cosine_attn", "false"), DEFAULT("scale_heads", "false"),       \
        DEFAULT("scale_attn_inner", "false"), DEFAULT("scale_attn", "false"),          \
        DEFAULT("scale_fc", "false"), DEFAULT("output_tokens", "false")

static const struct field activation_fields[] = {
    CHOICE("approximate", struct raw_tower, approximate, "none|tanh"),
    END,
};

static const struct field norm_fields[] = {
    REAL("eps", struct raw_tower, eps, 1e-12, 1),
    DEFAULT("elementwise_affine", "true"),
    DEFAULT("bias", "true"),
    END,
};

static const struct field vision_fields[] = {
    COUNT("layers", struct raw_vision, tower.layers, LIMIT_LAYERS),
    COUNT("width", struct raw_vision, tower.width, LIMIT_WIDTH),
    COUNT("head_width", struct raw_vision, head_width, LIMIT_WIDTH),
    REAL("mlp_ratio", struct raw_vision, tower.mlp_ratio, 0, LIMIT_MLP_RATIO),
    COUNT("patch_size", struct raw_vision, patch_size, LIMIT_SIDE),
    COUNT("image_size", struct raw_vision, image_size, LIMIT_SIDE),
    FLAG("no_ln_pre", struct raw_vision, no_ln_pre),
    FLAG("final_ln_after_pool", struct raw_vision, final_ln_after_pool),
    CHOICE("pool_type", struct raw_vision, pool_type, "tok|avg|avg_all"),
    CHOICE("pos_embed_type", struct raw_vision, pos_embed_type, "learnable|sin_cos_2d"),
    REAL("patch_dropout", struct raw_vision, patch_dropout, 0, LIMIT_DROPOUT),
    OPTION("ls_init_value", struct raw_vision, tower.ls_init_value, -LIMIT_LAYER_SCALE,
           LIMIT_LAYER_SCALE),
    OBJECT("act_kwargs", offsetof(struct raw_vision, tower), activation_fields),
    OBJECT("norm_kwargs", offsetof(struct raw_vision, tower), norm_fields),
    DEFAULT("attentional_pool", "false"),
    DEFAULT("attn_pooler_queries", "256"),
    DEFAULT("attn_pooler_heads", "8"),
    DEFAULT("timm_model_name", "null"),
    DEFAULT("timm_model_pretrained", "false"),
    DEFAULT("timm_pool", "\"avg\""),
    DEFAULT("timm_proj", "\"linear\""),
    DEFAULT("timm_proj_bias", "false"),
    DEFAULT("timm_drop", "0"),
    DEFAULT("timm_drop_path", "null"),
    OTHER_BLOCKS,
    END,
};

/* The tokenizer's fields are the tokenizer's business: another program has used them already.
 * final_ln_after_pool makes no difference where the pool picks one token. */
static const struct field text_fields[] = {
    COUNT("context_length", struct raw_text, context_length, LIMIT_SIDE),
    COUNT("vocab_size", struct raw_text, vocab_size, INT32_MAX),
    COUNT("width", struct raw_text, tower.width, LIMIT_WIDTH),
    COUNT("heads", struct raw_text, heads, LIMIT_WIDTH),
    COUNT("layers", struct raw_text, tower.layers, LIMIT_LAYERS),
    REAL("mlp_ratio", struct raw_text, tower.mlp_ratio, 0, LIMIT_MLP_RATIO),
    ID("pad_id", struct raw_text, pad_id),
    ID("eos_id", struct raw_text, eos_id),
    FLAG("no_causal_mask", struct raw_text, no_causal_mask),
    FLAG("final_ln_after_pool", struct raw_text, final_ln_after_pool),
    CHOICE("pool_type", struct raw_text, pool_type, "argmax|last|first|eos"),
    CHOICE("proj_type", struct raw_text, proj_type, "linear|none"),
    FLAG("proj_bias", struct raw_text, proj_bias),
    OPTION("ls_init_value", struct raw_text, tower.ls_init_value, -LIMIT_LAYER_SCALE,
           LIMIT_LAYER_SCALE),
    OBJECT("act_kwargs", offsetof(struct raw_text, tower), activation_fields),
    OBJECT("norm_kwargs", offsetof(struct raw_text, tower), norm_fields),
    ANY("hf_tokenizer_name"),
    ANY("tokenizer_mode"),
    ANY("tokenizer_kwargs"),
    DEFAULT("embed_cls", "false"),
    DEFAULT("hf_model_name", "null"),
    DEFAULT("hf_model_pretrained", "true"),
    DEFAULT("hf_proj_type", "\"mlp\""),
    DEFAULT("hf_pooler_type", "\"mean_pooler\""),
    OTHER_BLOCKS,
    END,
};

static const struct field model_fields[] = {
    COUNT("embed_dim", struct raw_model, embed_dim, LIMIT_WIDTH),
    FLAG("quick_gelu", struct raw_model, quick_gelu),
    REAL("init_logit_scale", struct raw_model, init_logit_scale, -20, 20),
    OBJECT("vision_cfg", offsetof(struct raw_model, vision), vision_fields),
    OBJECT("text_cfg", offsetof(struct raw_model, text), text_fields),
    OPTION("init_logit_bias", struct raw_model, init_logit_bias, -LIMIT_LOGIT_BIAS,
           LIMIT_LOGIT_BIAS),
    FLAG("nonscalar_logit_scale", struct raw_model, nonscalar_logit_scale),
    FLAG("custom_text", struct raw_model, custom_text),
    DEFAULT("multimodal_cfg", "null"),
    END,
};

struct raw_preprocess {
    double mean[3], std[3];
    int interpolation, resize_mode;
    int64_t fill_color;
};

/* The size is the model's image_size, whatever stands here: open_clip overwrites it too. */
static const struct field preprocess_fields[] = {
    TRIPLE("mean", struct raw_preprocess, mean, -1000, 1000),
    TRIPLE("std", struct raw_preprocess, std, 1e-6, 1000),
    CHOICE("interpolation", struct raw_preprocess, interpolation, "bicubic|bilinear"),
    CHOICE("resize_mode", struct raw_preprocess, resize_mode, "shortest|squash|longest"),
    {"fill_color", FIELD_ID, offsetof(struct raw_preprocess, fill_color), 0, 255, 0, 0},
    DEFAULT("mode", "\"RGB\""),
    ANY("size"),
    END,
};

static const char *const interpolations[] = {"bicubic", "bilinear"};
static const char *const resize_modes[] = {"shortest", "squash", "longest"};

static const struct raw_model model_defaults = {
    .init_logit_scale = 2.6592600369327779, /* ln(1 / 0.07) */
    .vision = {.tower = {12, 768, 4.0, 1e-5, 0, {false, 0}},
               .head_width = 64,
               .patch_size = 16,
               .image_size = 224},
    .text = {.tower = {12, 512, 4.0, 1e-5, 0, {false, 0}},
             .heads = 8,
             .context_length = 77,
             .vocab_size = 49408,
             .eos_id = 2},
};

static const struct raw_preprocess preprocess_defaults = {
    .mean = {0.48145466, 0.4578275, 0.40821073},
    .std = {0.26862954, 0.26130258, 0.27577711},
};

/* ---- reading one value ---- */

/* "vision_cfg.width" for messages: sections are nested twice at most. */
struct place {
    char text[128];
};

static struct place place_of(const char *section, const char *name)
{
    struct place place;
    const char *dot = *section != '\0' && *name != '\0' ? "." : "";
    snprintf(place.text, sizeof place.text, "%s%s%.60s", section, dot, name);
    return place;
}

static enum status wrong_value(const json_t *value, const struct place *place,
                               const char *expected, struct error *error)
{
    char found[96];
    if (json_is_integer(value))
        snprintf(found, sizeof found, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        snprintf(found, sizeof found, "%g", json_real_value(value));
    else if (json_is_string(value))
        snprintf(found, sizeof found, "\"%.60s\"", json_string_value(value));
    else
        snprintf(found, sizeof found, "%s",
                 json_is_array(value)    ? "a list"
                 : json_is_object(value) ? "an object"
                 : json_is_true(value)   ? "true"
                 : json_is_false(value)  ? "false"
                                         : "null");
    return error_set(error, STATUS_DATA, "%s is %s, expected %s", place->text, found, expected);
}

static enum status read_integer(const json_t *value, const struct field *field, int64_t *out,
                                const struct place *place, struct error *error)
{
    char expected[96];
    snprintf(expected, sizeof expected, "an integer from %.0f to %.0f", field->low,
             field->high);
    if (!json_is_integer(value) || (double)json_integer_value(value) < field->low ||
        (double)json_integer_value(value) > field->high)
        return wrong_value(value, place, expected, error);
    *out = json_integer_value(value);
    return STATUS_OK;
}

static enum status read_real(const json_t *value, const struct field *field, double *out,
                             const struct place *place, struct error *error)
{
    char expected[96];
    snprintf(expected, sizeof expected, "a number from %g to %g", field->low, field->high);
    double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= field->low && number <= field->high))
        return wrong_value(value, place, expected, error);
    *out = number;
    return STATUS_OK;
}

static enum status read_option(const json_t *value, const struct field *field,
                               struct option *out, const struct place *place,
                               struct error *error)
{
    out->given = !json_is_null(value);
    return out->given ? read_real(value, field, &out->value, place, error) : STATUS_OK;
}

static enum status read_triple(const json_t *value, const struct field *field, double out[3],
                               const struct place *place, struct error *error)
{
    if (json_array_size(value) != 3)
        return wrong_value(value, place, "a list of three numbers", error);
    for (size_t i = 0; i < 3; i++) {
        enum status status =
            read_real(json_array_get(value, i), field, &out[i], place, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status read_choice(const json_t *value, const struct field *field, int *out,
                               const struct place *place, struct error *error)
{
    char expected[96];
    snprintf(expected, sizeof expected, "one of %s", field->names);
    if (!json_is_string(value))
        return wrong_value(value, place, expected, error);

    const char *wanted = json_string_value(value);
    size_t length = strlen(wanted);
    const char *name = field->names;
    for (int i = 0;; i++) {
        size_t name_length = strcspn(name, "|");
        if (name_length == length && memcmp(name, wanted, length) == 0) {
            *out = i;
            return STATUS_OK;
        }
        if (name[name_length] == '\0')
            return wrong_value(value, place, expected, error);
        name += name_length + 1;
    }
}

/* 0 and 0.0 are the same default. */
static enum status check_default(const json_t *value, const struct field *field,
                                 const struct place *place, struct error *error)
{
    json_t *expected = json_loads(field->names, JSON_DECODE_ANY, NULL);
    bool same = json_is_number(value) && json_is_number(expected)
                    ? json_number_value(value) == json_number_value(expected)
                    : json_equal(value, expected);
    json_decref(expected);
    if (same || json_is_null(value))
        return STATUS_OK;
    return error_set(error, STATUS_DATA, "%s is not supported, except as %s", place->text,
                     field->names);
}

static enum status read_object(const json_t *object, const struct field *fields, void *into,
                               const char *section, struct error *error);

static enum status read_field(const json_t *value, const struct field *field, void *into,
                              const struct place *place, struct error *error)
{
    void *member = (char *)into + field->offset;
    int64_t integer = 0;
    enum status status = STATUS_OK;
    switch (field->kind) {
    case FIELD_COUNT:
        status = read_integer(value, field, &integer, place, error);
        if (status == STATUS_OK)
            *(size_t *)member = (size_t)integer;
        return status;
    case FIELD_ID:
        return read_integer(value, field, member, place, error);
    case FIELD_REAL:
        return read_real(value, field, member, place, error);
    case FIELD_OPTION:
        return read_option(value, field, member, place, error);
    case FIELD_FLAG:
        if (!json_is_boolean(value))
            return wrong_value(value, place, "true or false", error);
        *(bool *)member = json_is_true(value);
        return STATUS_OK;
    case FIELD_CHOICE:
        return read_choice(value, field, member, place, error);
    case FIELD_TRIPLE:
        return read_triple(value, field, member, place, error);
    case FIELD_OBJECT:
        if (json_is_null(value))
            return STATUS_OK;
        return read_object(value, field->inner, member, place->text, error);
    case FIELD_DEFAULT:
        return check_default(value, field, place, error);
    case FIELD_ANY:
        return STATUS_OK;
    }
    return STATUS_OK;
}

static enum status read_object(const json_t *object, const struct field *fields, void *into,
                               const char *section, struct error *error)
{
    struct place whole = place_of(section, "");
    if (!json_is_object(object))
        return wrong_value(object, &whole, "an object", error);

    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        const struct field *field = fields;
        while (field->name != NULL && strcmp(field->name, key) != 0)
            field++;
        struct place place = place_of(section, key);
        if (field->name == NULL)
            return error_set(error, STATUS_DATA, "%s is not supported", place.text);
        enum status status = read_field(value, field, into, &place, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

/* ---- from what was read to what the model needs ---- */

static enum status resolve_tower(struct transformer_config *out, const struct raw_tower *raw,
                                 size_t heads, bool quick_gelu, const char *section,
                                 struct error *error)
{
    if (raw->width % heads != 0)
        return error_set(error, STATUS_DATA,
                         "%s.width is %zu, expected a multiple of its %zu heads", section,
                         raw->width, heads);
    if (quick_gelu && raw->approximate != 0)
        return error_set(error, STATUS_DATA,
                         "%s.act_kwargs.approximate does not go with quick_gelu", section);

    double hidden = floor((double)raw->width * raw->mlp_ratio);
    if (hidden < 1)
        return error_set(error, STATUS_DATA,
                         "%s.mlp_ratio is %g, which leaves no hidden unit for width %zu",
                         section, raw->mlp_ratio, raw->width);
    *out = (struct transformer_config){
        .layers = raw->layers,
        .width = raw->width,
        .heads = heads,
        .hidden = (size_t)hidden,
        .norm_eps = (float)raw->eps,
        .layer_scale = raw->ls_init_value.given,
        .layer_scale_init = (float)raw->ls_init_value.value,
        .activation = quick_gelu         ? ACTIVATION_QUICK_GELU
                      : raw->approximate ? ACTIVATION_GELU_TANH
                                         : ACTIVATION_GELU,
    };
    return STATUS_OK;
}

static enum status resolve_vision(struct vision_config *out, const struct raw_vision *raw,
                                  bool quick_gelu, struct error *error)
{
    if (raw->head_width > raw->tower.width)
        return error_set(error, STATUS_DATA,
                         "vision_cfg.head_width is %zu, expected at most the width %zu",
                         raw->head_width, raw->tower.width);
    enum status status =
        resolve_tower(&out->transformer, &raw->tower, raw->tower.width / raw->head_width,
                      quick_gelu, "vision_cfg", error);
    if (status != STATUS_OK)
        return status;
    if (raw->patch_size > raw->image_size)
        return error_set(error, STATUS_DATA,
                         "vision_cfg.patch_size is %zu, expected at most the image size %zu",
                         raw->patch_size, raw->image_size);
    out->image_size = raw->image_size;
    out->patch_size = raw->patch_size;
    out->grid = raw->image_size / raw->patch_size;
    out->norm_pre = !raw->no_ln_pre;
    out->pool = (enum image_pool)raw->pool_type;
    out->norm_after_pool = raw->final_ln_after_pool;
    out->patch_dropout = raw->patch_dropout;
    out->fixed_positions = raw->pos_embed_type == 1;

    /* Sine and cosine for either axis. */
    if (out->fixed_positions && raw->tower.width % 4 != 0)
        return error_set(error, STATUS_DATA,
                         "vision_cfg.pos_embed_type is \"sin_cos_2d\", which needs a width "
                         "that is a multiple of 4, found %zu",
                         raw->tower.width);
    /* Positions are I32, and the class token has one too. */
    if (out->grid * out->grid >= INT32_MAX)
        return error_set(error, STATUS_DATA, "vision_cfg.image_size gives %zu x %zu patches",
                         out->grid, out->grid);
    return STATUS_OK;
}

static enum status resolve_text(struct text_config *out, const struct raw_text *raw,
                                size_t embed_dim, bool quick_gelu, struct error *error)
{
    enum status status = resolve_tower(&out->transformer, &raw->tower, raw->heads, quick_gelu,
                                       "text_cfg", error);
    if (status != STATUS_OK)
        return status;
    out->transformer.causal = !raw->no_causal_mask;
    out->context_length = raw->context_length;
    out->vocab_size = raw->vocab_size;
    out->pool = (enum text_pool)raw->pool_type;
    out->projection = raw->proj_type == 1 ? PROJECTION_NONE
                      : raw->proj_bias    ? PROJECTION_LINEAR
                                          : PROJECTION_MATRIX;
    out->pad_id = (int32_t)raw->pad_id;
    out->eos_id = (int32_t)raw->eos_id;
    if (out->projection == PROJECTION_NONE && raw->tower.width != embed_dim)
        return error_set(error, STATUS_DATA,
                         "text_cfg.proj_type is \"none\", which needs the width of embed_dim, "
                         "%zu, found %zu",
                         embed_dim, raw->tower.width);
    return STATUS_OK;
}

static enum status read_model(struct clip_config *config, const json_t *model,
                              struct error *error)
{
    static const char *const needed[] = {"embed_dim", "vision_cfg", "text_cfg"};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        const json_t *value = json_object_get(model, needed[i]);
        if (value == NULL || json_is_null(value))
            return error_set(error, STATUS_DATA, "%s is missing", needed[i]);
    }

    struct raw_model raw = model_defaults;
    enum status status = read_object(model, model_fields, &raw, "", error);
    if (status == STATUS_OK)
        status = resolve_vision(&config->vision, &raw.vision, raw.quick_gelu, error);
    if (status == STATUS_OK)
        status = resolve_text(&config->text, &raw.text, raw.embed_dim, raw.quick_gelu, error);
    config->embed_dim = raw.embed_dim;
    config->init_logit_scale = (float)raw.init_logit_scale;
    config->init_logit_bias = (float)raw.init_logit_bias.value;
    config->has_logit_bias = raw.init_logit_bias.given;
    config->vector_logit_scale = raw.nonscalar_logit_scale;
    return status;
}

static enum status read_preprocess(struct preprocess_config *out, const json_t *object,
                                   struct error *error)
{
    struct raw_preprocess raw = preprocess_defaults;
    enum status status = STATUS_OK;
    if (object != NULL && !json_is_null(object))
        status = read_object(object, preprocess_fields, &raw, "preprocess_cfg", error);
    memcpy(out->mean, raw.mean, sizeof out->mean);
    memcpy(out->std, raw.std, sizeof out->std);
    snprintf(out->interpolation, sizeof out->interpolation, "%s",
             interpolations[raw.interpolation]);
    snprintf(out->resize_mode, sizeof out->resize_mode, "%s", resize_modes[raw.resize_mode]);
    out->fill_color = raw.fill_color;
    return status;
}

/* ---- the document ---- */

static void apply_overrides(json_t *model, const struct clip_overrides *overrides)
{
    json_t *vision = json_object_get(model, "vision_cfg");
    json_t *text = json_object_get(model, "text_cfg");
    if (overrides->image_size != 0)
        json_object_set_new(vision, "image_size",
                            json_integer((json_int_t)overrides->image_size));
    if (overrides->context_length != 0)
        json_object_set_new(text, "context_length",
                            json_integer((json_int_t)overrides->context_length));
    if (overrides->quick_gelu)
        json_object_set_new(model, "quick_gelu", json_true());
    if (overrides->patch_dropout != NULL)
        json_object_set_new(vision, "patch_dropout", json_real(*overrides->patch_dropout));
    if (overrides->pos_embed_type != NULL)
        json_object_set_new(vision, "pos_embed_type", json_string(overrides->pos_embed_type));
}

/* A whole open_clip_config.json has model_cfg; other keys beside it are not the model's. */
static enum status read_document(struct clip_config *config, json_t *document,
                                 const struct clip_overrides *overrides, struct error *error)
{
    json_t *model = json_object_get(document, "model_cfg");
    const json_t *preprocess = NULL;
    if (model != NULL)
        preprocess = json_object_get(document, "preprocess_cfg");
    else
        model = document;
    if (!json_is_object(model))
        return error_set(error, STATUS_DATA, "the model configuration is not an object");

    if (overrides != NULL)
        apply_overrides(model, overrides);
    enum status status = read_model(config, model, error);
    if (status == STATUS_OK)
        status = read_preprocess(&config->preprocess, preprocess, error);
    if (status != STATUS_OK)
        return status;

    json_object_del(model, "custom_text");
    config->model_json = json_dumps(model, JSON_INDENT(4));
    if (config->model_json == NULL)
        return error_memory(error, CONFIG_FILE_MAX, "the model configuration");
    return STATUS_OK;
}

enum status clip_config_parse(struct clip_config *config, const char *json, size_t size,
                              const struct clip_overrides *overrides, struct error *error)
{
    *config = (struct clip_config){0};
    json_error_t parse_error;
    json_t *document = json_loadb(json, size, JSON_REJECT_DUPLICATES, &parse_error);
    if (document == NULL)
        return error_set(error, STATUS_DATA, "line %d, column %d: %s", parse_error.line,
                         parse_error.column, parse_error.text);
    enum status status = read_document(config, document, overrides, error);
    json_decref(document);
    if (status != STATUS_OK)
        clip_config_free(config);
    return status;
}

enum status clip_config_load(struct clip_config *config, const char *path,
                             const struct clip_overrides *overrides, struct error *error)
{
    *config = (struct clip_config){0};
    struct buffer text = {0};
    enum status status = io_read_file(path, CONFIG_FILE_MAX, &text, error);
    if (status != STATUS_OK)
        return status;
    status = clip_config_parse(config, (const char *)text.data, text.size, overrides, error);
    buffer_free(&text);
    return status == STATUS_OK ? status : error_prefix(error, "%s", path);
}

static json_t *preprocess_object(const struct preprocess_config *preprocess)
{
    const double *m = preprocess->mean, *s = preprocess->std;
    return json_pack("{s:[fff], s:[fff], s:s, s:s, s:I}", "mean", m[0], m[1], m[2], "std", s[0],
                     s[1], s[2], "interpolation", preprocess->interpolation, "resize_mode",
                     preprocess->resize_mode, "fill_color", (json_int_t)preprocess->fill_color);
}

enum status clip_config_format(const struct clip_config *config, struct buffer *out,
                               struct error *error)
{
    json_t *document =
        json_pack("{s:o, s:o}", "model_cfg", json_loads(config->model_json, 0, NULL),
                  "preprocess_cfg", preprocess_object(&config->preprocess));
    char *text = document == NULL ? NULL : json_dumps(document, JSON_INDENT(4));
    enum status status = STATUS_OK;
    if (text == NULL)
        status = error_memory(error, CONFIG_FILE_MAX, "the model configuration");
    if (status == STATUS_OK)
        status = buffer_append(out, text, strlen(text), error);
    if (status == STATUS_OK)
        status = buffer_append(out, "\n", 1, error);
    free(text);
    json_decref(document);
    return status;
}

void clip_config_free(struct clip_config *config)
{
    free(config->model_json);
    *config = (struct clip_config){0};
}

/* ---- closed forms ---- */

size_t clip_config_patches(const struct clip_config *config)
{
    return config->vision.grid * config->vision.grid;
}

/* By block: two norms, qkv and output projection, two layers of the MLP, each with biases, and
 * the scales of both branches. */
static size_t block_parameters(const struct transformer_config *t)
{
    size_t C = t->width, F = t->hidden, scales = t->layer_scale ? 2 * C : 0;
    return 4 * C + 3 * C * C + 3 * C + C * C + C + F * C + F + C * F + C + scales;
}

static size_t projection_parameters(enum projection projection, size_t C, size_t E)
{
    switch (projection) {
    case PROJECTION_MATRIX:
        return C * E;
    case PROJECTION_LINEAR:
        return C * E + E;
    case PROJECTION_NONE:
        break;
    }
    return 0;
}

size_t clip_config_image_parameters(const struct clip_config *config)
{
    const struct vision_config *v = &config->vision;
    size_t C = v->transformer.width, P = v->patch_size;
    size_t embeddings = C + (1 + clip_config_patches(config)) * C + C * 3 * P * P;
    size_t norms = (v->norm_pre ? 4 : 2) * C;
    return embeddings + norms + v->transformer.layers * block_parameters(&v->transformer) +
           C * config->embed_dim;
}

size_t clip_config_text_parameters(const struct clip_config *config)
{
    const struct text_config *t = &config->text;
    size_t C = t->transformer.width;
    return (t->vocab_size + t->context_length) * C + 2 * C +
           t->transformer.layers * block_parameters(&t->transformer) +
           projection_parameters(t->projection, C, config->embed_dim);
}

size_t clip_config_parameters(const struct clip_config *config)
{
    return clip_config_image_parameters(config) + clip_config_text_parameters(config) + 1 +
           (config->has_logit_bias ? 1 : 0);
}

/* A token meets every weight matrix once, and every token (Q K^T, then P V). */
static double tower_flops(const struct transformer_config *t, size_t tokens, size_t embed_dim)
{
    double T = (double)tokens, C = (double)t->width, F = (double)t->hidden;
    double layer = 2 * T * (4 * C * C + 2 * C * F) + 4 * T * T * C;
    return (double)t->layers * layer + 2 * C * (double)embed_dim;
}

double clip_config_image_flops(const struct clip_config *config, size_t kept)
{
    const struct vision_config *v = &config->vision;
    double P = (double)v->patch_size, C = (double)v->transformer.width;
    return tower_flops(&v->transformer, 1 + kept, config->embed_dim) +
           (double)kept * 6 * P * P * C;
}

double clip_config_text_flops(const struct clip_config *config)
{
    const struct text_config *t = &config->text;
    return tower_flops(&t->transformer, t->context_length,
                       t->projection == PROJECTION_NONE ? 0 : config->embed_dim);
}
