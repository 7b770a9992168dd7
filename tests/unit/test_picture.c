/* Patches put back in their places, and pictures at the size of a sheet. */
#include <stdlib.h>

#include "base/rng.h"
#include "formats/picture.h"
#include "frame/view_image.h"
#include "tests/unit/check.h"

enum { P = 8, PATCH_BYTES = P * P * 3 };

static void fill_noise(uint8_t *data, size_t size, uint64_t seed)
{
    struct rng rng;
    rng_init(&rng, seed, 0, 0, RNG_TEST);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)rng_next(&rng);
}

/* What a pixel of a picture enlarged `scale` times has to be. */
static uint8_t expected_value(const struct picture_patches *patches, size_t scale, size_t y,
                              size_t x, size_t channel)
{
    const size_t side = patches->grid.patch * scale;
    const size_t place = y / side * patches->grid.columns + x / side;
    for (size_t i = 0; i < patches->count; i++)
        if ((size_t)patches->position[i] == place)
            return patches->pixels[i * PATCH_BYTES +
                                   ((y % side / scale) * P + x % side / scale) * 3 + channel];
    return y % side == side - 1 || x % side == side - 1 ? PICTURE_GRAY_EDGE : PICTURE_GRAY;
}

static void test_masks(void)
{
    static uint8_t pixels[6 * PATCH_BYTES];
    static const struct {
        size_t rows, columns, count;
        int32_t position[6];
    } cases[] = {
        {2, 3, 2, {1, 5}}, {3, 2, 3, {0, 3, 4}}, {1, 6, 1, {5}}, {2, 3, 0, {0}},
        {2, 3, 6, {0, 1, 2, 3, 4, 5}},
    };
    struct error error;
    struct resampler *resampler;
    struct buffer whole = {0}, has = {0};
    struct picture picture = {.width = 0};
    fill_noise(pixels, sizeof pixels, 1);
    CHECK(resampler_open(&resampler, RESAMPLE_BICUBIC, &error) == STATUS_OK, "resampler");
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const struct picture_patches patches = {
            {cases[c].rows, cases[c].columns, P}, pixels, cases[c].position, cases[c].count};
        const size_t width = cases[c].columns * P, height = cases[c].rows * P;
        const size_t longer = width > height ? width : height;
        CHECK(picture_place_patches(&patches, &whole, &has, &error) == STATUS_OK, "case %zu",
              c);
        for (size_t scale = 1; scale <= 3; scale++) {
            CHECK(picture_fit(&picture, resampler, whole.data, width, height, longer * scale,
                              &error) == STATUS_OK && picture.width == width * scale &&
                      picture.height == height * scale,
                  "case %zu, scale %zu: %zu x %zu", c, scale, picture.width, picture.height);
            picture_paint_dropped(&picture, &patches.grid, (const bool *)has.data);
            size_t wrong = 0;
            for (size_t i = 0; i < picture.pixels.size; i++)
                wrong += picture.pixels.data[i] !=
                         expected_value(&patches, scale, i / 3 / picture.width,
                                        i / 3 % picture.width, i % 3);
            CHECK(wrong == 0, "case %zu, scale %zu: %zu values differ", c, scale, wrong);
        }
    }
    resampler_close(resampler);
    buffer_free(&whole);
    buffer_free(&has);
    picture_free(&picture);
}

