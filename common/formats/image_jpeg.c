/* JPEG by libjpeg-turbo's libjpeg API, which can skip what a region does not need.
 *
 * Rows above a region are entropy-decoded only, columns beside it are neither transformed nor
 * upsampled, rows below it are not read at all: a third off a random crop. With chroma
 * upsampling the two outermost columns of a region differ from the whole image's, so the region
 * is decoded wider than asked. Unusual sampling factors and CMYK are decoded whole. */
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#include "formats/image_codec.h"

enum { SCANS_MAX = 100, MARGIN = 4, LINES_AT_ONCE = 16 };

struct jpeg_codec {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    struct error *error;
    size_t size; /* of the file, for messages */
    jmp_buf escape;
};

static void set_message(j_common_ptr jpeg, struct error *error, size_t size)
{
    char text[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, text);
    if (jpeg->err->msg_code == JWRN_JPEG_EOF || jpeg->err->msg_code == JERR_INPUT_EOF)
        error_set(error, STATUS_DATA, "JPEG ends early, after %zu bytes", size);
    else
        error_set(error, STATUS_DATA, "damaged JPEG: %.150s", text);
}

static _Noreturn void on_error(j_common_ptr jpeg)
{
    struct jpeg_codec *codec = jpeg->client_data;
    set_message(jpeg, codec->error, codec->size);
    longjmp(codec->escape, 1);
}

/* libjpeg warns of damage and goes on with pixels it makes up. Warnings of oddities that change
 * no pixel are let pass, because cameras write such files: an unknown JFIF version or Adobe
 * transform, and bytes between the segments of the header. Once a scan has begun, bytes left
 * over before a marker are data that was decoded wrongly. */
static void on_message(j_common_ptr jpeg, int level)
{
    const struct jpeg_codec *codec = jpeg->client_data;
    int code = jpeg->err->msg_code;
    bool harmless = code == JWRN_JFIF_MAJOR || code == JWRN_ADOBE_XFORM ||
                    (code == JWRN_EXTRANEOUS_DATA && codec->jpeg.input_scan_number == 0);
    if (level < 0 && !harmless)
        on_error(jpeg);
}

/* A progressive file may hold any number of scans, and each costs a pass over the image. */
static void on_progress(j_common_ptr jpeg)
{
    struct jpeg_codec *codec = jpeg->client_data;
    if (codec->jpeg.input_scan_number <= SCANS_MAX)
        return;
    error_set(codec->error, STATUS_DATA, "JPEG with more than %d scans", SCANS_MAX);
    longjmp(codec->escape, 1);
}

enum status jpeg_codec_open(struct jpeg_codec **out, struct error *error)
{
    struct jpeg_codec *codec = calloc(1, sizeof *codec);
    if (codec == NULL)
        return error_memory(error, sizeof *codec, "a JPEG decoder");
    codec->jpeg.err = jpeg_std_error(&codec->errors);
    codec->jpeg.client_data = codec;
    codec->errors.error_exit = on_error;
    codec->errors.emit_message = on_message;
    codec->progress.progress_monitor = on_progress;
    *out = codec;
    return STATUS_OK;
}

void jpeg_codec_close(struct jpeg_codec *codec)
{
    jpeg_destroy_decompress(&codec->jpeg);
    free(codec);
}

enum status jpeg_codec_begin(struct jpeg_codec *codec, struct image_bytes in,
                             struct image_info *info, struct error *error)
{
    /* A decoder used again would keep the tables of the images before, and give them to one
     * that lacks its own: pixels would depend on what this thread happened to decode. */
    jpeg_destroy_decompress(&codec->jpeg);
    codec->error = error;
    codec->size = in.size;
    if (setjmp(codec->escape) != 0) {
        jpeg_abort_decompress(&codec->jpeg);
        return error->status;
    }
    jpeg_create_decompress(&codec->jpeg);
    codec->jpeg.progress = &codec->progress;
    jpeg_mem_src(&codec->jpeg, in.data, in.size);
    jpeg_read_header(&codec->jpeg, TRUE);
    info->width = codec->jpeg.image_width;
    info->height = codec->jpeg.image_height;
    return STATUS_OK;
}

