/* freeze.h - towers that are not trained, or only their last groups: open_clip's --lock-image
 * and --lock-text.
 *
 * A tower is cut into groups, counted from its end:
 *
 *   image                                          text
 *   projection                                     projection, where there is one
 *   last block and the norm after it               last block and the norm after it
 *   each block before                              each block before
 *   patch convolution, class and positional        token and positional embedding
 *   embedding, the norm before the blocks
 *
 * The logit scale and bias belong to no tower and are trained always. Fixed positions are
 * trained never; open_clip trains them where their group is unlocked.
 * Source: Zhai et al., "LiT: zero-shot transfer with locked-image text tuning", 2022; open_clip
 * 3.3, transformer.py (VisionTransformer.lock, lock_text_tower). */
#ifndef MODEL_FREEZE_H
#define MODEL_FREEZE_H

#include <stdbool.h>
#include <stddef.h>

#include "model/parameters.h"

/* A zeroed struct freezes nothing. */
struct freeze {
    bool image, text;
    size_t image_groups, text_groups; /* of a frozen tower that are trained nevertheless: the
                                       * last ones; more than it has: all */
};

/* Whether no tensor of the tower is trained, so that it needs no backward pass. */
static inline bool freeze_whole_image(const struct freeze *freeze)
{
    return freeze->image && freeze->image_groups == 0;
}
static inline bool freeze_whole_text(const struct freeze *freeze)
{
    return freeze->text && freeze->text_groups == 0;
}

/* Sets the mark `frozen` of every tensor of a model with this configuration. */
void freeze_apply(const struct freeze *freeze, const struct clip_config *config,
                  struct parameters *table);

#endif
