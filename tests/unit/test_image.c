/* Images of every kind, written here with the format's own library: what comes out, in whole
 * and in regions; and what happens to damaged, cut, huge and foreign files. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <jpeglib.h>
#include <png.h>
#include <webp/decode.h>
#include <webp/encode.h>

#include "base/rng.h"
#include "formats/image.h"
#include "tests/unit/check.h"

static struct image_decoder *decoder;

/* A smooth picture with edges and some noise, `channels` bytes a pixel. */
static uint8_t *draw(size_t width, size_t height, size_t channels)
{
    struct rng rng;
    rng_init(&rng, width, height, channels, RNG_TEST);
    uint8_t *pixels = malloc(width * height * channels);
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++)
            for (size_t c = 0; c < channels; c++) {
                double wave = sin((double)x * (0.11 + 0.07 * (double)c)) *
                              cos((double)y * (0.09 + 0.05 * (double)c));
                double edge = x / 13 % 2 == y / 11 % 2 ? 40 : -40;
                double noise = (double)rng_below(&rng, 20);
                double value = 120 + 70 * wave + edge * (c != 1) + noise;
                pixels[(y * width + x) * channels + c] = (uint8_t)fmin(fmax(value, 0), 255);
            }
    return pixels;
}

static enum status begin(const struct buffer *file, struct image_info *info,
                         struct error *error)
{
    return image_decoder_begin(decoder, file->data, file->size, IMAGE_PIXELS_MAX, info, error);
}

static enum status decode_whole(const uint8_t *data, size_t size, struct image_info *info,
                                const uint8_t **rgb, struct error *error)
{
    enum status status =
        image_decoder_begin(decoder, data, size, IMAGE_PIXELS_MAX, info, error);
    if (status != STATUS_OK)
        return status;
    const struct image_region whole = {0, 0, info->width, info->height};
    return image_decoder_region(decoder, &whole, rgb, error);
}

/* ---- JPEG ---- */

struct jpeg_kind {
    const char *name;
    int components;
    J_COLOR_SPACE in, stored;
    int h, v; /* sampling of the first component */
    bool progressive, arithmetic;
    int restart; /* MCUs */
    int chroma_h;
};

static const struct jpeg_kind jpeg_kinds[] = {
    {"4:4:4", 3, JCS_RGB, JCS_YCbCr, 1, 1, false, false, 0, 1},
    {"4:2:2", 3, JCS_RGB, JCS_YCbCr, 2, 1, false, false, 0, 1},
    {"4:4:0", 3, JCS_RGB, JCS_YCbCr, 1, 2, false, false, 0, 1},
    {"4:2:0", 3, JCS_RGB, JCS_YCbCr, 2, 2, false, false, 0, 1},
    {"4:1:1", 3, JCS_RGB, JCS_YCbCr, 4, 1, false, false, 0, 1},
    {"4:1:0", 3, JCS_RGB, JCS_YCbCr, 4, 2, false, false, 0, 1},
    {"3:1", 3, JCS_RGB, JCS_YCbCr, 3, 1, false, false, 0, 1},
    {"wide chroma", 3, JCS_RGB, JCS_YCbCr, 2, 2, false, false, 0, 2},
    {"stored as RGB", 3, JCS_RGB, JCS_RGB, 1, 1, false, false, 0, 1},
    {"gray", 1, JCS_GRAYSCALE, JCS_GRAYSCALE, 1, 1, false, false, 0, 1},
    {"gray with factors 2 x 2", 1, JCS_GRAYSCALE, JCS_GRAYSCALE, 2, 2, false, false, 0, 1},
    {"progressive 4:4:4", 3, JCS_RGB, JCS_YCbCr, 1, 1, true, false, 0, 1},
    {"progressive 4:2:0", 3, JCS_RGB, JCS_YCbCr, 2, 2, true, false, 0, 1},
    {"progressive gray", 1, JCS_GRAYSCALE, JCS_GRAYSCALE, 1, 1, true, false, 0, 1},
    {"restart markers", 3, JCS_RGB, JCS_YCbCr, 2, 2, false, false, 3, 1},
    {"progressive with restart markers", 3, JCS_RGB, JCS_YCbCr, 2, 1, true, false, 2, 1},
    {"arithmetic", 3, JCS_RGB, JCS_YCbCr, 2, 2, false, true, 0, 1},
    {"CMYK", 4, JCS_CMYK, JCS_CMYK, 1, 1, false, false, 0, 1},
    {"YCCK", 4, JCS_CMYK, JCS_YCCK, 2, 2, false, false, 0, 1},
    {"progressive YCCK", 4, JCS_CMYK, JCS_YCCK, 1, 1, true, false, 0, 1},
};

enum { JPEG_KINDS = sizeof jpeg_kinds / sizeof jpeg_kinds[0] };

