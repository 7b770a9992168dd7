/* Colour changes against what torchvision made of the same pictures, by every instruction set,
 * and the distribution of the draws. */
#include <math.h>
#include <stdlib.h>

#include <zlib.h>

#include "tests/reference/color_golden.h"
#include "tests/unit/check.h"

enum { NOISE_PIXELS = 37 * 29, PICTURES = 3 };

struct picture {
    uint8_t *rgb;
    size_t pixels;
};

/* The pictures of tests/reference/make_color_golden.py. */
static struct picture make_noise(void)
{
    struct picture noise = {malloc(NOISE_PIXELS * 3), NOISE_PIXELS};
    for (size_t i = 0; i < NOISE_PIXELS * 3; i++) {
        uint32_t x = (uint32_t)i * 2654435761u;
        noise.rgb[i] = (uint8_t)(x >> 24 ^ x >> 13);
    }
    return noise;
}

static struct picture make_cube(int step)
{
    size_t side = (size_t)(255 / step + 1);
    struct picture cube = {malloc(side * side * side * 3), side * side * side};
    uint8_t *out = cube.rgb;
    for (int r = 0; r < 256; r += step)
        for (int g = 0; g < 256; g += step)
            for (int b = 0; b < 256; b += step, out += 3) {
                out[0] = (uint8_t)r;
                out[1] = (uint8_t)g;
                out[2] = (uint8_t)b;
            }
    return cube;
}

static void describe(const struct color_change *change, char *text, size_t size)
{
    static const char names[] = "bcsh";
    size_t used = 0;
    for (int i = 0; i < change->count; i++)
        used += (size_t)snprintf(text + used, size - used, "%c %.17g, ",
                                 names[change->order[i]], change->factor[change->order[i]]);
    snprintf(text + used, size - used, "gray %d", change->gray);
}

/* All colours at once take long: only by the best instruction set. */
static void test_golden(const struct picture pictures[PICTURES])
{
    for (size_t i = 0; i < sizeof color_golden / sizeof color_golden[0]; i++) {
        const struct color_golden *golden = &color_golden[i];
        const struct picture *in = &pictures[golden->picture];
        uint8_t *out = malloc(in->pixels * 3);
        char text[200];
        describe(&golden->change, text, sizeof text);
        for (size_t variant = 0; golden->picture < 2 || variant == 0; variant++) {
            memcpy(out, in->rgb, in->pixels * 3);
            if (!color_change_apply_variant(&golden->change, out, in->pixels, variant))
                break;
            uint32_t crc = (uint32_t)crc32(0, out, (unsigned)(in->pixels * 3));
            CHECK(crc == golden->crc32, "variant %zu, picture %d, %s: %08x, torchvision %08x",
                  variant, golden->picture, text, crc, golden->crc32);
        }
        free(out);
    }
}

/* Pixels beyond a block's end are neither read nor written, and each is on its own. */
static void test_sizes(const struct picture *noise)
{
    const struct color_change change = {{COLOR_SATURATION, COLOR_HUE, COLOR_BRIGHTNESS}, 3,
                                        {0.9, 1, 1.2, 0.05}, false};
    uint8_t *whole = malloc(noise->pixels * 3);
    memcpy(whole, noise->rgb, noise->pixels * 3);
    color_change_apply(&change, whole, noise->pixels);
    for (size_t variant = 0; variant < 3; variant++) {
        size_t bad = 0, last = 0;
        for (size_t pixels = 0; pixels <= 130; pixels++) {
            uint8_t *part = malloc(pixels * 3 + 1); /* exact, for the sanitizer */
            memcpy(part, noise->rgb, pixels * 3);
            part[pixels * 3] = 77;
            if (color_change_apply_variant(&change, part, pixels, variant) &&
                (memcmp(part, whole, pixels * 3) != 0 || part[pixels * 3] != 77)) {
                bad++;
                last = pixels;
            }
            free(part);
        }
        CHECK(bad == 0, "variant %zu: %zu sizes, the last of %zu pixels", variant, bad, last);
    }
    free(whole);
}

static const struct color_jitter recipe = {{0.32, 0.32, 0.32, 0.08}, 0.8, 0.2};

