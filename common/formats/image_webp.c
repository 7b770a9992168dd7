/* WebP by libwebp, lossy and lossless. Whole images are decoded and cut: intra prediction needs
 * every row above a region anyway, and libwebp's own cropping upsamples chroma differently at
 * the borders. */
#include <webp/decode.h>
#include <webp/encode.h>

#include "base/number.h"
#include "formats/image_codec.h"

enum { QUALITY_LOSSLESS = 101 };

enum status webp_codec_info(struct image_bytes in, struct image_info *info, struct error *error)
{
    WebPBitstreamFeatures features;
    if (WebPGetFeatures(in.data, in.size, &features) != VP8_STATUS_OK)
        return error_set(error, STATUS_DATA, "damaged WebP header (%zu bytes)", in.size);
    if (features.has_animation)
        return error_set(error, STATUS_DATA, "animated WebP");
    info->width = (size_t)features.width;
    info->height = (size_t)features.height;
    return STATUS_OK;
}

/* What the file says about its own size; a shorter one was cut. */
static size_t declared_size(struct image_bytes in)
{
    const uint8_t *size = in.data + 4;
    return 8 + ((size_t)size[0] | (size_t)size[1] << 8 | (size_t)size[2] << 16 |
                (size_t)size[3] << 24);
}

enum status webp_codec_decode(struct image_bytes in, const struct image_info *info,
                              const struct image_region *region, uint8_t *out,
                              struct buffer *scratch, struct error *error)
{
    if (declared_size(in) > in.size)
        return error_set(error, STATUS_DATA, "WebP ends after %zu of %zu bytes", in.size,
                         declared_size(in));
    enum status status = image_reserve_whole(info, scratch, error);
    if (status != STATUS_OK)
        return status;
    size_t row = info->width * 3;
    if (WebPDecodeRGBInto(in.data, in.size, scratch->data, row * info->height, (int)row) == NULL)
        return error_set(error, STATUS_DATA, "damaged WebP (%zu bytes)", in.size);
    image_copy_region(scratch->data, info->width, region, out);
    return STATUS_OK;
}

enum status image_encode_webp(const uint8_t *rgb, size_t width, size_t height, int quality,
                              struct buffer *out, struct error *error)
{
    uint8_t *bytes = NULL;
    int pitch = (int)(width * 3);
    size_t size = quality == QUALITY_LOSSLESS
                      ? WebPEncodeLosslessRGB(rgb, (int)width, (int)height, pitch, &bytes)
                      : WebPEncodeRGB(rgb, (int)width, (int)height, pitch, (float)quality,
                                      &bytes);
    if (size == 0)
        return error_set(error, STATUS_SYSTEM, "cannot encode a WebP of %zu x %zu pixels", width,
                         height);
    out->size = 0;
    enum status status = buffer_append(out, bytes, size, error);
    WebPFree(bytes);
    return status;
}
