#include "formats/image_square.h"

#include <stdlib.h>
#include <string.h>

#include "formats/crop.h"
#include "formats/image.h"
#include "formats/resample.h"

struct square_maker {
    struct image_decoder *decoder;
    struct resampler *resamplers[SQUARE_FILTERS]; /* each keeps its tables between images */
};

enum status square_maker_open(struct square_maker **out, struct error *error)
{
    static const enum resample_filter filters[SQUARE_FILTERS] = {
        [SQUARE_BICUBIC] = RESAMPLE_BICUBIC, [SQUARE_BILINEAR] = RESAMPLE_BILINEAR};
    struct square_maker *maker = calloc(1, sizeof *maker);
    if (maker == NULL)
        return error_memory(error, sizeof *maker, "an image decoder");
    enum status status = image_decoder_open(&maker->decoder, error);
    for (int f = 0; status == STATUS_OK && f < SQUARE_FILTERS; f++)
        status = resampler_open(&maker->resamplers[f], filters[f], error);
    if (status != STATUS_OK) {
        square_maker_close(maker);
        return status;
    }
    *out = maker;
    return STATUS_OK;
}

void square_maker_close(struct square_maker *maker)
{
    if (maker == NULL)
        return;
    image_decoder_close(maker->decoder);
    for (int f = 0; f < SQUARE_FILTERS; f++)
        resampler_close(maker->resamplers[f]);
    free(maker);
}

/* How one image becomes its square. */
struct plan {
    struct image_region region; /* of the image, decoded */
    struct crop_fit fit;        /* of the region, resized */
    enum square_filter filter;
};

static struct plan make_plan(const struct square_recipe *recipe, const struct image_info *info,
                             uint64_t epoch, uint64_t sample)
{
    size_t width = info->width, height = info->height;
    struct plan plan = {.region = {.width = width, .height = height},
                        .fit = crop_squash(recipe->side),
                        .filter = recipe->filter};
    if (recipe->crop == SQUARE_RANDOM) {
        struct rng rng;
        rng_init(&rng, recipe->seed, epoch, sample, RNG_CROP);
        plan.region = crop_random(&rng, width, height, recipe->scale, recipe->ratio);
        if (plan.filter == SQUARE_EITHER)
            plan.filter = (enum square_filter)rng_below(&rng, SQUARE_FILTERS);
    } else if (recipe->crop == SQUARE_CENTER) {
        plan.fit = crop_center(width, height, recipe->side);
    } else if (recipe->crop == SQUARE_LONGEST) {
        plan.fit = crop_longest(width, height, recipe->side);
    }
    if (plan.filter == SQUARE_EITHER)
        plan.filter = SQUARE_BICUBIC;
    return plan;
}

static enum status resize(struct square_maker *maker, const struct square_recipe *recipe,
                          const struct plan *plan, const uint8_t *source, uint8_t *out,
                          struct error *error)
{
    const struct crop_fit *fit = &plan->fit;
    const size_t side = recipe->side;
    if (fit->width < side || fit->height < side)
        memset(out, recipe->fill, side * side * 3);
    const struct resample_job job = {.source = source,
                                     .width = plan->region.width,
                                     .height = plan->region.height,
                                     .out_width = fit->out_width,
                                     .out_height = fit->out_height,
                                     .x = fit->x,
                                     .y = fit->y,
                                     .window_width = fit->width,
                                     .window_height = fit->height,
                                     .out = out + (fit->top * side + fit->left) * 3,
                                     .out_pitch = side * 3};
    return resample_window(maker->resamplers[plan->filter], &job, error);
}

enum status square_make(struct square_maker *maker, const struct square_recipe *recipe,
                        const uint8_t *bytes, size_t size, uint64_t epoch, uint64_t sample,
                        uint8_t *out, struct error *error)
{
    struct image_info info;
    const uint8_t *source;
    enum status status = image_decoder_begin(maker->decoder, bytes, size, recipe->pixels_max,
                                             &info, error);
    if (status != STATUS_OK)
        return status;
    const struct plan plan = make_plan(recipe, &info, epoch, sample);
    status = image_decoder_region(maker->decoder, &plan.region, &source, error);
    if (status == STATUS_OK)
        status = resize(maker, recipe, &plan, source, out, error);
    if (status != STATUS_OK || !color_jitter_active(&recipe->jitter))
        return status;
    struct rng rng;
    rng_init(&rng, recipe->seed, epoch, sample, RNG_COLOR);
    const struct color_change change = color_jitter_draw(&recipe->jitter, &rng);
    color_change_apply(&change, out, recipe->side * recipe->side);
    return STATUS_OK;
}
