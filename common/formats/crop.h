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

/* torchvision's Resize(side) and CenterCrop(side): the shorter side becomes `side`, the longer
 * is cut to a whole number; the window is centred, half pixels rounded to even. */
struct center_crop {
    size_t out_width, out_height; /* of the whole image, resized */
    size_t x, y;                  /* where the window of side x side begins */
};
struct center_crop crop_center(size_t width, size_t height, size_t side);

#endif
