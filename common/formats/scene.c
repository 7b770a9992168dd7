#include "formats/scene.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"

static const double pi = 3.14159265358979323846;

/* Every pixel is sampled at SAMPLES x SAMPLES points. */
enum { SAMPLES = 4 };

struct color {
    const char *name;
    uint8_t rgb[3];
};

/* Far from each other and from the muted backgrounds, also after JPEG's chroma subsampling. */
static const struct color colors[SCENE_COLORS] = {
    {"red", {220, 25, 30}},     {"green", {25, 150, 50}},  {"blue", {30, 60, 220}},
    {"yellow", {245, 220, 30}}, {"purple", {135, 30, 165}}, {"orange", {245, 125, 15}},
    {"white", {242, 242, 242}}, {"black", {16, 16, 16}},
};

/* ---- shapes: which points belong to them, x to the right, y down, within radius 1 ---- */

typedef bool inside_shape(double x, double y);

static bool inside_circle(double x, double y)
{
    return x * x + y * y <= 1;
}

static bool inside_square(double x, double y)
{
    return fabs(x) <= 0.72 && fabs(y) <= 0.72;
}

/* Three sides at distance 1/2 from the centre. */
static bool inside_triangle(double x, double y)
{
    static const double half_root3 = 0.86602540378443865;
    return y <= 0.5 && half_root3 * x - 0.5 * y <= 0.5 && -half_root3 * x - 0.5 * y <= 0.5;
}

/* The five lines of a pentagram are at distance cos 72 degrees from its centre, with normals
 * that point away from the tips. Its points are on the inner side of at least four. */
static bool inside_star(double x, double y)
{
    static const double normals[5][2] = {
        {0, 1},
        {0.95105651629515357, 0.30901699437494742},
        {-0.95105651629515357, 0.30901699437494742},
        {0.58778525229247313, -0.80901699437494742},
        {-0.58778525229247313, -0.80901699437494742},
    };
    int outer = 0;
    for (int i = 0; i < 5; i++)
        outer += x * normals[i][0] + y * normals[i][1] > 0.30901699437494742;
    return outer <= 1;
}

static bool inside_cross(double x, double y)
{
    return (fabs(x) <= 0.28 && fabs(y) <= 0.95) || (fabs(y) <= 0.28 && fabs(x) <= 0.95);
}

static bool inside_ring(double x, double y)
{
    double square = x * x + y * y;
    return square <= 1 && square >= 0.6 * 0.6;
}

/* The curve (x^2 + y^2 - 1)^3 = x^2 y^3, y up, scaled to fit. */
static bool inside_heart(double x, double y)
{
    double u = 1.2 * x, v = 0.12 - 1.2 * y;
    double a = u * u + v * v - 1;
    return a * a * a <= u * u * v * v * v;
}

static bool inside_diamond(double x, double y)
{
    return fabs(x) / 0.62 + fabs(y) <= 1;
}

static bool inside_line(double x, double y)
{
    return fabs(x) <= 1 && fabs(y) <= 0.06;
}

struct shape {
    const char *name;
    inside_shape *inside;
    double turn;   /* may be turned by this much either way and is still itself, degrees */
    double mark_x; /* a point well inside is (mark_x, 0) */
};

static const struct shape shapes[SCENE_SHAPES] = {
    {"circle", inside_circle, 180, 0},  {"square", inside_square, 12, 0},
    {"triangle", inside_triangle, 15, 0}, {"star", inside_star, 36, 0},
    {"cross", inside_cross, 12, 0},     {"ring", inside_ring, 180, 0.8},
    {"heart", inside_heart, 15, 0},     {"diamond", inside_diamond, 10, 0},
};

/* ---- painting ---- */

struct canvas {
    uint8_t *pixels; /* [side,side,3] */
    int side;
};

static uint8_t *pixel_at(const struct canvas *canvas, int column, int row)
{
    return canvas->pixels + 3 * ((size_t)row * (size_t)canvas->side + (size_t)column);
}

static int clamp_int(double value, int low, int high)
{
    return value < low ? low : value > high ? high : (int)value;
}

/* Blends a shape over what is there, by the share of each pixel that it covers. Centre and
 * radius in pixels. */
