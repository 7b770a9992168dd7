/* Sheets, looked at as a user does: as a PNG. */
#include <stdlib.h>

#include "base/rng.h"
#include "formats/contact_sheet.h"
#include "formats/image.h"
#include "formats/picture.h"
#include "frame/view.h"
#include "tests/unit/check.h"

struct page {
    struct image_decoder *decoder;
    const uint8_t *pixels; /* the decoder's */
    size_t width, height;
};

static void page_open(struct page *page, const struct buffer *png)
{
    struct image_info info = {.width = 0};
    struct error error = {.text = ""};
    *page = (struct page){.decoder = NULL};
    enum status status = image_decoder_open(&page->decoder, &error);
    if (status == STATUS_OK)
        status = image_decoder_begin(page->decoder, png->data, png->size, IMAGE_PIXELS_MAX,
                                     &info, &error);
    const struct image_region all = {0, 0, info.width, info.height};
    if (status == STATUS_OK)
        status = image_decoder_region(page->decoder, &all, &page->pixels, &error);
    CHECK(status == STATUS_OK && info.format == IMAGE_PNG, "a PNG: %s", error.text);
    page->width = info.width;
    page->height = info.height;
}

static const uint8_t *pixel(const struct page *page, size_t x, size_t y)
{
    return page->pixels + (y * page->width + x) * 3;
}

static bool has_picture(const struct page *page, size_t x, size_t y, const uint8_t *picture,
                        size_t width, size_t height)
{
    if (x + width > page->width || y + height > page->height)
        return false;
    for (size_t row = 0; row < height; row++)
        if (memcmp(pixel(page, x, y + row), picture + row * width * 3, width * 3) != 0)
            return false;
    return true;
}

static void fill_noise(uint8_t *data, size_t size, uint64_t seed)
{
    struct rng rng;
    rng_init(&rng, seed, 0, 0, RNG_TEST);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)rng_next(&rng);
}

static void draw(struct sheet *sheet, struct page *page)
{
    struct buffer rgb = {0}, png = {0};
    struct error error = {.text = ""};
    size_t width, height;
    CHECK(sheet_draw(sheet, &rgb, &width, &height, &error) == STATUS_OK &&
              image_encode_png(rgb.data, width, height, &png, &error) == STATUS_OK,
          "%s", error.text);
    page_open(page, &png);
    CHECK(page->width == width && page->height == height, "%zu x %zu", page->width,
          page->height);
    buffer_free(&rgb);
    buffer_free(&png);
}

static void test_places(void)
{
    static uint8_t pictures[5][40 * 40 * 3];
    static const size_t sizes[5][2] = {{40, 40}, {20, 40}, {40, 1}, {1, 1}, {33, 17}};
    struct sheet *sheet;
    struct page page;
    struct error error;
    fill_noise(pictures[0], sizeof pictures, 1);
    CHECK(sheet_open(&sheet, (struct sheet_layout){2, 40, 3}, &error) == STATUS_OK, "open");
    CHECK(sheet_add_cell(sheet, &(struct sheet_cell){.width = 0}, &error) == STATUS_BUG,
          "a cell needs a section");
    for (size_t i = 0; i < 5; i++) {
        if (i % 3 == 0) {
            CHECK(sheet_add_section(sheet, &error) == STATUS_OK, "section");
            CHECK(sheet_set_heading(sheet, "title", "detail", &error) == STATUS_OK, "heading");
        }
        const struct sheet_cell cell = {.pixels = pictures[i],
                                        .width = sizes[i][0],
                                        .height = sizes[i][1],
                                        .caption =
                                            (const uint8_t *)"one two three four five six",
                                        .caption_size = 27};
        CHECK(sheet_add_cell(sheet, &cell, &error) == STATUS_OK, "cell %zu", i);
    }
    CHECK(sheet_add_cell(sheet, &(struct sheet_cell){.pixels = pictures[0], .width = 41,
                                                     .height = 1}, &error) == STATUS_BUG,
          "a picture larger than its cell");
    draw(sheet, &page);
    for (size_t i = 0; i < 5; i++) {
        size_t x, y;
        sheet_cell_place(sheet, i, &x, &y);
        const size_t column = i < 3 ? i % 2 : i - 3;
        CHECK(x == SHEET_MARGIN + column * (40 + SHEET_GAP), "cell %zu at x = %zu", i, x);
        CHECK(has_picture(&page, x, y, pictures[i], sizes[i][0], sizes[i][1]),
              "cell %zu keeps its pixels", i);
    }
    static const uint8_t white[] = {255, 255, 255};
    CHECK(memcmp(pixel(&page, 0, 0), white, 3) == 0 &&
              memcmp(pixel(&page, page.width - 1, page.height - 1), white, 3) == 0,
          "the margin is white");
    image_decoder_close(page.decoder);
    sheet_close(sheet);
}

