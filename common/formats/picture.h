/* picture.h - images for people to look at: patches put back in their places, gray where there
 * is none, at a size that suits a page. Pixels are RGB u8, tight. */
#ifndef FORMATS_PICTURE_H
#define FORMATS_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "formats/reduce_image.h"
#include "formats/resample.h"

enum {
    PICTURE_GRAY = 200,      /* each channel of a dropped patch */
    PICTURE_GRAY_EDGE = 214, /* its last row and column, so that patches can be counted */
    PICTURE_SIDE_MAX = 8192, /* of the image that patches are put back into, in pixels */
};

/* The patches of one image. */
struct picture_patches {
    struct patch_grid grid;
    const uint8_t *pixels;    /* [count,P*P*3] */
    const int32_t *position;  /* [count], row-major indices in the grid */
    size_t count;
};

/* The whole image u8 [rows*P,columns*P,3] becomes the contents of *image, and has[i] says
 * whether patch i is in it (bool [rows*columns]). STATUS_DATA where the image is larger than
 * PICTURE_SIDE_MAX or a position is outside of the grid. */
enum status picture_place_patches(const struct picture_patches *patches, struct buffer *image,
                                  struct buffer *has, struct error *error);

struct picture {
    struct buffer pixels; /* [height,width,3] */
    size_t width, height;
};

/* Scales image u8 [height,width,3] so that its longer side has `side` pixels: enlarged by
 * repeating pixels, so that they can be seen, and antialiased where it shrinks. */
enum status picture_fit(struct picture *picture, struct resampler *resampler,
                        const uint8_t *image, size_t width, size_t height, size_t side,
                        struct error *error);

/* Paints the dropped patches of a scaled picture gray, with sharp edges. */
void picture_paint_dropped(struct picture *picture, const struct patch_grid *grid,
                           const bool *has);

void picture_free(struct picture *picture);

#endif
