#include "model/parameters.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/rng.h"
#include "model/positional.h"

enum { ALIGNMENT_FLOATS = 16 };

/* At most. */
enum {
    BLOCK_TENSORS = 14,
    OTHER_TENSORS = 16 /* embeddings, norms, projections of both towers; logit scale and bias */
};

/* ---- building the table ----
 * A tensor is appended together with the address that is to receive its offset: offsets are
 * known only when the whole list is, because decaying tensors come first in the block. */

struct builder {
    struct parameters *parameters;
    size_t **targets; /* by tensor */
    const char *prefix;
};

static struct parameter *append(struct builder *builder, size_t *target, const char *name,
                                int rank, ...)
{
    struct parameters *all = builder->parameters;
    struct parameter *p = &all->list[all->count];
    builder->targets[all->count++] = target;

    snprintf(p->name, sizeof p->name, "%s%s", builder->prefix, name);
    p->rank = rank;
    p->count = 1;
    va_list shape;
    va_start(shape, rank);
    for (int i = 0; i < rank; i++) {
        p->shape[i] = va_arg(shape, size_t);
        p->count *= p->shape[i];
    }
    va_end(shape);
    p->decay = rank >= 2 ? DECAY_ALWAYS : DECAY_NEVER;
    return p;
}

static void start_from(struct parameter *p, enum distribution distribution, double scale)
{
    p->distribution = distribution;
    p->scale = scale;
}

/* torch's default for Linear and Conv2d, weight and bias: U(-1/sqrt(inputs), 1/sqrt(inputs)),
 * which is what kaiming_uniform with a = sqrt(5) comes to. */
static double torch_bound(size_t inputs)
{
    return 1 / sqrt((double)inputs);
}

static void append_norm(struct builder *b, size_t *weight, size_t *bias, const char *name,
                        size_t C)
{
    char full[PARAMETER_NAME_MAX + 1];
    snprintf(full, sizeof full, "%s.weight", name);
    start_from(append(b, weight, full, 1, C), DISTRIBUTION_CONSTANT, 1);
    snprintf(full, sizeof full, "%s.bias", name);
    start_from(append(b, bias, full, 1, C), DISTRIBUTION_CONSTANT, 0);
}

/* The vector that multiplies a branch, if the tower has such. */
static void append_scale(struct builder *b, size_t *scale, const char *name,
                         const struct transformer_config *t)
{
    if (t->layer_scale)
        start_from(append(b, scale, name, 1, t->width), DISTRIBUTION_CONSTANT,
                   t->layer_scale_init);
}

/* How the weight matrices of a block begin. The image tower keeps torch's defaults; the text
 * tower has the scales of GPT-2, smaller by depth where a branch joins the residual. */
struct block_start {
    enum distribution distribution;
    double qkv, out, fc, proj;
};

static struct block_start image_start(const struct transformer_config *t)
{
    double W = (double)t->width;
    return (struct block_start){
        .distribution = DISTRIBUTION_UNIFORM,
        .qkv = sqrt(6 / (W + 3 * W)), /* xavier_uniform over [3C,C] */
        .out = torch_bound(t->width),
        .fc = torch_bound(t->width),
        .proj = torch_bound(t->hidden),
    };
}

static struct block_start text_start(const struct transformer_config *t)
{
    double W = (double)t->width;
    double joining = 1 / sqrt(W) / sqrt(2 * (double)t->layers);
    return (struct block_start){
        .distribution = DISTRIBUTION_NORMAL,
        .qkv = 1 / sqrt(W),
        .out = joining,
        .fc = 1 / sqrt(2 * W),
        .proj = joining,
    };
}

static void append_block(struct builder *b, struct block_offsets *o,
                         const struct transformer_config *t, const struct block_start *start)
{
    size_t C = t->width, F = t->hidden;
    append_norm(b, &o->norm_1_weight, &o->norm_1_bias, "ln_1", C);
    start_from(append(b, &o->qkv_weight, "attn.in_proj_weight", 2, 3 * C, C),
               start->distribution, start->qkv);
    start_from(append(b, &o->qkv_bias, "attn.in_proj_bias", 1, 3 * C), DISTRIBUTION_CONSTANT,
               0);
    start_from(append(b, &o->out_weight, "attn.out_proj.weight", 2, C, C), start->distribution,
               start->out);
    start_from(append(b, &o->out_bias, "attn.out_proj.bias", 1, C), DISTRIBUTION_CONSTANT, 0);
    append_scale(b, &o->out_scale, "ls_1.gamma", t);
    append_norm(b, &o->norm_2_weight, &o->norm_2_bias, "ln_2", C);
    start_from(append(b, &o->fc_weight, "mlp.c_fc.weight", 2, F, C), start->distribution,
               start->fc);
    start_from(append(b, &o->fc_bias, "mlp.c_fc.bias", 1, F), DISTRIBUTION_UNIFORM,
               torch_bound(C));
    start_from(append(b, &o->proj_weight, "mlp.c_proj.weight", 2, C, F), start->distribution,
               start->proj);
    start_from(append(b, &o->proj_bias, "mlp.c_proj.bias", 1, C), DISTRIBUTION_UNIFORM,
               torch_bound(F));
    append_scale(b, &o->proj_scale, "ls_2.gamma", t);
}

