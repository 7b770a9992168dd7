/* view_image.h - the pictures of a record as view.h shows them; private to it. */
#ifndef FRAME_VIEW_IMAGE_H
#define FRAME_VIEW_IMAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"
#include "formats/picture.h"
#include "formats/resample.h"
#include "stream/metadata.h"
#include "stream/record.h"

/* A zeroed struct is empty. */
struct view_image {
    size_t cell; /* the longest side of a picture in pixels; 0: to suit the first image */
    size_t first_side; /* of the first image, which fills a cell; others have its scale */
    struct resampler *resampler;
    const struct tensor *image;    /* of the record; NULL: none */
    const struct tensor *patches;  /* of the record, in place of `image`; NULL: none */
    const struct tensor *position;
    struct patch_grid grid;        /* of the patches */
    struct buffer whole, has;      /* of one sample: pixels, and bool for each patch */
    struct picture picture;        /* of one sample */
};

/* Finds the images of a record; there may be none. STATUS_DATA where they do not fit together
 * or contradict the facts. */
enum status view_image_begin(struct view_image *view, struct record *record,
                             const struct metadata *facts, struct error *error);

/* Whether the record has images. */
bool view_image_present(const struct view_image *view);

/* Makes view->picture from sample i. */
enum status view_image_draw(struct view_image *view, size_t i, struct error *error);

/* "25 of 49 patches of 32 x 32 pixels (51%)", or "112 x 112 pixels"; needs images. */
void view_image_describe(const struct view_image *view, char *text, size_t size);

void view_image_free(struct view_image *view);

#endif
