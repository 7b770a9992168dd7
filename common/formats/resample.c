#include "formats/resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/number.h"
#include "formats/resample_passes.h"

/* Sides of images, and of results of which a window is wanted. */
#define SIDE_MAX ((size_t)1 << 20)
#define OUT_SIDE_MAX ((size_t)1 << 40)

/* The tables of one axis for the outputs begin .. begin + count of `out`. */
struct axis {
    size_t in, out, begin, count;
    size_t taps;           /* of every output; a multiple of TAPS_IN_GROUP */
    struct buffer first;   /* int32_t [count] */
    struct buffer weights; /* int32_t [count,taps], packed for the passes */
};

struct resampler {
    enum resample_filter filter;
    const struct resample_passes *passes;
    struct axis horizontal, vertical;
    struct buffer scratch; /* double [taps] */
    struct buffer ends;    /* copies of source rows that the passes would read beyond */
    struct buffer rows;    /* the result of the first pass */
};

enum status resampler_open(struct resampler **out, enum resample_filter filter,
                           struct error *error)
{
    struct resampler *resampler = calloc(1, sizeof *resampler);
    if (resampler == NULL)
        return error_memory(error, sizeof *resampler, "a resampler");
    resampler->filter = filter;
    resampler->passes = resample_passes_get(0);
    *out = resampler;
    return STATUS_OK;
}

void resampler_close(struct resampler *resampler)
{
    if (resampler == NULL)
        return;
    buffer_free(&resampler->horizontal.first);
    buffer_free(&resampler->horizontal.weights);
    buffer_free(&resampler->vertical.first);
    buffer_free(&resampler->vertical.weights);
    buffer_free(&resampler->scratch);
    buffer_free(&resampler->ends);
    buffer_free(&resampler->rows);
    free(resampler);
}

const char *resampler_set_variant(struct resampler *resampler, size_t variant)
{
    const struct resample_passes *passes = resample_passes_get(variant);
    if (passes == NULL)
        return NULL;
    resampler->passes = passes;
    resampler->horizontal.in = resampler->vertical.in = 0;
    return passes->name;
}

/* ---- weights ---- */

static double filter_support(enum resample_filter filter)
{
    return filter == RESAMPLE_BICUBIC ? 2.0 : 1.0;
}

static double bilinear(double x)
{
    return x < 1 ? 1 - x : 0;
}

static double bicubic(double x)
{
    const double a = -0.5;
    double inner = ((a + 2) * x - (a + 3)) * x * x + 1;
    double outer = (((x - 5) * x + 8) * x - 4) * a;
    return x < 1 ? inner : x < 2 ? outer : 0;
}

/* The weights of one output, in double and then in fixed point, rounded half away from zero.
 * Every operation is Pillow's, in its order: the last bit of a weight depends on it. */
static void fill_output(enum resample_filter filter, const struct axis *axis, size_t output,
                        double *scratch, int32_t *first, int32_t *weights)
{
    double scale = (double)axis->in / (double)axis->out, stretch = fmax(scale, 1);
    double support = filter_support(filter) * stretch;
    double center = ((double)output + 0.5) * scale, inverse = 1 / stretch;
    double low = center - support + 0.5, high = center + support + 0.5;
    int32_t begin = low < 0 ? 0 : (int32_t)low;
    int32_t end = high > (double)axis->in ? (int32_t)axis->in : (int32_t)high;
    int32_t count = end - begin;
    double sum = 0;

    for (int32_t i = 0; i < count; i++) {
        double x = fabs((i + begin - center + 0.5) * inverse);
        scratch[i] = filter == RESAMPLE_BICUBIC ? bicubic(x) : bilinear(x);
        sum += scratch[i];
    }
    if (sum == 0)
        sum = 1;
    for (int32_t i = 0; i < count; i++) {
        double fixed = scratch[i] / sum * (1 << WEIGHT_BITS);
        weights[i] = (int32_t)(fixed + copysign(0.5, fixed));
    }
    memset(weights + count, 0, (axis->taps - (size_t)count) * sizeof weights[0]);
    *first = begin;
}

/* Fills the tables unless they hold these very weights already. */
static enum status prepare_axis(struct resampler *resampler, struct axis *axis, size_t in,
                                size_t out, size_t begin, size_t count, struct error *error)
{
    if (axis->in == in && axis->out == out && axis->begin == begin && axis->count == count)
        return STATUS_OK;
    double stretch = fmax((double)in / (double)out, 1);
    size_t taps = (size_t)ceil(filter_support(resampler->filter) * stretch) * 2 + 1;
    axis->in = 0;
    axis->taps = size_round_up(taps, TAPS_IN_GROUP);
    size_t bytes;
    if (!size_multiply(count, axis->taps * sizeof(int32_t), &bytes))
        return error_memory(error, SIZE_MAX, "weights");
    enum status status = buffer_reserve(&axis->first, count * sizeof(int32_t), error);
    if (status == STATUS_OK)
        status = buffer_reserve(&axis->weights, bytes, error);
    if (status == STATUS_OK)
        status = buffer_reserve(&resampler->scratch, axis->taps * sizeof(double), error);
    if (status != STATUS_OK)
        return status;

    axis->in = in;
    axis->out = out;
    axis->begin = begin;
    axis->count = count;
    void *scratch = resampler->scratch.data;
    int32_t *first = (int32_t *)axis->first.data, *weights = (int32_t *)axis->weights.data;
    for (size_t i = 0; i < count; i++)
        fill_output(resampler->filter, axis, begin + i, scratch, first + i,
                    weights + i * axis->taps);
    resampler->passes->pack(weights, count * (axis->taps / TAPS_IN_GROUP));
    return STATUS_OK;
}

