#include "model/head.h"

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
    head->projected = arena_take_floats(arena, batch, head->embed_dim);
    head->dpooled = training ? arena_take_floats(arena, batch, C) : NULL;
    head->dnormed = training ? arena_take_floats(arena, R, C) : NULL;
}

/* What the projection is applied to. */
static float *projection_input(const struct head *head)
{
    return head->pool == HEAD_NORM_THEN_MEAN ? head->averaged : head->normed;
}

void head_forward(struct head *head, struct kernels *k, const float *parameters, float *unit,
                  const float *x, const int32_t *row, size_t batch)
{
    size_t T = head->tokens, C = head->width, E = head->embed_dim;
    const float *normed_from = x;
    if (head->pool == HEAD_PICK)
        k->pick_token_forward(k, head->pooled, x, row, batch, T, C);
    if (head->pool == HEAD_MEAN_THEN_NORM)
        k->mean_tokens_forward(k, head->pooled, x, batch, T, C, 1);
    if (head->pool != HEAD_NORM_THEN_MEAN)
        normed_from = head->pooled;

    k->residual_norm_forward(k, NULL, head->normed, head->mean, head->rstd, normed_from, NULL,
                             parameters + head->offsets->norm_weight,
                             parameters + head->offsets->norm_bias, norm_rows(head, batch), C,
                             head->eps);
    if (head->pool == HEAD_NORM_THEN_MEAN)
        k->mean_tokens_forward(k, head->averaged, head->normed, batch, T, C, 1);

    k->matmul(k, &(struct matmul){.rows = batch,
                                  .columns = E,
                                  .inner = C,
                                  .a = projection_input(head),
                                  .b = parameters + head->offsets->projection,
                                  .out = head->projected});
    k->normalize_forward(k, unit, head->inverse, head->projected, batch, E);
}

/* dinput[B,C] = dprojected projection^T;  dprojection[C,E] += input^T dprojected. */
static void projection_backward(struct head *head, struct kernels *k, const float *parameters,
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

void head_backward(struct head *head, struct kernels *k, const float *parameters,
                   float *gradients, float *dx, const float *dunit, const float *unit,
                   const float *x, const int32_t *row, size_t batch)
{
    size_t T = head->tokens, C = head->width, rows = norm_rows(head, batch);
    const struct head_offsets *o = head->offsets;
    k->normalize_backward(k, head->projected, dunit, unit, head->inverse, batch,
                          head->embed_dim);

    if (head->pool == HEAD_NORM_THEN_MEAN) {
        projection_backward(head, k, parameters, gradients, head->dpooled, batch);
        k->mean_tokens_backward(k, head->dnormed, head->dpooled, batch, T, C, 1);
        k->zero(k, dx, rows * C * sizeof *dx);
        k->norm_backward(k, dx, gradients + o->norm_weight, gradients + o->norm_bias,
                         head->dnormed, x, head->mean, head->rstd, parameters + o->norm_weight,
                         rows, C);
        return;
    }
    projection_backward(head, k, parameters, gradients, head->dnormed, batch);
    k->zero(k, head->dpooled, rows * C * sizeof *head->dpooled);
    k->norm_backward(k, head->dpooled, gradients + o->norm_weight, gradients + o->norm_bias,
                     head->dnormed, head->pooled, head->mean, head->rstd,
                     parameters + o->norm_weight, rows, C);
    if (head->pool == HEAD_PICK)
        k->pick_token_backward(k, dx, head->dpooled, row, batch, T, C);
    else
        k->mean_tokens_backward(k, dx, head->dpooled, batch, T, C, 1);
}
