/* image.h - encoded images to pixels, and back.
 *
 * Formats are recognised by their first bytes, not by a name. Pixels are RGB u8, rows from the
 * top, tight. The conversions are those of Pillow's convert("RGB"): gray is repeated, CMYK is
 * taken as Adobe's (inverted), alpha is dropped; colour profiles and EXIF rotation are ignored.
 * One kind differs on purpose: of 16-bit gray the high byte counts; Pillow clips to white.
 *
 * A file that ends early or is damaged is STATUS_DATA, never pixels that nobody stored. Damage
 * in rows below a region goes unseen in JPEG and WebP, which do not decode them. */
#ifndef FORMATS_IMAGE_H
#define FORMATS_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum image_format { IMAGE_UNKNOWN, IMAGE_JPEG, IMAGE_WEBP, IMAGE_PNG };

struct image_info {
    enum image_format format;
    size_t width, height; /* in pixels */
};

struct image_region {
    size_t x, y, width, height; /* in pixels, inside the image, not empty */
};

/* More pixels are refused unless a caller says otherwise: Pillow's own limit. */
#define IMAGE_PIXELS_MAX 178956970

/* Working memory of one thread, used again for every image: nothing of ours is allocated for an
 * image that is no larger than those before, up to 64 MiB, which are not kept. */
struct image_decoder;

enum status image_decoder_open(struct image_decoder **decoder, struct error *error);
void image_decoder_close(struct image_decoder *decoder); /* accepts NULL */

const char *image_format_name(enum image_format format);

/* Reads the header of bytes[0..size), which must live until the decode. STATUS_DATA where it is
 * no image or has more than `pixels_max` pixels; no pixels are allocated before that is known.
 * An image that was begun need not be decoded. */
enum status image_decoder_begin(struct image_decoder *decoder, const uint8_t *bytes,
                                size_t size, uint64_t pixels_max, struct image_info *info,
                                struct error *error);

/* Decodes a region of the image that was begun, bit for bit as in the whole image. *rgb points
 * to [height,width,3] in the decoder's memory, valid until its next call. Ends the image:
 * another region needs another begin. STATUS_BUG where the region leaves the image. */
enum status image_decoder_region(struct image_decoder *decoder,
                                 const struct image_region *region, const uint8_t **rgb,
                                 struct error *error);

/* Replace the contents of *out by the encoded image. `quality` is 1 to 100; a WebP of quality
 * 101 is lossless. JPEGs are 4:2:0. STATUS_DATA or STATUS_SYSTEM where the format has no such
 * size. From any thread. */
enum status image_encode_jpeg(const uint8_t *rgb, size_t width, size_t height, int quality,
                              struct buffer *out, struct error *error);
enum status image_encode_webp(const uint8_t *rgb, size_t width, size_t height, int quality,
                              struct buffer *out, struct error *error);
enum status image_encode_png(const uint8_t *rgb, size_t width, size_t height,
                             struct buffer *out, struct error *error);

#endif
