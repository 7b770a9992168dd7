/* Ladder, 500 x 375 -> 224 x 224 bicubic, one core:
 *   1. tap by tap, three channels: as slow as it sounds
 *   2. rows widened to four bytes a pixel, so that four taps make a vector of sixteen whose
 *      lanes are added up in two steps; columns as whole rows times one weight each */
#include "formats/resample.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/number.h"

enum {
    WEIGHT_BITS = 22,  /* 8 bits of pixel, 22 of weight, 2 for overshoot and sign */
    TAPS_IN_VECTOR = 4,
    SIDE_MAX = 1 << 20,
};

/* The weights of one axis. Output i is a sum over inputs first[i] .. first[i] + taps. */
struct axis {
    size_t in, out;
    size_t begin, count; /* the outputs that are wanted */
    size_t taps;         /* of every output; a multiple of TAPS_IN_VECTOR, zeros at the end */
    struct buffer first;   /* int32_t [count] */
    struct buffer weights; /* int32_t [count,taps] */
};

struct resampler {
    enum resample_filter filter;
    struct axis horizontal, vertical;
    struct buffer weight_scratch; /* double [taps] */
    struct buffer wide;           /* one source row, four bytes a pixel, padded */
    struct buffer spread;         /* horizontal weights, each four times */
    struct buffer rows;           /* the result of the first pass */
    struct buffer sums;           /* int32_t, one output row of the second pass */
};

enum status resampler_open(struct resampler **out, enum resample_filter filter,
                           struct error *error)
{
    struct resampler *resampler = calloc(1, sizeof *resampler);
    if (resampler == NULL)
        return error_memory(error, sizeof *resampler, "a resampler");
    resampler->filter = filter;
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
    buffer_free(&resampler->weight_scratch);
    buffer_free(&resampler->wide);
    buffer_free(&resampler->spread);
    buffer_free(&resampler->rows);
    buffer_free(&resampler->sums);
    free(resampler);
}

/* ---- weights ---- */

static double filter_support(enum resample_filter filter)
{
    return filter == RESAMPLE_BICUBIC ? 2.0 : 1.0;
}