static const int32_t *axis_first(const struct axis *axis)
{
    return (const int32_t *)axis->first.data;
}

/* One past the last input that the passes read; it may lie beyond the image. */
static size_t axis_reach(const struct axis *axis)
{
    return (size_t)axis_first(axis)[axis->count - 1] + axis->taps;
}

/* ---- images ---- */

static enum status check_job(const struct resample_job *job, struct error *error)
{
    const size_t ins[] = {job->width, job->height};
    const size_t outs[] = {job->out_width, job->out_height};
    for (int i = 0; i < 2; i++)
        if (ins[i] == 0 || ins[i] > SIDE_MAX || outs[i] == 0 || outs[i] > OUT_SIDE_MAX)
            return error_set(error, STATUS_DATA, "cannot resize %zu x %zu to %zu x %zu pixels",
                             job->width, job->height, job->out_width, job->out_height);
    if (job->window_width == 0 || job->x > job->out_width ||
        job->window_width > job->out_width - job->x || job->window_height == 0 ||
        job->y > job->out_height || job->window_height > job->out_height - job->y)
        return error_set(error, STATUS_BUG,
                         "window %zu x %zu at %zu, %zu of a result of %zu x %zu pixels",
                         job->window_width, job->window_height, job->x, job->y, job->out_width,
                         job->out_height);
    return STATUS_OK;
}

/* Source row y, in place where what the pass reads behind it is still the caller's memory, and
 * else as a copy in the slot. */
static const uint8_t *readable_row(struct resampler *resampler, const struct resample_job *job,
                                   size_t y, size_t slot, size_t reach_bytes)
{
    size_t row = job->width * 3;
    const uint8_t *in = job->source + y * row;
    if (reach_bytes <= (job->height - y) * row)
        return in;
    uint8_t *copy = resampler->ends.data + slot * (row + reach_bytes);
    memcpy(copy, in, row);
    memset(copy + row, 0, reach_bytes);
    return copy;
}

/* Resizes source rows begin..end into resampler->rows. Where they are no multiple of
 * ROWS_AT_ONCE, the last one is made several times. */
static enum status first_pass(struct resampler *resampler, const struct resample_job *job,
                              size_t begin, size_t end, size_t pitch, struct error *error)
{
    const struct axis *axis = &resampler->horizontal;
    const struct resample_weights weights = {axis->count, axis->taps, axis_first(axis),
                                             axis->weights.data};
    size_t reach = axis_reach(axis) * 3 + ROW_READ_BEYOND;
    enum status status =
        buffer_reserve(&resampler->ends, ROWS_AT_ONCE * (job->width * 3 + reach), error);
    if (status != STATUS_OK)
        return status;

    for (size_t y = begin; y < end; y += ROWS_AT_ONCE) {
        const uint8_t *in[ROWS_AT_ONCE];
        uint8_t *out[ROWS_AT_ONCE];
        for (size_t r = 0; r < ROWS_AT_ONCE; r++) {
            size_t source_y = y + r < end ? y + r : end - 1;
            in[r] = readable_row(resampler, job, source_y, r, reach);
            out[r] = resampler->rows.data + (source_y - begin) * pitch;
        }
        resampler->passes->resize_rows(&weights, in, out);
    }
    return STATUS_OK;
}

enum status resample_window(struct resampler *resampler, const struct resample_job *job,
                            struct error *error)
{
    struct axis *h = &resampler->horizontal, *v = &resampler->vertical;
    enum status status = check_job(job, error);
    if (status == STATUS_OK)
        status = prepare_axis(resampler, h, job->width, job->out_width, job->x,
                              job->window_width, error);
    if (status == STATUS_OK)
        status = prepare_axis(resampler, v, job->height, job->out_height, job->y,
                              job->window_height, error);
    if (status != STATUS_OK)
        return status;

    size_t begin = (size_t)axis_first(v)[0], reach = axis_reach(v), bytes;
    size_t end = reach < job->height ? reach : job->height;
    size_t row = job->window_width * 3, pitch = size_round_up(row + ROW_WRITE_BEYOND, 64);
    if (!size_multiply(reach - begin, pitch, &bytes))
        return error_memory(error, SIZE_MAX, "resized rows");
    status = buffer_reserve(&resampler->rows, bytes, error);
    if (status == STATUS_OK)
        status = first_pass(resampler, job, begin, end, pitch, error);
    if (status != STATUS_OK)
        return status;

    /* Rows beyond the last are read with a weight of zero. */
    memset(resampler->rows.data + (end - begin) * pitch, 0, (reach - end) * pitch);
    size_t out_pitch = job->out_pitch != 0 ? job->out_pitch : row;
    for (size_t y = 0; y < v->count; y++)
        resampler->passes->blend_rows(
            resampler->rows.data + ((size_t)axis_first(v)[y] - begin) * pitch, pitch, row,
            v->weights.data + y * v->taps * sizeof(int32_t), v->taps,
            job->out + y * out_pitch);
    return STATUS_OK;
}

enum status resample_whole(struct resampler *resampler, const uint8_t *source, size_t width,
                           size_t height, uint8_t *out, size_t out_width, size_t out_height,
                           struct error *error)
{
    const struct resample_job job = {.source = source, .width = width, .height = height,
                                     .out_width = out_width, .out_height = out_height,
                                     .window_width = out_width, .window_height = out_height,
                                     .out = out};
    return resample_window(resampler, &job, error);
}
