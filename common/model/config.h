/* config.h - open_clip's model configuration, read strictly.
 *
 * A field that is known but not supported is an error that names it, unless it has the value
 * that turns it off; an unknown field is an error. What is not given has open_clip's default.
 *
 * One value is ours: vision_cfg.pool_type "avg_all", the mean of all tokens with the class
 * token among them, which CLIPA's first models have and open_clip has no name for. And one
 * field is dropped from what is kept: custom_text chooses between two ways to name the tensors
 * of the same model, and ours have the flat names always.
 * Source: open_clip 3.3, model.py (CLIPVisionCfg, CLIPTextCfg) and transform.py. */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "kernels/kernels.h"

/* The residual blocks of one tower. Every number is at least 1, and the ranges that the
 * parser enforces keep each sum of parameter counts below 2^56. */
struct transformer_config {
    size_t layers;
    size_t width;  /* C */
    size_t heads;  /* H; divides width */
    size_t hidden; /* F */
    float norm_eps;
    float layer_scale_init;
    enum activation activation;
    bool causal;
    bool layer_scale; /* each branch is multiplied by a vector before it joins the residual */
};

enum image_pool {
    IMAGE_POOL_CLASS,   /* "tok": the class token */
    IMAGE_POOL_MEAN,    /* "avg": the mean of all other tokens */
    IMAGE_POOL_MEAN_ALL /* "avg_all": the mean of all tokens */
};

struct vision_config {
    struct transformer_config transformer;
    size_t image_size; /* pixels a side */
    size_t patch_size; /* P */
    size_t grid;       /* patches a side: image_size / patch_size, rounded down */
    double patch_dropout; /* of an image's patches, left out in training; see patch_dropout.h */
    enum image_pool pool;
    bool norm_pre;        /* a layer norm before the first block */
    bool norm_after_pool; /* pool, then norm; matters for means only */
    bool fixed_positions; /* "sin_cos_2d": the positional embedding is never trained */
};

enum text_pool {
    TEXT_POOL_ARGMAX, /* the first token with the largest id: CLIP's end of text */
    TEXT_POOL_LAST,
    TEXT_POOL_FIRST,
    TEXT_POOL_EOS /* the first token equal to eos_id; token 0 where there is none */
};

enum projection {
    PROJECTION_MATRIX, /* [C,E] */
    PROJECTION_LINEAR, /* [E,C] and a bias: "proj_bias" */
    PROJECTION_NONE    /* "none": C = E */
};

struct text_config {
    struct transformer_config transformer;
    size_t context_length; /* L */
    size_t vocab_size;     /* V */
    enum text_pool pool;
    enum projection projection;
    int32_t pad_id;
    int32_t eos_id; /* used by TEXT_POOL_EOS */
};

/* How pixels become the model's input; recorded in checkpoints for whoever evaluates them. */
struct preprocess_config {
    double mean[3], std[3]; /* of values in [0,1], R G B */
    char interpolation[16]; /* "bicubic", "bilinear" */
    char resize_mode[16];   /* "shortest", "squash", "longest" */
    int64_t fill_color;     /* around an image that "longest" pads */
};

/* A zeroed struct is empty. */
struct clip_config {
    size_t embed_dim; /* E */
    float init_logit_scale;
    float init_logit_bias;
    bool has_logit_bias;     /* added to all logits: the softmax of the loss does not see it */
    bool vector_logit_scale; /* scale and bias have the shape [1] instead of [] */
    struct vision_config vision;
    struct text_config text;
    struct preprocess_config preprocess;
    char *model_json; /* owned: the model's object, as given and with the overrides applied */
};

/* Values of the command line that replace the file's; 0, false or NULL leaves the file's. */
struct clip_overrides {
    size_t image_size;
    size_t context_length;
    bool quick_gelu;
    const double *patch_dropout;
    const char *pos_embed_type; /* "learnable", "sin_cos_2d" */
};

/* json[0..size) is a model's object {"embed_dim": ...} or a whole open_clip_config.json,
 * {"model_cfg": {...}, "preprocess_cfg": {...}}. overrides may be NULL. On failure *config is
 * left empty and the status is STATUS_DATA (or STATUS_SYSTEM: memory). */
enum status clip_config_parse(struct clip_config *config, const char *json, size_t size,
                              const struct clip_overrides *overrides, struct error *error);

/* The same from a file, whose path is put before the message. */
enum status clip_config_load(struct clip_config *config, const char *path,
                             const struct clip_overrides *overrides, struct error *error);

/* Appends an open_clip_config.json: the model's object and config->preprocess. */
enum status clip_config_format(const struct clip_config *config, struct buffer *out,
                               struct error *error);

void clip_config_free(struct clip_config *config);

/* ---- closed forms ---- */

size_t clip_config_patches(const struct clip_config *config); /* grid * grid */

/* The number of parameters of a tower, and of the model, which has one or two more: the logit
 * scale and the logit bias. */
size_t clip_config_image_parameters(const struct clip_config *config);
size_t clip_config_text_parameters(const struct clip_config *config);
size_t clip_config_parameters(const struct clip_config *config);

/* Floating-point operations (two for a multiply-add) of one forward pass of one sample, with
 * `kept` patches; attention is counted in full also where it is causal. Training costs three
 * times as much. */
double clip_config_image_flops(const struct clip_config *config, size_t kept);
double clip_config_text_flops(const struct clip_config *config);

#endif
