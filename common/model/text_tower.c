#include "model/text_tower.h"

enum status text_tower_init(struct text_tower *tower, const struct clip_config *config,
                            const struct text_offsets *offsets, enum transformer_memory memory,
                            struct error *error)
{
    const struct text_config *text = &config->text;
    *tower = (struct text_tower){
        .config = text,
        .offsets = offsets,
        .head = {.pool = HEAD_PICK,
                 .projection = text->projection,
                 .tokens = text->context_length,
                 .width = text->transformer.width,
                 .embed_dim = config->embed_dim,
                 .eps = text->transformer.norm_eps,
                 .offsets = &offsets->head},
    };
    return transformer_init(&tower->transformer, &text->transformer, offsets->blocks,
                            text->context_length, memory, error);
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
    bool training = tower->transformer.memory != TRANSFORMER_FORWARD;
    size_t rows = arena_rows(batch, tower->config->context_length);
    transformer_take_scratch(&tower->transformer, arena, batch);
    head_take_scratch(&tower->head, arena, batch, training);
    if (training)
        tower->dx = arena_take_floats(arena, rows, tower->config->transformer.width);
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

void text_tower_forward(struct text_tower *tower, struct kernels *k, const float *parameters,
                        float *unit, const int32_t *tokens, const int32_t *row, size_t batch)
{
    const struct text_offsets *o = tower->offsets;
    k->embed_tokens_forward(k, tower->transformer.input, tokens,
                            parameters + o->token_embedding,
                            parameters + o->positional_embedding, batch,
                            tower->config->context_length, tower->config->transformer.width);
    transformer_forward(&tower->transformer, k, parameters, batch);
    head_forward(&tower->head, k, parameters, unit, tower->transformer.output, row, batch);
}

void text_tower_backward(struct text_tower *tower, struct kernels *k, const float *parameters,
                         float *gradients, const float *dunit, const float *unit,
                         const int32_t *tokens, const int32_t *row, size_t batch)
{
    const struct text_offsets *o = tower->offsets;
    head_backward(&tower->head, k, parameters, gradients, tower->dx, dunit, unit,
                  tower->transformer.output, row, batch);
    transformer_backward(&tower->transformer, k, parameters, gradients, tower->dx, batch);
    k->embed_tokens_backward(k, gradients + o->token_embedding,
                             gradients + o->positional_embedding, tower->dx, tokens, batch,
                             tower->config->context_length, tower->config->transformer.width);
}
