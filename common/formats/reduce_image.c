#include "formats/reduce_image.h"

#include <string.h>

#include "formats/strategy.h"

enum status image_reduction_parse(struct image_reduction *out, const char *text,
                                  struct error *error)
{
    static const struct strategy_name names[] = {{"resize", IMAGE_RESIZE},
                                                 {"random", IMAGE_RANDOM}};
    static const struct strategy_list list = {"--image", names, sizeof names / sizeof names[0],
                                              1, IMAGE_SIDE_MAX};
    int strategy;
    enum status status = strategy_parse(&list, text, &strategy, &out->amount, error);
    out->strategy = (enum image_strategy)strategy;
    return status;
}

enum status patch_grid_init(struct patch_grid *grid, size_t height, size_t width, size_t patch,
                            struct error *error)
{
    if (patch == 0 || height == 0 || width == 0 || height % patch != 0 || width % patch != 0)
        return error_set(error, STATUS_DATA,
                         "images of %zu x %zu pixels do not divide into patches of %zu", height,
                         width, patch);
    *grid = (struct patch_grid){height / patch, width / patch, patch};
    return STATUS_OK;
}

/* The first K of a random permutation, marked in a map and read off in raster order, so that
 * they come out sorted without a sort. */
static void choose_random(size_t patches, size_t keep, struct rng *rng, uint32_t *scratch,
                          int32_t *position)
{
    for (size_t i = 0; i < patches; i++)
        scratch[i] = (uint32_t)i;
    for (size_t i = 0; i < keep; i++) {
        size_t j = i + (size_t)rng_below(rng, patches - i);
        uint32_t chosen = scratch[j];
        scratch[j] = scratch[i];
        scratch[i] = chosen;
    }
    static const uint32_t kept_mark = UINT32_C(1) << 31;
    for (size_t i = 0; i < keep; i++)
        scratch[scratch[i] & ~kept_mark] |= kept_mark;
    size_t found = 0;
    for (size_t i = 0; i < patches; i++)
        if (scratch[i] & kept_mark)
            position[found++] = (int32_t)i;
}

enum status image_choose_patches(const struct image_reduction *reduction,
                                 const struct patch_grid *grid, struct rng *rng,
                                 uint32_t *scratch, int32_t *position, struct error *error)
{
    size_t patches = grid->rows * grid->columns;
    if (reduction->amount > patches)
        return error_set(error, STATUS_DATA,
                         "cannot keep %zu of %zu patches (%zu x %zu patches of %zu pixels)",
                         reduction->amount, patches, grid->rows, grid->columns, grid->patch);
    choose_random(patches, reduction->amount, rng, scratch, position);
    return STATUS_OK;
}

void image_copy_patches(const struct patch_grid *grid, const uint8_t *image,
                        const int32_t *position, size_t count, uint8_t *out)
{
    size_t line = grid->patch * 3, pitch = grid->columns * line;
    for (size_t i = 0; i < count; i++) {
        size_t row = (size_t)position[i] / grid->columns;
        size_t column = (size_t)position[i] % grid->columns;
        const uint8_t *from = image + row * grid->patch * pitch + column * line;
        for (size_t y = 0; y < grid->patch; y++, from += pitch, out += line)
            memcpy(out, from, line);
    }
}
