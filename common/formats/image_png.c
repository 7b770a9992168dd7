/* PNG by libpng: all colour types and depths to RGB u8, by the high byte where there are 16
 * bits; alpha dropped; gamma, profiles and texts ignored. */
#include <png.h>
#include <setjmp.h>
#include <stdbool.h>
#include <string.h>

#include "formats/image_codec.h"

enum { CHUNK_BYTES_MAX = 8 << 20, SIDE_MAX = 1 << 20 };

struct png_input {
    struct image_bytes bytes;
    size_t at;
    struct error *error;
    jmp_buf escape;
};

static _Noreturn void on_error(png_structp png, png_const_charp message)
{
    struct png_input *input = png_get_error_ptr(png);
    if (input->at > input->bytes.size)
        error_set(input->error, STATUS_DATA, "PNG ends after %zu bytes", input->bytes.size);
    else
        error_set(input->error, STATUS_DATA, "damaged PNG: %.100s", message);
    longjmp(input->escape, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void read_bytes(png_structp png, png_bytep out, size_t size)
{
    struct png_input *input = png_get_io_ptr(png);
    if (size > input->bytes.size - input->at) {
        input->at = input->bytes.size + 1;
        png_error(png, "end of file");
    }
    memcpy(out, input->bytes.data + input->at, size);
    input->at += size;
}

static png_structp open_reader(struct png_input *input, png_infop *info)
{
    png_structp png =
        png_create_read_struct(PNG_LIBPNG_VER_STRING, input, on_error, on_warning);
    *info = png == NULL ? NULL : png_create_info_struct(png);
    if (*info == NULL) {
        png_destroy_read_struct(&png, NULL, NULL);
        error_memory(input->error, 1 << 12, "libpng");
        return NULL;
    }
    png_set_read_fn(png, input, read_bytes);
    png_set_user_limits(png, SIDE_MAX, SIDE_MAX);
    png_set_chunk_malloc_max(png, CHUNK_BYTES_MAX);
    /* A count of -1 means every chunk that changes no pixel: those are not even unpacked. */
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    return png;
}

enum status png_codec_begin(struct image_bytes in, struct image_info *info, struct error *error)
{
    struct png_input input = {.bytes = in, .error = error};
    png_infop about;
    png_structp png = open_reader(&input, &about);
    if (png == NULL)
        return error->status;
    if (setjmp(input.escape) != 0) {
        png_destroy_read_struct(&png, &about, NULL);
        return error->status;
    }
    png_read_info(png, about);
    info->width = png_get_image_width(png, about);
    info->height = png_get_image_height(png, about);
    png_destroy_read_struct(&png, &about, NULL);
    return STATUS_OK;
}

static void ask_for_rgb(png_structp png, png_infop about, size_t width)
{
    int type = png_get_color_type(png, about);
    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(png);
    if (type == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(png, about) < 8)
        png_set_expand_gray_1_2_4_to_8(png);
    if (type == PNG_COLOR_TYPE_GRAY || type == PNG_COLOR_TYPE_GRAY_ALPHA)
        png_set_gray_to_rgb(png);
    png_set_strip_16(png);
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, about);
    if (png_get_rowbytes(png, about) != width * 3)
        png_error(png, "rows of an unexpected size");
}

/* Row by row, keeping what lies in the region. The rows below it are read, too: their checksum
 * is the only sign of damage. `scratch` holds one row. */
static void read_rows(png_structp png, const struct image_info *info,
                      const struct image_region *region, uint8_t *out, uint8_t *scratch)
{
    size_t kept = region->width * 3;
    for (size_t y = 0; y < info->height; y++) {
        bool inside = y >= region->y && y - region->y < region->height;
        bool direct = inside && region->width == info->width;
        png_read_row(png, direct ? out : scratch, NULL);
        if (inside && !direct)
            memcpy(out, scratch + region->x * 3, kept);
        if (inside)
            out += kept;
    }
}

/* Seven passes over the whole image, which is in `scratch`. */
static void read_interlaced(png_structp png, const struct image_info *info,
                            const struct image_region *region, uint8_t *out, uint8_t *scratch)
{
    for (int pass = 0; pass < PNG_INTERLACE_ADAM7_PASSES; pass++)
        for (size_t y = 0; y < info->height; y++)
            png_read_row(png, scratch + y * info->width * 3, NULL);
    image_copy_region(scratch, info->width, region, out);
}

enum status png_codec_region(struct image_bytes in, const struct image_info *info,
                             const struct image_region *region, uint8_t *out,
                             struct buffer *scratch, struct error *error)
{
    struct png_input input = {.bytes = in, .error = error};
    png_infop about;
    png_structp png = open_reader(&input, &about);
    if (png == NULL)
        return error->status;
    if (setjmp(input.escape) != 0) {
        png_destroy_read_struct(&png, &about, NULL);
        return error->status;
    }
    png_read_info(png, about);
    bool interlaced = png_get_interlace_type(png, about) != PNG_INTERLACE_NONE;
    ask_for_rgb(png, about, info->width);

    size_t rows = interlaced ? info->height : 1;
    scratch->size = 0;
    if (buffer_reserve(scratch, rows * info->width * 3, error) != STATUS_OK)
        longjmp(input.escape, 1);
    (interlaced ? read_interlaced : read_rows)(png, info, region, out, scratch->data);
    png_read_end(png, NULL);
    png_destroy_read_struct(&png, &about, NULL);
    return STATUS_OK;
}

enum status image_encode_png(const uint8_t *rgb, size_t width, size_t height,
                             struct buffer *out, struct error *error)
{
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)width,
                       .height = (png_uint_32)height,
                       .format = PNG_FORMAT_RGB};
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
    out->size = 0;
    enum status status = buffer_reserve(out, size, error);
    if (status != STATUS_OK)
        return status;
    if (!png_image_write_to_memory(&image, out->data, &size, 0, rgb, (png_int_32)(width * 3),
                                   NULL))
        return error_set(error, STATUS_SYSTEM, "cannot encode a PNG: %s", image.message);
    out->size = size;
    return STATUS_OK;
}
