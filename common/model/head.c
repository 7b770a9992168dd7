#include "model/head.h"

#include "model/linear.h"

static size_t norm_rows(const struct head *head, size_t batch)
{
    return head->pool == HEAD_NORM_THEN_MEAN ? arena_rows(batch, head->tokens) : batch;
}

void head_take(struct head *head, struct arena *arena, size_t batch)
{
    size_t R = norm_rows(head, batch), C = head->width;
    bool mean_first = head->pool == HEAD_MEAN_THEN_NORM;
    bool norm_first = head->pool == HEAD_NORM_THEN_MEAN;
    head->pooled = mean_first ? arena_take_activations(arena, batch, C) : NULL;
    head->normed = arena_take_activations(arena, R, C);
    head->mean = arena_take_floats(arena, R, 1);
    head->rstd = arena_take_floats(arena, R, 1);
    head->averaged = norm_first ? arena_take_activations(arena, batch, C) : NULL;
    head->inverse = arena_take_floats(arena, batch, 1);
}

void head_take_scratch(struct head *head, struct arena *arena, size_t batch, bool training)
{
    size_t R = norm_rows(head, batch), C = head->width;
    head->projected = head->projection == PROJECTION_NONE
                          ? NULL
                          : arena_take_activations(arena, batch, head->embed_dim);
    head->dpooled = training ? arena_take_activations(arena, batch, C) : NULL;
    head->dnormed = training ? arena_take_activations(arena, R, C) : NULL;
}

static const void *norm_input(const struct head *head, const void *x)
{
    return head->pool == HEAD_MEAN_THEN_NORM ? head->pooled : x;
}

/* What the projection is applied to. */
static const void *projection_input(const struct head *head)
{
    return head->pool == HEAD_NORM_THEN_MEAN ? head->averaged : head->normed;
}

/* projected[B,E] = input[B,C] projection, or the input itself. */
static const void *projection_forward(struct head *head, struct kernels *k,
                                      const struct weights *w, size_t batch)
{
    const struct head_offsets *o = head->offsets;
    bool linear = head->projection == PROJECTION_LINEAR;
    if (head->projection == PROJECTION_NONE)
        return projection_input(head);
    k->matmul(k, &(struct matmul){.rows = batch,
                                  .columns = head->embed_dim,
                                  .inner = head->width,
                                  .a = projection_input(head),
                                  .b = weights_matrix(w, o->projection),
                                  .b_transposed = linear,
                                  .bias = linear ? w->value + o->projection_bias : NULL,
                                  .out = head->projected});
    return head->projected;
}

void head_forward(struct head *head, struct kernels *k, const struct weights *w, float *unit,
                  const void *x, size_t batch)
{
    size_t T = head->tokens, C = head->width;
    if (head->pool == HEAD_MEAN_THEN_NORM)
        k->mean_tokens_forward(k, head->pooled, x, batch, T, C, head->first);
    k->residual_norm_forward(k, NULL, head->normed, head->mean, head->rstd, norm_input(head, x),
                             NULL, w->value + head->offsets->norm_weight,
                             w->value + head->offsets->norm_bias, norm_rows(head, batch), C,
                             head->eps);
    if (head->pool == HEAD_NORM_THEN_MEAN)
        k->mean_tokens_forward(k, head->averaged, head->normed, batch, T, C, head->first);

    const void *projected = projection_forward(head, k, w, batch);
    k->normalize_forward(k, unit, head->inverse, projected, batch, head->embed_dim);
}

/* A matrix: dinput[B,C] = dprojected projection^T;  dprojection[C,E] += input^T dprojected. */
static void matrix_backward(struct head *head, struct kernels *k, const struct weights *w,
                            float *gradients, void *dinput, size_t batch)
{
    size_t C = head->width, E = head->embed_dim;
    k->matmul(k, &(struct matmul){.rows = C,
                                  .columns = E,
                                  .inner = batch,
                                  .a = projection_input(head),
                                  .a_transposed = true,
                                  .b = head->projected,
                                  .out = gradients + head->offsets->projection,
                                  .accumulate = true});
    k->matmul(k, &(struct matmul){.rows = batch,
                                  .columns = C,
                                  .inner = E,
                                  .a = head->projected,
                                  .b = weights_matrix(w, head->offsets->projection),
                                  .b_transposed = true,
                                  .out = dinput});
}

/* dinput[B,C] = from dunit[B,E]. */
static void projection_backward(struct head *head, struct kernels *k, const struct weights *w,
                                float *gradients, void *dinput, const float *dunit,
                                const float *unit, size_t batch)
{
    const struct head_offsets *o = head->offsets;
    size_t C = head->width, E = head->embed_dim;
    void *dprojected = head->projection == PROJECTION_NONE ? dinput : head->projected;
    k->normalize_backward(k, dprojected, dunit, unit, head->inverse, batch, E);
    if (head->projection == PROJECTION_MATRIX)
        matrix_backward(head, k, w, gradients, dinput, batch);
    if (head->projection == PROJECTION_LINEAR)
        linear_backward(k, dinput, gradients + o->projection, gradients + o->projection_bias,
                        dprojected, projection_input(head), weights_matrix(w, o->projection),
                        batch, C, E);
}

/* dinput = from dnormed, of norm_input's shape. */
static void norm_input_backward(struct head *head, struct kernels *k, const struct weights *w,
                                float *gradients, void *dinput, const void *x, size_t batch)
{
    const struct head_offsets *o = head->offsets;
    size_t rows = norm_rows(head, batch), C = head->width;
    k->zero(k, dinput, rows * C * activation_bytes(k));
    k->norm_backward(k, dinput, gradients + o->norm_weight, gradients + o->norm_bias,
                     head->dnormed, norm_input(head, x), head->mean, head->rstd,
                     w->value + o->norm_weight, rows, C);
}

void head_backward(struct head *head, struct kernels *k, const struct weights *w,
                   float *gradients, void *dx, const float *dunit, const float *unit,
                   const void *x, size_t batch)
{
    size_t T = head->tokens, C = head->width;
    bool norm_first = head->pool == HEAD_NORM_THEN_MEAN;
    bool mean_first = head->pool == HEAD_MEAN_THEN_NORM;
    projection_backward(head, k, w, gradients, norm_first ? head->dpooled : head->dnormed,
                        dunit, unit, batch);
    if (norm_first)
        k->mean_tokens_backward(k, head->dnormed, head->dpooled, batch, T, C, head->first);
    norm_input_backward(head, k, w, gradients, mean_first ? head->dpooled : dx, x, batch);
    if (mean_first)
        k->mean_tokens_backward(k, dx, head->dpooled, batch, T, C, head->first);
}