static struct color_change draw(const struct color_jitter *jitter, uint64_t sample)
{
    struct rng rng;
    rng_init(&rng, 3, 0, sample, RNG_COLOR);
    return color_jitter_draw(jitter, &rng);
}

/* Shares within five standard errors; factors uniform over their whole range. */
static void test_draws(void)
{
    enum { DRAWS = 20000 };
    double jittered = 0, gray = 0, mean[COLOR_STEPS] = {0}, square[COLOR_STEPS] = {0};
    int place[COLOR_STEPS][COLOR_STEPS] = {{0}}, out_of_range = 0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        struct color_change change = draw(&recipe, i);
        gray += change.gray;
        jittered += change.count > 0;
        CHECK(change.count == 0 || change.count == 4, "%d steps", change.count);
        for (int k = 0; k < change.count; k++)
            place[change.order[k]][k]++;
        for (int s = 0; s < COLOR_STEPS; s++) {
            double unit = (change.factor[s] - (s == COLOR_HUE ? 0 : 1)) / recipe.amount[s];
            out_of_range += !(fabs(unit) <= 1);
            mean[s] += unit / DRAWS;
            square[s] += unit * unit / DRAWS;
        }
    }
    CHECK_NEAR(jittered / DRAWS, 0.8, 5 * sqrt(0.16 / DRAWS), "share of jittered images");
    CHECK_NEAR(gray / DRAWS, 0.2, 5 * sqrt(0.16 / DRAWS), "share of gray images");
    CHECK(out_of_range == 0, "%d factors out of range", out_of_range);
    for (int s = 0; s < COLOR_STEPS; s++) {
        CHECK_NEAR(mean[s], 0, 5 / sqrt(3.0 * DRAWS), "mean of factor %d", s);
        CHECK_NEAR(square[s], 1.0 / 3, 5 * sqrt(4.0 / 45 / DRAWS), "variance of factor %d", s);
        for (int k = 0; k < COLOR_STEPS; k++)
            CHECK_NEAR(place[s][k] / jittered, 0.25, 5 * sqrt(3.0 / 16 / jittered),
                       "step %d at place %d", s, k);
    }
}

static void test_amounts(void)
{
    const struct color_jitter none = {{0, 0, 0, 0}, 1, 0}, never = {{1, 1, 1, 0.5}, 0, 0};
    const struct color_jitter gray = {{0, 0, 0, 0}, 0, 1}, wide = {{3, 0, 0, 0.5}, 1, 0};
    CHECK(color_jitter_active(&recipe) && color_jitter_active(&gray) &&
              !color_jitter_active(&none) && !color_jitter_active(&never),
          "active");
    double least = 9, most = -9;
    for (uint64_t i = 0; i < 1000; i++) {
        struct color_change a = draw(&recipe, i), b = draw(&recipe, i);
        CHECK(memcmp(&a.factor, &b.factor, sizeof a.factor) == 0 && a.count == b.count &&
                  a.gray == b.gray,
              "sample %d was drawn twice and differs", (int)i);
        CHECK(draw(&none, i).count == 0 && draw(&never, i).count == 0, "an idle change");
        CHECK(draw(&gray, i).gray && draw(&gray, i).count == 0, "gray alone");
        struct color_change one = draw(&wide, i);
        CHECK(one.count == 2, "%d steps of 2", one.count);
        least = fmin(least, one.factor[COLOR_BRIGHTNESS]);
        most = fmax(most, one.factor[COLOR_BRIGHTNESS]);
        CHECK(one.factor[COLOR_BRIGHTNESS] >= 0 && fabs(one.factor[COLOR_HUE]) <= 0.5,
              "brightness %g, hue %g", one.factor[COLOR_BRIGHTNESS], one.factor[COLOR_HUE]);
    }
    CHECK(least < 0.05 && most > 3.95, "brightness from %g to %g", least, most);
}

int main(void)
{
    struct picture pictures[PICTURES] = {make_noise(), make_cube(3), make_cube(1)};
    test_golden(pictures);
    test_sizes(&pictures[0]);
    test_draws();
    test_amounts();
    for (int i = 0; i < PICTURES; i++)
        free(pictures[i].rgb);
    return check_report("color_jitter");
}
