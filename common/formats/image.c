#include "formats/image.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "formats/image_codec.h"

enum { KEPT_BYTES_MAX = 64 << 20 };

struct image_decoder {
    struct jpeg_codec *jpeg;
    struct image_bytes bytes;
    struct image_info info;
    struct buffer pixels;
    struct buffer scratch;
};

enum status image_decoder_open(struct image_decoder **out, struct error *error)
{
    struct image_decoder *decoder = calloc(1, sizeof *decoder);
    if (decoder == NULL)
        return error_memory(error, sizeof *decoder, "an image decoder");
    enum status status = jpeg_codec_open(&decoder->jpeg, error);
    if (status != STATUS_OK) {
        free(decoder);
        return status;
    }
    *out = decoder;
    return STATUS_OK;
}

void image_decoder_close(struct image_decoder *decoder)
{
    if (decoder == NULL)
        return;
    jpeg_codec_close(decoder->jpeg);
    buffer_free(&decoder->pixels);
    buffer_free(&decoder->scratch);
    free(decoder);
}

const char *image_format_name(enum image_format format)
{
    static const char *const names[] = {"unknown", "JPEG", "WebP", "PNG"};
    return names[format];
}

static bool has_at(const uint8_t *bytes, size_t size, size_t at, const char *wanted)
{
    size_t length = strlen(wanted);
    return size >= at + length && memcmp(bytes + at, wanted, length) == 0;
}

static enum image_format recognise(const uint8_t *bytes, size_t size)
{
    if (has_at(bytes, size, 0, "\xff\xd8\xff"))
        return IMAGE_JPEG;
    if (has_at(bytes, size, 0, "RIFF") && has_at(bytes, size, 8, "WEBP"))
        return IMAGE_WEBP;
    if (has_at(bytes, size, 0, "\x89PNG\r\n\x1a\n"))
        return IMAGE_PNG;
    return IMAGE_UNKNOWN;
}

/* What the web serves in place of the three formats, or NULL. */
static const char *describe_other(const uint8_t *bytes, size_t size)
{
    static const struct {
        size_t at;
        const char *magic, *what;
    } others[] = {
        {0, "GIF8", "a GIF image"},        {4, "ftypavi", "an AVIF image"},
        {4, "ftyphei", "a HEIC image"},    {4, "ftypmif1", "a HEIF image"},
        {0, "BM", "a BMP image"},          {0, "II*", "a TIFF image"},
        {0, "MM", "a TIFF image"},         {0, "\xff\x0a", "a JPEG XL image"},
        {4, "JXL ", "a JPEG XL image"},    {4, "jP  ", "a JPEG 2000 image"},
        {0, "\x1f\x8b", "gzip-compressed"}, {0, "%PDF", "a PDF document"},
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (has_at(bytes, size, others[i].at, others[i].magic))
            return others[i].what;

    size_t start = size < 64 ? size : 64, blank = 0, ascii = 0;
    bool control = false;
    for (size_t i = 0; i < start; i++) {
        control |= bytes[i] < 0x09 || (bytes[i] > 0x0d && bytes[i] < 0x20) || bytes[i] == 0x7f;
        ascii += bytes[i] < 0x80;
    }
    if (control || 2 * ascii <= start)
        return NULL;
    while (blank < start && (bytes[blank] == ' ' || bytes[blank] < 0x20))
        blank++;
    return blank < start && bytes[blank] == '<' ? "HTML or XML text" : "text";
}

static enum status refuse_unknown(const uint8_t *bytes, size_t size, struct error *error)
{
    static const char expected[] = "expected JPEG, WebP or PNG";
    if (size == 0)
        return error_set(error, STATUS_DATA, "empty file, %s", expected);
    const char *what = describe_other(bytes, size);
    if (what != NULL)
        return error_set(error, STATUS_DATA, "looks like %s, %s", what, expected);
    return error_set(error, STATUS_DATA, "unknown format, first byte 0x%02x of %zu, %s",
                     bytes[0], size, expected);
}

/* One huge image must not cost its memory for the rest of the run. */
static void shrink(struct buffer *buffer)
{
    if (buffer->capacity > KEPT_BYTES_MAX)
        buffer_free(buffer);
}

enum status image_decoder_begin(struct image_decoder *decoder, const uint8_t *bytes,
                                size_t size, uint64_t pixels_max, struct image_info *info,
                                struct error *error)
{
    enum status status;
    shrink(&decoder->pixels);
    shrink(&decoder->scratch);
    decoder->info.format = IMAGE_UNKNOWN;
    decoder->bytes = (struct image_bytes){bytes, size};
    *info = (struct image_info){.format = recognise(bytes, size)};
    switch (info->format) {
    case IMAGE_JPEG:
        status = jpeg_codec_begin(decoder->jpeg, decoder->bytes, info, error);
        break;
    case IMAGE_WEBP:
        status = webp_codec_begin(decoder->bytes, info, error);
        break;
    case IMAGE_PNG:
        status = png_codec_begin(decoder->bytes, info, error);
        break;
    default:
        return refuse_unknown(bytes, size, error);
    }
    if (status != STATUS_OK)
        return status;
    if (info->width == 0 || info->height == 0)
        return error_set(error, STATUS_DATA, "%s of %zu x %zu pixels",
                         image_format_name(info->format), info->width, info->height);
    if ((uint64_t)info->width * info->height > pixels_max)
        return error_set(error, STATUS_DATA,
                         "%s of %zu x %zu pixels, at most %" PRIu64 " pixels allowed",
                         image_format_name(info->format), info->width, info->height,
                         pixels_max);
    decoder->info = *info;
    return STATUS_OK;
}

void image_copy_region(const uint8_t *pixels, size_t width, const struct image_region *region,
                       uint8_t *out)
{
    for (size_t y = 0; y < region->height; y++)
        memcpy(out + y * region->width * 3,
               pixels + ((region->y + y) * width + region->x) * 3, region->width * 3);
}

enum status image_decoder_region(struct image_decoder *decoder,
                                 const struct image_region *region, const uint8_t **rgb,
                                 struct error *error)
{
    const struct image_info *info = &decoder->info;
    if (region->width == 0 || region->height == 0 || region->x >= info->width ||
        region->y >= info->height || region->width > info->width - region->x ||
        region->height > info->height - region->y)
        return error_set(error, STATUS_BUG,
                         "region %zu x %zu at %zu, %zu of an image of %zu x %zu pixels",
                         region->width, region->height, region->x, region->y, info->width,
                         info->height);
    decoder->pixels.size = 0;
    enum status status =
        buffer_reserve(&decoder->pixels, region->width * region->height * 3, error);
    if (status != STATUS_OK)
        return status;
    *rgb = decoder->pixels.data;
    switch (info->format) {
    case IMAGE_JPEG:
        return jpeg_codec_region(decoder->jpeg, decoder->bytes, region, decoder->pixels.data,
                                 &decoder->scratch, error);
    case IMAGE_WEBP:
        return webp_codec_region(decoder->bytes, info, region, decoder->pixels.data,
                                 &decoder->scratch, error);
    case IMAGE_PNG:
        return png_codec_region(decoder->bytes, info, region, decoder->pixels.data,
                                &decoder->scratch, error);
    case IMAGE_UNKNOWN:
        break;
    }
    return error_set(error, STATUS_BUG, "no image was begun");
}