static void append_blocks(struct builder *b, struct block_offsets *offsets, const char *tower,
                          const struct transformer_config *t, const struct block_start *start)
{
    for (size_t i = 0; i < t->layers; i++) {
        char prefix[64];
        snprintf(prefix, sizeof prefix, "%stransformer.resblocks.%zu.", tower, i);
        b->prefix = prefix;
        append_block(b, &offsets[i], t, start);
    }
    b->prefix = "";
}

static void append_image_positions(struct builder *b, const struct clip_config *config)
{
    const struct vision_config *v = &config->vision;
    size_t C = v->transformer.width;
    struct parameter *p = append(b, &b->parameters->vision.positional_embedding,
                                 "visual.positional_embedding", 2,
                                 1 + clip_config_patches(config), C);
    p->fixed = v->fixed_positions;
    p->decay = p->fixed ? DECAY_NEVER : DECAY_POSITION;
    start_from(p, p->fixed ? DISTRIBUTION_SIN_COS : DISTRIBUTION_NORMAL, 1 / sqrt((double)C));
}

static void append_vision(struct builder *b, const struct clip_config *config)
{
    const struct vision_config *v = &config->vision;
    struct vision_offsets *o = &b->parameters->vision;
    size_t C = v->transformer.width, P = v->patch_size;
    double scale = 1 / sqrt((double)C);

    start_from(append(b, &o->class_embedding, "visual.class_embedding", 1, C),
               DISTRIBUTION_NORMAL, scale);
    append_image_positions(b, config);
    start_from(append(b, &o->head.projection, "visual.proj", 2, C, config->embed_dim),
               DISTRIBUTION_NORMAL, scale);
    start_from(append(b, &o->conv1, "visual.conv1.weight", 4, C, (size_t)3, P, P),
               DISTRIBUTION_UNIFORM, torch_bound(3 * P * P));
    if (v->norm_pre)
        append_norm(b, &o->norm_pre_weight, &o->norm_pre_bias, "visual.ln_pre", C);
    struct block_start start = image_start(&v->transformer);
    append_blocks(b, o->blocks, "visual.", &v->transformer, &start);
    append_norm(b, &o->head.norm_weight, &o->head.norm_bias, "visual.ln_post", C);
}

static void append_text_positions(struct builder *b, const struct text_config *t)
{
    struct parameter *p = append(b, &b->parameters->text.positional_embedding,
                                 "positional_embedding", 2, t->context_length,
                                 t->transformer.width);
    p->decay = DECAY_POSITION;
    start_from(p, DISTRIBUTION_NORMAL, 0.01);
}

/* A matrix is a parameter of the model itself and comes before its modules; a linear layer is
 * a module, in the place where torch registered it. */
static void append_text_matrix(struct builder *b, const struct clip_config *config)
{
    const struct text_config *t = &config->text;
    size_t C = t->transformer.width;
    if (t->projection == PROJECTION_MATRIX)
        start_from(append(b, &b->parameters->text.head.projection, "text_projection", 2, C,
                          config->embed_dim),
                   DISTRIBUTION_NORMAL, 1 / sqrt((double)C));
}

static void append_text_linear(struct builder *b, const struct clip_config *config)
{
    const struct text_config *t = &config->text;
    struct head_offsets *o = &b->parameters->text.head;
    size_t C = t->transformer.width, E = config->embed_dim;
    if (t->projection != PROJECTION_LINEAR)
        return;
    start_from(append(b, &o->projection, "text_projection.weight", 2, E, C),
               DISTRIBUTION_NORMAL, 1 / sqrt((double)C));
    start_from(append(b, &o->projection_bias, "text_projection.bias", 1, E),
               DISTRIBUTION_CONSTANT, 0);
}

static void append_logit_parameters(struct builder *b, const struct clip_config *config)
{
    int rank = config->vector_logit_scale ? 1 : 0;
    start_from(append(b, &b->parameters->logit_scale, "logit_scale", rank, (size_t)1),
               DISTRIBUTION_CONSTANT, config->init_logit_scale);
    if (config->has_logit_bias)
        start_from(append(b, &b->parameters->logit_bias, "logit_bias", rank, (size_t)1),
                   DISTRIBUTION_CONSTANT, config->init_logit_bias);
}

