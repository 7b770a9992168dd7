#include "model/transformer.h"

#include <stdlib.h>

#include "model/linear.h"

enum status transformer_init(struct transformer *t, const struct transformer_config *config,
                             const struct block_offsets *offsets, size_t tokens,
                             enum transformer_memory memory, struct error *error)
{
    *t = (struct transformer){
        .config = config,
        .offsets = offsets,
        .tokens = tokens,
        .memory = memory,
    };
    t->blocks = calloc(config->layers, sizeof *t->blocks);
    if (t->blocks == NULL)
        return error_memory(error, config->layers * sizeof *t->blocks, "a transformer");
    return STATUS_OK;
}

void transformer_free(struct transformer *t)
{
    free(t->blocks);
    *t = (struct transformer){0};
}

static void take_block(const struct transformer *t, struct block_activations *a,
                       struct arena *arena, size_t batch)
{
    size_t N = arena_rows(batch, t->tokens), C = t->config->width, F = t->config->hidden;
    bool scaled = t->config->layer_scale;
    a->input = arena_take_floats(arena, N, C);
    a->norm_1 = arena_take_floats(arena, N, C);
    a->mean_1 = arena_take_floats(arena, N, 1);
    a->rstd_1 = arena_take_floats(arena, N, 1);
    a->qkv = arena_take_floats(arena, N, 3 * C);
    a->attention = arena_take_floats(arena, N, C);
    a->lse = arena_take_floats(arena, N, t->config->heads);
    a->out = scaled ? arena_take_floats(arena, N, C) : NULL;
    a->middle = arena_take_floats(arena, N, C);
    a->norm_2 = arena_take_floats(arena, N, C);
    a->mean_2 = arena_take_floats(arena, N, 1);
    a->rstd_2 = arena_take_floats(arena, N, 1);
    a->fc = arena_take_floats(arena, N, F);
    a->activated = arena_take_floats(arena, N, F);
    a->proj = scaled ? arena_take_floats(arena, N, C) : NULL;
}

void transformer_take(struct transformer *t, struct arena *arena, size_t batch)
{
    size_t N = arena_rows(batch, t->tokens), C = t->config->width;
    take_block(t, &t->blocks[0], arena, batch);
    for (size_t i = 1; i < t->config->layers; i++) {
        struct block_activations *a = &t->blocks[i];
        *a = t->blocks[0];
        if (t->memory == TRANSFORMER_KEEP)
            take_block(t, a, arena, batch);
        else if (t->memory == TRANSFORMER_RECOMPUTE)
            a->input = arena_take_floats(arena, N, C);
    }
    t->input = t->blocks[0].input;
    t->output = arena_take_floats(arena, N, C);
}

void transformer_take_scratch(struct transformer *t, struct arena *arena, size_t batch)
{
    size_t N = arena_rows(batch, t->tokens), C = t->config->width, F = t->config->hidden;
    bool backward = t->memory != TRANSFORMER_FORWARD;
    t->scratch.branch = arena_take_floats(arena, N, C);
    t->scratch.dwide = backward ? arena_take_floats(arena, N, 3 * C > F ? 3 * C : F) : NULL;
}

/* ---- forward ---- */

/* scratch.branch = a linear layer of x [N,in], scaled by way of `unscaled` if there is one. */
static void branch_forward(const struct transformer *t, struct kernels *k, const float *p,
                           float *unscaled, const float *x, size_t weight, size_t bias,
                           size_t scale, size_t N, size_t in)
{
    size_t C = t->config->width;
    float *y = unscaled != NULL ? unscaled : t->scratch.branch;
    linear_forward(k, y, x, p + weight, p + bias, N, in, C);
    if (unscaled != NULL)
        k->layer_scale_forward(k, t->scratch.branch, unscaled, p + scale, N, C);
}

/* The branch of the layer before is added by this one's first norm; nothing comes before the
 * first layer, or where the layer's input is at hand already. */
static void block_enter(const struct transformer *t, struct kernels *k, const float *p,
                        size_t layer, bool has_input, size_t N)
{
    const struct block_offsets *o = &t->offsets[layer];
    struct block_activations *a = &t->blocks[layer];
    const float *residual = has_input ? a->input : t->blocks[layer - 1].middle;
    k->residual_norm_forward(k, has_input ? NULL : a->input, a->norm_1, a->mean_1, a->rstd_1,
                             residual, has_input ? NULL : t->scratch.branch,
                             p + o->norm_1_weight, p + o->norm_1_bias, N, t->config->width,
                             t->config->norm_eps);
}

/* All of the layer up to the activation. */
static void block_forward(const struct transformer *t, struct kernels *k, const float *p,
                          size_t layer, size_t batch)
{
    const struct block_offsets *o = &t->offsets[layer];
    struct block_activations *a = &t->blocks[layer];
    size_t N = batch * t->tokens, C = t->config->width, F = t->config->hidden;

    linear_forward(k, a->qkv, a->norm_1, p + o->qkv_weight, p + o->qkv_bias, N, C, 3 * C);
    struct attention shape = {batch, t->tokens, t->config->heads, C / t->config->heads,
                              t->config->causal};
    k->attention_forward(k, a->attention, a->lse, a->qkv, &shape);
    branch_forward(t, k, p, a->out, a->attention, o->out_weight, o->out_bias, o->out_scale, N,
                   C);

    k->residual_norm_forward(k, a->middle, a->norm_2, a->mean_2, a->rstd_2, a->input,
                             t->scratch.branch, p + o->norm_2_weight, p + o->norm_2_bias, N, C,
                             t->config->norm_eps);
    linear_forward(k, a->fc, a->norm_2, p + o->fc_weight, p + o->fc_bias, N, C, F);
    k->activation_forward(k, a->activated, a->fc, N * F, t->config->activation);
}

