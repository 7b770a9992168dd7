/* Squares against what open_clip made of the same pictures, and what is drawn for them. */
#include <stdlib.h>

#include <zlib.h>

#include "formats/image.h"
#include "formats/resample.h"
#include "tests/reference/square_golden.h"
#include "tests/unit/check.h"

static struct square_maker *maker;

/* The picture of tests/reference/make_square_golden.py. */
static uint8_t *make_picture(size_t width, size_t height)
{
    uint8_t *rgb = malloc(width * height * 3);
    for (size_t i = 0; i < width * height * 3; i++) {
        uint32_t x = (uint32_t)i * 2654435761u;
        rgb[i] = (uint8_t)(x >> 24 ^ x >> 13);
    }
    return rgb;
}

static struct buffer make_png(size_t width, size_t height)
{
    struct buffer file = {0};
    struct error error;
    uint8_t *rgb = make_picture(width, height);
    CHECK(image_encode_png(rgb, width, height, &file, &error) == STATUS_OK, "%s", error.text);
    free(rgb);
    return file;
}

/* Memory of the exact size, for the sanitizer; NULL where it cannot be made. */
static uint8_t *make_square(const struct square_recipe *recipe, const struct buffer *file,
                            uint64_t epoch, uint64_t sample)
{
    struct error error;
    uint8_t *out = malloc(recipe->side * recipe->side * 3);
    enum status status =
        square_make(maker, recipe, file->data, file->size, epoch, sample, out, &error);
    CHECK(status == STATUS_OK, "%s", error.text);
    return out;
}

static void test_golden(void)
{
    for (size_t i = 0; i < sizeof square_golden / sizeof square_golden[0]; i++) {
        const struct square_golden *golden = &square_golden[i];
        const struct square_recipe recipe = {.side = golden->side, .crop = golden->crop,
                                             .filter = golden->filter, .fill = golden->fill,
                                             .pixels_max = IMAGE_PIXELS_MAX};
        struct buffer file = make_png(golden->width, golden->height);
        uint8_t *out = make_square(&recipe, &file, 0, i);
        uint32_t crc = (uint32_t)crc32(0, out, (unsigned)(golden->side * golden->side * 3));
        CHECK(crc == golden->crc32,
              "%zu x %zu to %zu, crop %d, filter %d, fill %d: %08x, open_clip %08x",
              golden->width, golden->height, golden->side, golden->crop, golden->filter,
              golden->fill, crc, golden->crc32);
        free(out);
        buffer_free(&file);
    }
}

/* A side that would vanish keeps one pixel, in the middle of the fill. */
static void test_thin(void)
{
    const struct square_recipe recipe = {.side = 8, .crop = SQUARE_LONGEST, .fill = 9,
                                         .pixels_max = IMAGE_PIXELS_MAX};
    uint8_t white[300 * 3];
    struct buffer file = {0};
    struct error error;
    memset(white, 255, sizeof white);
    CHECK(image_encode_png(white, 300, 1, &file, &error) == STATUS_OK, "%s", error.text);
    uint8_t *out = make_square(&recipe, &file, 0, 0);
    int wrong = 0;
    for (int i = 0; i < 8 * 8 * 3; i++)
        wrong += out[i] != (i / (8 * 3) == 3 ? 255 : 9);
    CHECK(wrong == 0, "%d values of a line of one pixel are wrong", wrong);
    free(out);
    buffer_free(&file);
}

/* The same sample is drawn the same, whatever came before; others differ. Colours and the
 * filter are drawn apart from the box. */
static void test_draws(void)
{
    enum { SIDE = 24, SAMPLES = 60, BYTES = SIDE * SIDE * 3 };
    struct square_recipe recipe = {.side = SIDE, .crop = SQUARE_RANDOM, .scale = {0.4, 1},
                                   .ratio = {0.75, 4.0 / 3}, .seed = 7,
                                   .pixels_max = IMAGE_PIXELS_MAX};
    struct square_recipe bilinear = recipe, either = recipe, jittered = recipe, seeded = recipe;
    bilinear.filter = SQUARE_BILINEAR;
    either.filter = SQUARE_EITHER;
    jittered.jitter = (struct color_jitter){{0, 0, 0, 0}, 0, 0.5};
    seeded.seed = 8;
    struct buffer file = make_png(90, 70);
    int differ = 0, epochs = 0, seeds = 0, cubic = 0, linear = 0, gray = 0;
    for (uint64_t i = 0; i < SAMPLES; i++) {
        uint8_t *first = make_square(&recipe, &file, 0, i);
        uint8_t *next = make_square(&recipe, &file, 0, i + 1);
        uint8_t *epoch = make_square(&recipe, &file, 1, i);
        uint8_t *seed = make_square(&seeded, &file, 0, i);
        uint8_t *again = make_square(&recipe, &file, 0, i);
        uint8_t *smooth = make_square(&bilinear, &file, 0, i);
        uint8_t *any = make_square(&either, &file, 0, i);
        uint8_t *colored = make_square(&jittered, &file, 0, i);
        CHECK(memcmp(first, again, BYTES) == 0, "sample %d was made twice and differs", (int)i);
        differ += memcmp(first, next, BYTES) != 0;
        epochs += memcmp(first, epoch, BYTES) != 0;
        seeds += memcmp(first, seed, BYTES) != 0;
        cubic += memcmp(any, first, BYTES) == 0;
        linear += memcmp(any, smooth, BYTES) == 0;
        const struct color_change change = {.gray = true};
        bool same = memcmp(colored, first, BYTES) == 0;
        color_change_apply(&change, first, SIDE * SIDE);
        CHECK(same != (memcmp(colored, first, BYTES) == 0), "gray by half: sample %d", (int)i);
        gray += !same;
        uint8_t *all[] = {first, next, epoch, seed, again, smooth, any, colored};
        for (size_t k = 0; k < sizeof all / sizeof all[0]; k++)
            free(all[k]);
    }
    CHECK(differ == SAMPLES && epochs == SAMPLES && seeds == SAMPLES,
          "%d samples, %d epochs, %d seeds of %d differ", differ, epochs, seeds, SAMPLES);
    CHECK(cubic + linear == SAMPLES && cubic > 12 && linear > 12, "%d bicubic, %d bilinear",
          cubic, linear);
    CHECK(gray > 12 && gray < 48, "%d of %d gray", gray, SAMPLES);
    buffer_free(&file);
}

static void test_refused(void)
{
    const struct square_recipe recipe = {.side = 8, .crop = SQUARE_SQUASH, .pixels_max = 99};
    struct buffer file = make_png(10, 10);
    struct error error;
    uint8_t out[8 * 8 * 3];
    CHECK(square_make(maker, &recipe, file.data, file.size, 0, 0, out, &error) == STATUS_DATA,
          "100 pixels of 99");
    CHECK(strstr(error.text, "at most 99 pixels") != NULL, "%s", error.text);
    CHECK(square_make(maker, &recipe, file.data, 20, 0, 0, out, &error) == STATUS_DATA,
          "a file that was cut");
    buffer_free(&file);
}

int main(void)
{
    struct error error;
    if (square_maker_open(&maker, &error) != STATUS_OK)
        return 1;
    test_golden();
    test_thin();
    test_draws();
    test_refused();
    square_maker_close(maker);
    square_maker_close(NULL);
    return check_report("image_square");
}
