/* resample.h - antialiased resizing, equal bit for bit to Pillow's Image.resize.
 *
 * Separable; the filter is stretched by the scale where the image shrinks, cut at the border
 * and its weights made to sum to one again. Weights are fixed-point with 22 fractional bits;
 * rows are resized first, rounded and clipped to 8 bits, then columns. Pixels are RGB u8,
 * tight. Pillow does it in this order up to version 12; from 13 on it takes the columns first
 * where the height loses more than twice as many pixels as the width, which moves a seventh of
 * such an image's values by 1 and three in ten thousand by more.
 * Source: Pillow's documentation of resampling filters; Keys, "Cubic convolution
 * interpolation", 1981, with a = -1/2. */
#ifndef FORMATS_RESAMPLE_H
#define FORMATS_RESAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum resample_filter { RESAMPLE_BICUBIC, RESAMPLE_BILINEAR };

/* Working memory of one thread: tables and rows, used again for every image. */
struct resampler;

enum status resampler_open(struct resampler **resampler, enum resample_filter filter,
                           struct error *error);
void resampler_close(struct resampler *resampler); /* accepts NULL */

/* Resizes source [height,width,3] to out_height x out_width and writes the window of the
 * result that begins at (x, y): out[window_height,window_width,3], with `out_pitch` bytes from
 * row to row where they are not tight (0). Only what the window needs is computed, so that the
 * whole result may be far larger than memory. */
struct resample_job {
    const uint8_t *source;
    size_t width, height;
    size_t out_width, out_height;
    size_t x, y, window_width, window_height;
    uint8_t *out;
    size_t out_pitch;
};

/* STATUS_DATA where a size is 0 or too large, STATUS_BUG where the window leaves the result. */
enum status resample_window(struct resampler *resampler, const struct resample_job *job,
                            struct error *error);

/* The same for the whole result. */
enum status resample_whole(struct resampler *resampler, const uint8_t *source, size_t width,
                           size_t height, uint8_t *out, size_t out_width, size_t out_height,
                           struct error *error);

/* For tests and benches. Makes the resampler use the instruction set number `variant` of those
 * that this machine has, 0 being the best and the default, and returns its name; NULL where
 * there are not so many. All give the same bits. */
const char *resampler_set_variant(struct resampler *resampler, size_t variant);

#endif
