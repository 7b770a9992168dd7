#include "model/transformer.h"

#include <stdlib.h>

#include "model/linear.h"

enum status transformer_init(struct transformer *t, const struct transformer_config *config,
                             const struct block_offsets *offsets,
                             const struct transformer_use *use, struct error *error)
{
    *t = (struct transformer){
        .config = config,
        .offsets = offsets,
        .tokens = use->tokens,
        .one_token = use->one_token,
        .training = use->training,
        .recompute = use->recompute,
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

/* ---- memory ---- */

static bool is_narrow(const struct transformer *t, size_t layer)
{
    return t->one_token && layer + 1 == t->config->layers;
}

/* What RECOMPUTE_LIGHT computes again. */
static void take_cheap(const struct transformer *t, struct block_activations *a,
                       struct arena *arena, size_t N)
{
    size_t C = t->config->width;
    a->norm_1 = arena_take_activations(arena, N, C);
    a->mean_1 = arena_take_floats(arena, N, 1);
    a->rstd_1 = arena_take_floats(arena, N, 1);
    a->norm_2 = arena_take_activations(arena, N, C);
    a->mean_2 = arena_take_floats(arena, N, 1);
    a->rstd_2 = arena_take_floats(arena, N, 1);
    a->activated = arena_take_activations(arena, N, t->config->hidden);
}

/* The rest; rows: those beyond the attention. */
static void take_dear(const struct transformer *t, struct block_activations *a,
                      struct arena *arena, size_t N, size_t rows)
{
    size_t C = t->config->width;
    bool scaled = t->config->layer_scale;
    a->input = arena_take_activations(arena, N, C);
    a->qkv = arena_take_activations(arena, N, 3 * C);
    a->attention = arena_take_activations(arena, N, C);
    a->lse = arena_take_floats(arena, N, t->config->heads);
    a->out = scaled ? arena_take_activations(arena, rows, C) : NULL;
    a->middle = arena_take_activations(arena, rows, C);
    a->fc = t->training ? arena_take_activations(arena, rows, t->config->hidden) : NULL;
    a->proj = scaled ? arena_take_activations(arena, rows, C) : NULL;
}

/* The first layer's block of memory is whole; the others have what they must keep of their own
 * and share the rest of it. The last layer's rows never outnumber the first's. */
void transformer_take(struct transformer *t, struct arena *arena, size_t batch)
{
    size_t layers = t->config->layers, C = t->config->width;
    size_t N = arena_rows(batch, t->tokens);
    take_cheap(t, &t->blocks[0], arena, N);
    take_dear(t, &t->blocks[0], arena, N, N);
    for (size_t i = 1; i < layers; i++) {
        struct block_activations *a = &t->blocks[i];
        size_t rows = is_narrow(t, i) ? batch : N;
        *a = t->blocks[0];
        if (!t->training)
            continue;
        if (t->recompute == RECOMPUTE_BLOCK) {
            a->input = arena_take_activations(arena, N, C);
            continue;
        }
        take_dear(t, a, arena, N, rows);
        if (t->recompute == RECOMPUTE_NONE)
            take_cheap(t, a, arena, N);
    }
    for (size_t i = 0; i < layers; i++) {
        struct block_activations *a = &t->blocks[i];
        a->residual = is_narrow(t, i) ? arena_take_activations(arena, batch, C) : a->input;
        a->context = is_narrow(t, i) ? arena_take_activations(arena, batch, C) : a->attention;
    }
    t->input = t->blocks[0].input;
    t->output = arena_take_activations(arena, t->one_token ? batch : N, C);
}

void transformer_take_scratch(struct transformer *t, struct arena *arena, size_t batch)
{
    size_t N = arena_rows(batch, t->tokens), C = t->config->width, F = t->config->hidden;
    t->scratch.branch = arena_take_activations(arena, N, C);
    t->scratch.dwide =
        t->training ? arena_take_activations(arena, N, 3 * C > F ? 3 * C : F) : NULL;
    t->scratch.dtoken =
        t->training && t->one_token ? arena_take_activations(arena, batch, C) : NULL;
}

/* ---- forward ---- */

static struct attention attention_shape(const struct transformer *t, size_t batch)
{
    size_t heads = t->config->heads;
    return (struct attention){batch, t->tokens, heads, t->config->width / heads,
                              t->config->causal};
}

/* scratch.branch = a linear layer of x [N,in], scaled by way of `unscaled` if there is one. */
static void branch_forward(const struct transformer *t, struct kernels *k,
                           const struct weights *w, void *unscaled, const void *x,
                           size_t weight, size_t bias, size_t scale, size_t N, size_t in)
{
    size_t C = t->config->width;
    void *y = unscaled != NULL ? unscaled : t->scratch.branch;
    linear_forward(k, y, x, weights_matrix(w, weight), w->value + bias, N, in, C);
    if (unscaled != NULL)
        k->layer_scale_forward(k, t->scratch.branch, unscaled, w->value + scale, N, C);
}

/* norm_1 of a residual stream to which the branch in scratch is added first, or of the layer's
 * input as it is. */
static void norm_1_forward(const struct transformer *t, struct kernels *k,
                           const struct weights *w, size_t layer, const void *residual,
                           const void *branch, size_t N)
{
    const struct block_offsets *o = &t->offsets[layer];
    struct block_activations *a = &t->blocks[layer];
    k->residual_norm_forward(k, branch == NULL ? NULL : a->input, a->norm_1, a->mean_1,
                             a->rstd_1, residual, branch, w->value + o->norm_1_weight,
                             w->value + o->norm_1_bias, N, t->config->width,
                             t->config->norm_eps);
}

/* The branch of the layer before is added by this one's first norm; nothing comes before the
 * first layer, or where the layer's input is at hand already. */
static void block_enter(const struct transformer *t, struct kernels *k, const struct weights *w,
                        size_t layer, bool has_input, size_t N)
{
    if (has_input)
        norm_1_forward(t, k, w, layer, t->blocks[layer].input, NULL, N);
    else
        norm_1_forward(t, k, w, layer, t->blocks[layer - 1].middle, t->scratch.branch, N);
}

static void norm_2_forward(const struct transformer *t, struct kernels *k,
                           const struct weights *w, size_t layer, bool has_middle, size_t rows)
{
    const struct block_offsets *o = &t->offsets[layer];
    struct block_activations *a = &t->blocks[layer];
    k->residual_norm_forward(k, has_middle ? NULL : a->middle, a->norm_2, a->mean_2, a->rstd_2,
                             has_middle ? a->middle : a->residual,
                             has_middle ? NULL : t->scratch.branch,
                             w->value + o->norm_2_weight, w->value + o->norm_2_bias, rows,
                             t->config->width, t->config->norm_eps);
}

static size_t rows_beyond_attention(const struct transformer *t, size_t layer, size_t batch)
{
    return is_narrow(t, layer) ? batch : batch * t->tokens;
}

/* All of the layer up to the activation. */
static void block_forward(const struct transformer *t, struct kernels *k,
                          const struct weights *w, const int32_t *row, size_t layer,
                          size_t batch)
{
    const struct block_offsets *o = &t->offsets[layer];
    struct block_activations *a = &t->blocks[layer];
    size_t T = t->tokens, C = t->config->width, F = t->config->hidden;
    size_t N = batch * T, rows = rows_beyond_attention(t, layer, batch);

    linear_forward(k, a->qkv, a->norm_1, weights_matrix(w, o->qkv_weight),
                   w->value + o->qkv_bias, N, C, 3 * C);
    const struct attention shape = attention_shape(t, batch);
    k->attention_forward(k, a->attention, a->lse, a->qkv, &shape);
    if (is_narrow(t, layer)) {
        k->pick_token_forward(k, a->context, a->attention, row, batch, T, C);
        k->pick_token_forward(k, a->residual, a->input, row, batch, T, C);
    }
    branch_forward(t, k, w, a->out, a->context, o->out_weight, o->out_bias, o->out_scale, rows,
                   C);
    norm_2_forward(t, k, w, layer, false, rows);
    k->matmul(k, &(struct matmul){.rows = rows,
                                  .columns = F,
                                  .inner = C,
                                  .a = a->norm_2,
                                  .b = weights_matrix(w, o->fc_weight),
                                  .b_transposed = true,
                                  .bias = w->value + o->fc_bias,
                                  .out = a->activated,
                                  .epilogue = EPILOGUE_ACTIVATION,
                                  .activation = t->config->activation,
                                  .before = a->fc});
}

/* The layer's second branch is left in scratch. */
static void block_leave(const struct transformer *t, struct kernels *k, const struct weights *w,
                        size_t layer, size_t batch)
{
    const struct block_offsets *o = &t->offsets[layer];
    const struct block_activations *a = &t->blocks[layer];
    branch_forward(t, k, w, a->proj, a->activated, o->proj_weight, o->proj_bias, o->proj_scale,
                   rows_beyond_attention(t, layer, batch), t->config->hidden);
}

void transformer_forward(struct transformer *t, struct kernels *k, const struct weights *w,
                         const int32_t *row, size_t batch)
{
    size_t last = t->config->layers - 1;
    for (size_t layer = 0; layer <= last; layer++) {
        block_enter(t, k, w, layer, layer == 0, batch * t->tokens);
        block_forward(t, k, w, row, layer, batch);
        block_leave(t, k, w, layer, batch);
    }
    k->add(k, t->output, t->blocks[last].middle, t->scratch.branch,
           rows_beyond_attention(t, last, batch) * t->config->width);
}

/* ---- backward ---- */

/* The gradient of a branch before its scale: dx itself where there is no scale, else written
 * to `room`. */
static const void *branch_backward(const struct transformer *t, struct kernels *k,
                                   const struct weights *w, float *g, void *room,
                                   const void *dx, const void *unscaled, size_t scale, size_t N)
{
    if (unscaled == NULL)
        return dx;
    k->layer_scale_backward(k, room, g + scale, dx, unscaled, w->value + scale, N,
                            t->config->width);
    return room;
}

/* The second branch. dx [rows,C] is the gradient of the residual stream and at the same time
 * that of the branch that was added to it; what comes back through the branch's norm is added
 * to it. Either scratch is free when it becomes the room for a branch's gradient. */
static void mlp_backward(const struct transformer *t, struct kernels *k,
                         const struct weights *w, float *g, size_t layer, void *dx, size_t rows)
{
    const struct block_offsets *o = &t->offsets[layer];
    const struct block_activations *a = &t->blocks[layer];
    size_t C = t->config->width, F = t->config->hidden;
    void *dbranch = t->scratch.branch, *dwide = t->scratch.dwide;

    const void *dproj =
        branch_backward(t, k, w, g, dbranch, dx, a->proj, o->proj_scale, rows);
    linear_backward_weight(k, g + o->proj_weight, g + o->proj_bias, dproj, a->activated, rows,
                           F, C);
    k->matmul(k, &(struct matmul){.rows = rows,
                                  .columns = F,
                                  .inner = C,
                                  .a = dproj,
                                  .b = weights_matrix(w, o->proj_weight),
                                  .out = dwide,
                                  .epilogue = EPILOGUE_ACTIVATION_BACKWARD,
                                  .activation = t->config->activation,
                                  .before = a->fc});
    linear_backward(k, dbranch, g + o->fc_weight, g + o->fc_bias, dwide, a->norm_2,
                    weights_matrix(w, o->fc_weight), rows, C, F);
    k->norm_backward(k, dx, g + o->norm_2_weight, g + o->norm_2_bias, dbranch, a->middle,
                     a->mean_2, a->rstd_2, w->value + o->norm_2_weight, rows, C);
}

/* The first branch, from dmiddle [rows,C]; dx [N,C] becomes the gradient of the layer's input.
 * The two are one unless the layer is narrow: then dmiddle goes to the pooled tokens' rows. */
static void attention_backward(const struct transformer *t, struct kernels *k,
                               const struct weights *w, float *g, size_t layer, void *dx,
                               const void *dmiddle, const int32_t *row, size_t batch)
{
    const struct block_offsets *o = &t->offsets[layer];
    const struct block_activations *a = &t->blocks[layer];
    size_t T = t->tokens, C = t->config->width, N = batch * T;
    size_t rows = rows_beyond_attention(t, layer, batch);
    void *dbranch = t->scratch.branch, *dwide = t->scratch.dwide;
    void *dcontext = is_narrow(t, layer) ? t->scratch.dtoken : dbranch;

    const void *dout =
        branch_backward(t, k, w, g, dwide, dmiddle, a->out, o->out_scale, rows);
    linear_backward(k, dcontext, g + o->out_weight, g + o->out_bias, dout, a->context,
                    weights_matrix(w, o->out_weight), rows, C, C);
    if (is_narrow(t, layer)) {
        k->pick_token_backward(k, dbranch, dcontext, row, batch, T, C);
        k->pick_token_backward(k, dx, dmiddle, row, batch, T, C);
    }
    const struct attention shape = attention_shape(t, batch);
    k->attention_backward(k, dwide, dbranch, a->qkv, a->attention, a->lse, &shape);
    linear_backward(k, dbranch, g + o->qkv_weight, g + o->qkv_bias, dwide, a->norm_1,
                    weights_matrix(w, o->qkv_weight), N, C, 3 * C);
    k->norm_backward(k, dx, g + o->norm_1_weight, g + o->norm_1_bias, dbranch, a->input,
                     a->mean_1, a->rstd_1, w->value + o->norm_1_weight, N, C);
}

/* What the backward pass wants of a layer and the forward pass did not keep. */
static void block_recompute(const struct transformer *t, struct kernels *k,
                            const struct weights *w, const int32_t *row, size_t layer,
                            size_t batch)
{
    const struct block_activations *a = &t->blocks[layer];
    size_t rows = rows_beyond_attention(t, layer, batch);
    block_enter(t, k, w, layer, true, batch * t->tokens);
    if (t->recompute == RECOMPUTE_LIGHT) {
        norm_2_forward(t, k, w, layer, true, rows);
        k->activation_forward(k, a->activated, a->fc, rows * t->config->hidden,
                              t->config->activation);
        return;
    }
    block_forward(t, k, w, row, layer, batch);
    if (t->config->layer_scale)
        block_leave(t, k, w, layer, batch);
}

/* The last layer's activations are those that the forward pass left. */
void transformer_backward(struct transformer *t, struct kernels *k, const struct weights *w,
                          float *gradients, void *dinput, void *doutput, const int32_t *row,
                          size_t batch)
{
    size_t layers = t->config->layers;
    void *dx = doutput;
    for (size_t layer = layers; layer-- > 0;) {
        if (t->recompute != RECOMPUTE_NONE && layer + 1 < layers)
            block_recompute(t, k, w, row, layer, batch);
        mlp_backward(t, k, w, gradients, layer, dx, rows_beyond_attention(t, layer, batch));
        attention_backward(t, k, w, gradients, layer, dinput, dx, row, batch);
        dx = dinput;
    }
}