static double filter_value(enum resample_filter filter, double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (filter == RESAMPLE_BILINEAR)
        return x < 1 ? 1 - x : 0;
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/* The weights of one output, in double and then in fixed point, rounded half away from zero. */
static void fill_output(enum resample_filter filter, const struct axis *axis, size_t output,
                        double *scratch, int32_t *first, int32_t *weights)
{
    double scale = (double)axis->in / (double)axis->out, stretch = fmax(scale, 1);
    double support = filter_support(filter) * stretch;
    double center = ((double)output + 0.5) * scale, inverse = 1 / stretch;
    double low = center - support + 0.5, high = center + support + 0.5;
    int32_t begin = low < 0 ? 0 : (int32_t)low;
    int32_t end = high > (double)axis->in ? (int32_t)axis->in : (int32_t)high;
    double sum = 0;
    for (int32_t i = begin; i < end; i++) {
        scratch[i - begin] = filter_value(filter, (i - center + 0.5) * inverse);
        sum += scratch[i - begin];
    }
    for (int32_t i = 0; i < end - begin; i++) {
        double weight = sum != 0 ? scratch[i] / sum : scratch[i];
        double fixed = weight * (1 << WEIGHT_BITS);
        weights[i] = (int32_t)(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
    }
    for (size_t i = (size_t)(end - begin); i < axis->taps; i++)
        weights[i] = 0;
    *first = begin;
}

/* Fills the axis unless it holds these very weights already. */
static enum status prepare_axis(struct resampler *resampler, struct axis *axis, size_t in,
                                size_t out, size_t begin, size_t count, struct error *error)
{
    if (axis->in == in && axis->out == out && axis->begin == begin && axis->count == count)
        return STATUS_OK;
    double stretch = fmax((double)in / (double)out, 1);
    size_t taps = (size_t)ceil(filter_support(resampler->filter) * stretch) * 2 + 1;
    axis->in = 0;
    axis->taps = size_round_up(taps, TAPS_IN_VECTOR);
    size_t weights;
    if (!size_multiply(count, axis->taps * sizeof(int32_t), &weights))
        return error_memory(error, SIZE_MAX, "weights");
    enum status status = buffer_reserve(&axis->first, count * sizeof(int32_t), error);
    if (status == STATUS_OK)
        status = buffer_reserve(&axis->weights, weights, error);
    if (status == STATUS_OK)
        status = buffer_reserve(&resampler->weight_scratch, axis->taps * sizeof(double), error);
    if (status != STATUS_OK)
        return status;

    axis->in = in;
    axis->out = out;
    axis->begin = begin;
    axis->count = count;
    for (size_t i = 0; i < count; i++)
        fill_output(resampler->filter, axis, begin + i, (double *)resampler->weight_scratch.data,
                    (int32_t *)axis->first.data + i,
                    (int32_t *)axis->weights.data + i * axis->taps);
    return STATUS_OK;
}

/* ---- the two passes, compiled for several instruction sets ---- */

typedef int32_t lanes16 __attribute__((vector_size(64)));
typedef int32_t lanes8 __attribute__((vector_size(32)));
typedef int32_t lanes4 __attribute__((vector_size(16)));
typedef uint8_t bytes16 __attribute__((vector_size(16)));

#define INLINE static inline __attribute__((always_inline))

INLINE uint8_t clip_byte(int32_t sum)
{
    int32_t value = sum >> WEIGHT_BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* wide: the source row, four bytes a pixel. spread: [count,taps,4]. */
INLINE void resize_row_body(const uint8_t *wide, const int32_t *first, const int32_t *spread,
                            size_t count, size_t taps, uint8_t *out)
{
    for (size_t i = 0; i < count; i++, spread += taps * 4) {
        const uint8_t *in = wide + (size_t)first[i] * 4;
        lanes16 sum = {0};
        for (size_t t = 0; t < taps; t += TAPS_IN_VECTOR) {
            bytes16 pixels;
            lanes16 weights;
            memcpy(&pixels, in + t * 4, sizeof pixels);
            memcpy(&weights, spread + t * 4, sizeof weights);
            sum += __builtin_convertvector(pixels, lanes16) * weights;
        }
        lanes8 halves[2];
        memcpy(halves, &sum, sizeof sum);
        lanes8 half = halves[0] + halves[1];
        lanes4 quarters[2];
        memcpy(quarters, &half, sizeof half);
        lanes4 quarter = quarters[0] + quarters[1] + (1 << (WEIGHT_BITS - 1));
        for (int c = 0; c < 3; c++)
            out[i * 3 + (size_t)c] = clip_byte(quarter[c]);
    }
}

/* out[size] = the weighted sum of `taps` rows. */
INLINE void blend_rows_body(const uint8_t *rows, size_t size, const int32_t *weights,
                            size_t taps, int32_t *restrict sums, uint8_t *restrict out)
{
    for (size_t i = 0; i < size; i++)
        sums[i] = 1 << (WEIGHT_BITS - 1);
    for (size_t t = 0; t < taps; t++) {
        const uint8_t *row = rows + t * size;
        int32_t weight = weights[t];
#pragma omp simd
        for (size_t i = 0; i < size; i++)
            sums[i] += row[i] * weight;
    }
#pragma omp simd
    for (size_t i = 0; i < size; i++)
        out[i] = clip_byte(sums[i]);
}

#define PASSES(suffix, attribute)                                                              \
    attribute static void resize_row_##suffix(const uint8_t *wide, const int32_t *first,       \
                                              const int32_t *spread, size_t count,             \
                                              size_t taps, uint8_t *out)                       \
    {                                                                                          \
        resize_row_body(wide, first, spread, count, taps, out);                                \
    }                                                                                          \
    attribute static void blend_rows_##suffix(const uint8_t *rows, size_t size,                \
                                              const int32_t *weights, size_t taps,             \
                                              int32_t *sums, uint8_t *out)                     \
    {                                                                                          \
        blend_rows_body(rows, size, weights, taps, sums, out);                                 \
    }

PASSES(baseline, )
#if defined(__x86_64__)
PASSES(avx2, __attribute__((target("avx2"))))
PASSES(avx512, __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))))
#endif

struct passes {
    void (*resize_row)(const uint8_t *wide, const int32_t *first, const int32_t *spread,
                       size_t count, size_t taps, uint8_t *out);
    void (*blend_rows)(const uint8_t *rows, size_t size, const int32_t *weights, size_t taps,
                       int32_t *sums, uint8_t *out);
};

