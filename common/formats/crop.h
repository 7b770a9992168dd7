/* crop.h - which part of an image becomes the model's input. */
#ifndef FORMATS_CROP_H
#define FORMATS_CROP_H

#include <stddef.h>

#include "base/rng.h"
#include "formats/image.h"

/* torchvision's RandomResizedCrop: an area of U(scale) of the image and an aspect ratio
 * (width / height) log-uniform in `ratio`; the first of ten draws that fits, at a uniform
 * place. Where none fits: the largest centred box whose ratio is in range. */
struct image_region crop_random(struct rng *rng, size_t width, size_t height,
                                const double scale[2], const double ratio[2]);

/* How an image becomes a square of `side` pixels: all of it is resized, a window of the result
 * is kept, and what the window leaves of the square is filled. */
struct crop_fit {
    size_t out_width, out_height; /* of the whole image, resized */
    size_t x, y, width, height;   /* the window of it that is kept */
    size_t left, top;             /* where the window lies in the square */
};

/* open_clip's three ways to prepare an image for evaluation (resize_mode), from transform.py.
 *
 * center, "shortest": torchvision's Resize(side) and CenterCrop(side). The shorter side becomes
 *   `side`, the longer is cut to a whole number; half pixels of the place are rounded to even.
 * longest: ResizeKeepRatio and CenterCropOrPad. The longer side becomes `side`, the shorter is
 *   rounded, halves to even; of an odd rest, the larger half is to the right or below. Where
 *   the shorter side would vanish, it keeps one pixel; Pillow refuses such an image.
 * squash: both sides become `side`. */
struct crop_fit crop_center(size_t width, size_t height, size_t side);
struct crop_fit crop_longest(size_t width, size_t height, size_t side);
struct crop_fit crop_squash(size_t side);

#endif
