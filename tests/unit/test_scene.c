/* Scenes: the same key gives the same bytes, captions say what is drawn, the shape's pixels
 * have the named colour (also after JPEG and WebP), nothing else has it, and unseen pairs stay
 * away. */
#include <math.h>
#include <stdlib.h>

#include "formats/image.h"
#include "formats/scene.h"
#include "tests/unit/check.h"

enum { SIDE = 64, ROUNDS = 2000 };

static double color_distance(const uint8_t *a, const uint8_t *b)
{
    double sum = 0;
    for (int i = 0; i < 3; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sqrt(sum);
}

static int nearest_color(const uint8_t *rgb)
{
    int best = 0;
    for (int i = 1; i < SCENE_COLORS; i++)
        if (color_distance(rgb, scene_color_rgb(i)) <
            color_distance(rgb, scene_color_rgb(best)))
            best = i;
    return best;
}

static bool has_word(const char *text, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = text; (at = strstr(at, word)) != NULL; at += length)
        if ((at == text || at[-1] == ' ') && (at[length] == '\0' || strchr(" ,", at[length])))
            return true;
    return false;
}

static void test_same_key(void)
{
    static uint8_t a[SIDE * SIDE * 3], b[SIDE * SIDE * 3];
    struct scene first, second;
    for (uint64_t i = 0; i < 50; i++) {
        memset(&first, 0, sizeof first);
        memset(&second, 0xff, sizeof second);
        scene_draw(&first, 7, SCENE_TRAIN, i, SIDE, a);
        scene_draw(&second, 8, SCENE_TRAIN, i, SIDE, b);
        CHECK(memcmp(a, b, sizeof a) != 0, "seeds 7 and 8, scene %d", (int)i);
        scene_draw(&second, 7, SCENE_TRAIN, i + 1, SIDE, b);
        CHECK(memcmp(a, b, sizeof a) != 0, "scenes %d and the next", (int)i);
        scene_draw(&second, 7, SCENE_TEST, i, SIDE, b);
        CHECK(memcmp(a, b, sizeof a) != 0, "train and test, scene %d", (int)i);
        scene_draw(&second, 7, SCENE_TRAIN, i, SIDE, b);
        CHECK(memcmp(a, b, sizeof a) == 0 && strcmp(first.caption, second.caption) == 0,
              "scene %d is not repeatable", (int)i);
    }
}

/* The words for colour, shape, size and place are right where they are, and alone. */
static void check_caption(const struct scene *scene)
{
    static const char *const sizes[3][3] = {
        {"small", "little", "tiny"}, {"medium-sized", "-", "-"}, {"large", "big", "huge"}};
    const char *text = scene->caption;
    for (int i = 0; i < SCENE_COLORS; i++) {
        CHECK(has_word(text, scene_color_name(i)) == (i == scene->color), "'%s', colour %s",
              text, scene_color_name(i));
        CHECK(has_word(text, scene_shape_name(i)) == (i == scene->shape), "'%s', shape %s",
              text, scene_shape_name(i));
    }
    for (int i = 0; i < 9; i++)
        CHECK(!has_word(text, sizes[i / 3][i % 3]) || i / 3 == (int)scene->size,
              "'%s' for size %d", text, (int)scene->size);

    bool top_or_left = has_word(text, "top") || has_word(text, "left");
    bool bottom_or_right = has_word(text, "bottom") || has_word(text, "right");
    CHECK(!has_word(text, "top") || scene->y < 0.4, "'%s' at y = %g", text, scene->y);
    CHECK(!has_word(text, "bottom") || scene->y > 0.6, "'%s' at y = %g", text, scene->y);
    CHECK(!has_word(text, "left") || scene->x < 0.4, "'%s' at x = %g", text, scene->x);
    CHECK(!has_word(text, "right") || scene->x > 0.6, "'%s' at x = %g", text, scene->x);
    CHECK(!has_word(text, "middle") ||
              (!top_or_left && !bottom_or_right && fabs(scene->x - 0.5) < 0.1 &&
               fabs(scene->y - 0.5) < 0.1),
          "'%s' at %g, %g", text, scene->x, scene->y);
    CHECK(!has_word(text, "a orange") && strstr(text, "  ") == NULL &&
              strchr(text, '{') == NULL && text[strlen(text) - 1] != ' ' && text[0] != ' ',
          "'%s'", text);
    for (const char *c = strstr(text, "an "); c != NULL; c = strstr(c + 1, "an "))
        CHECK(strchr("aeiou", c[3]) != NULL, "'%s'", text);
}

static void check_color(const struct scene *scene, const uint8_t *pixels, int side,
                        const char *what)
{
    int x, y;
    scene_shape_pixel(scene, side, &x, &y);
    CHECK(x >= 0 && x < side && y >= 0 && y < side, "%s: the shape is at %d, %d", what, x, y);
    int got = nearest_color(pixels + 3 * (y * side + x));
    CHECK(got == scene->color, "%s '%s', side %d: pixel %d,%d is %s", what, scene->caption,
          side, x, y, scene_color_name(got));
}