/* Whether the end marker follows the first scan. Entropy-coded data cannot hold its two bytes,
 * and a thumbnail's own lies before the scan; so a cut is seen without decoding the rows below
 * a region. */
static bool has_end(struct image_bytes in)
{
    size_t at = 2;
    while (at + 4 <= in.size && in.data[at] == 0xff && in.data[at + 1] != 0xda) {
        bool alone = in.data[at + 1] == 0xff || in.data[at + 1] == 0x01;
        at += alone ? 1 : 2 + ((size_t)in.data[at + 2] << 8 | in.data[at + 3]);
    }
    for (size_t end = in.size; end >= at + 2; end--)
        if (in.data[end - 2] == 0xff && in.data[end - 1] == 0xd9)
            return true;
    return false;
}

static bool can_crop(const struct jpeg_decompress_struct *jpeg)
{
    if (jpeg->arith_code)
        return false;
    if (jpeg->num_components == 1)
        return true;
    const jpeg_component_info *c = jpeg->comp_info;
    return jpeg->num_components == 3 && c[0].h_samp_factor <= 2 && c[0].v_samp_factor <= 2 &&
           c[1].h_samp_factor == 1 && c[1].v_samp_factor == 1 && c[2].h_samp_factor == 1 &&
           c[2].v_samp_factor == 1;
}

/* Reads lines 0..count of what the decoder produces into out, `row` bytes apart. */
static void read_lines(struct jpeg_decompress_struct *jpeg, uint8_t *out, size_t row,
                       size_t count)
{
    for (size_t y = 0; y < count;) {
        JSAMPROW lines[LINES_AT_ONCE];
        size_t most = count - y < LINES_AT_ONCE ? count - y : LINES_AT_ONCE;
        for (size_t i = 0; i < most; i++)
            lines[i] = out + (y + i) * row;
        y += jpeg_read_scanlines(jpeg, lines, (JDIMENSION)most);
    }
}

static enum status decode_cropped(struct jpeg_codec *codec, const struct image_region *region,
                                  uint8_t *out, struct buffer *scratch, struct error *error)
{
    struct jpeg_decompress_struct *jpeg = &codec->jpeg;
    size_t left = region->x > MARGIN ? region->x - MARGIN : 0;
    size_t right = region->x + region->width + MARGIN;
    if (right > jpeg->output_width)
        right = jpeg->output_width;
    JDIMENSION x = (JDIMENSION)left, width = (JDIMENSION)(right - left);
    if (width < jpeg->output_width)
        jpeg_crop_scanline(jpeg, &x, &width);
    if (region->y > 0)
        jpeg_skip_scanlines(jpeg, (JDIMENSION)region->y);

    size_t row = (size_t)jpeg->output_width * 3;
    if (jpeg->output_width == region->width) {
        read_lines(jpeg, out, row, region->height);
        return STATUS_OK;
    }
    scratch->size = 0;
    enum status status = buffer_reserve(scratch, row * LINES_AT_ONCE, error);
    if (status != STATUS_OK)
        return status;
    struct image_region inner = {region->x - x, 0, region->width, LINES_AT_ONCE};
    for (size_t y = 0; y < region->height; y += inner.height) {
        if (inner.height > region->height - y)
            inner.height = region->height - y;
        read_lines(jpeg, scratch->data, row, inner.height);
        image_copy_region(scratch->data, jpeg->output_width, &inner,
                          out + y * region->width * 3);
    }
    return STATUS_OK;
}

/* a * b / 255, rounded, for bytes. */
static uint8_t multiply_255(unsigned a, unsigned b)
{
    unsigned product = a * b + 128;
    return (uint8_t)((product + (product >> 8)) >> 8);
}