/* One cell of a caption; returns the page. */
static void draw_caption(struct page *page, const char *caption, size_t size, const char *marks,
                         size_t lines)
{
    uint8_t values[64] = {0};
    struct sheet *sheet;
    struct error error;
    for (size_t i = 0; marks != NULL && marks[i] != '\0'; i++)
        values[i] = marks[i] == '-'   ? SHEET_DROPPED
                    : marks[i] == '>' ? SHEET_ORDER
                                      : SHEET_PLAIN;
    CHECK(sheet_open(&sheet, (struct sheet_layout){1, 200, lines}, &error) == STATUS_OK &&
              sheet_add_section(sheet, &error) == STATUS_OK &&
              sheet_add_cell(sheet,
                             &(struct sheet_cell){.caption = (const uint8_t *)caption,
                                                  .caption_size = size,
                                                  .marks = marks != NULL ? values : NULL},
                             &error) == STATUS_OK,
          "%.40s", caption);
    draw(sheet, page);
    sheet_close(sheet);
}

/* The longest row of neighbours that are not nearly white. */
static size_t longest_line(const struct page *page)
{
    size_t longest = 0;
    for (size_t y = 0; y < page->height; y++)
        for (size_t x = 0, length = 0; x < page->width; x++) {
            length = pixel(page, x, y)[0] < 220 ? length + 1 : 0;
            longest = length > longest ? length : longest;
        }
    return longest;
}

static size_t darkest(const struct page *page)
{
    size_t least = 255;
    for (size_t i = 0; i < page->width * page->height * 3; i++)
        least = page->pixels[i] < least ? page->pixels[i] : least;
    return least;
}

static bool same_page(const struct page *a, const struct page *b)
{
    return a->width == b->width && a->height == b->height &&
           memcmp(a->pixels, b->pixels, a->width * a->height * 3) == 0;
}

static void test_captions(void)
{
    static const char caption[] = "a dog in the snow";
    const size_t size = sizeof caption - 1;
    struct page plain, none, half, all, order;
    draw_caption(&plain, caption, size, NULL, 5);
    draw_caption(&none, caption, size, "                 ", 5);
    draw_caption(&half, caption, size, "        ---------", 5);
    draw_caption(&all, caption, size, "-----------------", 5);
    draw_caption(&order, caption, size, ">>>>>>>>>>>>>>>>>", 5);
    CHECK(same_page(&plain, &none), "marks of kept tokens change nothing");
    CHECK(!same_page(&plain, &half) && !same_page(&half, &all), "struck-out tokens show");
    CHECK(!same_page(&plain, &order) && !same_page(&all, &order), "the model's order shows");
    CHECK(longest_line(&plain) < 20 && longest_line(&all) > 80 &&
              longest_line(&half) > 35 && longest_line(&half) < longest_line(&all),
          "a line goes through what is dropped: %zu, %zu, %zu pixels", longest_line(&plain),
          longest_line(&half), longest_line(&all));
    CHECK(darkest(&plain) < 80 && darkest(&half) < 80 && darkest(&all) > 85,
          "dropped tokens are gray: %zu, %zu, %zu", darkest(&plain), darkest(&half),
          darkest(&all));
    struct page *const pages[] = {&plain, &none, &half, &all, &order};
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++)
        image_decoder_close(pages[i]->decoder);
}

static void test_hostile_captions(void)
{
    static char words[60000];
    static const char *const texts[] = {"",
                                        "\xff\xfe\x80",
                                        "a\0b\x01\x1b[31m",
                                        "\n\n\n\n",
                                        "\xf0\x9f\x90\x88",
                                        "<b>&amp;</b>",
                                        "\u202e\u0645\u4e2d"};
    struct page page, short_page;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        draw_caption(&page, texts[i], i == 2 ? 9 : strlen(texts[i]), NULL, 3);
        CHECK(page.height < 200, "text %zu: %zu pixels high", i, page.height);
        image_decoder_close(page.decoder);
    }
    memset(words, 'w', sizeof words);
    for (size_t i = 5; i < sizeof words; i += 6)
        words[i] = ' ';
    draw_caption(&page, words, sizeof words, NULL, 3);
    draw_caption(&short_page, words, 20, NULL, 3);
    CHECK(page.height > short_page.height && page.height < short_page.height + 60,
          "a long caption is cut: %zu pixels high, a line has %zu", page.height,
          short_page.height);
    image_decoder_close(page.decoder);
    image_decoder_close(short_page.decoder);
}

static void test_too_large(void)
{
    struct sheet *sheet;
    struct buffer rgb = {0};
    struct error error;
    size_t width, height;
    CHECK(sheet_open(&sheet, (struct sheet_layout){1, 20, 1}, &error) == STATUS_OK &&
              sheet_add_section(sheet, &error) == STATUS_OK,
          "open");
    for (int i = 0; i < 3000; i++)
        sheet_add_cell(
            sheet, &(struct sheet_cell){.note = (const uint8_t *)"x", .note_size = 1}, &error);
    CHECK(sheet_draw(sheet, &rgb, &width, &height, &error) == STATUS_USAGE && rgb.size == 0,
          "3,000 rows: %s", error.text);
    sheet_close(sheet);
    buffer_free(&rgb);
}

/* ---- a whole view ---- */