/* A failure here ends the program by libjpeg's own message. */
static void write_jpeg(const struct jpeg_kind *kind, const uint8_t *pixels, size_t width,
                       size_t height, int quality, struct buffer *out)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct error error;
    unsigned char *bytes = NULL;
    unsigned long size = 0;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &bytes, &size);
    jpeg.image_width = (JDIMENSION)width;
    jpeg.image_height = (JDIMENSION)height;
    jpeg.input_components = kind->components;
    jpeg.in_color_space = kind->in;
    jpeg_set_defaults(&jpeg);
    jpeg_set_colorspace(&jpeg, kind->stored);
    jpeg_set_quality(&jpeg, quality, TRUE);
    jpeg.comp_info[0].h_samp_factor = kind->h;
    jpeg.comp_info[0].v_samp_factor = kind->v;
    for (int c = 1; c < kind->components; c++)
        jpeg.comp_info[c].h_samp_factor = kind->chroma_h;
    if (kind->components == 4) {
        jpeg.comp_info[3].h_samp_factor = kind->h;
        jpeg.comp_info[3].v_samp_factor = kind->v;
    }
    jpeg.restart_interval = (unsigned)kind->restart;
    jpeg.arith_code = kind->arithmetic;
    if (kind->progressive)
        jpeg_simple_progression(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < height) {
        JSAMPROW line =
            (JSAMPROW)(pixels + jpeg.next_scanline * width * (size_t)kind->components);
        jpeg_write_scanlines(&jpeg, &line, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    out->size = 0;
    CHECK(buffer_append(out, bytes, size, &error) == STATUS_OK, "%s", error.text);
    free(bytes);
}

/* libjpeg used in the plainest way; CMYK by the formula, in real numbers. */
static uint8_t *read_jpeg_plainly(const struct buffer *file)
{
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, file->data, file->size);
    jpeg_read_header(&jpeg, TRUE);
    bool cmyk = jpeg.num_components == 4;
    jpeg.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(&jpeg);
    size_t width = jpeg.output_width, channels = cmyk ? 4 : 3;
    uint8_t *rgb = malloc(width * jpeg.output_height * 3), *row = malloc(width * channels);
    while (jpeg.output_scanline < jpeg.output_height) {
        uint8_t *out = rgb + jpeg.output_scanline * width * 3;
        jpeg_read_scanlines(&jpeg, &row, 1);
        for (size_t x = 0; x < width; x++)
            for (size_t c = 0; c < 3; c++)
                out[3 * x + c] = cmyk ? (uint8_t)lround(row[4 * x + c] * row[4 * x + 3] / 255.0)
                                      : row[3 * x + c];
    }
    jpeg_finish_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
    free(row);
    return rgb;
}

/* ---- whole images and regions of any format ---- */

static void check_regions(const char *name, const struct buffer *file, const uint8_t *want,
                          size_t width, size_t height, int count)
{
    struct rng rng;
    rng_init(&rng, width, height, 3, RNG_TEST);
    for (int i = 0; i <= count; i++) {
        struct image_region r = {0, 0, width, height}; /* the first is the whole */
        if (i > 0) {
            r.x = (size_t)rng_below(&rng, width);
            r.y = (size_t)rng_below(&rng, height);
            r.width = 1 + (size_t)rng_below(&rng, width - r.x);
            r.height = 1 + (size_t)rng_below(&rng, height - r.y);
        }
        struct image_info info = {.width = 0};
        struct error error = {.status = STATUS_OK};
        const uint8_t *rgb = NULL;
        enum status status = begin(file, &info, &error);
        CHECK(status == STATUS_OK && info.width == width && info.height == height,
              "%s: %zu x %zu, expected %zu x %zu: %s", name, info.width, info.height, width,
              height, error.text);
        if (status == STATUS_OK)
            status = image_decoder_region(decoder, &r, &rgb, &error);
        CHECK(status == STATUS_OK, "%s, %zu x %zu: %s", name, width, height, error.text);
        size_t different = 0;
        for (size_t y = 0; status == STATUS_OK && y < r.height; y++)
            different += memcmp(rgb + y * r.width * 3, want + ((r.y + y) * width + r.x) * 3,
                                r.width * 3) != 0;
        CHECK(different == 0, "%s, %zu x %zu, region %zu x %zu at %zu, %zu: %zu rows differ",
              name, width, height, r.width, r.height, r.x, r.y, different);
    }
}

static void test_jpeg_regions(void)
{
    static const size_t sizes[][2] = {{1, 1}, {8, 8}, {17, 9}, {83, 61}, {200, 131}, {3, 150}};
    struct buffer file = {0};
    for (size_t k = 0; k < JPEG_KINDS; k++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            size_t width = sizes[s][0], height = sizes[s][1];
            uint8_t *pixels = draw(width, height, (size_t)jpeg_kinds[k].components);
            write_jpeg(&jpeg_kinds[k], pixels, width, height, 85, &file);
            uint8_t *want = read_jpeg_plainly(&file);
            check_regions(jpeg_kinds[k].name, &file, want, width, height, 40);
            free(want);
            free(pixels);
        }
    buffer_free(&file);
}

