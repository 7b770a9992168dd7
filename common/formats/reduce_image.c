#include "formats/reduce_image.h"

#include <stdlib.h>
#include <string.h>

#include "formats/index_set.h"
#include "formats/strategy.h"

enum status image_reduction_parse(struct image_reduction *out, const char *text,
                                  struct error *error)
{
    static const struct strategy_kind kinds[] = {
        {"resize", IMAGE_RESIZE, 1, IMAGE_SIDE_MAX, false},
        {"random", IMAGE_RANDOM, 1, IMAGE_PATCHES_MAX, true},
        {"grid", IMAGE_GRID, 1, IMAGE_PATCHES_MAX, true},
        {"block", IMAGE_BLOCK, 1, IMAGE_PATCHES_MAX, true},
    };
    static const struct strategy_list list = {"--image", kinds, sizeof kinds / sizeof kinds[0]};
    struct strategy strategy;
    enum status status = strategy_parse(&list, text, &strategy, error);
    if (status == STATUS_OK) {
        out->strategy = (enum image_strategy)strategy.value;
        out->amount = strategy.amount;
        out->share_bp = strategy.share_bp;
    }
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
    if (grid->rows > IMAGE_PATCHES_MAX / grid->columns)
        return error_set(error, STATUS_DATA,
                         "images of %zu x %zu pixels have more than %d patches of %zu", height,
                         width, IMAGE_PATCHES_MAX, patch);
    return STATUS_OK;
}

enum status image_patches_kept(const struct image_reduction *reduction,
                               const struct patch_grid *grid, size_t *keep,
                               struct error *error)
{
    const size_t patches = grid->rows * grid->columns;
    *keep = reduction->amount;
    if (reduction->share_bp > 0)
        *keep = patches * reduction->share_bp / 10000;
    if (*keep == 0)
        *keep = 1;
    if (*keep > patches)
        return error_set(error, STATUS_DATA,
                         "cannot keep %zu of %zu patches (%zu x %zu patches of %zu pixels)",
                         *keep, patches, grid->rows, grid->columns, grid->patch);
    return STATUS_OK;
}

/* ---- grid ---- */

/* The whole number h nearest to sqrt(N / K), that is, (h - 1/2)^2 <= N / K < (h + 1/2)^2, but
 * no more rows than there are. */
static size_t band_rows(const struct patch_grid *grid, size_t keep)
{
    const size_t patches = grid->rows * grid->columns;
    size_t h = 1;
    while (h < grid->rows && keep * (2 * h + 1) * (2 * h + 1) <= 4 * patches)
        h++;
    return h;
}

/* Columns are taken up and down in turn, so that a stretch never jumps within a band. */
static void wind_through_grid(const struct patch_grid *grid, size_t keep, int32_t *path)
{
    const size_t height = band_rows(grid, keep);
    const size_t bands = (grid->rows + height / 2) / height;
    for (size_t band = 0; band < bands; band++) {
        const size_t top = band * grid->rows / bands;
        const size_t bottom = (band + 1) * grid->rows / bands;
        for (size_t step = 0; step < grid->columns; step++) {
            const size_t column = band % 2 == 0 ? step : grid->columns - 1 - step;
            for (size_t i = top; i < bottom; i++) {
                const size_t row = step % 2 == 0 ? i : top + bottom - 1 - i;
                *path++ = (int32_t)(row * grid->columns + column);
            }
        }
    }
}

/* The stretches of the path: the next begins where one ends, and the i-th ends at
 * floor(i * N / K), by carrying remainders in place of dividing. */
struct stretch {
    size_t begin, end;
    size_t length, remainder; /* N / K, N % K */
    size_t carried;
};

static struct stretch first_stretch(const struct patch_chooser *chooser)
{
    const size_t patches = chooser->grid.rows * chooser->grid.columns;
    const size_t length = patches / chooser->keep;
    const size_t remainder = patches % chooser->keep;
    return (struct stretch){0, length, length, remainder, remainder};
}

