/* image_codec.h - what image.c asks of each format; private to it. */
#ifndef FORMATS_IMAGE_CODEC_H
#define FORMATS_IMAGE_CODEC_H

#include "formats/image.h"

/* An encoded image. */
struct image_bytes {
    const uint8_t *data;
    size_t size;
};

/* x_begin reads the header; x_region decodes a region of that image into out, which has room
 * for region->height * region->width * 3 bytes. `scratch` is for what a format decodes beside
 * the region. JPEG alone keeps state between the two. */
struct jpeg_codec;
enum status jpeg_codec_open(struct jpeg_codec **codec, struct error *error);
void jpeg_codec_close(struct jpeg_codec *codec);
enum status jpeg_codec_begin(struct jpeg_codec *codec, struct image_bytes in,
                             struct image_info *info, struct error *error);
enum status jpeg_codec_region(struct jpeg_codec *codec, struct image_bytes in,
                              const struct image_region *region, uint8_t *out,
                              struct buffer *scratch, struct error *error);

enum status webp_codec_begin(struct image_bytes in, struct image_info *info,
                             struct error *error);
enum status webp_codec_region(struct image_bytes in, const struct image_info *info,
                              const struct image_region *region, uint8_t *out,
                              struct buffer *scratch, struct error *error);

enum status png_codec_begin(struct image_bytes in, struct image_info *info,
                            struct error *error);
enum status png_codec_region(struct image_bytes in, const struct image_info *info,
                             const struct image_region *region, uint8_t *out,
                             struct buffer *scratch, struct error *error);

/* Copies a region out of pixels with `width` to a row. */
void image_copy_region(const uint8_t *pixels, size_t width, const struct image_region *region,
                       uint8_t *out);

#endif
