/* image_tower.h - from patches to image embeddings, forward and backward.
 *
 * Only the K patches that are given are computed: token reduction costs nothing here.
 * Source: Dosovitskiy et al. 2021 (ViT); Radford et al. 2021; Li et al. 2023 (CLIPA). */
#ifndef MODEL_IMAGE_TOWER_H
#define MODEL_IMAGE_TOWER_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "model/arena.h"
#include "model/config.h"
#include "model/head.h"
#include "model/parameters.h"
#include "model/transformer.h"
#include "model/weights.h"

struct image_tower {
    const struct vision_config *config;   /* not owned */
    const struct vision_offsets *offsets; /* not owned */
    float mean[3], std[3];                /* of pixels in [0,1] */
    size_t kept;                          /* K; T = 1 + K */

    void *pixels;                 /* [B*K,3*P*P] */
    void *features;               /* [B*K,C] */
    void *embedded;               /* [B,T,C]; the transformer's input if there is no norm */
    float *norm_mean, *norm_rstd; /* [B*T] of the norm before the blocks, if any */
    int32_t *class_row;           /* [B] zeros: the class token's place */
    struct transformer transformer;
    struct head head;
    void *dx; /* [B,T,C] scratch, training only */
    void *dtoken; /* [B,C] the same, where one token is pooled */
};

/* config and offsets must outlive the tower; 1 <= kept <= grid*grid; recompute: in training. */
enum status image_tower_init(struct image_tower *tower, const struct clip_config *config,
                             const struct vision_offsets *offsets, size_t kept, bool training,
                             enum recompute recompute, struct error *error);
void image_tower_free(struct image_tower *tower);

void image_tower_take(struct image_tower *tower, struct arena *arena, size_t batch);
void image_tower_take_scratch(struct image_tower *tower, struct arena *arena, size_t batch);

/* unit[B,E] = embeddings of patches u8 [B,K,P*P*3] at position [B,K]; backend memory. */
void image_tower_forward(struct image_tower *tower, struct kernels *k, const struct weights *w,
                         float *unit, const uint8_t *patches, const int32_t *position,
                         size_t batch);

/* gradients += from dunit[B,E], after the forward pass of the same batch gave unit. */
void image_tower_backward(struct image_tower *tower, struct kernels *k, const struct weights *w,
                          float *gradients, const float *dunit, const float *unit,
                          const int32_t *position, size_t batch);

#endif