/* Adobe's flat colours: what is stored is 255 - ink. */
static void test_cmyk_colors(void)
{
    static const struct {
        uint8_t stored[4], rgb[3];
    } colors[] = {
        {{255, 255, 255, 255}, {255, 255, 255}}, {{255, 255, 255, 0}, {0, 0, 0}},
        {{0, 255, 255, 255}, {0, 255, 255}},     {{255, 0, 255, 255}, {255, 0, 255}},
        {{128, 128, 128, 128}, {64, 64, 64}},
    };
    struct buffer file = {0};
    for (size_t i = 0; i < sizeof colors / sizeof colors[0]; i++) {
        uint8_t pixels[16 * 16 * 4];
        for (size_t p = 0; p < 16 * 16; p++)
            memcpy(pixels + 4 * p, colors[i].stored, 4);
        write_jpeg(&jpeg_kinds[JPEG_KINDS - 3], pixels, 16, 16, 100, &file);
        struct image_info info;
        struct error error;
        const uint8_t *rgb;
        CHECK(decode_whole(file.data, file.size, &info, &rgb, &error) == STATUS_OK, "%s",
              error.text);
        for (int c = 0; c < 3; c++)
            CHECK_NEAR(rgb[300 + c], colors[i].rgb[c], 1, "colour %zu, channel %d", i, c);
    }
    buffer_free(&file);
}

/* ---- PNG ---- */

struct png_kind {
    int type, depth, channels;
};

static const struct png_kind png_kinds[] = {
    {PNG_COLOR_TYPE_GRAY, 1, 1},        {PNG_COLOR_TYPE_GRAY, 2, 1},
    {PNG_COLOR_TYPE_GRAY, 4, 1},        {PNG_COLOR_TYPE_GRAY, 8, 1},
    {PNG_COLOR_TYPE_GRAY, 16, 1},       {PNG_COLOR_TYPE_GRAY_ALPHA, 8, 2},
    {PNG_COLOR_TYPE_GRAY_ALPHA, 16, 2}, {PNG_COLOR_TYPE_RGB, 8, 3},
    {PNG_COLOR_TYPE_RGB, 16, 3},        {PNG_COLOR_TYPE_RGB_ALPHA, 8, 4},
    {PNG_COLOR_TYPE_RGB_ALPHA, 16, 4},  {PNG_COLOR_TYPE_PALETTE, 1, 1},
    {PNG_COLOR_TYPE_PALETTE, 2, 1},     {PNG_COLOR_TYPE_PALETTE, 4, 1},
    {PNG_COLOR_TYPE_PALETTE, 8, 1},
};

static void append_png_bytes(png_structp png, png_bytep data, size_t size)
{
    struct error error;
    CHECK(buffer_append(png_get_io_ptr(png), data, size, &error) == STATUS_OK, "%s",
          error.text);
}

static void flush_nothing(png_structp png)
{
    (void)png;
}

/* rows: packed as PNG packs them. `trns` adds a transparency chunk, which changes nothing. */
static void write_png(const struct png_kind *kind, const uint8_t *rows, size_t row_bytes,
                      size_t width, size_t height, bool interlaced, bool trns,
                      const png_color *palette, struct buffer *out)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    out->size = 0;
    png_set_write_fn(png, out, append_png_bytes, flush_nothing);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, kind->depth, kind->type,
                 interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_gAMA(png, info, 0.8);
    if (kind->type == PNG_COLOR_TYPE_PALETTE)
        png_set_PLTE(png, info, palette, 1 << kind->depth);
    if (trns && kind->type == PNG_COLOR_TYPE_PALETTE)
        png_set_tRNS(png, info, (png_const_bytep) "\x00\x80", 2, NULL);
    if (trns && (kind->type == PNG_COLOR_TYPE_GRAY || kind->type == PNG_COLOR_TYPE_RGB))
        png_set_tRNS(png, info, NULL, 1, &(png_color_16){.gray = 1, .red = 7, .green = 8});
    png_write_info(png, info);
    int passes = interlaced ? png_set_interlace_handling(png) : 1;
    for (int pass = 0; pass < passes; pass++)
        for (size_t y = 0; y < height; y++)
            png_write_row(png, rows + y * row_bytes);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
}

/* Sample x of a packed row, as 0..255. */
static uint8_t png_sample(const uint8_t *row, size_t x, int depth, bool scale)
{
    if (depth == 16)
        return row[2 * x];
    if (depth == 8)
        return row[x];
    size_t bit = x * (size_t)depth;
    unsigned most = (1u << depth) - 1;
    unsigned value = row[bit / 8] >> (8 - (size_t)depth - bit % 8) & most;
    return (uint8_t)(scale ? value * 255 / most : value);
}

static void check_png(const struct png_kind *kind, size_t width, size_t height, bool interlaced,
                      bool trns)
{
    struct rng rng;
    rng_init(&rng, width, (uint64_t)kind->type, (uint64_t)kind->depth, RNG_TEST);
    size_t row_bytes = (width * (size_t)(kind->channels * kind->depth) + 7) / 8;
    uint8_t *rows = malloc(row_bytes * height), *want = malloc(width * height * 3);
    png_color palette[256];
    for (size_t i = 0; i < row_bytes * height; i++)
        rows[i] = (uint8_t)rng_next(&rng);
    for (int i = 0; i < 256; i++)
        palette[i] = (png_color){(png_byte)rng_next(&rng), (png_byte)rng_next(&rng),
                                 (png_byte)rng_next(&rng)};
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++) {
            const uint8_t *row = rows + y * row_bytes;
            uint8_t *out = want + (y * width + x) * 3;
            size_t first = x * (size_t)kind->channels;
            bool color = kind->channels >= 3, index = kind->type == PNG_COLOR_TYPE_PALETTE;
            for (size_t c = 0; c < 3; c++)
                out[c] = png_sample(row, first + (color ? c : 0), kind->depth, !index);
            if (index)
                memcpy(out, &palette[out[0]], 3);
        }
    struct buffer file = {0};
    char name[64];
    write_png(kind, rows, row_bytes, width, height, interlaced, trns, palette, &file);
    snprintf(name, sizeof name, "PNG type %d, depth %d, interlaced %d, tRNS %d", kind->type,
             kind->depth, interlaced, trns);
    check_regions(name, &file, want, width, height, 6);
    buffer_free(&file);
    free(want);
    free(rows);
}