static struct passes choose_passes(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        return (struct passes){resize_row_avx512, blend_rows_avx512};
    if (__builtin_cpu_supports("avx2"))
        return (struct passes){resize_row_avx2, blend_rows_avx2};
#endif
    return (struct passes){resize_row_baseline, blend_rows_baseline};
}

/* ---- images ---- */

static void widen_row(const uint8_t *row, size_t width, uint8_t *wide)
{
    for (size_t x = 0; x < width; x++) {
        wide[4 * x] = row[3 * x];
        wide[4 * x + 1] = row[3 * x + 1];
        wide[4 * x + 2] = row[3 * x + 2];
        wide[4 * x + 3] = 0;
    }
}

/* The source rows that the wanted output rows depend on. */
static void needed_rows(const struct axis *vertical, size_t *begin, size_t *end)
{
    const int32_t *first = (const int32_t *)vertical->first.data;
    *begin = (size_t)first[0];
    *end = (size_t)first[vertical->count - 1] + vertical->taps;
    if (*end > vertical->in)
        *end = vertical->in;
}

static enum status reserve(struct resampler *resampler, const struct resample_job *job,
                           size_t rows, struct error *error)
{
    const struct axis *h = &resampler->horizontal, *v = &resampler->vertical;
    size_t row = job->window_width * 3, padded;
    if (!size_multiply(rows + v->taps, row, &padded))
        return error_memory(error, SIZE_MAX, "resized rows");
    enum status status = buffer_reserve(&resampler->wide, (job->width + h->taps) * 4, error);
    if (status == STATUS_OK)
        status = buffer_reserve(&resampler->spread, h->count * h->taps * 16, error);
    if (status == STATUS_OK)
        status = buffer_reserve(&resampler->rows, padded, error);
    return status == STATUS_OK ? buffer_reserve(&resampler->sums, row * 4, error) : status;
}

static void spread_weights(struct resampler *resampler)
{
    const struct axis *h = &resampler->horizontal;
    const int32_t *weights = (const int32_t *)h->weights.data;
    int32_t *spread = (int32_t *)resampler->spread.data;
    for (size_t i = 0; i < h->count * h->taps; i++)
        for (size_t lane = 0; lane < 4; lane++)
            spread[4 * i + lane] = weights[i];
}

static enum status check_job(const struct resample_job *job, struct error *error)
{
    const size_t sizes[] = {job->width,        job->height,       job->out_width,
                            job->out_height,   job->window_width, job->window_height};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i] == 0 || sizes[i] > SIDE_MAX)
            return error_set(error, STATUS_DATA, "cannot resize %zu x %zu to %zu x %zu pixels",
                             job->width, job->height, job->out_width, job->out_height);
    if (job->x > job->out_width || job->window_width > job->out_width - job->x ||
        job->y > job->out_height || job->window_height > job->out_height - job->y)
        return error_set(error, STATUS_BUG, "window leaves the resized image");
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
    size_t begin, end;
    needed_rows(v, &begin, &end);
    status = reserve(resampler, job, end - begin, error);
    if (status != STATUS_OK)
        return status;

    const struct passes passes = choose_passes();
    size_t row = job->window_width * 3;
    spread_weights(resampler);
    memset(resampler->wide.data + job->width * 4, 0, h->taps * 4);
    for (size_t y = begin; y < end; y++) {
        widen_row(job->source + y * job->width * 3, job->width, resampler->wide.data);
        passes.resize_row(resampler->wide.data, (const int32_t *)h->first.data,
                          (const int32_t *)resampler->spread.data, h->count, h->taps,
                          resampler->rows.data + (y - begin) * row);
    }
    /* Taps of weight zero beyond the last row read these zeros. */
    memset(resampler->rows.data + (end - begin) * row, 0, v->taps * row);
    const int32_t *first = (const int32_t *)v->first.data;
    for (size_t y = 0; y < v->count; y++)
        passes.blend_rows(resampler->rows.data + ((size_t)first[y] - begin) * row, row,
                          (const int32_t *)v->weights.data + y * v->taps, v->taps,
                          (int32_t *)resampler->sums.data, job->out + y * row);
    return STATUS_OK;
}

enum status resample_whole(struct resampler *resampler, const uint8_t *source, size_t width,
                           size_t height, uint8_t *out, size_t out_width, size_t out_height,
                           struct error *error)
{
    const struct resample_job job = {source, width, height,    out_width, out_height,
                                     0,      0,     out_width, out_height, out};
    return resample_window(resampler, &job, error);
}