/* Adobe stores 255 - ink. With c = 255 - stored, R = (255 - K) - c (255 - K) / 255. */
static void cmyk_to_rgb(const uint8_t *cmyk, uint8_t *rgb, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++, cmyk += 4, rgb += 3) {
        unsigned light = cmyk[3];
        for (int c = 0; c < 3; c++)
            rgb[c] = (uint8_t)(light - multiply_255(255u - cmyk[c], light));
    }
}

static enum status decode_whole(struct jpeg_codec *codec, const struct image_region *region,
                                uint8_t *out, struct buffer *scratch, struct error *error)
{
    struct jpeg_decompress_struct *jpeg = &codec->jpeg;
    size_t channels = (size_t)jpeg->output_components, width = jpeg->output_width;
    size_t row = width * channels;
    scratch->size = 0;
    enum status status = buffer_reserve(scratch, row * jpeg->output_height, error);
    if (status != STATUS_OK)
        return status;
    read_lines(jpeg, scratch->data, row, jpeg->output_height);
    if (channels == 4)
        cmyk_to_rgb(scratch->data, scratch->data, width * jpeg->output_height);
    image_copy_region(scratch->data, width, region, out);
    return STATUS_OK;
}

enum status jpeg_codec_region(struct jpeg_codec *codec, struct image_bytes in,
                              const struct image_region *region, uint8_t *out,
                              struct buffer *scratch, struct error *error)
{
    struct jpeg_decompress_struct *jpeg = &codec->jpeg;
    codec->error = error;
    if (!has_end(in))
        return error_set(error, STATUS_DATA, "JPEG ends early, after %zu bytes", in.size);
    if (setjmp(codec->escape) != 0) {
        jpeg_abort_decompress(jpeg);
        return error->status;
    }
    bool cmyk = jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK;
    jpeg->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg_start_decompress(jpeg);
    enum status status = !cmyk && can_crop(jpeg)
                             ? decode_cropped(codec, region, out, scratch, error)
                             : decode_whole(codec, region, out, scratch, error);
    jpeg_abort_decompress(jpeg);
    return status;
}

/* ---- writing ---- */

struct jpeg_output {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct error *error;
    jmp_buf escape;
    unsigned char *bytes; /* grown by libjpeg */
    unsigned long size;
};

static _Noreturn void on_write_error(j_common_ptr jpeg)
{
    struct jpeg_output *output = jpeg->client_data;
    char text[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, text);
    error_set(output->error, STATUS_SYSTEM, "cannot encode a JPEG: %.150s", text);
    longjmp(output->escape, 1);
}

enum status image_encode_jpeg(const uint8_t *rgb, size_t width, size_t height, int quality,
                              struct buffer *out, struct error *error)
{
    struct jpeg_output output = {.error = error};
    struct jpeg_compress_struct *jpeg = &output.jpeg;
    jpeg->err = jpeg_std_error(&output.errors);
    jpeg->client_data = &output;
    output.errors.error_exit = on_write_error;
    if (setjmp(output.escape) != 0) {
        jpeg_destroy_compress(jpeg);
        free(output.bytes);
        return error->status;
    }
    jpeg_create_compress(jpeg);
    jpeg_mem_dest(jpeg, &output.bytes, &output.size);
    jpeg->image_width = (JDIMENSION)width;
    jpeg->image_height = (JDIMENSION)height;
    jpeg->input_components = 3;
    jpeg->in_color_space = JCS_RGB;
    jpeg_set_defaults(jpeg);
    jpeg_set_quality(jpeg, quality, TRUE);
    jpeg_start_compress(jpeg, TRUE);
    while (jpeg->next_scanline < height) {
        JSAMPROW line = (JSAMPROW)(rgb + jpeg->next_scanline * width * 3);
        jpeg_write_scanlines(jpeg, &line, 1);
    }
    jpeg_finish_compress(jpeg);
    jpeg_destroy_compress(jpeg);
    out->size = 0;
    enum status status = buffer_append(out, output.bytes, output.size, error);
    free(output.bytes);
    return status;
}
