#include "model/text_tower.h"

enum status text_tower_init(struct text_tower *tower, const struct clip_config *config,
                            const struct text_offsets *offsets, bool training,
                            enum recompute recompute, struct error *error)
{
    const struct text_config *text = &config->text;
    *tower = (struct text_tower){
        .config = text,
        .offsets = offsets,
        .head = {.pool = HEAD_TOKEN,
                 .projection = text->projection,
                 .tokens = text->context_length,
                 .width = text->transformer.width,
                 .embed_dim = config->embed_dim,
                 .eps = text->transformer.norm_eps,
                 .offsets = &offsets->head},
    };
    const struct transformer_use use = {.tokens = text->context_length,
                                        .one_token = true,
                                        .training = training,
                                        .recompute = recompute};
    return transformer_init(&tower->transformer, &text->transformer, offsets->blocks, &use,
                            error);
}

void text_tower_free(struct text_tower *tower)
{
    transformer_free(&tower->transformer);
    *tower = (struct text_tower){0};
}

void text_tower_take(struct text_tower *tower, struct arena *arena, size_t batch)
{
    transformer_take(&tower->transformer, arena, batch);
    head_take(&tower->head, arena, batch);
}

void text_tower_take_scratch(struct text_tower *tower, struct arena *arena, size_t batch)
{
    size_t rows = arena_rows(batch, tower->config->context_length);
    size_t C = tower->config->transformer.width;
    bool training = tower->transformer.training;
    transformer_take_scratch(&tower->transformer, arena, batch);
    head_take_scratch(&tower->head, arena, batch, training);
    if (!training)
        return;
    tower->dx = arena_take_activations(arena, rows, C);
    tower->dtoken = arena_take_activations(arena, batch, C);
}

int32_t text_tower_pool_row(const struct text_config *config, const int32_t *tokens)
{
    size_t L = config->context_length, row = 0;
    switch (config->pool) {
    case TEXT_POOL_FIRST:
        break;
    case TEXT_POOL_LAST:
        row = L - 1;
        break;
    case TEXT_POOL_ARGMAX:
        for (size_t i = 1; i < L; i++)
            if (tokens[i] > tokens[row])
                row = i;
        break;
    case TEXT_POOL_EOS:
        while (row < L && tokens[row] != config->eos_id)
            row++;
        if (row == L)
            row = 0;
        break;
    }
    return (int32_t)row;
}

void text_tower_forward(struct text_tower *tower, struct kernels *k, const struct weights *w,
                        float *unit, const int32_t *tokens, const int32_t *row, size_t batch)
{
    const struct text_offsets *o = tower->offsets;
    k->embed_tokens_forward(k, tower->transformer.input, tokens,
                            w->value + o->token_embedding,
                            w->value + o->positional_embedding, batch,
                            tower->config->context_length, tower->config->transformer.width);
    transformer_forward(&tower->transformer, k, w, row, batch);
    head_forward(&tower->head, k, w, unit, tower->transformer.output, batch);
}

void text_tower_backward(struct text_tower *tower, struct kernels *k, const struct weights *w,
                         float *gradients, const float *dunit, const float *unit,
                         const int32_t *tokens, const int32_t *row, size_t batch)
{
    const struct text_offsets *o = tower->offsets;
    head_backward(&tower->head, k, w, gradients, tower->dtoken, dunit, unit,
                  tower->transformer.output, batch);
    transformer_backward(&tower->transformer, k, w, gradients, tower->dx, tower->dtoken, row,
                         batch);
    k->embed_tokens_backward(k, gradients + o->token_embedding,
                             gradients + o->positional_embedding, tower->dx, tokens, batch,
                             tower->config->context_length, tower->config->transformer.width);
}
