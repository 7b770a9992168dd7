#include "model/image_tower.h"

#include "model/linear.h"

static enum head_pool head_pool_of(const struct vision_config *config)
{
    if (config->pool == IMAGE_POOL_CLASS)
        return HEAD_PICK;
    return config->norm_after_pool ? HEAD_MEAN_THEN_NORM : HEAD_NORM_THEN_MEAN;
}

enum status image_tower_init(struct image_tower *tower, const struct clip_config *config,
                             const struct vision_offsets *offsets, size_t kept,
                             enum transformer_memory memory, struct error *error)
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
    return transformer_init(&tower->transformer, &vision->transformer, offsets->blocks,
                            1 + kept, memory, error);
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

    tower->pixels = arena_take_floats(arena, patches, 3 * P * P);
    tower->features = arena_take_floats(arena, patches, C);
    transformer_take(&tower->transformer, arena, batch);
    tower->embedded = tower->transformer.input;
    if (tower->config->norm_pre) {
        tower->embedded = arena_take_floats(arena, tokens, C);
        tower->norm_mean = arena_take_floats(arena, tokens, 1);
        tower->norm_rstd = arena_take_floats(arena, tokens, 1);
    }
    tower->class_row = arena_take(arena, batch, 1, sizeof *tower->class_row);
    head_take(&tower->head, arena, batch);
}

void image_tower_take_scratch(struct image_tower *tower, struct arena *arena, size_t batch)
{
    bool training = tower->transformer.memory != TRANSFORMER_FORWARD;
    transformer_take_scratch(&tower->transformer, arena, batch);
    head_take_scratch(&tower->head, arena, batch, training);
    if (training)
        tower->dx = arena_take_floats(arena, arena_rows(batch, 1 + tower->kept),
                                      tower->config->transformer.width);
}

void image_tower_forward(struct image_tower *tower, struct kernels *k, const float *parameters,
                         float *unit, const uint8_t *patches, const int32_t *position,
                         size_t batch)
{
    const struct vision_offsets *o = tower->offsets;
    size_t K = tower->kept, P = tower->config->patch_size;
    size_t C = tower->config->transformer.width;

    k->unpack_patches(k, tower->pixels, patches, batch * K, P, tower->mean, tower->std);
    linear_forward(k, tower->features, tower->pixels, parameters + o->conv1, NULL, batch * K,
                   3 * P * P, C);
    k->embed_patches_forward(k, tower->embedded, tower->features, position,
                             parameters + o->class_embedding,
                             parameters + o->positional_embedding, batch, K, C);
    if (tower->config->norm_pre)
        k->residual_norm_forward(k, NULL, tower->transformer.input, tower->norm_mean,
                                 tower->norm_rstd, tower->embedded, NULL,
                                 parameters + o->norm_pre_weight, parameters + o->norm_pre_bias,
                                 batch * (1 + K), C, tower->config->transformer.norm_eps);
    transformer_forward(&tower->transformer, k, parameters, batch);
    k->zero(k, tower->class_row, batch * sizeof *tower->class_row);
    head_forward(&tower->head, k, parameters, unit, tower->transformer.output,
                 tower->class_row, batch);
}

/* The transformer is done with its scratch when its input's gradient is known: the two
 * gradients before that input go there. */
void image_tower_backward(struct image_tower *tower, struct kernels *k, const float *parameters,
                          float *gradients, const float *dunit, const float *unit,
                          const int32_t *position, size_t batch)
{
    const struct vision_offsets *o = tower->offsets;
    size_t K = tower->kept, P = tower->config->patch_size;
    size_t C = tower->config->transformer.width, N = batch * (1 + K);

    head_backward(&tower->head, k, parameters, gradients, tower->dx, dunit, unit,
                  tower->transformer.output, tower->class_row, batch);
    transformer_backward(&tower->transformer, k, parameters, gradients, tower->dx, batch);

    float *dembedded = tower->dx;
    if (tower->config->norm_pre) {
        dembedded = tower->transformer.scratch.branch;
        k->zero(k, dembedded, N * C * sizeof *dembedded);
        k->norm_backward(k, dembedded, gradients + o->norm_pre_weight,
                         gradients + o->norm_pre_bias, tower->dx, tower->embedded,
                         tower->norm_mean, tower->norm_rstd, parameters + o->norm_pre_weight, N,
                         C);
    }
    float *dfeatures = tower->transformer.scratch.dwide;
    k->embed_patches_backward(k, dfeatures, gradients + o->class_embedding,
                              gradients + o->positional_embedding, dembedded, position, batch,
                              K, C);
    if (tower->config->fixed_positions)
        k->zero(k, gradients + o->positional_embedding,
                (1 + tower->config->grid * tower->config->grid) * C * sizeof *gradients);
    linear_backward(k, NULL, gradients + o->conv1, NULL, dfeatures, tower->pixels, NULL,
                    batch * K, 3 * P * P, C);
}