/* Sizes that are no multiple of each other: every pixel belongs to the patch that it shows. */
static void test_odd_sizes(void)
{
    static const uint8_t black[4 * PATCH_BYTES];
    static const int32_t position[] = {0, 4, 8};
    const struct picture_patches patches = {{3, 3, P}, black, position, 3};
    struct error error;
    struct resampler *resampler;
    struct buffer whole = {0}, has = {0};
    struct picture picture = {.width = 0};
    CHECK(resampler_open(&resampler, RESAMPLE_BICUBIC, &error) == STATUS_OK, "resampler");
    CHECK(picture_place_patches(&patches, &whole, &has, &error) == STATUS_OK, "place");
    for (size_t side = 1; side < 100; side += 7) {
        CHECK(picture_fit(&picture, resampler, whole.data, 3 * P, 3 * P, side, &error) ==
                  STATUS_OK && picture.width == side && picture.height == side,
              "side %zu", side);
        picture_paint_dropped(&picture, &patches.grid, (const bool *)has.data);
        size_t wrong = 0;
        for (size_t y = 0; y < side && side > 3 * P; y++)
            for (size_t x = 0; x < side; x++) {
                const bool kept = y * 3 / side == x * 3 / side;
                wrong += (picture.pixels.data[(y * side + x) * 3] == 0) != kept;
            }
        CHECK(wrong == 0, "side %zu: %zu pixels are not those of their patch", side, wrong);
    }
    CHECK(picture_fit(&picture, resampler, whole.data, 24, 1, 5, &error) == STATUS_OK &&
              picture.width == 5 && picture.height == 1,
          "a line stays one");
    resampler_close(resampler);
    buffer_free(&whole);
    buffer_free(&has);
    picture_free(&picture);
}

static void test_bad_places(void)
{
    static const uint8_t pixels[PATCH_BYTES];
    struct buffer whole = {0}, has = {0};
    struct error error;
    static const int32_t outside[] = {6, -1, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++)
        CHECK(
            picture_place_patches(&(struct picture_patches){{2, 3, P}, pixels, &outside[i], 1},
                                  &whole, &has, &error) == STATUS_DATA,
            "position %d", outside[i]);
    static const struct patch_grid grids[] = {
        {0, 3, P}, {3, 0, P}, {3, 3, 0}, {2000, 1, P}, {1, SIZE_MAX / 2, P}, {1, 1, SIZE_MAX}};
    for (size_t i = 0; i < sizeof grids / sizeof grids[0]; i++)
        CHECK(picture_place_patches(&(struct picture_patches){grids[i], pixels, outside, 0},
                                    &whole, &has, &error) == STATUS_DATA,
              "grid %zu", i);
    buffer_free(&whole);
    buffer_free(&has);
}

/* ---- the record and its facts ---- */

struct facts {
    const char *grid, *patch, *size;
};

static enum status begin(struct view_image *view, const size_t patches[3],
                         const size_t positions[2], int32_t largest, struct facts facts,
                         struct error *error)
{
    static uint8_t pixels[4 * 1024];
    static int32_t position[64];
    struct record record = {.count = 0};
    struct tensor tensor;
    struct metadata map = {0};
    position[0] = largest;
    tensor_init(&tensor, "patches", DTYPE_U8, 3, patches, pixels);
    record_put(&record, &tensor, error);
    tensor_init(&tensor, "patches.position", DTYPE_I32, 2, positions, position);
    record_put(&record, &tensor, error);
    if (facts.grid != NULL)
        metadata_set(&map, "image.grid", facts.grid, error);
    if (facts.patch != NULL)
        metadata_set(&map, "image.patch", facts.patch, error);
    if (facts.size != NULL)
        metadata_set(&map, "image.size", facts.size, error);
    enum status status = view_image_begin(view, &record, &map, error);
    if (status == STATUS_OK)
        status = view_image_draw(view, 0, error);
    metadata_free(&map);
    return status;
}