enum { P = 8, ROWS = 2, COLUMNS = 3, KEPT = 2, BATCH = 3, PATCH_BYTES = P * P * 3 };

static void put(struct record *record, const char *name, enum dtype dtype, int rank,
                const size_t *shape, void *data)
{
    struct tensor tensor;
    struct error error;
    tensor_init(&tensor, name, dtype, rank, shape, data);
    CHECK(record_put(record, &tensor, &error) == STATUS_OK, "%s", name);
}

/* What has to be on the sheet: pixels where a patch is, gray with lighter edges elsewhere. */
static void expected_picture(const uint8_t *patches, const int32_t *position, uint8_t *out)
{
    for (size_t y = 0; y < ROWS * P; y++)
        for (size_t x = 0; x < COLUMNS * P; x++, out += 3) {
            memset(out, y % P == P - 1 || x % P == P - 1 ? PICTURE_GRAY_EDGE : PICTURE_GRAY, 3);
            for (size_t k = 0; k < KEPT; k++)
                if (position[k] == (int32_t)(y / P * COLUMNS + x / P))
                    memcpy(out, patches + k * PATCH_BYTES + (y % P * P + x % P) * 3, 3);
        }
}

static void make_view(struct buffer *png, const char *grid, const char *strategy,
                      size_t samples, uint8_t *patches, int32_t *position)
{
    const struct view_options options = {samples, 2, COLUMNS * P, 2};
    struct record record = {.count = 0};
    struct metadata facts = {0};
    struct view *view;
    struct error error = {.text = ""};
    put(&record, "patches", DTYPE_U8, 3, (const size_t[]){BATCH, KEPT, PATCH_BYTES}, patches);
    put(&record, "patches.position", DTYPE_I32, 2, (const size_t[]){BATCH, KEPT}, position);
    metadata_set(&facts, "image.grid", grid, &error);
    metadata_set(&facts, "image.strategy", strategy, &error);
    CHECK(view_open(&view, &options, "test", &error) == STATUS_OK &&
              view_add_record(view, &record, &facts, &error) == STATUS_OK &&
              view_encode(view, png, &error) == STATUS_OK,
          "%s", error.text);
    CHECK(view_has_room(view) == (samples > BATCH), "room for %zu", samples);
    view_close(view);
    metadata_free(&facts);
}

/* Finds a picture below (x, 0); SIZE_MAX where it is not. */
static size_t find_below(const struct page *page, size_t x, const uint8_t *picture)
{
    for (size_t y = 0; y < page->height; y++)
        if (has_picture(page, x, y, picture, COLUMNS * P, ROWS * P))
            return y;
    return SIZE_MAX;
}

static void test_view(void)
{
    static uint8_t patches[BATCH * KEPT * PATCH_BYTES], picture[ROWS * P * COLUMNS * P * 3];
    int32_t position[BATCH * KEPT] = {0, 4, 2, 3, 5, 1};
    struct buffer png = {0}, other = {0}, fewer = {0};
    struct page page, fewer_page;
    fill_noise(patches, sizeof patches, 2);
    make_view(&png, "2x3", "random:2", 10, patches, position);
    page_open(&page, &png);
    size_t y[BATCH];
    for (size_t i = 0; i < BATCH; i++) {
        const size_t x = SHEET_MARGIN + i % 2 * (COLUMNS * P + SHEET_GAP);
        expected_picture(patches + i * KEPT * PATCH_BYTES, position + i * KEPT, picture);
        y[i] = find_below(&page, x, picture);
        CHECK(y[i] != SIZE_MAX, "sample %zu is not on the sheet as it should be", i);
    }
    CHECK(y[0] == y[1] && y[2] > y[0] + ROWS * P, "rows at %zu, %zu and %zu", y[0], y[1], y[2]);
    make_view(&other, "2x3", "block:2", 10, patches, position);
    CHECK(other.size != png.size || memcmp(other.data, png.data, png.size) != 0,
          "the heading names the strategy");
    make_view(&fewer, "2x3", "random:2", 2, patches, position);
    page_open(&fewer_page, &fewer);
    CHECK(fewer_page.height < page.height, "two samples make one row");
    image_decoder_close(page.decoder);
    image_decoder_close(fewer_page.decoder);
    buffer_free(&png);
    buffer_free(&other);
    buffer_free(&fewer);
}

static void test_empty_view(void)
{
    struct view *view;
    struct buffer png = {0};
    struct page page;
    struct error error = {.text = ""};
    CHECK(view_open(&view, &(struct view_options){24, 0, 0, 8}, "nothing", &error) ==
                  STATUS_OK &&
              view_encode(view, &png, &error) == STATUS_OK,
          "%s", error.text);
    page_open(&page, &png);
    CHECK(page.height > 20 && page.height < 200, "%zu pixels high", page.height);
    image_decoder_close(page.decoder);
    view_close(view);
    buffer_free(&png);
}

int main(void)
{
    test_places();
    test_captions();
    test_hostile_captions();
    test_too_large();
    test_view();
    test_empty_view();
    return check_report("contact_sheet");
}