static void test_png(void)
{
    static const size_t sizes[][2] = {{1, 1}, {3, 2}, {5, 9}, {37, 21}};
    for (size_t k = 0; k < sizeof png_kinds / sizeof png_kinds[0]; k++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
            for (int flags = 0; flags < 4; flags++)
                check_png(&png_kinds[k], sizes[s][0], sizes[s][1], flags & 1, flags & 2);
}

/* ---- WebP and the encoders ---- */

static void test_webp(void)
{
    static const size_t sizes[][2] = {{1, 1}, {2, 3}, {16, 16}, {17, 33}, {83, 61}, {200, 131}};
    struct buffer file = {0};
    struct error error;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        size_t width = sizes[s][0], height = sizes[s][1];
        uint8_t *pixels = draw(width, height, 3);
        CHECK(image_encode_webp(pixels, width, height, 101, &file, &error) == STATUS_OK, "%s",
              error.text);
        check_regions("lossless WebP", &file, pixels, width, height, 40);

        for (int quality = 5; quality <= 95; quality += 30) {
            CHECK(image_encode_webp(pixels, width, height, quality, &file, &error) == STATUS_OK,
                  "%s", error.text);
            int w, h;
            uint8_t *want = WebPDecodeRGB(file.data, file.size, &w, &h);
            check_regions("lossy WebP", &file, want, width, height, 40);
            WebPFree(want);
        }
        free(pixels);
    }
    buffer_free(&file);
}

/* Colours under alpha come out as they are stored. */
static void test_webp_alpha(void)
{
    enum { W = 45, H = 31 };
    uint8_t *rgba = draw(W, H, 4), want[W * H * 3], *bytes;
    for (size_t i = 0; i < W * H; i++) {
        rgba[4 * i + 3] = (uint8_t)(1 + i % 255); /* at 0 the encoder drops the colour */
        memcpy(want + 3 * i, rgba + 4 * i, 3);
    }
    struct buffer file = {0};
    struct error error;
    size_t size = WebPEncodeLosslessRGBA(rgba, W, H, W * 4, &bytes);
    CHECK(buffer_append(&file, bytes, size, &error) == STATUS_OK, "%s", error.text);
    check_regions("lossless WebP with alpha", &file, want, W, H, 20);
    WebPFree(bytes);

    file.size = 0;
    size = WebPEncodeRGBA(rgba, W, H, W * 4, 80, &bytes);
    CHECK(buffer_append(&file, bytes, size, &error) == STATUS_OK, "%s", error.text);
    int w, h;
    uint8_t *rgb = WebPDecodeRGB(bytes, size, &w, &h);
    check_regions("lossy WebP with alpha", &file, rgb, W, H, 20);
    WebPFree(rgb);
    WebPFree(bytes);
    buffer_free(&file);
    free(rgba);
}

static void check_distance(const char *name, const struct buffer *file, const uint8_t *want,
                           size_t width, size_t height, double tolerance)
{
    struct image_info info;
    struct error error = {.status = STATUS_OK};
    const uint8_t *rgb = NULL;
    enum status status = decode_whole(file->data, file->size, &info, &rgb, &error);
    CHECK(status == STATUS_OK, "%s: %s", name, error.text);
    if (status != STATUS_OK)
        return;
    CHECK(strstr(name, image_format_name(info.format)) == name, "%s is taken for %s", name,
          image_format_name(info.format));
    double sum = 0;
    for (size_t i = 0; i < width * height * 3; i++)
        sum += ((double)rgb[i] - want[i]) * ((double)rgb[i] - want[i]);
    CHECK_NEAR(sqrt(sum / (double)(width * height * 3)), 0, tolerance, "%s", name);
}

/* The encoders lose no more than their quality says; PNG and lossless WebP lose nothing. */
static void test_encoders(void)
{
    enum { W = 101, H = 67 };
    uint8_t *pixels = draw(W, H, 3);
    struct buffer file = {0};
    struct error error;
    CHECK(image_encode_png(pixels, W, H, &file, &error) == STATUS_OK, "%s", error.text);
    check_distance("PNG", &file, pixels, W, H, 0);
    CHECK(image_encode_webp(pixels, W, H, 101, &file, &error) == STATUS_OK, "%s", error.text);
    check_distance("WebP", &file, pixels, W, H, 0);
    CHECK(image_encode_webp(pixels, W, H, 95, &file, &error) == STATUS_OK, "%s", error.text);
    check_distance("WebP", &file, pixels, W, H, 15);
    CHECK(image_encode_jpeg(pixels, W, H, 95, &file, &error) == STATUS_OK, "%s", error.text);
    check_distance("JPEG", &file, pixels, W, H, 15);
    size_t large = file.size;
    CHECK(image_encode_jpeg(pixels, W, H, 30, &file, &error) == STATUS_OK, "%s", error.text);
    CHECK(file.size < large / 2, "quality 30 takes %zu bytes, quality 95 %zu", file.size,
          large);
    CHECK(image_encode_webp(pixels, 16384, 1, 80, &file, &error) == STATUS_DATA,
          "a WebP of 16384 pixels");
    CHECK(image_encode_jpeg(pixels, 65501, 1, 80, &file, &error) != STATUS_OK,
          "a JPEG of 65501 pixels");
    buffer_free(&file);
    free(pixels);
}