/* Outside the shape's circle no pixel looks like a named colour. */
static void check_ground(const struct scene *scene, const uint8_t *pixels)
{
    double reach = scene->radius * 1.05 + 2.0 / SIDE;
    for (int i = 0; i < SIDE * SIDE; i++) {
        double dx = (i % SIDE + 0.5) / SIDE - scene->x, dy = (i / SIDE + 0.5) / SIDE - scene->y;
        const uint8_t *rgb = pixels + 3 * i;
        double distance = color_distance(rgb, scene_color_rgb(nearest_color(rgb)));
        if (dx * dx + dy * dy > reach * reach && !(distance > 40)) {
            CHECK(false, "'%s': ground pixel %d is %d,%d,%d", scene->caption, i, rgb[0], rgb[1],
                  rgb[2]);
            return;
        }
    }
}

static void check_encoded(struct image_decoder *decoder, const struct scene *scene,
                          const struct buffer *bytes, const char *what)
{
    struct error error;
    struct image_info info;
    const uint8_t *rgb;
    const struct image_region whole = {0, 0, SIDE, SIDE};
    enum status status = image_decoder_begin(decoder, bytes->data, bytes->size,
                                             IMAGE_PIXELS_MAX, &info, &error);
    if (status == STATUS_OK)
        status = image_decoder_region(decoder, &whole, &rgb, &error);
    CHECK(status == STATUS_OK, "%s: %s", what, error.text);
    if (status == STATUS_OK)
        check_color(scene, rgb, SIDE, what);
}

static void test_pictures(void)
{
    static uint8_t pixels[SIDE * SIDE * 3];
    struct image_decoder *decoder;
    struct buffer bytes = {0};
    struct error error;
    bool sizes[3] = {false}, places[9] = {false};
    CHECK(image_decoder_open(&decoder, &error) == STATUS_OK, "%s", error.text);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        struct scene scene;
        scene_draw(&scene, 1, i % 2 ? SCENE_TRAIN : SCENE_TEST, i, SIDE, pixels);
        sizes[scene.size] = places[3 * scene.row + scene.column] = true;
        check_caption(&scene);
        check_color(&scene, pixels, SIDE, "drawn");
        check_ground(&scene, pixels);
        CHECK(scene.quality >= 75 && scene.quality <= 95, "quality %d", scene.quality);
        if (i % 8 < 2) {
            image_encode_jpeg(pixels, SIDE, SIDE, scene.quality, &bytes, &error);
            check_encoded(decoder, &scene, &bytes, "JPEG");
            image_encode_webp(pixels, SIDE, SIDE, scene.quality, &bytes, &error);
            check_encoded(decoder, &scene, &bytes, "WebP");
        }
    }
    for (int i = 0; i < 9; i++)
        CHECK(places[i] && sizes[i / 3], "place %d or size %d never comes", i, i / 3);
    buffer_free(&bytes);
    image_decoder_close(decoder);
}

/* The same scene in other sizes, the limits among them. */
static void test_sides(void)
{
    static const int sides[] = {SCENE_SIDE_MIN, 17, 33, 224, 1000};
    for (int s = 0; s < 5; s++) {
        uint8_t *pixels = malloc((size_t)(sides[s] * sides[s]) * 3);
        for (uint64_t i = 0; i < (sides[s] > 100 ? 20 : 640); i++) {
            struct scene scene;
            scene_draw(&scene, 1, SCENE_TEST, i, sides[s], pixels);
            if (scene.size != SCENE_SMALL || sides[s] > 32)
                check_color(&scene, pixels, sides[s], "drawn");
        }
        free(pixels);
    }
}

static void test_unseen(void)
{
    static uint8_t pixels[SCENE_SIDE_MIN * SCENE_SIDE_MIN * 3];
    int train[SCENE_CLASSES] = {0}, test[SCENE_CLASSES] = {0}, unseen = 0;
    struct scene scene;
    for (uint64_t i = 0; i < 64 * 58; i++) {
        scene_draw(&scene, 5, SCENE_TRAIN, i, SCENE_SIDE_MIN, pixels);
        train[scene.shape * SCENE_COLORS + scene.color]++;
        scene_draw(&scene, 5, SCENE_TEST, i, SCENE_SIDE_MIN, pixels);
        test[scene.shape * SCENE_COLORS + scene.color]++;
    }
    for (int label = 0; label < SCENE_CLASSES; label++) {
        char name[32];
        scene_class_name(label, name);
        unseen += scene_is_unseen(label);
        CHECK(test[label] == 58, "%s: %d test scenes", name, test[label]);
        if (scene_is_unseen(label))
            CHECK(train[label] == 0, "%s: %d training scenes", name, train[label]);
        else
            CHECK(train[label] > 24 && train[label] < 104, "%s: %d training scenes", name,
                  train[label]);
    }
    CHECK(unseen == SCENE_UNSEEN, "%d classes are unseen", unseen);
}

static void test_names(void)
{
    for (int label = 0; label < SCENE_CLASSES; label++) {
        char name[32], other[32];
        scene_class_name(label, name);
        CHECK(has_word(name, scene_color_name(label % SCENE_COLORS)) &&
                  has_word(name, scene_shape_name(label / SCENE_COLORS)),
              "class %d is '%s'", label, name);
        for (int i = 0; i < label; i++) {
            scene_class_name(i, other);
            CHECK(strcmp(name, other) != 0, "classes %d and %d are both '%s'", i, label, name);
        }
    }
}

int main(void)
{
    test_same_key();
    test_pictures();
    test_sides();
    test_unseen();
    test_names();
    return check_report("scene");
}
