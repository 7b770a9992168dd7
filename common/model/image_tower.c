#include "model/image_tower.h"

#include "model/linear.h"

static enum head_pool head_pool_of(const struct vision_config *config)
{
    if (config->pool == IMAGE_POOL_CLASS)
        return HEAD_TOKEN;
    return config->norm_after_pool ? HEAD_MEAN_THEN_NORM : HEAD_NORM_THEN_MEAN;
}

enum status image_tower_init(struct image_tower *tower, const struct clip_config *config,
                             const struct vision_offsets *offsets, size_t kept, bool training,
                             enum recompute recompute, struct error *error)
{
    const struct vision_config *vision = &config->vision;
    *tower = (struct image_tower){
        .config = vision,
        .offsets = offsets,
        .kept = kept,
        .head = {.pool = head_pool_of(vision),
                 .projection = PROJECTION_MATRIX,
                 .first = vision->pool == IMAGE_POOL_MEAN_ALL ? 0 : 1,
                 .tokens = 1 + kept,
                 .width = vision->transformer.width,
                 .embed_dim = config->embed_dim,
                 .eps = vision->transformer.norm_eps,
                 .offsets = &offsets->head},
    };
    for (int c = 0; c < 3; c++) {
        tower->mean[c] = (float)config->preprocess.mean[c];
        tower->std[c] = (float)config->preprocess.std[c];
    }
    const struct transformer_use use = {.tokens = 1 + kept,
                                        .one_token = tower->head.pool == HEAD_TOKEN,
                                        .training = training,
                                        .recompute = recompute};
    return transformer_init(&tower->transformer, &vision->transformer, offsets->blocks, &use,
                            error);
}

void image_tower_free(struct image_tower *tower)
{
    transformer_free(&tower->transformer);
    *tower = (struct image_tower){0};
}

void image_tower_take(struct image_tower *tower, struct arena *arena, size_t batch)
{
    size_t patches = arena_rows(batch, tower->kept);
    size_t tokens = arena_rows(batch, 1 + tower->kept);
    size_t P = tower->config->patch_size, C = tower->config->transformer.width;

    tower->pixels = arena_take_activations(arena, patches, 3 * P * P);
    tower->features = arena_take_activations(arena, patches, C);
    transformer_take(&tower->transformer, arena, batch);
    tower->embedded = tower->transformer.input;
    if (tower->config->norm_pre) {
        tower->embedded = arena_take_activations(arena, tokens, C);
        tower->norm_mean = arena_take_floats(arena, tokens, 1);
        tower->norm_rstd = arena_take_floats(arena, tokens, 1);
    }
    tower->class_row = arena_take(arena, batch, 1, sizeof *tower->class_row);
    head_take(&tower->head, arena, batch);
}

void image_tower_take_scratch(struct image_tower *tower, struct arena *arena, size_t batch)
{
    size_t C = tower->config->transformer.width;
    bool training = tower->transformer.training;
    transformer_take_scratch(&tower->transformer, arena, batch);
    head_take_scratch(&tower->head, arena, batch, training);
    if (!training)
        return;
    tower->dx = arena_take_activations(arena, arena_rows(batch, 1 + tower->kept), C);
    tower->dtoken = tower->transformer.one_token ? arena_take_activations(arena, batch, C)
                                                 : NULL;
}

void image_tower_forward(struct image_tower *tower, struct kernels *k, const struct weights *w,
                         float *unit, const uint8_t *patches, const int32_t *position,
                         size_t batch)
{
    const struct vision_offsets *o = tower->offsets;
    size_t K = tower->kept, P = tower->config->patch_size;
    size_t C = tower->config->transformer.width;

    k->unpack_patches(k, tower->pixels, patches, batch * K, P, tower->mean, tower->std);
    linear_forward(k, tower->features, tower->pixels, weights_matrix(w, o->conv1), NULL,
                   batch * K, 3 * P * P, C);
    k->embed_patches_forward(k, tower->embedded, tower->features, position,
                             w->value + o->class_embedding,
                             w->value + o->positional_embedding, batch, K, C);
    if (tower->config->norm_pre)
        k->residual_norm_forward(k, NULL, tower->transformer.input, tower->norm_mean,
                                 tower->norm_rstd, tower->embedded, NULL,
                                 w->value + o->norm_pre_weight, w->value + o->norm_pre_bias,
                                 batch * (1 + K), C, tower->config->transformer.norm_eps);
    k->zero(k, tower->class_row, batch * sizeof *tower->class_row);
    transformer_forward(&tower->transformer, k, w, tower->class_row, batch);
    head_forward(&tower->head, k, w, unit, tower->transformer.output, batch);
}

/* The transformer is done with its scratch when its input's gradient is known: the two
 * gradients before that input go there. */
void image_tower_backward(struct image_tower *tower, struct kernels *k, const struct weights *w,
                          float *gradients, const float *dunit, const float *unit,
                          const int32_t *position, size_t batch)
{
    const struct vision_offsets *o = tower->offsets;
    size_t K = tower->kept, P = tower->config->patch_size;
    size_t C = tower->config->transformer.width, N = batch * (1 + K);

    void *doutput = tower->dtoken != NULL ? tower->dtoken : tower->dx;
    head_backward(&tower->head, k, w, gradients, doutput, dunit, unit,
                  tower->transformer.output, batch);
    transformer_backward(&tower->transformer, k, w, gradients, tower->dx, doutput,
                         tower->class_row, batch);

    void *dembedded = tower->dx;
    if (tower->config->norm_pre) {
        dembedded = tower->transformer.scratch.branch;
        k->zero(k, dembedded, N * C * activation_bytes(k));
        k->norm_backward(k, dembedded, gradients + o->norm_pre_weight,
                         gradients + o->norm_pre_bias, tower->dx, tower->embedded,
                         tower->norm_mean, tower->norm_rstd, w->value + o->norm_pre_weight, N,
                         C);
    }
    void *dfeatures = tower->transformer.scratch.dwide;
    k->embed_patches_backward(k, dfeatures, gradients + o->class_embedding,
                              gradients + o->positional_embedding, dembedded, position, batch,
                              K, C);
    if (tower->config->fixed_positions)
        k->zero(k, gradients + o->positional_embedding,
                (1 + tower->config->grid * tower->config->grid) * C * sizeof *gradients);
    linear_backward_weight(k, gradients + o->conv1, NULL, dfeatures, tower->pixels, batch * K,
                           3 * P * P, C);
}
