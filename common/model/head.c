#include "model/head.h"

#include "model/linear.h"

static size_t norm_rows(const struct head *head, size_t batch)
{
    return head->pool == HEAD_NORM_THEN_MEAN ? arena_rows(batch, head->tokens) : batch;
}

void head_take(struct head *head, struct arena *arena, size_t batch)
{
    size_t R = norm_rows(head, batch), C = head->width;
    bool norm_first = head->pool == HEAD_NORM_THEN_MEAN;
    head->pooled = norm_first ? NULL : arena_take_floats(arena, batch, C);
    head->normed = arena_take_floats(arena, R, C);
    head->mean = arena_take_floats(arena, R, 1);
    head->rstd = arena_take_floats(arena, R, 1);
    head->averaged = norm_first ? arena_take_floats(arena, batch, C) : NULL;
    head->inverse = arena_take_floats(arena, batch, 1);
}

void head_take_scratch(struct head *head, struct arena *arena, size_t batch, bool training)
{
    size_t R = norm_rows(head, batch), C = head->width;
    head->projected = head->projection == PROJECTION_NONE
                          ? NULL
                          : arena_take_floats(arena, batch, head->embed_dim);
    head->dpooled = training ? arena_take_floats(arena, batch, C) : NULL;
    head->dnormed = training ? arena_take_floats(arena, R, C) : NULL;
}

/* What the projection is applied to. */
static float *projection_input(const struct head *head)
{
    return head->pool == HEAD_NORM_THEN_MEAN ? head->averaged : head->normed;
}

/* projected[B,E] = input[B,C] projection, or the input itself. */
static const float *projection_forward(struct head *head, struct kernels *k,
                                       const float *parameters, size_t batch)
{
    const struct head_offsets *o = head->offsets;
    bool linear = head->projection == PROJECTION_LINEAR;
    if (head->projection == PROJECTION_NONE)
        return projection_input(head);
    k->matmul(k, &(struct matmul){.rows = batch,
                                  .columns = head->embed_dim,
                                  .inner = head->width,
                                  .a = projection_input(head),
                                  .b = parameters + o->projection,
                                  .b_transposed = linear,
                                  .bias = linear ? parameters + o->projection_bias : NULL,
                                  .out = head->projected});
    return head->projected;
}

void head_forward(struct head *head, struct kernels *k, const float *parameters, float *unit,
                  const float *x, const int32_t *row, size_t batch)
{
    size_t T = head->tokens, C = head->width;
    const float *normed_from = x;
    if (head->pool == HEAD_PICK)
        k->pick_token_forward(k, head->pooled, x, row, batch, T, C);
    if (head->pool == HEAD_MEAN_THEN_NORM)
        k->mean_tokens_forward(k, head->pooled, x, batch, T, C, head->first);
    if (head->pool != HEAD_NORM_THEN_MEAN)
        normed_from = head->pooled;

    k->residual_norm_forward(k, NULL, head->normed, head->mean, head->rstd, normed_from, NULL,
                             parameters + head->offsets->norm_weight,
                             parameters + head->offsets->norm_bias, norm_rows(head, batch), C,
                             head->eps);
    if (head->pool == HEAD_NORM_THEN_MEAN)
        k->mean_tokens_forward(k, head->averaged, head->normed, batch, T, C, head->first);

    const float *projected = projection_forward(head, k, parameters, batch);
    k->normalize_forward(k, unit, head->inverse, projected, batch, head->embed_dim);
}

/* A matrix: dinput[B,C] = dprojected projection^T;  dprojection[C,E] += input^T dprojected. */
static void matrix_backward(struct head *head, struct kernels *k, const float *parameters,
                            float *gradients, float *dinput, size_t batch)
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
                                  .b = parameters + head->offsets->projection,
                                  .b_transposed = true,
                                  .out = dinput});
}

/* dinput[B,C] = from dunit[B,E]. */
static void projection_backward(struct head *head, struct kernels *k, const float *parameters,
                                float *gradients, float *dinput, const float *dunit,
                                const float *unit, size_t batch)
{
    const struct head_offsets *o = head->offsets;
    size_t C = head->width, E = head->embed_dim;
    float *dprojected = head->projection == PROJECTION_NONE ? dinput : head->projected;
    k->normalize_backward(k, dprojected, dunit, unit, head->inverse, batch, E);
    if (head->projection == PROJECTION_MATRIX)
        matrix_backward(head, k, parameters, gradients, dinput, batch);
    if (head->projection == PROJECTION_LINEAR)
        linear_backward(k, dinput, gradients + o->projection, gradients + o->projection_bias,
                        dprojected, projection_input(head), parameters + o->projection, batch,
                        C, E);
}

void head_backward(struct head *head, struct kernels *k, const float *parameters,
                   float *gradients, float *dx, const float *dunit, const float *unit,
                   const float *x, const int32_t *row, size_t batch)
{
    size_t T = head->tokens, C = head->width, rows = norm_rows(head, batch);
    const struct head_offsets *o = head->offsets;
    if (head->pool == HEAD_NORM_THEN_MEAN) {
        projection_backward(head, k, parameters, gradients, head->dpooled, dunit, unit, batch);
        k->mean_tokens_backward(k, head->dnormed, head->dpooled, batch, T, C, head->first);
        k->zero(k, dx, rows * C * sizeof *dx);
        k->norm_backward(k, dx, gradients + o->norm_weight, gradients + o->norm_bias,
                         head->dnormed, x, head->mean, head->rstd, parameters + o->norm_weight,
                         rows, C);
        return;
    }
    projection_backward(head, k, parameters, gradients, head->dnormed, dunit, unit, batch);
    k->zero(k, head->dpooled, rows * C * sizeof *head->dpooled);
    k->norm_backward(k, head->dpooled, gradients + o->norm_weight, gradients + o->norm_bias,
                     head->dnormed, head->pooled, head->mean, head->rstd,
                     parameters + o->norm_weight, rows, C);
    if (head->pool == HEAD_PICK)
        k->pick_token_backward(k, dx, head->dpooled, row, batch, T, C);
    else
        k->mean_tokens_backward(k, dx, head->dpooled, batch, T, C, head->first);
}
