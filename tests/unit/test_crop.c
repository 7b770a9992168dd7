/* The boxes of torchvision's transforms: examples worked out with it, and the distribution. */
#include <math.h>
#include <stdbool.h>

#include "formats/crop.h"
#include "tests/reference/square_golden.h"
#include "tests/unit/check.h"

static const double usual_ratio[2] = {3.0 / 4.0, 4.0 / 3.0};

static struct image_region draw(uint64_t sample, size_t width, size_t height,
                                const double scale[2], const double ratio[2])
{
    struct rng rng;
    rng_init(&rng, 5, 0, sample, RNG_CROP);
    return crop_random(&rng, width, height, scale, ratio);
}

static void check_fit(const char *kind, size_t width, size_t height, size_t side,
                      const struct crop_fit *got, const struct crop_fit *want)
{
    CHECK(memcmp(got, want, sizeof *got) == 0,
          "%s, %zu x %zu to %zu: resized to %zu x %zu, window %zu x %zu at %zu, %zu, placed at "
          "%zu, %zu",
          kind, width, height, side, got->out_width, got->out_height, got->width, got->height,
          got->x, got->y, got->left, got->top);
}

static void test_center(void)
{
    static const struct {
        size_t width, height, side;
        size_t out_width, out_height, x, y;
    } cases[] = {
        {500, 375, 224, 298, 224, 37, 0},    {375, 500, 224, 224, 298, 0, 37},
        {281, 500, 112, 112, 199, 0, 44},    {106, 150, 64, 64, 90, 0, 13},
        {150, 106, 336, 475, 336, 70, 0},    {64, 64, 64, 64, 64, 0, 0},
        {1, 1, 224, 224, 224, 0, 0},         {1000, 999, 64, 64, 64, 0, 0},
        {1, 65535, 8, 8, 524280, 0, 262136}, {65535, 1, 8, 524280, 8, 262136, 0},
        {101, 100, 100, 101, 100, 0, 0},     {103, 100, 100, 103, 100, 2, 0},
        {105, 100, 100, 105, 100, 2, 0},     {107, 100, 100, 107, 100, 4, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t side = cases[i].side;
        struct crop_fit got = crop_center(cases[i].width, cases[i].height, side);
        const struct crop_fit want = {cases[i].out_width, cases[i].out_height, cases[i].x,
                                      cases[i].y, side, side, 0, 0};
        check_fit("center", cases[i].width, cases[i].height, side, &got, &want);
    }
}

/* The odd pixel of a border lies to the right or below; halves round to even. */
static void test_longest(void)
{
    static const struct {
        size_t width, height, side;
        size_t out_width, out_height, left, top;
    } cases[] = {
        {500, 375, 224, 224, 168, 0, 28},  {375, 500, 224, 168, 224, 28, 0},
        {500, 333, 112, 112, 75, 0, 18},   {64, 64, 64, 64, 64, 0, 0},
        {200, 45, 20, 20, 4, 0, 8},        {200, 35, 20, 20, 4, 0, 8},
        {3, 2, 9, 9, 6, 0, 1},             {1000, 1, 8, 8, 1, 0, 3},
        {1, 65535, 7, 1, 7, 3, 0},         {7, 3, 1, 1, 1, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct crop_fit got = crop_longest(cases[i].width, cases[i].height, cases[i].side);
        const struct crop_fit want = {cases[i].out_width, cases[i].out_height, 0, 0,
                                      cases[i].out_width, cases[i].out_height, cases[i].left,
                                      cases[i].top};
        check_fit("longest", cases[i].width, cases[i].height, cases[i].side, &got, &want);
    }
    const struct crop_fit squash = crop_squash(5), want = {5, 5, 0, 0, 5, 5, 0, 0};
    check_fit("squash", 9, 2, 5, &squash, &want);
}

/* Against torchvision's own boxes: means within five standard errors, spreads within a tenth
 * (those of the narrow shapes hang on few boxes), and as many boxes below each decile of the
 * width. */
static void test_against_torchvision(void)
{
    enum { DRAWS = 20000 };
    static const char *const names[] = {"width", "height", "x", "y"};
    for (size_t g = 0; g < sizeof crop_golden / sizeof crop_golden[0]; g++) {
        const struct crop_golden *golden = &crop_golden[g];
        double sum[4] = {0}, square[4] = {0}, below[9] = {0};
        for (uint64_t i = 0; i < DRAWS; i++) {
            struct image_region r = draw(i, golden->width, golden->height, golden->scale,
                                         usual_ratio);
            const double value[] = {(double)r.width, (double)r.height, (double)r.x,
                                    (double)r.y};
            for (int k = 0; k < 4; k++) {
                sum[k] += value[k] / DRAWS;
                square[k] += value[k] * value[k] / DRAWS;
            }
            for (int d = 0; d < 9; d++)
                below[d] += (value[0] <= golden->deciles[d]) / (double)DRAWS;
        }
        for (int k = 0; k < 4; k++) {
            double deviation = golden->deviation[k];
            CHECK_NEAR(sum[k], golden->mean[k], 5.3 * deviation / sqrt(DRAWS) + 1e-3,
                       "case %zu: mean %s", g, names[k]);
            CHECK_NEAR(sqrt(fmax(square[k] - sum[k] * sum[k], 0)), deviation,
                       0.1 * deviation + 1e-3,
                       "case %zu: deviation of %s", g, names[k]);
        }
        for (int d = 0; d < 9; d++)
            CHECK_NEAR(below[d], golden->below[d], 5.3 * 0.5 / sqrt(DRAWS),
                       "case %zu: width below decile %d", g, d + 1);
    }
}

/* No draw fits: the largest centred box within the ratios. */
static void test_fallback(void)
{
    static const double all[2] = {1, 1}, most[2] = {0.9, 1};
    static const struct {
        size_t width, height;
        struct image_region want;
    } cases[] = {
        {1000, 10, {493, 0, 13, 10}}, {10, 1000, {0, 493, 10, 13}},
        {1000, 1, {499, 0, 1, 1}},    {1, 1000, {0, 499, 1, 1}},
        {500, 100, {183, 0, 133, 100}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct image_region got =
            draw(i, cases[i].width, cases[i].height, most, usual_ratio);
        const struct image_region *want = &cases[i].want;
        CHECK(got.x == want->x && got.y == want->y && got.width == want->width &&
                  got.height == want->height,
              "%zu x %zu: got %zu x %zu at %zu, %zu", cases[i].width, cases[i].height,
              got.width, got.height, got.x, got.y);
    }
    /* The whole image at its own ratio, and one pixel. */
    static const double square[2] = {1, 1};
    struct image_region got = draw(0, 77, 77, all, square);
    CHECK(got.width == 77 && got.height == 77 && got.x == 0 && got.y == 0, "%zu x %zu",
          got.width, got.height);
    got = draw(0, 1, 1, most, usual_ratio);
    CHECK(got.width == 1 && got.height == 1 && got.x == 0 && got.y == 0, "%zu x %zu", got.width,
          got.height);
}

/* On an image so large that every draw fits: area and log ratio uniform, place uniform. */
static void test_distribution(void)
{
    enum { DRAWS = 4000, SIDE = 4000 };
    static const double scale[2] = {0.1, 0.5};
    double area = 0, area_square = 0, ratio = 0, ratio_square = 0, x = 0, y = 0;
    bool inside = true, in_range = true;
    for (uint64_t i = 0; i < DRAWS; i++) {
        struct image_region r = draw(i, SIDE, SIDE, scale, usual_ratio);
        inside &= r.width > 0 && r.height > 0;
        inside &= r.x + r.width <= SIDE && r.y + r.height <= SIDE;
        double a = (double)(r.width * r.height) / ((double)SIDE * SIDE);
        double l = log((double)r.width / (double)r.height);
        in_range &= a > 0.0995 && a < 0.5005 && fabs(l) < log(4.0 / 3.0) + 0.001;
        area += a / DRAWS;
        area_square += a * a / DRAWS;
        ratio += l / DRAWS;
        ratio_square += l * l / DRAWS;
        x += (double)r.x / (double)(SIDE - r.width) / DRAWS;
        y += (double)r.y / (double)(SIDE - r.height) / DRAWS;
    }
    CHECK(inside, "a box leaves the image");
    CHECK(in_range, "an area or a ratio is out of range");
    /* Five standard errors of a uniform distribution's mean: 5 w / sqrt(12 DRAWS). */
    CHECK_NEAR(area, 0.3, 5 * 0.4 / sqrt(12.0 * DRAWS), "mean area");
    CHECK_NEAR(area_square - area * area, 0.4 * 0.4 / 12, 0.001, "variance of the area");
    double width = 2 * log(4.0 / 3.0);
    CHECK_NEAR(ratio, 0, 5 * width / sqrt(12.0 * DRAWS), "mean log ratio");
    CHECK_NEAR(ratio_square, width * width / 12, 0.002, "variance of the log ratio");
    CHECK_NEAR(x, 0.5, 5 / sqrt(12.0 * DRAWS), "mean place, horizontally");
    CHECK_NEAR(y, 0.5, 5 / sqrt(12.0 * DRAWS), "mean place, vertically");
}

static void test_always_inside(void)
{
    static const double scales[][2] = {{0.08, 1}, {0.9, 1}, {1e-6, 1e-6}, {1, 1}};
    static const double ratios[][2] = {{0.75, 1.3333333}, {1e-3, 1e3}, {1, 1}, {900, 1000}};
    struct rng rng;
    rng_init(&rng, 11, 0, 0, RNG_TEST);
    bool inside = true;
    for (uint64_t i = 0; i < 100000; i++) {
        size_t width = 1 + (size_t)rng_below(&rng, i % 2 ? 5 : 600);
        size_t height = 1 + (size_t)rng_below(&rng, i % 3 ? 5 : 600);
        struct image_region r = draw(i, width, height, scales[i % 4], ratios[i / 4 % 4]);
        inside &= r.width > 0 && r.height > 0 && r.x + r.width <= width &&
                  r.y + r.height <= height;
    }
    CHECK(inside, "a box is empty or leaves the image");
}

static void test_keys(void)
{
    static const double scale[2] = {0.08, 1};
    int same = 0;
    for (uint64_t i = 0; i < 100; i++) {
        struct image_region a = draw(i, 500, 375, scale, usual_ratio);
        struct image_region again = draw(i, 500, 375, scale, usual_ratio);
        struct image_region other = draw(i + 1, 500, 375, scale, usual_ratio);
        CHECK(memcmp(&a, &again, sizeof a) == 0, "sample %d drew two boxes", (int)i);
        same += memcmp(&a, &other, sizeof a) == 0;
    }
    CHECK(same <= 1, "%d of 100 neighbours drew the same box", same);
}

int main(void)
{
    test_center();
    test_longest();
    test_against_torchvision();
    test_fallback();
    test_distribution();
    test_always_inside();
    test_keys();
    return check_report("crop");
}
