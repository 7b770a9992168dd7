#include "formats/image.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "formats/image_codec.h"

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

static enum image_format recognise(const uint8_t *bytes, size_t size)
{
    if (size >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0)
        return IMAGE_JPEG;
    if (size >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0)
        return IMAGE_WEBP;
    if (size >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0)
        return IMAGE_PNG;
    return IMAGE_UNKNOWN;
}

/* Says what a file that is no image looks like: the usual cases of broken downloads. */
static enum status refuse_unknown(const uint8_t *bytes, size_t size, struct error *error)
{
    if (size == 0)
        return error_set(error, STATUS_DATA, "empty file, expected JPEG, WebP or PNG");
    if (memcmp(bytes, "GIF8", size < 4 ? size : 4) == 0)
        return error_set(error, STATUS_DATA, "GIF image, expected JPEG, WebP or PNG");
    size_t start = size < 64 ? size : 64;
    bool text = true;
    for (size_t i = 0; i < start; i++)
        text &= (bytes[i] >= 0x20 && bytes[i] < 0x7f) || bytes[i] >= 0x80 ||
                (bytes[i] >= 0x09 && bytes[i] <= 0x0d);
    if (text && bytes[0] == '<')
        return error_set(error, STATUS_DATA, "HTML or XML text, expected JPEG, WebP or PNG");
    if (text)
        return error_set(error, STATUS_DATA, "text, expected JPEG, WebP or PNG");
    return error_set(error, STATUS_DATA,
                     "unknown format (first bytes %02x %02x %02x %02x), expected JPEG, WebP or "
                     "PNG",
                     bytes[0], size > 1 ? bytes[1] : 0, size > 2 ? bytes[2] : 0,
                     size > 3 ? bytes[3] : 0);
}

enum status image_decoder_begin(struct image_decoder *decoder, const uint8_t *bytes,
                                size_t size, uint64_t pixels_max, struct image_info *info,
                                struct error *error)
{
    enum status status;
    decoder->bytes = (struct image_bytes){bytes, size};
    *info = (struct image_info){.format = recognise(bytes, size)};
    switch (info->format) {
    case IMAGE_JPEG:
        status = jpeg_codec_info(decoder->jpeg, decoder->bytes, info, error);
        break;
    case IMAGE_WEBP:
        status = webp_codec_info(decoder->bytes, info, error);
        break;
    case IMAGE_PNG:
        status = png_codec_info(decoder->bytes, info, error);
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
                         image_format_name(info->format), info->width, info->height, pixels_max);
    decoder->info = *info;
    return STATUS_OK;
}

enum status image_reserve_whole(const struct image_info *info, struct buffer *scratch,
                                struct error *error)
{
    scratch->size = 0;
    return buffer_reserve(scratch, info->width * info->height * 3, error);
}

void image_copy_region(const uint8_t *whole, size_t width, const struct image_region *region,
                       uint8_t *out)
{
    for (size_t y = 0; y < region->height; y++)
        memcpy(out + y * region->width * 3,
               whole + ((region->y + y) * width + region->x) * 3, region->width * 3);
}

enum status image_decoder_region(struct image_decoder *decoder,
                                 const struct image_region *region, const uint8_t **rgb,
                                 struct error *error)
{
    const struct image_info *info = &decoder->info;
    if (region->width == 0 || region->height == 0 || region->x >= info->width ||
        region->y >= info->height || region->width > info->width - region->x ||
        region->height > info->height - region->y)
        return error_set(error, STATUS_BUG, "region %zu x %zu at %zu, %zu of an image %zu x %zu",
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
        return jpeg_codec_decode(decoder->jpeg, decoder->bytes, region, decoder->pixels.data,
                                 &decoder->scratch, error);
    case IMAGE_WEBP:
        return webp_codec_decode(decoder->bytes, info, region, decoder->pixels.data,
                                 &decoder->scratch, error);
    case IMAGE_PNG:
        return png_codec_decode(decoder->bytes, info, region, decoder->pixels.data,
                                &decoder->scratch, error);
    case IMAGE_UNKNOWN:
        break;
    }
    return error_set(error, STATUS_BUG, "no image was begun");
}