static void append_model(struct builder *b, const struct clip_config *config)
{
    const struct text_config *t = &config->text;
    struct text_offsets *o = &b->parameters->text;
    size_t C = t->transformer.width;

    append_text_positions(b, t);
    append_text_matrix(b, config);
    append_logit_parameters(b, config);
    append_vision(b, config);
    struct block_start start = text_start(&t->transformer);
    append_blocks(b, o->blocks, "", &t->transformer, &start);
    struct parameter *tokens =
        append(b, &o->token_embedding, "token_embedding.weight", 2, t->vocab_size, C);
    tokens->lookup = true;
    start_from(tokens, DISTRIBUTION_NORMAL, 0.02);
    append_norm(b, &o->head.norm_weight, &o->head.norm_bias, "ln_final", C);
    append_text_linear(b, config);
}

/* Returns where the group ends. The ranges of the configuration keep these sums far from
 * overflow. */
static size_t place_group(struct builder *builder, enum decay_group group, size_t offset)
{
    struct parameters *all = builder->parameters;
    for (size_t i = 0; i < all->count; i++) {
        struct parameter *p = &all->list[i];
        if (p->decay != group)
            continue;
        p->offset = offset;
        p->span = size_round_up(p->count, ALIGNMENT_FLOATS);
        *builder->targets[i] = offset;
        offset += p->span;
        all->total += p->count;
    }
    return offset;
}

/* Each group in the order of the list. */
static void place_tensors(struct builder *builder)
{
    struct parameters *all = builder->parameters;
    all->matrix_floats = place_group(builder, DECAY_ALWAYS, 0);
    all->decay_floats = place_group(builder, DECAY_POSITION, all->matrix_floats);
    all->floats = place_group(builder, DECAY_NEVER, all->decay_floats);
}

enum status parameters_init(struct parameters *parameters, const struct clip_config *config,
                            struct error *error)
{
    size_t image_layers = config->vision.transformer.layers;
    size_t text_layers = config->text.transformer.layers;
    size_t tensors = OTHER_TENSORS + BLOCK_TENSORS * (image_layers + text_layers);

    *parameters = (struct parameters){
        .list = calloc(tensors, sizeof *parameters->list),
        .vision.blocks = calloc(image_layers, sizeof *parameters->vision.blocks),
        .text.blocks = calloc(text_layers, sizeof *parameters->text.blocks),
    };
    struct builder builder = {parameters, calloc(tensors, sizeof *builder.targets), ""};
    if (parameters->list == NULL || parameters->vision.blocks == NULL ||
        parameters->text.blocks == NULL || builder.targets == NULL) {
        free(builder.targets);
        parameters_free(parameters);
        return error_memory(error, tensors * sizeof *parameters->list, "the parameter table");
    }
    append_model(&builder, config);
    place_tensors(&builder);
    free(builder.targets);
    return STATUS_OK;
}

void parameters_free(struct parameters *parameters)
{
    free(parameters->list);
    free(parameters->vision.blocks);
    free(parameters->text.blocks);
    *parameters = (struct parameters){0};
}

const struct parameter *parameters_find(const struct parameters *parameters, const char *name)
{
    for (size_t i = 0; i < parameters->count; i++)
        if (strcmp(parameters->list[i].name, name) == 0)
            return &parameters->list[i];
    return NULL;
}

/* ---- initial values ---- */

static void fill(const struct parameter *p, float *out, struct rng *rng)
{
    switch (p->distribution) {
    case DISTRIBUTION_CONSTANT:
        for (size_t i = 0; i < p->count; i++)
            out[i] = (float)p->scale;
        break;
    case DISTRIBUTION_NORMAL:
        for (size_t i = 0; i < p->count; i++)
            out[i] = (float)(p->scale * rng_normal(rng));
        break;
    case DISTRIBUTION_UNIFORM:
        for (size_t i = 0; i < p->count; i++)
            out[i] = (float)(p->scale * (2 * rng_uniform(rng) - 1));
        break;
    case DISTRIBUTION_SIN_COS:
        positional_sin_cos(out, p->shape[0] - 1, p->shape[1]);
        break;
    }
}

void parameters_initialize(const struct parameters *parameters, float *block, uint64_t seed)
{
    memset(block, 0, parameters->floats * sizeof *block);
#pragma omp parallel for schedule(dynamic)
    for (size_t i = 0; i < parameters->count; i++) {
        struct rng rng;
        rng_init(&rng, seed, 0, i, RNG_PARAMETERS);
        fill(&parameters->list[i], block + parameters->list[i].offset, &rng);
    }
}
