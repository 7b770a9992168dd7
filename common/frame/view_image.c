#include "frame/view_image.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"

enum { CELL_LEAST = 160, CELL_MOST = 256 };

/* ---- the grid of patches ---- */

/* P of patches of P x P x 3 bytes; 0 where there is none. */
static size_t patch_side(size_t bytes)
{
    size_t side = 0;
    while (side * side * 3 < bytes && side < PICTURE_SIDE_MAX)
        side++;
    return side * side * 3 == bytes ? side : 0;
}

/* *value of a fact that is a number of at least 1; *there false where the fact is absent. */
static enum status number_fact(const struct metadata *facts, const char *key, size_t *value,
                               bool *there, struct error *error)
{
    int64_t number;
    const char *text = metadata_get(facts, key);
    *there = text != NULL;
    if (text == NULL)
        return STATUS_OK;
    if (!number_parse_integer(text, &number) || number < 1 || number > PICTURE_SIDE_MAX)
        return error_set(error, STATUS_DATA, "fact %s is '%.40s', expected 1 to %d", key, text,
                         PICTURE_SIDE_MAX);
    *value = (size_t)number;
    return STATUS_OK;
}

static enum status check_patch_fact(const struct metadata *facts, size_t patch,
                                    struct error *error)
{
    size_t stated;
    bool there;
    enum status status = number_fact(facts, "image.patch", &stated, &there, error);
    if (status != STATUS_OK || !there || stated == patch)
        return status;
    return error_set(
        error, STATUS_DATA,
        "fact image.patch is %zu, tensor 'patches' has patches of %zu x %zu pixels", stated,
        patch, patch);
}

/* "ROWSxCOLUMNS". */
static enum status parse_grid(const char *text, struct patch_grid *grid, struct error *error)
{
    char after;
    unsigned rows, columns;
    if (strspn(text, "0123456789x") != strlen(text) || strlen(text) > 11 ||
        sscanf(text, "%ux%u%c", &rows, &columns, &after) != 2 || rows == 0 || columns == 0)
        return error_set(error, STATUS_DATA,
                         "fact image.grid is '%.40s', expected ROWSxCOLUMNS", text);
    grid->rows = rows;
    grid->columns = columns;
    return STATUS_OK;
}

/* The smallest square grid that holds every position of the record. */
static size_t square_grid(const struct tensor *position)
{
    const int32_t *positions = position->data;
    int32_t largest = 0;
    for (size_t i = 0; i < position->shape[0] * position->shape[1]; i++)
        if (positions[i] > largest)
            largest = positions[i];
    size_t side = 1;
    while (side * side <= (size_t)largest)
        side++;
    return side;
}

static enum status find_grid(struct view_image *view, const struct metadata *facts,
                             struct error *error)
{
    struct patch_grid *grid = &view->grid;
    grid->patch = patch_side(view->patches->shape[2]);
    if (grid->patch == 0)
        return error_set(error, STATUS_DATA,
                         "tensor 'patches' has patches of %zu bytes, expected P x P x 3",
                         view->patches->shape[2]);
    enum status status = check_patch_fact(facts, grid->patch, error);
    if (status != STATUS_OK)
        return status;
    const char *text = metadata_get(facts, "image.grid");
    if (text != NULL)
        return parse_grid(text, grid, error);
    size_t side;
    bool there;
    status = number_fact(facts, "image.size", &side, &there, error);
    if (there && status == STATUS_OK && side >= grid->patch)
        grid->rows = grid->columns = side / grid->patch;
    else
        grid->rows = grid->columns = square_grid(view->position);
    return status;
}

/* ---- the record ---- */

static enum status find_patches(struct view_image *view, struct record *record,
                                const struct metadata *facts, struct error *error)
{
    enum status status =
        record_require(record, "patches", DTYPE_U8, 3, &view->patches, error);
    if (status == STATUS_OK)
        status =
            record_require(record, "patches.position", DTYPE_I32, 2, &view->position, error);
    if (status != STATUS_OK)
        return status;
    if (view->position->shape[1] != view->patches->shape[1])
        return error_set(error, STATUS_DATA, "%zu patches a sample, but %zu positions",
                         view->patches->shape[1], view->position->shape[1]);
    return find_grid(view, facts, error);
}

