/* image_square.h - from an encoded image to the square of pixels that a model takes: decode,
 * crop, resize, jitter, with as little work as the crop allows.
 *
 * What comes out equals open_clip's image_transform before its ToTensor, on Pillow up to
 * version 12: for evaluation bit for bit, for training given the same draws. */
#ifndef FORMATS_IMAGE_SQUARE_H
#define FORMATS_IMAGE_SQUARE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "formats/color_jitter.h"

enum square_crop {
    SQUARE_RANDOM,  /* a part of random area and shape, for training (crop_random) */
    SQUARE_CENTER,  /* open_clip's resize_mode "shortest" (crop_center) */
    SQUARE_SQUASH,  /* "squash": all of it, its shape ignored */
    SQUARE_LONGEST  /* "longest": all of it, its shape kept, padded (crop_longest) */
};

enum square_filter {
    SQUARE_BICUBIC,
    SQUARE_BILINEAR,
    SQUARE_EITHER, /* drawn for a random crop, bicubic for the others, as open_clip and timm */
    SQUARE_FILTERS = SQUARE_EITHER
};

/* What is the same for all images. */
struct square_recipe {
    size_t side; /* in pixels */
    enum square_crop crop;
    enum square_filter filter;
    double scale[2], ratio[2]; /* of random crops */
    uint8_t fill;              /* of all three colours, around what "longest" pads */
    struct color_jitter jitter;
    uint64_t seed;       /* of the crops (RNG_CROP) and colours (RNG_COLOR) */
    uint64_t pixels_max; /* larger images are refused */
};

/* Working memory of one thread, used again for every image. */
struct square_maker;

enum status square_maker_open(struct square_maker **maker, struct error *error);
void square_maker_close(struct square_maker *maker); /* accepts NULL */

/* out[side,side,3] = the square of the image bytes[0..size). What is drawn at random depends on
 * the recipe's seed, `epoch` and `sample` alone. STATUS_DATA where it is no image that can be
 * decoded (image.h); out is then unspecified. */
enum status square_make(struct square_maker *maker, const struct square_recipe *recipe,
                        const uint8_t *bytes, size_t size, uint64_t epoch, uint64_t sample,
                        uint8_t *out, struct error *error);

#endif