static void paint_shape(const struct canvas *canvas, inside_shape *inside, double x, double y,
                        double radius, double angle, const uint8_t rgb[3])
{
    double reach = radius * 1.05 + 1;
    int left = clamp_int(floor(x - reach), 0, canvas->side);
    int right = clamp_int(ceil(x + reach), 0, canvas->side);
    int top = clamp_int(floor(y - reach), 0, canvas->side);
    int bottom = clamp_int(ceil(y + reach), 0, canvas->side);
    double c = cos(angle) / radius, s = sin(angle) / radius;
    for (int row = top; row < bottom; row++)
        for (int column = left; column < right; column++) {
            int covered = 0;
            for (int i = 0; i < SAMPLES * SAMPLES; i++) {
                double dx = column + (i % SAMPLES + 0.5) / SAMPLES - x;
                double dy = row + (i / SAMPLES + 0.5) / SAMPLES - y;
                covered += inside(c * dx + s * dy, c * dy - s * dx);
            }
            uint8_t *pixel = pixel_at(canvas, column, row);
            for (int i = 0; i < 3 && covered > 0; i++)
                pixel[i] = (uint8_t)((pixel[i] * (SAMPLES * SAMPLES - covered) +
                                      rgb[i] * covered + SAMPLES * SAMPLES / 2) /
                                     (SAMPLES * SAMPLES));
        }
}

static double between(struct rng *rng, double low, double high)
{
    return low + (high - low) * rng_uniform(rng);
}

/* A grey with a hint of colour, away from black, white and every full colour. */
static void muted_color(struct rng *rng, double rgb[3])
{
    double level = between(rng, 85, 180);
    for (int i = 0; i < 3; i++)
        rgb[i] = level + between(rng, -18, 18);
}

enum ground {
    GROUND_PLAIN,
    GROUND_GRADIENT,
    GROUND_STRIPES,
    GROUND_NOISE,
    GROUND_CHECKS,
    GROUNDS
};

/* Two muted colours and how much of the second each pixel has. */
static void paint_ground(const struct canvas *canvas, struct rng *rng)
{
    enum ground ground = (enum ground)rng_below(rng, GROUNDS);
    double first[3], second[3];
    muted_color(rng, first);
    muted_color(rng, second);
    double angle = between(rng, 0, pi), c = cos(angle), s = sin(angle);
    double period = between(rng, 0.12, 0.4), noise = between(rng, 6, 25);
    for (int row = 0; row < canvas->side; row++)
        for (int column = 0; column < canvas->side; column++) {
            double x = (column + 0.5) / canvas->side, y = (row + 0.5) / canvas->side;
            double share = 0, grain = 0;
            double along = c * (x - 0.5) + s * (y - 0.5);
            double across = c * (y - 0.5) - s * (x - 0.5);
            if (ground == GROUND_GRADIENT)
                share = 0.5 + along / 1.42;
            else if (ground == GROUND_STRIPES)
                share = (int)floor(2 * along / period) & 1;
            else if (ground == GROUND_CHECKS)
                share = ((int)floor(2 * along / period) + (int)floor(2 * across / period)) & 1;
            else if (ground == GROUND_NOISE)
                grain = between(rng, -noise, noise);
            uint8_t *pixel = pixel_at(canvas, column, row);
            for (int i = 0; i < 3; i++)
                pixel[i] = (uint8_t)(first[i] + share * (second[i] - first[i]) + grain + 0.5);
        }
}

static void paint_distractors(const struct canvas *canvas, struct rng *rng)
{
    int count = (int)rng_below(rng, 5);
    for (int i = 0; i < count; i++) {
        bool line = rng_below(rng, 2) == 1;
        double radius = line ? between(rng, 0.08, 0.2) : between(rng, 0.015, 0.035);
        double x = between(rng, 0, 1), y = between(rng, 0, 1), angle = between(rng, 0, pi);
        uint8_t grey = (uint8_t)between(rng, 75, 190);
        const uint8_t rgb[3] = {grey, grey, grey};
        paint_shape(canvas, line ? inside_line : inside_circle, x * canvas->side,
                    y * canvas->side, radius * canvas->side, angle, rgb);
    }
}

/* ---- what is in the scene ---- */

/* One pair for each of six shapes, all of different colours: 1 + 3 i mod 8. */
bool scene_is_unseen(int label)
{
    int shape = label / SCENE_COLORS, color = label % SCENE_COLORS;
    return shape < SCENE_UNSEEN && color == (1 + 3 * shape) % SCENE_COLORS;
}

static int draw_class(struct rng *rng, enum scene_split split, uint64_t index)
{
    if (split == SCENE_TEST)
        return (int)(index % SCENE_CLASSES);
    int label;
    do
        label = (int)rng_below(rng, SCENE_CLASSES);
    while (scene_is_unseen(label));
    return label;
}

/* A centre for the third `part` of the side that a shape of this radius fits into. The thirds
 * keep apart, so that the words for them are true. */
static double draw_centre(struct rng *rng, int part, double radius)
{
    double middle = between(rng, 0.46, 0.54), left = between(rng, radius + 0.01, 0.38);
    return part == 0 ? left : part == 1 ? middle : 1 - left;
}