static enum status find_image(struct view_image *view, struct record *record,
                              struct error *error)
{
    enum status status = record_require(record, "image", DTYPE_U8, 4, &view->image, error);
    if (status != STATUS_OK)
        return status;
    const size_t *shape = view->image->shape;
    if (shape[3] != 3)
        return error_set(error, STATUS_DATA, "tensor 'image' has %zu channels, expected 3",
                         shape[3]);
    if (shape[1] == 0 || shape[2] == 0)
        return error_set(error, STATUS_DATA, "tensor 'image' has images of %zu x %zu pixels",
                         shape[1], shape[2]);
    return STATUS_OK;
}

/* Whole multiples show every pixel alike. */
static size_t choose_cell(size_t longer)
{
    if (longer < CELL_LEAST)
        return longer * ((CELL_LEAST + longer - 1) / longer);
    return longer < CELL_MOST ? longer : CELL_MOST;
}

static void image_size(const struct view_image *view, size_t *height, size_t *width)
{
    *height = view->patches != NULL ? view->grid.rows * view->grid.patch
                                    : view->image->shape[1];
    *width = view->patches != NULL ? view->grid.columns * view->grid.patch
                                   : view->image->shape[2];
}

static size_t longer_side(const struct view_image *view)
{
    size_t height, width;
    image_size(view, &height, &width);
    return height > width ? height : width;
}

/* Images smaller than the first of the sheet are drawn smaller, so that resizing shows. */
static size_t drawn_side(const struct view_image *view)
{
    const size_t side = longer_side(view) * view->cell / view->first_side;
    return side > view->cell ? view->cell : side > 0 ? side : 1;
}

bool view_image_present(const struct view_image *view)
{
    return view->image != NULL || view->patches != NULL;
}

enum status view_image_begin(struct view_image *view, struct record *record,
                             const struct metadata *facts, struct error *error)
{
    enum status status = STATUS_OK;
    view->image = view->patches = view->position = NULL;
    if (record_find(record, "patches") != NULL)
        status = find_patches(view, record, facts, error);
    else if (record_find(record, "image") != NULL)
        status = find_image(view, record, error);
    if (status == STATUS_OK && view->resampler == NULL)
        status = resampler_open(&view->resampler, RESAMPLE_BICUBIC, error);
    if (status == STATUS_OK && view_image_present(view) && view->first_side == 0) {
        view->first_side = longer_side(view);
        if (view->cell == 0)
            view->cell = choose_cell(view->first_side);
    }
    return status;
}

/* ---- one sample ---- */

static enum status draw_patches(struct view_image *view, size_t i, struct error *error)
{
    const size_t count = view->patches->shape[1], bytes = view->patches->shape[2];
    const struct picture_patches patches = {
        .grid = view->grid,
        .pixels = (const uint8_t *)view->patches->data + i * count * bytes,
        .position = (const int32_t *)view->position->data + i * count,
        .count = count,
    };
    enum status status = picture_place_patches(&patches, &view->whole, &view->has, error);
    size_t height, width;
    image_size(view, &height, &width);
    if (status == STATUS_OK)
        status = picture_fit(&view->picture, view->resampler, view->whole.data, width, height,
                             drawn_side(view), error);
    if (status == STATUS_OK)
        picture_paint_dropped(&view->picture, &view->grid, (const bool *)view->has.data);
    return status;
}

enum status view_image_draw(struct view_image *view, size_t i, struct error *error)
{
    if (view->patches != NULL)
        return draw_patches(view, i, error);
    const size_t height = view->image->shape[1], width = view->image->shape[2];
    return picture_fit(&view->picture, view->resampler,
                       (const uint8_t *)view->image->data + i * height * width * 3, width,
                       height, drawn_side(view), error);
}

void view_image_describe(const struct view_image *view, char *text, size_t size)
{
    if (view->patches == NULL) {
        snprintf(text, size, "images of %zu x %zu pixels", view->image->shape[2],
                 view->image->shape[1]);
        return;
    }
    const size_t kept = view->patches->shape[1], all = view->grid.rows * view->grid.columns;
    snprintf(text, size, "%zu of %zu patches of %zu x %zu pixels (%.0f%%)", kept, all,
             view->grid.patch, view->grid.patch, 100.0 * (double)kept / (double)all);
}

void view_image_free(struct view_image *view)
{
    resampler_close(view->resampler);
    buffer_free(&view->whole);
    buffer_free(&view->has);
    picture_free(&view->picture);
    *view = (struct view_image){.cell = 0};
}
