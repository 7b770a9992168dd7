/* patch_dropout.h - the patches that an image loses in training, a `patch_dropout` part of
 * those it has, drawn anew each time it comes up.
 *
 * open_clip embeds all patches and then drops some; here they are chosen before anything is
 * copied or computed, and a batch that is encoded twice (clip_step_gradients) keeps its choice.
 * Source: Li et al., "Scaling language-image pre-training via masking", 2023. */
#ifndef MODEL_PATCH_DROPOUT_H
#define MODEL_PATCH_DROPOUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"

/* How many of `patches` (at least 1) stay: the whole part of patches * (1 - dropout), one at
 * least. dropout is in [0, 1). */
size_t patch_dropout_kept(double dropout, size_t patches);

/* chosen[0..kept) = a random subset of 0..patches-1 in ascending order, each as likely as any
 * other; kept <= patches. */
void patch_dropout_choose(struct rng *rng, size_t patches, size_t kept, uint32_t *chosen);

/* One sample: out[kept,patch_bytes] and out_position[kept] = the chosen ones of patches and of
 * position; position NULL: all patches of the grid in order. out may be patches and
 * out_position may be position. */
void patch_dropout_gather(uint8_t *out, int32_t *out_position, const uint8_t *patches,
                          const int32_t *position, const uint32_t *chosen, size_t kept,
                          size_t patch_bytes);

#endif