static void next_stretch(struct stretch *stretch, size_t keep)
{
    stretch->begin = stretch->end;
    stretch->carried += stretch->remainder;
    const size_t carry = stretch->carried >= keep;
    stretch->carried -= keep & -carry;
    stretch->end += stretch->length + carry;
}

static void draw_grid(const struct patch_chooser *chooser, struct rng *rng, uint64_t *set)
{
    const int32_t *path = (const void *)chooser->path.data;
    struct stretch stretch = first_stretch(chooser);
    index_set_clear(set, chooser->grid.rows * chooser->grid.columns);
    for (size_t cell = 0; cell < chooser->keep; cell++) {
        const uint64_t step = rng_below(rng, stretch.end - stretch.begin);
        index_set_add(set, (size_t)path[stretch.begin + step]);
        next_stretch(&stretch, chooser->keep);
    }
}

static int compare_positions(const void *a, const void *b)
{
    const int32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* What every sample gets takes the place of the path: it is no longer than that. */
static void fix_corners(struct patch_chooser *chooser)
{
    int32_t *path = (void *)chooser->path.data;
    struct stretch stretch = first_stretch(chooser);
    for (size_t cell = 0; cell < chooser->keep; cell++) {
        int32_t first = path[stretch.begin];
        for (size_t i = stretch.begin + 1; i < stretch.end; i++)
            if (path[i] < first)
                first = path[i];
        path[cell] = first;
        next_stretch(&stretch, chooser->keep);
    }
    qsort(path, chooser->keep, sizeof path[0], compare_positions);
}

/* ---- block ---- */

/* A rectangle that may hold the block. */
struct block_shape {
    size_t rows, columns;
    bool full; /* without a patch more, and at most twice as long as wide */
};

static bool is_better(const struct block_shape *a, const struct block_shape *b)
{
    if (a->full != b->full)
        return a->full;
    const size_t a_long = a->rows > a->columns ? a->rows : a->columns;
    const size_t b_long = b->rows > b->columns ? b->rows : b->columns;
    const size_t a_short = a->rows + a->columns - a_long;
    const size_t b_short = b->rows + b->columns - b_long;
    if (a_long * b_short != b_long * a_short)
        return a_long * b_short < b_long * a_short;
    return a->columns > b->columns;
}

static void shape_block(struct patch_chooser *chooser)
{
    const size_t keep = chooser->keep;
    struct block_shape best = {0};
    for (size_t columns = 1; columns <= chooser->grid.columns && columns <= keep; columns++) {
        struct block_shape shape = {(keep + columns - 1) / columns, columns, false};
        if (shape.rows > chooser->grid.rows)
            continue;
        shape.full = shape.rows * columns == keep && shape.rows <= 2 * columns &&
                     columns <= 2 * shape.rows;
        if (best.rows == 0 || is_better(&shape, &best))
            best = shape;
    }
    chooser->block_rows = best.rows;
    chooser->block_columns = best.columns;
}

static void draw_block(const struct patch_chooser *chooser, struct rng *rng, int32_t *position)
{
    const struct patch_grid *grid = &chooser->grid;
    const size_t down = grid->rows - chooser->block_rows + 1;
    const size_t across = grid->columns - chooser->block_columns + 1;
    const size_t place = (size_t)rng_below(rng, down * across);
    const size_t top = place / across, left = place % across;
    for (size_t i = 0; i < chooser->keep; i++) {
        const size_t row = top + i / chooser->block_columns;
        const size_t column = left + i % chooser->block_columns;
        position[i] = (int32_t)(row * grid->columns + column);
    }
}

/* ---- any mask ---- */

static bool is_prepared(const struct patch_chooser *chooser,
                        const struct image_reduction *reduction, const struct patch_grid *grid)
{
    const struct image_reduction *a = &chooser->reduction;
    const struct patch_grid *b = &chooser->grid;
    return a->strategy == reduction->strategy && a->amount == reduction->amount &&
           a->share_bp == reduction->share_bp && a->corner == reduction->corner &&
           b->rows == grid->rows && b->columns == grid->columns && b->patch == grid->patch;
}

enum status patch_chooser_prepare(struct patch_chooser *chooser,
                                  const struct image_reduction *reduction,
                                  const struct patch_grid *grid, struct error *error)
{
    size_t keep;
    if (is_prepared(chooser, reduction, grid))
        return STATUS_OK;
    enum status status = image_patches_kept(reduction, grid, &keep, error);
    if (status == STATUS_OK && reduction->strategy == IMAGE_GRID)
        status = buffer_reserve(&chooser->path, grid->rows * grid->columns * sizeof(int32_t),
                                error);
    if (status != STATUS_OK)
        return status;
    chooser->reduction = *reduction;
    chooser->grid = *grid;
    chooser->keep = keep;
    if (reduction->strategy == IMAGE_GRID) {
        wind_through_grid(grid, keep, (void *)chooser->path.data);
        if (reduction->corner)
            fix_corners(chooser);
    }
    if (reduction->strategy == IMAGE_BLOCK)
        shape_block(chooser);
    return STATUS_OK;
}

void patch_chooser_free(struct patch_chooser *chooser)
{
    buffer_free(&chooser->path);
    *chooser = (struct patch_chooser){.keep = 0};
}

void patch_chooser_draw(const struct patch_chooser *chooser, struct rng *rng, uint64_t *scratch,
                        int32_t *position)
{
    const size_t patches = chooser->grid.rows * chooser->grid.columns;
    const enum image_strategy strategy = chooser->reduction.strategy;
    if (strategy == IMAGE_BLOCK) {
        draw_block(chooser, rng, position);
    } else if (strategy == IMAGE_GRID && chooser->reduction.corner) {
        memcpy(position, chooser->path.data, chooser->keep * sizeof position[0]);
    } else {
        if (strategy == IMAGE_GRID)
            draw_grid(chooser, rng, scratch);
        else
            index_set_draw(scratch, patches, chooser->keep, rng);
        index_set_list(scratch, patches, position);
    }
}

/* ---- copying ---- */

/* Pieces of 16 bytes, the last one overlapping: a patch's line is too short for a call. */
static inline void copy_line(const uint8_t *from, uint8_t *out, size_t bytes)
{
    enum { PIECE = 16 };
    if (bytes < PIECE) {
        memcpy(out, from, bytes);
        return;
    }
    size_t done = 0;
    for (; done + PIECE <= bytes; done += PIECE)
        memcpy(out + done, from + done, PIECE);
    if (done < bytes)
        memcpy(out + bytes - PIECE, from + bytes - PIECE, PIECE);
}

/* Compiled anew for each constant `patch`, which unrolls the line. */
static inline __attribute__((always_inline)) void
copy_patches(const uint8_t *image, const struct patch_grid *grid, size_t patch,
             const int32_t *position, size_t count, uint8_t *out)
{
    const uint32_t columns = (uint32_t)grid->columns;
    const size_t line = patch * 3, pitch = columns * line;
    for (size_t i = 0; i < count; i++) {
        const uint32_t place = (uint32_t)position[i];
        const uint8_t *from =
            image + place / columns * patch * pitch + place % columns * line;
        for (size_t y = 0; y < patch; y++, from += pitch, out += line)
            copy_line(from, out, line);
    }
}

/* Bound by memory: a line of 48 bytes touches 1.5 cache lines on the average, so a patch moves
 * 2 bytes in for 1 byte out. Prefetching the next patches changed nothing; stores around the
 * cache gained a sixth here, but the pipe that reads the result would lose more. */
void image_copy_patches(const struct patch_grid *grid, const uint8_t *image,
                        const int32_t *position, size_t count, uint8_t *out)
{
    switch (grid->patch) {
    case 14:
        copy_patches(image, grid, 14, position, count, out);
        break;
    case 16:
        copy_patches(image, grid, 16, position, count, out);
        break;
    case 32:
        copy_patches(image, grid, 32, position, count, out);
        break;
    default:
        copy_patches(image, grid, grid->patch, position, count, out);
        break;
    }
}
