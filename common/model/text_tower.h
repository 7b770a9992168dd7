/* text_tower.h - from token ids to text embeddings, forward and backward.
 *
 * Source: Radford et al. 2021; no mask hides the padding, as in open_clip. */
#ifndef MODEL_TEXT_TOWER_H
#define MODEL_TEXT_TOWER_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "model/arena.h"
#include "model/config.h"
#include "model/head.h"
#include "model/parameters.h"
#include "model/transformer.h"
#include "model/weights.h"

struct text_tower {
    const struct text_config *config;   /* not owned */
    const struct text_offsets *offsets; /* not owned */
    struct transformer transformer;
    struct head head;
    void *dx, *dtoken; /* [B,L,C] [B,C] scratch, training only */
};

/* config and offsets must outlive the tower; recompute: in training. */
enum status text_tower_init(struct text_tower *tower, const struct clip_config *config,
                            const struct text_offsets *offsets, bool training,
                            enum recompute recompute, struct error *error);
void text_tower_free(struct text_tower *tower);

void text_tower_take(struct text_tower *tower, struct arena *arena, size_t batch);
void text_tower_take_scratch(struct text_tower *tower, struct arena *arena, size_t batch);

/* The token of tokens[L] (host memory) whose output stands for the caption. */
int32_t text_tower_pool_row(const struct text_config *config, const int32_t *tokens);

/* unit[B,E] = embeddings of tokens [B,L], pooled at row[B]; backend memory. */
void text_tower_forward(struct text_tower *tower, struct kernels *k, const struct weights *w,
                        float *unit, const int32_t *tokens, const int32_t *row, size_t batch);

/* gradients += from dunit[B,E], after the forward pass of the same batch gave unit. */
void text_tower_backward(struct text_tower *tower, struct kernels *k, const struct weights *w,
                         float *gradients, const float *dunit, const float *unit,
                         const int32_t *tokens, const int32_t *row, size_t batch);

#endif