/* The layer's second branch is left in scratch. */
static void block_leave(const struct transformer *t, struct kernels *k, const float *p,
                        size_t layer, size_t N)
{
    const struct block_offsets *o = &t->offsets[layer];
    const struct block_activations *a = &t->blocks[layer];
    branch_forward(t, k, p, a->proj, a->activated, o->proj_weight, o->proj_bias, o->proj_scale,
                   N, t->config->hidden);
}

void transformer_forward(struct transformer *t, struct kernels *k, const float *parameters,
                         size_t batch)
{
    size_t layers = t->config->layers, N = batch * t->tokens;
    for (size_t layer = 0; layer < layers; layer++) {
        block_enter(t, k, parameters, layer, layer == 0, N);
        block_forward(t, k, parameters, layer, batch);
        block_leave(t, k, parameters, layer, N);
    }
    k->add(k, t->output, t->blocks[layers - 1].middle, t->scratch.branch, N * t->config->width);
}

/* ---- backward ---- */

/* The gradient of a branch before its scale: dx itself where there is no scale, else written
 * to `room`. */
static const float *branch_backward(const struct transformer *t, struct kernels *k,
                                    const float *p, float *g, float *room, const float *dx,
                                    const float *unscaled, size_t scale, size_t N)
{
    if (unscaled == NULL)
        return dx;
    k->layer_scale_backward(k, room, g + scale, dx, unscaled, p + scale, N, t->config->width);
    return room;
}

/* dx is the gradient of the residual stream and at the same time that of the branch that was
 * added to it; what comes back through the branch's norm is added to it. Either scratch is free
 * when it becomes the room for a branch's gradient. */
static void block_backward(const struct transformer *t, struct kernels *k, const float *p,
                           float *g, size_t layer, float *dx, size_t batch)
{
    const struct block_offsets *o = &t->offsets[layer];
    const struct block_activations *a = &t->blocks[layer];
    size_t N = batch * t->tokens, C = t->config->width, F = t->config->hidden;
    float *dbranch = t->scratch.branch, *dwide = t->scratch.dwide;

    const float *dproj = branch_backward(t, k, p, g, dbranch, dx, a->proj, o->proj_scale, N);
    linear_backward(k, dwide, g + o->proj_weight, g + o->proj_bias, dproj, a->activated,
                    p + o->proj_weight, N, F, C);
    k->activation_backward(k, dwide, dwide, a->fc, N * F, t->config->activation);
    linear_backward(k, dbranch, g + o->fc_weight, g + o->fc_bias, dwide, a->norm_2,
                    p + o->fc_weight, N, C, F);
    k->norm_backward(k, dx, g + o->norm_2_weight, g + o->norm_2_bias, dbranch, a->middle,
                     a->mean_2, a->rstd_2, p + o->norm_2_weight, N, C);

    const float *dout = branch_backward(t, k, p, g, dwide, dx, a->out, o->out_scale, N);
    linear_backward(k, dbranch, g + o->out_weight, g + o->out_bias, dout, a->attention,
                    p + o->out_weight, N, C, C);
    struct attention shape = {batch, t->tokens, t->config->heads, C / t->config->heads,
                              t->config->causal};
    k->attention_backward(k, dwide, dbranch, a->qkv, a->attention, a->lse, &shape);
    linear_backward(k, dbranch, g + o->qkv_weight, g + o->qkv_bias, dwide, a->norm_1,
                    p + o->qkv_weight, N, C, 3 * C);
    k->norm_backward(k, dx, g + o->norm_1_weight, g + o->norm_1_bias, dbranch, a->input,
                     a->mean_1, a->rstd_1, p + o->norm_1_weight, N, C);
}

/* What block_backward wants of a layer whose input alone was kept. */
static void block_recompute(const struct transformer *t, struct kernels *k, const float *p,
                            size_t layer, size_t batch)
{
    block_enter(t, k, p, layer, true, batch * t->tokens);
    block_forward(t, k, p, layer, batch);
    if (t->config->layer_scale)
        block_leave(t, k, p, layer, batch * t->tokens);
}

/* The last layer's activations are those that the forward pass left. */
void transformer_backward(struct transformer *t, struct kernels *k, const float *parameters,
                          float *gradients, float *dx, size_t batch)
{
    size_t layers = t->config->layers;
    for (size_t layer = layers; layer-- > 0;) {
        if (t->memory == TRANSFORMER_RECOMPUTE && layer + 1 < layers)
            block_recompute(t, k, parameters, layer, batch);
        block_backward(t, k, parameters, gradients, layer, dx, batch);
    }
}