/* ---- damage ---- */

/* STATUS_DATA with a message of one line. */
static void check_refused(const char *what, enum status status, const struct error *error)
{
    CHECK(status == STATUS_DATA && error->text[0] != '\0' && strchr(error->text, '\n') == NULL,
          "%s: status %d, '%s'", what, status, error->text);
}

enum { FIXTURES_MAX = JPEG_KINDS + 4, FIXTURE_WIDTH = 33, FIXTURE_HEIGHT = 25 };

/* One small file of each kind, all valid. */
static size_t make_fixtures(struct buffer files[], const char *names[])
{
    enum { W = FIXTURE_WIDTH, H = FIXTURE_HEIGHT };
    struct error error;
    size_t count = 0;
    for (size_t k = 0; k < JPEG_KINDS; k++) {
        uint8_t *pixels = draw(W, H, (size_t)jpeg_kinds[k].components);
        names[count] = jpeg_kinds[k].name;
        write_jpeg(&jpeg_kinds[k], pixels, W, H, 60, &files[count++]);
        free(pixels);
    }
    uint8_t *pixels = draw(W, H, 3);
    for (int quality = 60; quality <= 101; quality += 41) {
        names[count] = quality == 101 ? "lossless WebP" : "WebP";
        CHECK(image_encode_webp(pixels, W, H, quality, &files[count++], &error) == STATUS_OK,
              "%s", error.text);
    }
    names[count] = "PNG";
    CHECK(image_encode_png(pixels, W, H, &files[count++], &error) == STATUS_OK, "%s",
          error.text);
    names[count] = "interlaced PNG";
    write_png(&png_kinds[7], pixels, W * 3, W, H, true, false, NULL, &files[count++]);
    free(pixels);
    return count;
}

/* A file that was cut is refused at every length, whole or in a region at the top. */
static void test_truncation(const struct buffer files[], const char *const names[],
                            size_t count)
{
    for (size_t f = 0; f < count; f++)
        for (size_t size = 0; size < files[f].size; size++) {
            uint8_t *cut = malloc(size + 1); /* exact but for size 0 */
            uint8_t *start = cut + 1;
            memcpy(start, files[f].data, size);
            struct image_info info;
            struct error error = {.status = STATUS_OK};
            const uint8_t *rgb;
            enum status status =
                image_decoder_begin(decoder, start, size, IMAGE_PIXELS_MAX, &info, &error);
            const struct image_region top = {0, 0, size % 2 ? info.width : 5, 4};
            if (status == STATUS_OK)
                status = image_decoder_region(decoder, &top, &rgb, &error);
            if (status != STATUS_DATA || error.text[0] == '\0')
                CHECK(false, "%s cut to %zu of %zu bytes: status %d, '%s'", names[f], size,
                      files[f].size, status, error.text);
            free(cut);
        }
    CHECK(count > 10, "%zu fixtures", count);
}

/* Up to 1 % of the bytes changed. */
static void damage(struct rng *rng, uint8_t *bytes, size_t size)
{
    size_t changes = 1 + (size_t)rng_below(rng, size / 100);
    for (size_t i = 0; i < changes; i++)
        bytes[rng_below(rng, size)] ^= (uint8_t)(1 + rng_below(rng, 255));
}

/* The same pixels again in memory that held others: none of them is left over. `other` is a
 * file of the fixtures' size. */
static void check_again(const char *name, const uint8_t *bytes, size_t size,
                        const struct image_region *region, const uint8_t *rgb,
                        const struct buffer *other)
{
    static const struct image_region whole = {0, 0, FIXTURE_WIDTH, FIXTURE_HEIGHT};
    struct image_decoder *second;
    struct image_info info;
    struct error error;
    const uint8_t *again;
    bool same = image_decoder_open(&second, &error) == STATUS_OK &&
                image_decoder_begin(second, other->data, other->size, IMAGE_PIXELS_MAX, &info,
                                    &error) == STATUS_OK &&
                image_decoder_region(second, &whole, &again, &error) == STATUS_OK &&
                image_decoder_begin(second, bytes, size, IMAGE_PIXELS_MAX, &info, &error) ==
                    STATUS_OK &&
                image_decoder_region(second, region, &again, &error) == STATUS_OK &&
                memcmp(rgb, again, region->width * region->height * 3) == 0;
    CHECK(same, "%s: decoded twice, with different results", name);
    image_decoder_close(second);
}

/* In regions and in whole: no crash, nothing but STATUS_DATA; and what a PNG still gives is
 * what was stored. */
