/* reduce_image.h - fewer image tokens: a smaller image, or some of its patches. */
#ifndef FORMATS_REDUCE_IMAGE_H
#define FORMATS_REDUCE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/rng.h"

enum image_strategy {
    IMAGE_NONE,
    IMAGE_RESIZE, /* the whole image, smaller */
    IMAGE_RANDOM, /* K patches, every set of K equally likely */
};

struct image_reduction {
    enum image_strategy strategy;
    size_t amount; /* the side in pixels, or K patches */
};

/* Patches of side P of an image of H x W, row-major. */
struct patch_grid {
    size_t rows, columns;
    size_t patch; /* P in pixels */
};

enum { IMAGE_SIDE_MAX = 8192 };

/* Reads "none" or "STRATEGY:N". STATUS_USAGE where it is neither. */
enum status image_reduction_parse(struct image_reduction *out, const char *text,
                                  struct error *error);

/* STATUS_DATA where P does not divide the image's sides. */
enum status patch_grid_init(struct patch_grid *grid, size_t height, size_t width, size_t patch,
                            struct error *error);

/* Chooses the kept patches: `amount` positions (row-major indices), ascending. `scratch` holds
 * rows * columns values. STATUS_DATA where the grid has fewer patches than are to be kept. */
enum status image_choose_patches(const struct image_reduction *reduction,
                                 const struct patch_grid *grid, struct rng *rng,
                                 uint32_t *scratch, int32_t *position, struct error *error);

/* Copies `count` patches of image u8 [H,W,3] to out u8 [count,P*P*3], each (y, x, channel). */
void image_copy_patches(const struct patch_grid *grid, const uint8_t *image,
                        const int32_t *position, size_t count, uint8_t *out);

#endif