static void test_grids(void)
{
    static const struct {
        const char *what;
        size_t bytes, count, positions;
        int32_t largest;
        struct facts facts;
        enum status status;
        size_t rows, columns;
    } cases[] = {
        {"facts", PATCH_BYTES, 4, 4, 5, {"2x3", "8", "24"}, STATUS_OK, 2, 3},
        {"no facts", PATCH_BYTES, 4, 4, 5, {NULL, NULL, NULL}, STATUS_OK, 3, 3},
        {"no facts, position 0", PATCH_BYTES, 1, 1, 0, {NULL, NULL, NULL}, STATUS_OK, 1, 1},
        {"no facts, a full square", PATCH_BYTES, 1, 1, 8, {NULL, NULL, NULL}, STATUS_OK, 3, 3},
        {"no facts, one more", PATCH_BYTES, 1, 1, 9, {NULL, NULL, NULL}, STATUS_OK, 4, 4},
        {"image.size", PATCH_BYTES, 4, 4, 5, {NULL, NULL, "32"}, STATUS_OK, 4, 4},
        {"outside of image.grid", PATCH_BYTES, 4, 4, 6, {"2x3", NULL, NULL}, STATUS_DATA, 0, 0},
        {"outside of image.size", PATCH_BYTES, 4, 4, 16, {NULL, NULL, "32"}, STATUS_DATA, 0, 0},
        {"a negative position", PATCH_BYTES, 4, 4, -2, {NULL, NULL, NULL}, STATUS_DATA, 0, 0},
        {"a huge position",
         PATCH_BYTES,
         4,
         4,
         INT32_MAX,
         {NULL, NULL, NULL},
         STATUS_DATA,
         0,
         0},
        {"no square", PATCH_BYTES + 1, 4, 4, 0, {NULL, NULL, NULL}, STATUS_DATA, 0, 0},
        {"no bytes", 0, 4, 4, 0, {NULL, NULL, NULL}, STATUS_DATA, 0, 0},
        {"too few positions", PATCH_BYTES, 4, 3, 0, {NULL, NULL, NULL}, STATUS_DATA, 0, 0},
        {"another patch", PATCH_BYTES, 4, 4, 0, {"2x3", "16", NULL}, STATUS_DATA, 0, 0},
        {"no patch", PATCH_BYTES, 4, 4, 0, {"2x3", "-8", NULL}, STATUS_DATA, 0, 0},
        {"no grid", PATCH_BYTES, 4, 4, 0, {"2by3", NULL, NULL}, STATUS_DATA, 0, 0},
        {"half a grid", PATCH_BYTES, 4, 4, 0, {"2x", NULL, NULL}, STATUS_DATA, 0, 0},
        {"an empty grid", PATCH_BYTES, 4, 4, 0, {"0x3", NULL, NULL}, STATUS_DATA, 0, 0},
        {"a grid and more", PATCH_BYTES, 4, 4, 0, {"2x3x4", NULL, NULL}, STATUS_DATA, 0, 0},
        {"a huge grid", PATCH_BYTES, 4, 4, 0, {"99999x9999", NULL, NULL}, STATUS_DATA, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct view_image view = {.cell = 0};
        struct error error = {.text = ""};
        const size_t patches[] = {1, cases[i].count, cases[i].bytes};
        const size_t positions[] = {1, cases[i].positions};
        const enum status status =
            begin(&view, patches, positions, cases[i].largest, cases[i].facts, &error);
        CHECK(status == cases[i].status, "%s: status %d: %s", cases[i].what, status,
              error.text);
        CHECK(status != STATUS_OK || (view.grid.rows == cases[i].rows &&
                                      view.grid.columns == cases[i].columns),
              "%s: %zu x %zu", cases[i].what, view.grid.rows, view.grid.columns);
        view_image_free(&view);
    }
}

/* The first image fills a cell, whatever its size; later ones have its scale. */
static void test_scale(void)
{
    static uint8_t pixels[300 * 300 * 3];
    static const struct {
        size_t side, cell, drawn;
    } cases[] = {
        {32, 160, 160}, {112, 224, 224}, {224, 224, 224}, {300, 256, 256}, {1, 160, 160}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct view_image view = {.cell = 0};
        struct metadata facts = {0};
        struct error error;
        for (size_t half = 0; half < 2 && cases[i].side > half; half++) {
            const size_t side = cases[i].side / (half + 1);
            struct record record = {.count = 0};
            struct tensor tensor;
            tensor_init(&tensor, "image", DTYPE_U8, 4, (const size_t[]){1, side, side, 3},
                        pixels);
            record_put(&record, &tensor, &error);
            CHECK(view_image_begin(&view, &record, &facts, &error) == STATUS_OK &&
                      view_image_draw(&view, 0, &error) == STATUS_OK,
                  "side %zu", side);
            CHECK(view.cell == cases[i].cell &&
                      view.picture.width == cases[i].drawn / (half + 1),
                  "side %zu: %zu pixels in a cell of %zu", side, view.picture.width, view.cell);
        }
        view_image_free(&view);
    }
}

int main(void)
{
    test_masks();
    test_odd_sizes();
    test_bad_places();
    test_grids();
    test_scale();
    return check_report("picture");
}