static void test_corruption(const struct buffer files[], const char *const names[],
                            size_t count)
{
    enum { ROUNDS = 1000 };
    uint8_t *png_pixels = draw(FIXTURE_WIDTH, FIXTURE_HEIGHT, 3);
    for (size_t f = 0; f < count; f++) {
        uint8_t *bytes = malloc(files[f].size);
        int refused = 0;
        for (uint64_t round = 0; round < ROUNDS; round++) {
            struct rng rng;
            rng_init(&rng, f, 0, round, RNG_TEST);
            memcpy(bytes, files[f].data, files[f].size);
            damage(&rng, bytes, files[f].size);
            struct image_info info;
            struct image_region r;
            struct error error = {.status = STATUS_OK};
            const uint8_t *rgb;
            enum status status =
                image_decoder_begin(decoder, bytes, files[f].size, 1 << 20, &info, &error);
            if (status == STATUS_OK) {
                r = (struct image_region){0, 0, info.width, info.height};
                if (round % 2) {
                    r.x = (size_t)rng_below(&rng, r.width);
                    r.y = (size_t)rng_below(&rng, r.height);
                    r.width -= r.x;
                    r.height = 1 + (size_t)rng_below(&rng, r.height - r.y);
                }
                status = image_decoder_region(decoder, &r, &rgb, &error);
            }
            refused += status != STATUS_OK;
            if (status == STATUS_OK)
                check_again(names[f], bytes, files[f].size, &r, rgb, &files[(f + 1) % count]);
            else
                check_refused(names[f], status, &error);
            if (status == STATUS_OK && info.format == IMAGE_PNG && round % 2 == 0)
                CHECK(memcmp(rgb, png_pixels, FIXTURE_WIDTH * FIXTURE_HEIGHT * 3) == 0,
                      "%s, round %d: pixels that were not stored", names[f], (int)round);
        }
        CHECK(refused > ROUNDS / 20, "%s: only %d of %d refused", names[f], refused, ROUNDS);
        free(bytes);
    }
    free(png_pixels);
}

/* Damage that libjpeg would only warn about. */
static void test_jpeg_warnings(void)
{
    enum { W = 64, H = 48 };
    uint8_t *pixels = draw(W, H, 3);
    struct buffer file = {0};
    struct image_info info;
    struct error error;
    const uint8_t *rgb;

    struct jpeg_kind kind = jpeg_kinds[3];
    kind.restart = 2;
    write_jpeg(&kind, pixels, W, H, 80, &file);
    size_t marker = 0;
    for (size_t i = 0; i + 1 < file.size; i++)
        if (file.data[i] == 0xff && file.data[i + 1] == 0xd1)
            marker = i;
    CHECK(marker > 0, "no restart marker was written");
    file.data[marker + 1] = 0xd5;
    check_refused("restart markers out of order",
                  decode_whole(file.data, file.size, &info, &rgb, &error), &error);

    write_jpeg(&jpeg_kinds[12], pixels, W, H, 80, &file);
    CHECK(buffer_append(&file, "12345678", 8, &error) == STATUS_OK, "%s", error.text);
    memmove(file.data + file.size - 10, "12345678\xff\xd9", 10);
    check_refused("bytes left over in a scan",
                  decode_whole(file.data, file.size, &info, &rgb, &error), &error);

    /* Bytes behind the end harm nobody. */
    write_jpeg(&jpeg_kinds[3], pixels, W, H, 80, &file);
    CHECK(buffer_append(&file, "12345678", 8, &error) == STATUS_OK, "%s", error.text);
    CHECK(decode_whole(file.data, file.size, &info, &rgb, &error) == STATUS_OK, "%s",
          error.text);
    buffer_free(&file);
    free(pixels);
}

/* A file without its quantisation tables is not decoded with those of the one before. */
static void test_jpeg_tables(void)
{
    uint8_t *pixels = draw(16, 16, 3);
    struct buffer file = {0};
    struct image_info info;
    struct error error;
    const uint8_t *rgb;
    int removed = 0;
    write_jpeg(&jpeg_kinds[0], pixels, 16, 16, 80, &file);
    CHECK(decode_whole(file.data, file.size, &info, &rgb, &error) == STATUS_OK, "%s",
          error.text);
    for (size_t at = 2; file.data[at + 1] != 0xda;) {
        size_t segment = 2 + ((size_t)file.data[at + 2] << 8 | file.data[at + 3]);
        bool tables = file.data[at + 1] == 0xdb;
        if (tables) {
            file.size -= segment;
            memmove(file.data + at, file.data + at + segment, file.size - at);
        }
        removed += tables;
        at += tables ? 0 : segment;
    }
    CHECK(removed > 0, "no table was found");
    check_refused("no tables", decode_whole(file.data, file.size, &info, &rgb, &error), &error);
    buffer_free(&file);
    free(pixels);
}

