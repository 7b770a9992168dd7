/* WebP by libwebp, lossy and lossless.
 *
 * Intra prediction needs every row above a region, but rows below it are not decoded. libwebp
 * cuts before it upsamples chroma, so that the border of a cut differs from the whole image's;
 * a region is therefore decoded a little wider and higher than asked. */
#include <webp/decode.h>
#include <webp/encode.h>

#include "formats/image_codec.h"

enum { QUALITY_LOSSLESS = 101, MARGIN = 2, SIDE_MAX = 16383 };

/* What the file says about its own size; a shorter one was cut. */
static size_t declared_size(struct image_bytes in)
{
    const uint8_t *size = in.data + 4;
    return 8 + ((size_t)size[0] | (size_t)size[1] << 8 | (size_t)size[2] << 16 |
                (size_t)size[3] << 24);
}

enum status webp_codec_begin(struct image_bytes in, struct image_info *info,
                             struct error *error)
{
    WebPBitstreamFeatures features;
    if (declared_size(in) > in.size)
        return error_set(error, STATUS_DATA, "WebP ends after %zu of %zu bytes", in.size,
                         declared_size(in));
    if (WebPGetFeatures(in.data, in.size, &features) != VP8_STATUS_OK)
        return error_set(error, STATUS_DATA, "damaged WebP header (%zu bytes)", in.size);
    if (features.has_animation)
        return error_set(error, STATUS_DATA, "animated WebP, expected a still image");
    info->width = (size_t)features.width;
    info->height = (size_t)features.height;
    return STATUS_OK;
}

/* A region and its margin, from even coordinates: libwebp would move it there. */
static struct image_region widen(const struct image_region *region,
                                 const struct image_info *info)
{
    size_t left = region->x < MARGIN ? 0 : (region->x - MARGIN) & ~(size_t)1;
    size_t top = region->y < MARGIN ? 0 : (region->y - MARGIN) & ~(size_t)1;
    size_t right = region->x + region->width + MARGIN;
    size_t bottom = region->y + region->height + MARGIN;
    right = right < info->width ? right : info->width;
    bottom = bottom < info->height ? bottom : info->height;
    return (struct image_region){left, top, right - left, bottom - top};
}

static enum status decode(struct image_bytes in, const struct image_region *region,
                          uint8_t *out, struct error *error)
{
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return error_set(error, STATUS_UNAVAILABLE, "libwebp is of another version");
    size_t row = region->width * 3;
    config.options.use_cropping = 1;
    config.options.crop_left = (int)region->x;
    config.options.crop_top = (int)region->y;
    config.options.crop_width = (int)region->width;
    config.options.crop_height = (int)region->height;
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA =
        (WebPRGBABuffer){.rgba = out, .stride = (int)row, .size = row * region->height};
    VP8StatusCode code = WebPDecode(in.data, in.size, &config);
    WebPFreeDecBuffer(&config.output);
    if (code == VP8_STATUS_OUT_OF_MEMORY)
        return error_memory(error, row * region->height, "a WebP");
    if (code == VP8_STATUS_NOT_ENOUGH_DATA || code == VP8_STATUS_SUSPENDED)
        return error_set(error, STATUS_DATA, "damaged WebP: data ends early (%zu bytes)",
                         in.size);
    return code == VP8_STATUS_OK
               ? STATUS_OK
               : error_set(error, STATUS_DATA, "damaged WebP (%zu bytes)", in.size);
}

enum status webp_codec_region(struct image_bytes in, const struct image_info *info,
                              const struct image_region *region, uint8_t *out,
                              struct buffer *scratch, struct error *error)
{
    struct image_region outer = widen(region, info);
    if (outer.width == region->width && outer.height == region->height)
        return decode(in, region, out, error);
    scratch->size = 0;
    enum status status = buffer_reserve(scratch, outer.width * outer.height * 3, error);
    if (status == STATUS_OK)
        status = decode(in, &outer, scratch->data, error);
    if (status != STATUS_OK)
        return status;
    const struct image_region inner = {region->x - outer.x, region->y - outer.y, region->width,
                                       region->height};
    image_copy_region(scratch->data, outer.width, &inner, out);
    return STATUS_OK;
}

enum status image_encode_webp(const uint8_t *rgb, size_t width, size_t height, int quality,
                              struct buffer *out, struct error *error)
{
    if (width > SIDE_MAX || height > SIDE_MAX)
        return error_set(error, STATUS_DATA, "cannot encode a WebP of %zu x %zu pixels", width,
                         height);
    uint8_t *bytes = NULL;
    int pitch = (int)(width * 3);
    size_t size = quality == QUALITY_LOSSLESS
                      ? WebPEncodeLosslessRGB(rgb, (int)width, (int)height, pitch, &bytes)
                      : WebPEncodeRGB(rgb, (int)width, (int)height, pitch, (float)quality,
                                      &bytes);
    if (size == 0)
        return error_set(error, STATUS_SYSTEM, "cannot encode a WebP of %zu x %zu pixels",
                         width, height);
    out->size = 0;
    enum status status = buffer_append(out, bytes, size, error);
    WebPFree(bytes);
    return status;
}
