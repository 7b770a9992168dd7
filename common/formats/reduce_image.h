/* reduce_image.h - fewer image tokens: a smaller image, or some of its patches.
 *
 * The masks keep K of the N = H x W patches of a grid:
 *   random  a set drawn at random, all sets of K equally likely
 *   grid    one patch of each of K cells, drawn at random or, with `corner`, the cell's first
 *           in raster order. Cells: rows form bands of about sqrt(N / K) rows; a path winds
 *           through one band after the other, up and down the columns, from left to right and
 *           back, and is cut into K stretches of floor(N / K) or ceil(N / K) patches. They
 *           cover the grid, so every patch is kept with a chance of nearly K / N. For K = N / 4
 *           on a grid of even sides they are the 2 x 2 windows, for K = N / 9 on sides that 3
 *           divides the 3 x 3 windows
 *   block   a rectangle of K patches, all its places in the grid equally likely. Its sides are
 *           the most square ones with product K, if one is at most twice the other and they
 *           fit; otherwise it is the most square rectangle that holds K, with the last row cut
 *           short at the right. Of two that are as square, the wider
 * Source: the strategies of Li, Wang, Xie, "An Inverse Scaling Law for CLIP Training", 2023, of
 * which only `random` has published code; it keeps floor(N * share) patches, at least 1. */
#ifndef FORMATS_REDUCE_IMAGE_H
#define FORMATS_REDUCE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/rng.h"

enum image_strategy {
    IMAGE_NONE,
    IMAGE_RESIZE, /* the whole image, smaller */
    IMAGE_RANDOM,
    IMAGE_GRID,
    IMAGE_BLOCK
};

struct image_reduction {
    enum image_strategy strategy;
    size_t amount;   /* the side in pixels, or K patches; 0: a share */
    size_t share_bp; /* the share of the patches to keep, in basis points, 1/10000 */
    bool corner;     /* grid: the same patch of every cell, for every sample */
};

/* Patches of side P of an image of H x W, row-major. */
struct patch_grid {
    size_t rows, columns;
    size_t patch; /* P in pixels */
};

enum {
    IMAGE_SIDE_MAX = 8192,
    IMAGE_PATCHES_MAX = IMAGE_SIDE_MAX * IMAGE_SIDE_MAX,
};

/* Reads "none", "STRATEGY:N" or, for a mask, "STRATEGY:N%"; `corner` stays. STATUS_USAGE where
 * it is none of them. */
enum status image_reduction_parse(struct image_reduction *out, const char *text,
                                  struct error *error);

/* STATUS_DATA where P does not divide the image's sides, or there are more than
 * IMAGE_PATCHES_MAX patches. */
enum status patch_grid_init(struct patch_grid *grid, size_t height, size_t width, size_t patch,
                            struct error *error);

/* *keep = K, the patches that a mask keeps of each image. STATUS_DATA where the grid has
 * fewer. */
enum status image_patches_kept(const struct image_reduction *reduction,
                               const struct patch_grid *grid, size_t *keep,
                               struct error *error);

/* A mask prepared for one grid; zeroed, it is empty. Constant between two calls of prepare: any
 * number of threads may draw. */
struct patch_chooser {
    struct image_reduction reduction;
    struct patch_grid grid;
    size_t keep;                      /* K */
    size_t block_rows, block_columns; /* of the rectangle that bounds a block */
    struct buffer path; /* int32_t, for grid: [N] where the path leads, or [K] the corners */
};

/* Does nothing where it is prepared for that already. Errors of image_patches_kept, or
 * STATUS_SYSTEM for want of memory. */
enum status patch_chooser_prepare(struct patch_chooser *chooser,
                                  const struct image_reduction *reduction,
                                  const struct patch_grid *grid, struct error *error);
void patch_chooser_free(struct patch_chooser *chooser);

/* position[K] = the row-major indices of the kept patches, ascending. `scratch` has
 * index_set_words(N) words and is one thread's. */
void patch_chooser_draw(const struct patch_chooser *chooser, struct rng *rng, uint64_t *scratch,
                        int32_t *position);

/* Copies `count` patches of image u8 [H,W,3] to out u8 [count,P*P*3], each (y, x, channel). */
void image_copy_patches(const struct patch_grid *grid, const uint8_t *image,
                        const int32_t *position, size_t count, uint8_t *out);

#endif
