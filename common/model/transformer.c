#include "model/transformer.h"

#include <stdlib.h>

#include "model/linear.h"

enum status transformer_init(struct transformer *t, const struct transformer_config *config,
                             const struct block_offsets *offsets, size_t tokens, bool training,
                             struct error *error)
{
    *t = (struct transformer){
        .config = config,
        .offsets = offsets,
        .tokens = tokens,
        .slots = training ? config->layers : 1,
    };
    t->blocks = calloc(t->slots, sizeof *t->blocks);
    if (t->blocks == NULL)
        return error_memory(error, t->slots * sizeof *t->blocks, "a transformer");
    return STATUS_OK;
}

void transformer_free(struct transformer *t)
{
    free(t->blocks);
    *t = (struct transformer){0};
}

void transformer_take(struct transformer *t, struct arena *arena, size_t batch)
{
    size_t N = arena_rows(batch, t->tokens), C = t->config->width, F = t->config->hidden;
    for (size_t i = 0; i < t->slots; i++) {
        struct block_activations *a = &t->blocks[i];
        a->input = arena_take_floats(arena, N, C);
        a->norm_1 = arena_take_floats(arena, N, C);
        a->mean_1 = arena_take_floats(arena, N, 1);
        a->rstd_1 = arena_take_floats(arena, N, 1);
        a->qkv = arena_take_floats(arena, N, 3 * C);
        a->attention = arena_take_floats(arena, N, C);
        a->lse = arena_take_floats(arena, N, t->config->heads);
        a->middle = arena_take_floats(arena, N, C);
        a->norm_2 = arena_take_floats(arena, N, C);
        a->mean_2 = arena_take_floats(arena, N, 1);
        a->rstd_2 = arena_take_floats(arena, N, 1);
        a->fc = arena_take_floats(arena, N, F);
        a->activated = arena_take_floats(arena, N, F);
    }
    t->input = t->blocks[0].input;
    t->output = arena_take_floats(arena, N, C);
}

void transformer_take_scratch(struct transformer *t, struct arena *arena, size_t batch,
                              bool training)
{
    size_t N = arena_rows(batch, t->tokens), C = t->config->width, F = t->config->hidden;
    t->scratch.branch = arena_take_floats(arena, N, C);
    t->scratch.dwide = training ? arena_take_floats(arena, N, 3 * C > F ? 3 * C : F) : NULL;
}

/* The branch before is added by the norm that follows it; the first block has none before. */
static void block_forward(const struct transformer *t, struct kernels *k, const float *p,
                          size_t layer, size_t batch)
{
    const struct block_offsets *o = &t->offsets[layer];
    struct block_activations *a = &t->blocks[layer % t->slots];
    size_t N = batch * t->tokens, C = t->config->width, F = t->config->hidden;
    float eps = t->config->norm_eps, *branch = t->scratch.branch;

    if (layer == 0)
        k->residual_norm_forward(k, NULL, a->norm_1, a->mean_1, a->rstd_1, a->input, NULL,
                                 p + o->norm_1_weight, p + o->norm_1_bias, N, C, eps);
    else
        k->residual_norm_forward(k, a->input, a->norm_1, a->mean_1, a->rstd_1,
                                 t->blocks[(layer - 1) % t->slots].middle, branch,
                                 p + o->norm_1_weight, p + o->norm_1_bias, N, C, eps);
    linear_forward(k, a->qkv, a->norm_1, p + o->qkv_weight, p + o->qkv_bias, N, C, 3 * C);
    struct attention shape = {batch, t->tokens, t->config->heads, C / t->config->heads,
                              t->config->causal};
    k->attention_forward(k, a->attention, a->lse, a->qkv, &shape);
    linear_forward(k, branch, a->attention, p + o->out_weight, p + o->out_bias, N, C, C);

    k->residual_norm_forward(k, a->middle, a->norm_2, a->mean_2, a->rstd_2, a->input, branch,
                             p + o->norm_2_weight, p + o->norm_2_bias, N, C, eps);
    linear_forward(k, a->fc, a->norm_2, p + o->fc_weight, p + o->fc_bias, N, C, F);
    k->activation_forward(k, a->activated, a->fc, N * F, t->config->activation);
    linear_forward(k, branch, a->activated, p + o->proj_weight, p + o->proj_bias, N, F, C);
}

void transformer_forward(struct transformer *t, struct kernels *k, const float *parameters,
                         size_t batch)
{
    size_t layers = t->config->layers;
    for (size_t layer = 0; layer < layers; layer++)
        block_forward(t, k, parameters, layer, batch);
    k->add(k, t->output, t->blocks[(layers - 1) % t->slots].middle, t->scratch.branch,
           batch * t->tokens * t->config->width);
}

/* dx is the gradient of the residual stream and at the same time that of the branch that was
 * added to it; what comes back through the branch's norm is added to it. */
static void block_backward(const struct transformer *t, struct kernels *k, const float *p,
                           float *g, size_t layer, float *dx, size_t batch)
{
    const struct block_offsets *o = &t->offsets[layer];
    const struct block_activations *a = &t->blocks[layer];
    size_t N = batch * t->tokens, C = t->config->width, F = t->config->hidden;
    float *dbranch = t->scratch.branch, *dwide = t->scratch.dwide;

    linear_backward(k, dwide, g + o->proj_weight, g + o->proj_bias, dx, a->activated,
                    p + o->proj_weight, N, F, C);
    k->activation_backward(k, dwide, dwide, a->fc, N * F, t->config->activation);
    linear_backward(k, dbranch, g + o->fc_weight, g + o->fc_bias, dwide, a->norm_2,
                    p + o->fc_weight, N, C, F);
    k->norm_backward(k, dx, g + o->norm_2_weight, g + o->norm_2_bias, dbranch, a->middle,
                     a->mean_2, a->rstd_2, p + o->norm_2_weight, N, C);

    linear_backward(k, dbranch, g + o->out_weight, g + o->out_bias, dx, a->attention,
                    p + o->out_weight, N, C, C);
    struct attention shape = {batch, t->tokens, t->config->heads, C / t->config->heads,
                              t->config->causal};
    k->attention_backward(k, dwide, dbranch, a->qkv, a->attention, a->lse, &shape);
    linear_backward(k, dbranch, g + o->qkv_weight, g + o->qkv_bias, dwide, a->norm_1,
                    p + o->qkv_weight, N, C, 3 * C);
    k->norm_backward(k, dx, g + o->norm_1_weight, g + o->norm_1_bias, dbranch, a->input,
                     a->mean_1, a->rstd_1, p + o->norm_1_weight, N, C);
}

void transformer_backward(struct transformer *t, struct kernels *k, const float *parameters,
                          float *gradients, float *dx, size_t batch)
{
    for (size_t layer = t->config->layers; layer-- > 0;)
        block_backward(t, k, parameters, gradients, layer, dx, batch);
}