/* The end marker of an embedded preview is not the image's. */
static void test_jpeg_preview(void)
{
    uint8_t *pixels = draw(64, 48, 3);
    struct buffer inner = {0}, outer = {0}, file = {0};
    struct image_info info;
    struct error error;
    const uint8_t *rgb;
    write_jpeg(&jpeg_kinds[3], pixels, 16, 16, 50, &inner);
    write_jpeg(&jpeg_kinds[3], pixels, 64, 48, 80, &outer);
    uint8_t segment[4] = {0xff, 0xe1, (uint8_t)((inner.size + 2) >> 8),
                          (uint8_t)(inner.size + 2)};
    CHECK(buffer_append(&file, outer.data, 2, &error) == STATUS_OK &&
              buffer_append(&file, segment, 4, &error) == STATUS_OK &&
              buffer_append(&file, inner.data, inner.size, &error) == STATUS_OK &&
              buffer_append(&file, outer.data + 2, outer.size - 2, &error) == STATUS_OK,
          "%s", error.text);
    CHECK(decode_whole(file.data, file.size, &info, &rgb, &error) == STATUS_OK, "%s",
          error.text);
    CHECK(info.width == 64, "%zu pixels wide, the preview has 16", info.width);
    check_refused("cut behind a preview",
                  decode_whole(file.data, file.size - 200, &info, &rgb, &error), &error);
    buffer_free(&inner);
    buffer_free(&outer);
    buffer_free(&file);
    free(pixels);
}

/* ---- limits ---- */

/* Two scans for each of 63 coefficients: valid, and 127 scans in all. */
static void write_many_scans(struct buffer *out)
{
    enum { COEFFICIENTS = 63, SCANS = 2 * COEFFICIENTS + 1 };
    jpeg_scan_info scans[SCANS] = {{.comps_in_scan = 1}};
    for (int i = 0; i < COEFFICIENTS; i++) {
        scans[1 + 2 * i] = (jpeg_scan_info){1, {0}, i + 1, i + 1, 0, 1};
        scans[2 + 2 * i] = (jpeg_scan_info){1, {0}, i + 1, i + 1, 1, 0};
    }
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct error error;
    unsigned char *bytes = NULL;
    unsigned long size = 0;
    uint8_t row[16] = {0, 9, 4}, *line = row;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &bytes, &size);
    jpeg.image_width = jpeg.image_height = 16;
    jpeg.input_components = 1;
    jpeg.in_color_space = JCS_GRAYSCALE;
    jpeg_set_defaults(&jpeg);
    jpeg.scan_info = scans;
    jpeg.num_scans = SCANS;
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < 16; y++)
        jpeg_write_scanlines(&jpeg, &line, 1);
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    CHECK(buffer_append(out, bytes, size, &error) == STATUS_OK, "%s", error.text);
    free(bytes);
}

static void test_scan_limit(void)
{
    struct buffer file = {0};
    struct image_info info;
    struct error error = {.status = STATUS_OK};
    const uint8_t *rgb;
    write_many_scans(&file);
    check_refused("127 scans", decode_whole(file.data, file.size, &info, &rgb, &error), &error);
    CHECK(strstr(error.text, "scans") != NULL, "'%s' does not say scans", error.text);
    buffer_free(&file);
}

static void check_too_large(const char *what, const struct buffer *file, const char *expected)
{
    struct image_info info;
    struct error error = {.status = STATUS_OK};
    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    check_refused(what, begin(file, &info, &error), &error);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    double seconds = (double)(after.tv_sec - before.tv_sec) +
                     1e-9 * (double)(after.tv_nsec - before.tv_nsec);
    CHECK(strstr(error.text, expected) != NULL, "%s: '%s' does not say %s", what, error.text,
          expected);
    CHECK(seconds < 0.1, "%s: refused after %g s", what, seconds);
}

static void test_pixel_limit(void)
{
    uint8_t *pixels = draw(16, 16, 3);
    struct buffer file = {0};
    struct image_info info;
    struct error error;
    for (size_t kind = 3; kind <= 12; kind += 9) { /* baseline and progressive 4:2:0 */
        write_jpeg(&jpeg_kinds[kind], pixels, 16, 16, 80, &file);
        uint8_t frame = kind == 3 ? 0xc0 : 0xc2;
        size_t at = 0;
        while (at + 9 < file.size && (file.data[at] != 0xff || file.data[at + 1] != frame))
            at++;
        memcpy(file.data + at + 5, "\xff\xdc\xff\xdc", 4);
        check_too_large("JPEG of 65500 x 65500", &file, "65500 x 65500");
    }

    /* The first bytes of a lossless WebP: 14 bits each of width - 1 and height - 1. */
    static const uint8_t webp[] = "RIFF\x14\0\0\0WEBPVP8L\x08\0\0\0\x2f\xfe\xbf\xff\x0f\0\0\0";
    file.size = 0;
    CHECK(buffer_append(&file, webp, sizeof webp - 1, &error) == STATUS_OK, "%s", error.text);
    check_too_large("WebP of 16383 x 16383", &file, "16383 x 16383");

    /* One bit a pixel, and chunk by chunk so that libpng writes the header alone. */
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop about = png_create_info_struct(png);
    file.size = 0;
    png_set_write_fn(png, &file, append_png_bytes, flush_nothing);
    png_set_IHDR(png, about, 65535, 65535, 1, PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, about);
    png_write_chunk(png, (png_const_bytep) "IDAT", (png_const_bytep) "", 0);
    png_destroy_write_struct(&png, &about);
    check_too_large("PNG of 65535 x 65535", &file, "65535 x 65535");

    /* The limit is inclusive. */
    CHECK(image_encode_png(pixels, 16, 16, &file, &error) == STATUS_OK, "%s", error.text);
    CHECK(image_decoder_begin(decoder, file.data, file.size, 256, &info, &error) == STATUS_OK,
          "%s", error.text);
    CHECK(image_decoder_begin(decoder, file.data, file.size, 255, &info, &error) == STATUS_DATA,
          "256 pixels of 255");
    buffer_free(&file);
    free(pixels);
}

