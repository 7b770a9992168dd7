#include "formats/reduce_image_batch.h"

#include <stdlib.h>

#include "base/number.h"
#include "formats/index_set.h"

enum { CHUNK = 16 }; /* images that a thread takes at a time */

enum status image_reducer_open(struct image_reducer *reducer,
                               const struct image_reduction *reduction, size_t patch,
                               enum resample_filter filter, struct pool *pool,
                               struct error *error)
{
    const size_t threads = (size_t)pool_threads(pool);
    *reducer = (struct image_reducer){.reduction = *reduction, .patch = patch, .pool = pool};
    reducer->lanes = calloc(threads, sizeof *reducer->lanes);
    if (reducer->lanes == NULL)
        return error_memory(error, threads * sizeof *reducer->lanes, "threads");
    enum status status = STATUS_OK;
    for (size_t i = 0; i < threads && status == STATUS_OK; i++)
        status = resampler_open(&reducer->lanes[i].resampler, filter, error);
    if (status != STATUS_OK)
        image_reducer_close(reducer);
    return status;
}

void image_reducer_close(struct image_reducer *reducer)
{
    for (int i = 0; reducer->lanes != NULL && i < pool_threads(reducer->pool); i++) {
        resampler_close(reducer->lanes[i].resampler);
        buffer_free(&reducer->lanes[i].set);
    }
    free(reducer->lanes);
    patch_chooser_free(&reducer->chooser);
    buffer_free(&reducer->pixels);
    buffer_free(&reducer->positions);
    *reducer = (struct image_reducer){.lanes = NULL};
}

/* One batch, for the threads. */
struct job {
    struct image_reducer *reducer;
    const uint8_t *images;
    size_t batch, height, width;
    const struct sample_draws *draws;
};

static size_t chunk_end(const struct job *job, size_t item)
{
    const size_t end = (item + 1) * CHUNK;
    return end < job->batch ? end : job->batch;
}

static enum status run_chunks(struct job *job, pool_work *chunk, struct error *error)
{
    struct pool *pool = job->reducer->pool;
    pool_run(pool, (job->batch + CHUNK - 1) / CHUNK, chunk, job);
    for (int i = 0; i < pool_threads(pool); i++) {
        const struct image_lane *lane = &job->reducer->lanes[i];
        if (lane->status != STATUS_OK) {
            *error = lane->error;
            return lane->status;
        }
    }
    return STATUS_OK;
}

/* ---- resize ---- */

static void resize_chunk(void *context, size_t item, int worker)
{
    const struct job *job = context;
    struct image_lane *lane = &job->reducer->lanes[worker];
    const size_t side = job->reducer->reduction.amount;
    const size_t image_bytes = job->height * job->width * 3;
    for (size_t i = item * CHUNK; i < chunk_end(job, item) && lane->status == STATUS_OK; i++)
        lane->status = resample_whole(lane->resampler, job->images + i * image_bytes,
                                      job->width, job->height,
                                      job->reducer->pixels.data + i * side * side * 3, side,
                                      side, &lane->error);
}

static enum status resize(struct job *job, struct error *error)
{
    const size_t side = job->reducer->reduction.amount;
    size_t bytes;
    if (!size_multiply(job->batch, side * side * 3, &bytes))
        return error_memory(error, SIZE_MAX, "resized images");
    enum status status = buffer_reserve(&job->reducer->pixels, bytes, error);
    return status == STATUS_OK ? run_chunks(job, resize_chunk, error) : status;
}

/* ---- masks ---- */

static void mask_chunk(void *context, size_t item, int worker)
{
    const struct job *job = context;
    struct image_reducer *reducer = job->reducer;
    const struct patch_grid *grid = &reducer->grid;
    const size_t image_bytes = job->height * job->width * 3;
    const size_t kept_bytes = reducer->kept * grid->patch * grid->patch * 3;
    for (size_t i = item * CHUNK; i < chunk_end(job, item); i++) {
        struct rng rng = sample_draws_rng(job->draws, i, RNG_IMAGE_TOKENS);
        int32_t *position = (int32_t *)(void *)reducer->positions.data + i * reducer->kept;
        patch_chooser_draw(&reducer->chooser, &rng, (void *)reducer->lanes[worker].set.data,
                           position);
        image_copy_patches(grid, job->images + i * image_bytes, position, reducer->kept,
                           reducer->pixels.data + i * kept_bytes);
    }
}

/* Reserves all that the threads need, so that they cannot fail. */
static enum status prepare_mask(struct image_reducer *reducer, size_t batch,
                                struct error *error)
{
    const struct patch_grid *grid = &reducer->grid;
    const size_t words = index_set_words(grid->rows * grid->columns);
    size_t kept, bytes;
    if (!size_multiply(batch, reducer->kept, &kept) ||
        !size_multiply(kept, grid->patch * grid->patch * 3, &bytes))
        return error_memory(error, SIZE_MAX, "patches");
    enum status status =
        patch_chooser_prepare(&reducer->chooser, &reducer->reduction, grid, error);
    for (int i = 0; status == STATUS_OK && i < pool_threads(reducer->pool); i++)
        status = buffer_reserve(&reducer->lanes[i].set, words * sizeof(uint64_t), error);
    if (status == STATUS_OK)
        status = buffer_reserve(&reducer->pixels, bytes, error);
    if (status == STATUS_OK)
        status = buffer_reserve(&reducer->positions, kept * sizeof(int32_t), error);
    return status;
}

/* An empty batch may claim any size of image: nothing is prepared for it. */
static enum status mask(struct job *job, struct error *error)
{
    struct image_reducer *reducer = job->reducer;
    enum status status =
        patch_grid_init(&reducer->grid, job->height, job->width, reducer->patch, error);
    if (status == STATUS_OK)
        status = image_patches_kept(&reducer->reduction, &reducer->grid, &reducer->kept, error);
    if (status == STATUS_OK && job->batch > 0)
        status = prepare_mask(reducer, job->batch, error);
    return status == STATUS_OK ? run_chunks(job, mask_chunk, error) : status;
}

enum status image_reducer_run(struct image_reducer *reducer, const uint8_t *images,
                              size_t batch, size_t height, size_t width,
                              const struct sample_draws *draws, struct error *error)
{
    struct job job = {reducer, images, batch, height, width, draws};
    return reducer->reduction.strategy == IMAGE_RESIZE ? resize(&job, error)
                                                       : mask(&job, error);
}
