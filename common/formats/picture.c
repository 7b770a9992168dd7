#include "formats/picture.h"

#include <string.h>

static enum status check_grid(const struct patch_grid *grid, struct error *error)
{
    if (grid->patch > 0 && grid->rows > 0 && grid->columns > 0 &&
        grid->rows <= PICTURE_SIDE_MAX / grid->patch &&
        grid->columns <= PICTURE_SIDE_MAX / grid->patch)
        return STATUS_OK;
    return error_set(error, STATUS_DATA,
                     "a grid of %zu x %zu patches of %zu pixels, expected an image of 1 to %d "
                     "pixels a side",
                     grid->rows, grid->columns, grid->patch, PICTURE_SIDE_MAX);
}

static void place(const struct patch_grid *grid, const uint8_t *patch, size_t position,
                  uint8_t *image)
{
    const size_t line = grid->patch * 3, pitch = grid->columns * line;
    uint8_t *to = image + position / grid->columns * grid->patch * pitch +
                  position % grid->columns * line;
    for (size_t y = 0; y < grid->patch; y++)
        memcpy(to + y * pitch, patch + y * line, line);
}

enum status picture_place_patches(const struct picture_patches *patches, struct buffer *image,
                                  struct buffer *has, struct error *error)
{
    const struct patch_grid *grid = &patches->grid;
    enum status status = check_grid(grid, error);
    if (status != STATUS_OK)
        return status;
    const size_t all = grid->rows * grid->columns, patch_bytes = grid->patch * grid->patch * 3;
    image->size = has->size = 0;
    status = buffer_reserve(image, all * patch_bytes, error);
    if (status == STATUS_OK)
        status = buffer_reserve(has, all * sizeof(bool), error);
    if (status != STATUS_OK)
        return status;
    image->size = all * patch_bytes;
    has->size = all * sizeof(bool);
    memset(image->data, PICTURE_GRAY, image->size);
    memset(has->data, false, has->size);
    for (size_t i = 0; i < patches->count; i++) {
        const int32_t position = patches->position[i];
        if (position < 0 || (size_t)position >= all)
            return error_set(error, STATUS_DATA,
                             "patch %zu is at position %d of a grid of %zu x %zu", i, position,
                             grid->rows, grid->columns);
        place(grid, patches->pixels + i * patch_bytes, (size_t)position, image->data);
        ((bool *)has->data)[position] = true;
    }
    return STATUS_OK;
}

/* Pixel y of the larger image is pixel y * height / out_height of the smaller: whole multiples
 * repeat every pixel equally often. */
static void enlarge(const uint8_t *image, size_t width, size_t height, struct picture *out)
{
    uint8_t *to = out->pixels.data;
    for (size_t y = 0; y < out->height; y++) {
        const uint8_t *row = image + y * height / out->height * width * 3;
        for (size_t x = 0; x < out->width; x++, to += 3)
            memcpy(to, row + x * width / out->width * 3, 3);
    }
}

/* length * side / longer, to the nearest, at least 1. */
static size_t scale_length(size_t length, size_t longer, size_t side)
{
    const size_t scaled = (length * side + longer / 2) / longer;
    return scaled > 0 ? scaled : 1;
}

enum status picture_fit(struct picture *picture, struct resampler *resampler,
                        const uint8_t *image, size_t width, size_t height, size_t side,
                        struct error *error)
{
    const size_t longer = width > height ? width : height;
    picture->width = scale_length(width, longer, side);
    picture->height = scale_length(height, longer, side);
    const size_t bytes = picture->width * picture->height * 3;
    picture->pixels.size = 0;
    enum status status = buffer_reserve(&picture->pixels, bytes, error);
    if (status != STATUS_OK)
        return status;
    picture->pixels.size = bytes;
    if (side < longer)
        return resample_whole(resampler, image, width, height, picture->pixels.data,
                              picture->width, picture->height, error);
    enlarge(image, width, height, picture);
    return STATUS_OK;
}

/* Where patch i of `count` begins along `length` pixels: the first one that enlarge() takes
 * from it. */
static size_t first_pixel(size_t i, size_t length, size_t count)
{
    return (i * length + count - 1) / count;
}

static void paint_rectangle(struct picture *picture, size_t top, size_t bottom, size_t left,
                            size_t right)
{
    if (top == bottom || left == right)
        return;
    const bool edges = bottom - top >= 5 && right - left >= 5;
    for (size_t y = top; y < bottom; y++) {
        uint8_t *row = picture->pixels.data + y * picture->width * 3;
        const bool last = edges && y + 1 == bottom;
        memset(row + left * 3, last ? PICTURE_GRAY_EDGE : PICTURE_GRAY, (right - left) * 3);
        if (edges)
            memset(row + (right - 1) * 3, PICTURE_GRAY_EDGE, 3);
    }
}

void picture_paint_dropped(struct picture *picture, const struct patch_grid *grid,
                           const bool *has)
{
    for (size_t i = 0; i < grid->rows * grid->columns; i++) {
        const size_t row = i / grid->columns, column = i % grid->columns;
        if (!has[i])
            paint_rectangle(picture, first_pixel(row, picture->height, grid->rows),
                            first_pixel(row + 1, picture->height, grid->rows),
                            first_pixel(column, picture->width, grid->columns),
                            first_pixel(column + 1, picture->width, grid->columns));
    }
}

void picture_free(struct picture *picture)
{
    buffer_free(&picture->pixels);
    *picture = (struct picture){.width = 0};
}
