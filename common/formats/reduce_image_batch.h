/* reduce_image_batch.h - an image reduction (reduce_image.h) of whole batches, by threads. */
#ifndef FORMATS_REDUCE_IMAGE_BATCH_H
#define FORMATS_REDUCE_IMAGE_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/pool.h"
#include "formats/reduce_image.h"
#include "formats/resample.h"
#include "formats/sample_draws.h"

/* What one thread works with. */
struct image_lane {
    struct resampler *resampler;
    struct buffer set;  /* of patches, for choosing */
    enum status status; /* of the first image that failed, and why */
    struct error error;
};

/* Zeroed, it is empty. Outputs are valid until the next run. */
struct image_reducer {
    struct image_reduction reduction;
    size_t patch; /* P, for masks */
    struct pool *pool;
    struct image_lane *lanes; /* [threads] */
    struct patch_chooser chooser;
    /* outputs */
    struct patch_grid grid;  /* masks: of the images */
    size_t kept;             /* masks: K */
    struct buffer pixels;    /* masks: u8 [B,K,P*P*3]; resize: u8 [B,S,S,3] */
    struct buffer positions; /* masks: int32_t [B,K] */
};

/* `pool` stays the caller's and must outlive the reducer. `filter` is for resize. */
enum status image_reducer_open(struct image_reducer *reducer,
                               const struct image_reduction *reduction, size_t patch,
                               enum resample_filter filter, struct pool *pool,
                               struct error *error);
void image_reducer_close(struct image_reducer *reducer);

/* Reduces images u8 [batch,height,width,3]. Nothing is allocated once the outputs have grown to
 * the largest batch. STATUS_DATA where the strategy does not fit the images, be there none. */
enum status image_reducer_run(struct image_reducer *reducer, const uint8_t *images,
                              size_t batch, size_t height, size_t width,
                              const struct sample_draws *draws, struct error *error);

#endif
