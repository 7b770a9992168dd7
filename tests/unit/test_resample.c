/* Every instruction set against a plain double loop, and against what Pillow gave. */
#include <math.h>
#include <stdlib.h>

#include <zlib.h>

#include "base/rng.h"
#include "formats/resample.h"
#include "tests/reference/resample_golden.h"
#include "tests/unit/check.h"

/* Sizes of one resizing; the window is the whole result unless set. */
struct shape {
    size_t width, height, out_width, out_height;
};

static uint8_t *random_pixels(uint64_t seed, size_t count)
{
    struct rng rng;
    rng_init(&rng, seed, 0, 0, RNG_TEST);
    uint8_t *pixels = malloc(count * 3); /* exact, so that a sanitizer sees overruns */
    for (size_t i = 0; i < count * 3; i++) /* extreme values overshoot */
        pixels[i] = rng_below(&rng, 3) == 0 ? (uint8_t)(rng_next(&rng) & 1 ? 255 : 0)
                                            : (uint8_t)rng_next(&rng);
    return pixels;
}

/* ---- the plain definition: one output at a time, one weight at a time ---- */

static double filter(enum resample_filter kind, double x)
{
    x = fabs(x);
    if (kind == RESAMPLE_BILINEAR)
        return x < 1 ? 1 - x : 0;
    if (x < 1)
        return ((-0.5 + 2) * x - (-0.5 + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

static uint8_t one_sample(enum resample_filter kind, const uint8_t *in, size_t step,
                          size_t length, size_t out_length, size_t output)
{
    double scale = (double)length / (double)out_length, stretch = scale < 1 ? 1 : scale;
    double reach = (kind == RESAMPLE_BICUBIC ? 2 : 1) * stretch;
    double center = ((double)output + 0.5) * scale, sum = 0;
    long begin = (long)fmax(center - reach + 0.5, 0);
    long end = (long)fmin(center + reach + 0.5, (double)length);
    for (long i = begin; i < end; i++)
        sum += filter(kind, ((double)i - center + 0.5) * (1 / stretch));
    int64_t total = 1 << 21;
    for (long i = begin; i < end; i++) {
        double weight = filter(kind, ((double)i - center + 0.5) * (1 / stretch)) / sum;
        total += (int64_t)lround(weight * (1 << 22)) * in[(size_t)i * step];
    }
    total >>= 22;
    return (uint8_t)(total < 0 ? 0 : total > 255 ? 255 : total);
}

static uint8_t *resize_plainly(enum resample_filter kind, const uint8_t *source,
                               const struct shape *s)
{
    uint8_t *rows = malloc(s->out_width * s->height * 3);
    uint8_t *out = malloc(s->out_width * s->out_height * 3);
    for (size_t y = 0; y < s->height; y++)
        for (size_t x = 0; x < s->out_width * 3; x++)
            rows[y * s->out_width * 3 + x] =
                one_sample(kind, source + y * s->width * 3 + x % 3, 3, s->width, s->out_width,
                           x / 3);
    for (size_t y = 0; y < s->out_height; y++)
        for (size_t x = 0; x < s->out_width * 3; x++)
            out[y * s->out_width * 3 + x] = one_sample(kind, rows + x, s->out_width * 3,
                                                       s->height, s->out_height, y);
    free(rows);
    return out;
}

/* ---- tests ---- */

static void check_shape(struct resampler *resampler, const char *variant,
                        enum resample_filter kind, const struct shape *s, uint64_t seed)
{
    uint8_t *source = random_pixels(seed, s->width * s->height);
    uint8_t *want = resize_plainly(kind, source, s);
    size_t pixels = s->out_width * s->out_height;
    uint8_t *got = malloc(pixels * 3);
    struct error error = {.status = STATUS_OK};
    enum status status = resample_whole(resampler, source, s->width, s->height, got,
                                        s->out_width, s->out_height, &error);
    CHECK(status == STATUS_OK, "%s", error.text);
    CHECK(status == STATUS_OK && memcmp(got, want, pixels * 3) == 0,
          "%s, filter %d, %zu x %zu to %zu x %zu, seed %llu", variant, kind, s->width,
          s->height, s->out_width, s->out_height, (unsigned long long)seed);

    struct rng rng;
    rng_init(&rng, seed, 1, 0, RNG_TEST);
    struct resample_job job = {.source = source, .width = s->width, .height = s->height,
                               .out_width = s->out_width, .out_height = s->out_height};
    job.x = (size_t)rng_below(&rng, s->out_width);
    job.y = (size_t)rng_below(&rng, s->out_height);
    job.window_width = 1 + (size_t)rng_below(&rng, s->out_width - job.x);
    job.window_height = 1 + (size_t)rng_below(&rng, s->out_height - job.y);
    job.out = malloc(job.window_width * job.window_height * 3);
    CHECK(resample_window(resampler, &job, &error) == STATUS_OK, "%s", error.text);
    size_t different = 0;
    for (size_t y = 0; y < job.window_height; y++)
        different += memcmp(job.out + y * job.window_width * 3,
                            want + ((job.y + y) * s->out_width + job.x) * 3,
                            job.window_width * 3) != 0;
    CHECK(different == 0, "%s, window %zu x %zu at %zu, %zu of %zu x %zu: %zu rows differ",
          variant, job.window_width, job.window_height, job.x, job.y, s->out_width,
          s->out_height, different);
    free(job.out);
    free(got);
    free(want);
    free(source);
}

static void test_shapes(struct resampler *resampler, const char *variant,
                        enum resample_filter kind)
{
    static const struct shape edges[] = {
        {1, 1, 1, 1},     {1, 1, 7, 5},     {7, 5, 1, 1},    {1, 40, 3, 8},   {40, 1, 8, 3},
        {2, 2, 33, 31},   {16, 16, 16, 16}, {17, 9, 17, 4},  {9, 17, 4, 17},  {3, 300, 5, 2},
        {300, 3, 2, 5},   {64, 64, 63, 65}, {5, 5, 64, 64},  {100, 7, 21, 21}, {22, 31, 43, 2},
        {400, 9, 1, 300},
    };
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++)
        check_shape(resampler, variant, kind, &edges[i], i);
    struct rng rng;
    rng_init(&rng, 7, 0, 0, RNG_TEST);
    for (uint64_t i = 0; i < 60; i++) {
        struct shape s;
        s.width = 1 + (size_t)rng_below(&rng, 90);
        s.height = 1 + (size_t)rng_below(&rng, 90);
        s.out_width = 1 + (size_t)rng_below(&rng, 60);
        s.out_height = 1 + (size_t)rng_below(&rng, 60);
        check_shape(resampler, variant, kind, &s, 100 + i);
    }
}

/* The picture that tests/reference/make_resample_golden.py makes, too. */
static void fill_golden(uint8_t *pixels, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t x = (uint32_t)i * 2654435761u;
        pixels[i] = (uint8_t)(x >> 24 ^ x >> 13);
    }
}

static void test_golden(struct resampler *resampler, const char *variant,
                        enum resample_filter kind)
{
    for (size_t i = 0; i < sizeof resample_golden / sizeof resample_golden[0]; i++) {
        const struct resample_golden *g = &resample_golden[i];
        if (g->bilinear != (kind == RESAMPLE_BILINEAR))
            continue;
        uint8_t *source = malloc(g->width * g->height * 3);
        uint8_t *out = malloc(g->out_width * g->out_height * 3);
        struct error error;
        fill_golden(source, g->width * g->height * 3);
        CHECK(resample_whole(resampler, source, g->width, g->height, out, g->out_width,
                             g->out_height, &error) == STATUS_OK,
              "%s", error.text);
        uint32_t crc = (uint32_t)crc32(0, out, (unsigned)(g->out_width * g->out_height * 3));
        CHECK(crc == g->crc32, "%s: %zu x %zu to %zu x %zu, bilinear %d: %08x, Pillow %08x",
              variant, g->width, g->height, g->out_width, g->out_height, g->bilinear, crc,
              g->crc32);
        free(out);
        free(source);
    }
}

/* A window of a result that would never fit in memory. */
static void test_huge_result(struct resampler *resampler)
{
    uint8_t source[3 * 60], out[3 * 16];
    for (size_t i = 0; i < sizeof source; i++)
        source[i] = (uint8_t)i;
    struct resample_job job = {.source = source, .width = 1, .height = 60, .out_width = 4,
                               .out_height = (size_t)1 << 36, .y = (size_t)1 << 35,
                               .window_width = 4, .window_height = 4, .out = out};
    struct error error;
    CHECK(resample_window(resampler, &job, &error) == STATUS_OK, "%s", error.text);
    CHECK(out[0] == 88 || out[0] == 89, "the middle of a ramp of 0 to 177 is %d", out[0]);
}

static void test_refused(struct resampler *resampler)
{
    uint8_t pixels[12] = {0}, out[12];
    const struct resample_job good = {pixels, 2, 2, 2, 2, 0, 0, 2, 2, out, 0};
    struct resample_job job;
    struct error error;
    CHECK(resample_window(resampler, &good, &error) == STATUS_OK, "%s", error.text);
    job = good;
    job.width = 0;
    CHECK(resample_window(resampler, &job, &error) == STATUS_DATA, "width 0");
    job = good;
    job.height = ((size_t)1 << 20) + 1;
    CHECK(resample_window(resampler, &job, &error) == STATUS_DATA, "height 2^20 + 1");
    job = good;
    job.out_height = ((size_t)1 << 40) + 1;
    CHECK(resample_window(resampler, &job, &error) == STATUS_DATA, "result 2^40 + 1");
    job = good;
    job.x = 1;
    CHECK(resample_window(resampler, &job, &error) == STATUS_BUG, "window leaves at the right");
    job = good;
    job.y = SIZE_MAX;
    CHECK(resample_window(resampler, &job, &error) == STATUS_BUG, "window far below");
    job = good;
    job.window_height = 0;
    CHECK(resample_window(resampler, &job, &error) == STATUS_BUG, "empty window");
}

int main(void)
{
    struct error error;
    for (int kind = RESAMPLE_BICUBIC; kind <= RESAMPLE_BILINEAR; kind++) {
        struct resampler *resampler;
        const char *variant;
        if (resampler_open(&resampler, (enum resample_filter)kind, &error) != STATUS_OK)
            return 1;
        for (size_t v = 0; (variant = resampler_set_variant(resampler, v)) != NULL; v++) {
            test_shapes(resampler, variant, (enum resample_filter)kind);
            test_golden(resampler, variant, (enum resample_filter)kind);
            test_huge_result(resampler);
            test_refused(resampler);
        }
        CHECK(resampler_set_variant(resampler, 0) != NULL, "no variant at all");
        resampler_close(resampler);
    }
    resampler_close(NULL);
    return check_report("resample");
}
