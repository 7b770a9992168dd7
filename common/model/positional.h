/* positional.h - positional embeddings that are given by a formula, and those of a checkpoint
 * for another sequence length, as open_clip changes them when it loads one: what lets a model
 * that was trained on reduced images and texts be fine-tuned and used on full ones. */
#ifndef MODEL_POSITIONAL_H
#define MODEL_POSITIONAL_H

#include <stddef.h>

#include "base/error.h"

/* out[1+new_grid^2,C] from in[1+old_grid^2,C]: row 0, the class token's, is copied; the rest is
 * an image of C channels, resized by a cubic convolution (Keys 1981, a = -1/2) that is
 * stretched when it shrinks, so that it does not alias; pixel centres at half integers. */
enum status positional_resize_image(float *out, size_t new_grid, const float *in,
                                    size_t old_grid, size_t C, struct error *error);

/* out[new_length,C] from in[old_length,C]: linear between the two nearest rows, constant
 * beyond the first and the last; centres at half integers. */
void positional_resize_text(float *out, size_t new_length, const float *in, size_t old_length,
                            size_t C);

/* out[1+grid^2,C] = the table of a model whose positions are not learned: zeros for the class
 * token; for the patch at (x, y), with n = C/4 and w[k] = 10000^(-k/n),
 *   sin(x w), cos(x w), sin(y w), cos(y w), n values each.
 * `patches` is grid^2, C a multiple of 4. Source: open_clip's pos_embed.py, which is that of
 * He et al., "Masked autoencoders are scalable vision learners", 2022. */
void positional_sin_cos(float *out, size_t patches, size_t C);

#endif