static void describe_scene(struct scene *scene, struct rng *rng)
{
    static const double radii[][2] = {{0.15, 0.18}, {0.21, 0.25}, {0.29, 0.35}};
    scene->size = (enum scene_size)rng_below(rng, 3);
    scene->radius = between(rng, radii[scene->size][0], radii[scene->size][1]);
    scene->column = (int)rng_below(rng, 3);
    scene->row = (int)rng_below(rng, 3);
    scene->x = draw_centre(rng, scene->column, scene->radius);
    scene->y = draw_centre(rng, scene->row, scene->radius);
    scene->angle = between(rng, -1, 1) * shapes[scene->shape].turn * pi / 180;
    scene->quality = 75 + (int)rng_below(rng, 21);
    for (int i = 0; i < 3; i++)
        scene->rgb[i] =
            (uint8_t)clamp_int(colors[scene->color].rgb[i] + between(rng, -12, 12), 0, 255);
}

/* ---- captions ---- */

/* {a} becomes "a" or "an"; {size} may be left out, and takes its blank with it. */
static const char *const captions[] = {
    "{a} {color} {shape}",
    "{color} {shape}",
    "a photo of {a} {size}{color} {shape} {place}",
    "a drawing of {a} {size}{color} {shape}",
    "a picture of {a} {color} {shape} {place}",
    "there is {a} {size}{color} {shape} in the picture",
    "{a} {size}{color} {shape} {place}",
    "{place} there is {a} {size}{color} {shape}",
    "the {shape} {place} is {color}",
    "a {shape} that is {color}",
    "an image of one {size}{color} {shape}",
    "{size}{color} {shape}, {place}",
};

static const char *const size_words[][3] = {
    {"small ", "little ", "tiny "}, {"", "medium-sized ", ""}, {"large ", "big ", "huge "}};

static const char *const place_words[3][3] = {
    {"in the top left corner", "at the top", "in the top right corner"},
    {"on the left", "in the middle", "on the right"},
    {"in the bottom left corner", "at the bottom", "in the bottom right corner"}};

/* Marks the place of an article until the word behind it is known. */
static const char article = '\1';

static const char *caption_word(const struct scene *scene, const char *slot, const char *size)
{
    static const char mark[] = {article, '\0'};
    switch (slot[1]) {
    case 'a':
        return mark;
    case 'c':
        return colors[scene->color].name;
    case 'p':
        return place_words[scene->row][scene->column];
    default:
        return strncmp(slot, "{shape}", 7) == 0 ? shapes[scene->shape].name : size;
    }
}

static void write_caption(struct scene *scene, struct rng *rng)
{
    const char *pattern = captions[rng_below(rng, sizeof captions / sizeof captions[0])];
    const char *size = size_words[scene->size][rng_below(rng, 3)];
    char words[sizeof scene->caption];
    size_t length = 0;
    for (; *pattern != '\0'; pattern++) {
        if (*pattern != '{') {
            words[length++] = *pattern;
            continue;
        }
        const char *word = caption_word(scene, pattern, size);
        length += (size_t)snprintf(words + length, sizeof words - length, "%s", word);
        pattern = strchr(pattern, '}');
    }
    words[length] = '\0';

    char *out = scene->caption;
    for (const char *c = words; *c != '\0'; c++) {
        *out++ = *c == article ? 'a' : *c;
        if (*c == article && strchr("aeiou", c[2]) != NULL)
            *out++ = 'n';
    }
    *out = '\0';
}

/* ---- the whole ---- */

void scene_draw(struct scene *scene, uint64_t seed, enum scene_split split, uint64_t index,
                int side, uint8_t *pixels)
{
    const struct canvas canvas = {pixels, side};
    struct rng rng;
    rng_init(&rng, seed, (uint64_t)split, index, RNG_SCENE);
    int label = draw_class(&rng, split, index);
    *scene = (struct scene){.shape = label / SCENE_COLORS, .color = label % SCENE_COLORS};
    describe_scene(scene, &rng);
    write_caption(scene, &rng);
    paint_ground(&canvas, &rng);
    paint_distractors(&canvas, &rng);
    paint_shape(&canvas, shapes[scene->shape].inside, scene->x * side, scene->y * side,
                scene->radius * side, scene->angle, scene->rgb);
}

void scene_shape_pixel(const struct scene *scene, int side, int *x, int *y)
{
    double along = shapes[scene->shape].mark_x * scene->radius;
    *x = (int)((scene->x + along * cos(scene->angle)) * side);
    *y = (int)((scene->y + along * sin(scene->angle)) * side);
}

void scene_class_name(int label, char name[32])
{
    snprintf(name, 32, "%s %s", colors[label % SCENE_COLORS].name,
             shapes[label / SCENE_COLORS].name);
}

const char *scene_shape_name(int shape)
{
    return shapes[shape].name;
}

const char *scene_color_name(int color)
{
    return colors[color].name;
}

const uint8_t *scene_color_rgb(int color)
{
    return colors[color].rgb;
}