/* ---- foreign files ---- */

static void test_foreign(void)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *says;
    } files[] = {
        {"", 0, "empty"},
        {"not an image, whatever its name says", 36, "looks like text"},
        {"\n <!DOCTYPE html><html>", 23, "HTML"},
        {"<", 1, "HTML"},
        {"GIF89a\1\0\1\0", 10, "GIF"},
        {"G", 1, "text"},
        {"\0\0\0\x1c" "ftypavif", 12, "AVIF"},
        {"\x1f\x8b\x08\0", 4, "gzip"},
        {"\xff\xd8", 2, "unknown format"},
        {"\0\1\2\3\4\5\6\7", 8, "unknown format"},
        {"RIFF\0\0\0\0WEBQ", 12, "unknown format"},
        {"\x89PNG\r\n\x1a", 7, "unknown format"},
        {"\x89PNG\r\n\x1a\n", 8, "PNG ends after 8 bytes"},
        {"\xff\xd8\xff", 3, "JPEG ends early"},
        {"RIFF\4\0\0\0WEBP", 12, "WebP"},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        uint8_t *exact = malloc(files[i].size + 1);
        memcpy(exact + 1, files[i].bytes, files[i].size);
        struct image_info info;
        struct error error = {.status = STATUS_OK};
        check_refused(files[i].says,
                      image_decoder_begin(decoder, exact + 1, files[i].size, IMAGE_PIXELS_MAX,
                                          &info, &error),
                      &error);
        CHECK(strstr(error.text, files[i].says) != NULL, "'%s' does not say '%s'", error.text,
              files[i].says);
        free(exact);
    }

    /* An extended header with the animation bit, and one frame that is never looked at. */
    static const uint8_t animation[] =
        "RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\x0f\0\0\x0f\0\0"
        "ANIM\0\0\0\0";
    struct image_info info;
    struct error error = {.status = STATUS_OK};
    check_refused("animation",
                  image_decoder_begin(decoder, animation, sizeof animation - 1,
                                      IMAGE_PIXELS_MAX, &info, &error),
                  &error);
    CHECK(strstr(error.text, "animated") != NULL, "'%s' does not say animated", error.text);
}

/* A caller's mistakes, and a decoder that goes on working after errors. */
static void test_misuse(void)
{
    uint8_t *pixels = draw(20, 10, 3);
    struct buffer file = {0};
    struct image_info info;
    struct error error;
    const uint8_t *rgb;
    CHECK(image_encode_png(pixels, 20, 10, &file, &error) == STATUS_OK, "%s", error.text);
    static const struct image_region bad[] = {
        {0, 0, 21, 10}, {0, 0, 20, 11}, {20, 0, 1, 1},        {0, 10, 1, 1},
        {0, 0, 0, 5},   {0, 0, 5, 0},   {1, 0, SIZE_MAX, 10}, {0, SIZE_MAX, 1, 2},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(begin(&file, &info, &error) == STATUS_OK, "%s", error.text);
        CHECK(image_decoder_region(decoder, &bad[i], &rgb, &error) == STATUS_BUG,
              "region %zu was decoded", i);
    }
    const struct image_region one = {0, 0, 1, 1};
    CHECK(image_decoder_begin(decoder, pixels, 10, IMAGE_PIXELS_MAX, &info, &error) ==
              STATUS_DATA,
          "pixels taken for an image");
    CHECK(image_decoder_region(decoder, &one, &rgb, &error) == STATUS_BUG,
          "a region of what was refused");

    /* A JPEG that was begun and left, then others. */
    struct buffer jpeg = {0};
    CHECK(image_encode_jpeg(pixels, 20, 10, 90, &jpeg, &error) == STATUS_OK, "%s", error.text);
    for (int i = 0; i < 3; i++)
        CHECK(begin(&jpeg, &info, &error) == STATUS_OK, "%s", error.text);
    check_regions("PNG after a JPEG", &file, pixels, 20, 10, 3);
    check_distance("JPEG", &jpeg, pixels, 20, 10, 20);
    image_decoder_close(NULL);
    buffer_free(&jpeg);
    buffer_free(&file);
    free(pixels);
}

int main(void)
{
    struct error error;
    struct buffer fixtures[FIXTURES_MAX] = {{0}};
    const char *names[FIXTURES_MAX];
    if (image_decoder_open(&decoder, &error) != STATUS_OK)
        return 1;
    test_jpeg_regions();
    test_cmyk_colors();
    test_png();
    test_webp();
    test_webp_alpha();
    test_encoders();
    size_t count = make_fixtures(fixtures, names);
    test_truncation(fixtures, names, count);
    test_corruption(fixtures, names, count);
    test_jpeg_warnings();
    test_jpeg_tables();
    test_jpeg_preview();
    test_scan_limit();
    test_pixel_limit();
    test_foreign();
    test_misuse();
    for (size_t i = 0; i < count; i++)
        buffer_free(&fixtures[i]);
    image_decoder_close(decoder);
    return check_report("image");
}
