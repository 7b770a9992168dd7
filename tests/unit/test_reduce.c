/* What token-reduce and eval-zeroshot are made of: the choice of patches and their copies,
 * captions of a fixed length, strategies as text, lists of lines and templates. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "formats/reduce_image.h"
#include "formats/reduce_text.h"
#include "formats/text_list.h"
#include "tests/unit/check.h"

enum { PATCHES_MAX = 1024 };

/* ---- patches ---- */

static enum status choose(size_t rows, size_t columns, size_t keep, uint64_t sample,
                          int32_t *position, struct error *error)
{
    static uint32_t scratch[PATCHES_MAX];
    const struct image_reduction reduction = {IMAGE_RANDOM, keep};
    const struct patch_grid grid = {rows, columns, 8};
    struct rng rng;
    rng_init(&rng, 9, 0, sample, RNG_IMAGE_TOKENS);
    return image_choose_patches(&reduction, &grid, &rng, scratch, position, error);
}

static void check_choice(size_t rows, size_t columns, size_t keep)
{
    int32_t position[PATCHES_MAX + 1], again[PATCHES_MAX];
    struct error error = {.status = STATUS_OK};
    for (uint64_t sample = 0; sample < 50; sample++) {
        memset(position, 0x55, sizeof position);
        enum status status = choose(rows, columns, keep, sample, position, &error);
        CHECK(status == STATUS_OK, "%zu of %zu x %zu: %s", keep, rows, columns, error.text);
        size_t wrong = 0;
        for (size_t i = 0; i < keep; i++)
            wrong += position[i] < 0 || position[i] >= (int32_t)(rows * columns) ||
                     (i > 0 && position[i] <= position[i - 1]);
        CHECK(wrong == 0, "%zu of %zu x %zu, sample %d: %zu positions out of order or range",
              keep, rows, columns, (int)sample, wrong);
        CHECK(position[keep] == 0x55555555, "%zu of %zu x %zu: more than was asked", keep, rows,
              columns);
        CHECK(choose(rows, columns, keep, sample, again, &error) == STATUS_OK &&
                  memcmp(position, again, keep * sizeof position[0]) == 0,
              "%zu of %zu x %zu, sample %d: two results", keep, rows, columns, (int)sample);
    }
}

static void test_choices(void)
{
    static const size_t cases[][3] = {
        {1, 1, 1},  {14, 14, 1},  {14, 14, 49},   {14, 14, 195}, {14, 14, 196},
        {7, 13, 5}, {1, 300, 77}, {32, 32, 1023}, {32, 32, 1024},
    };
    int32_t position[PATCHES_MAX];
    struct error error;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_choice(cases[i][0], cases[i][1], cases[i][2]);
    CHECK(choose(14, 14, 197, 0, position, &error) == STATUS_DATA, "197 of 196 patches");
    CHECK(strstr(error.text, "197 of 196") != NULL, "'%s' does not give the numbers",
          error.text);
    CHECK(choose(1, 1, 2, 0, position, &error) == STATUS_DATA, "2 of 1 patch");
}

/* Kept in N of N * 5 / 12 draws each; the deviation is measured in standard errors. Every pair
 * is equally likely, too, so that no neighbours stick together. */
static void test_uniform(void)
{
    enum { ROWS = 3, COLUMNS = 4, PATCHES = ROWS * COLUMNS, KEEP = 5, DRAWS = 20000 };
    int single[PATCHES] = {0}, pair[PATCHES][PATCHES] = {{0}};
    int32_t position[KEEP];
    struct error error;
    for (uint64_t sample = 0; sample < DRAWS; sample++) {
        if (choose(ROWS, COLUMNS, KEEP, sample, position, &error) != STATUS_OK)
            CHECK(false, "%s", error.text);
        for (int i = 0; i < KEEP; i++)
            for (int j = 0; j < i; j++)
                pair[position[j]][position[i]]++;
        for (int i = 0; i < KEEP; i++)
            single[position[i]]++;
    }
    const double p = (double)KEEP / PATCHES, q = p * (KEEP - 1) / (PATCHES - 1);
    for (int i = 0; i < PATCHES; i++) {
        CHECK_NEAR(single[i], DRAWS * p, 4.5 * sqrt(DRAWS * p * (1 - p)), "patch %d", i);
        for (int j = i + 1; j < PATCHES; j++)
            CHECK_NEAR(pair[i][j], DRAWS * q, 4.5 * sqrt(DRAWS * q * (1 - q)),
                       "patches %d and %d", i, j);
    }
}

static void check_copy(size_t rows, size_t columns, size_t side, size_t keep)
{
    const size_t width = columns * side, bytes = side * side * 3;
    struct patch_grid grid = {.rows = 0};
    struct error error = {.status = STATUS_OK};
    int32_t position[PATCHES_MAX];
    uint8_t *image = malloc(rows * side * width * 3), *out = malloc(keep * bytes + 1);
    CHECK(patch_grid_init(&grid, rows * side, width, side, &error) == STATUS_OK, "%s",
          error.text);
    CHECK(grid.rows == rows && grid.columns == columns, "a grid of %zu x %zu", grid.rows,
          grid.columns);
    for (size_t i = 0; i < rows * side * width * 3; i++)
        image[i] = (uint8_t)(i * 2654435761u >> 22);
    CHECK(choose(rows, columns, keep, 3, position, &error) == STATUS_OK, "%s", error.text);
    out[keep * bytes] = 0xa5;
    image_copy_patches(&grid, image, position, keep, out);
    size_t wrong = 0;
    for (size_t i = 0; i < keep * bytes; i++) {
        size_t row = (size_t)position[i / bytes] / columns;
        size_t column = (size_t)position[i / bytes] % columns;
        size_t y = row * side + i % bytes / (side * 3);
        size_t x = column * side + i % (side * 3) / 3;
        wrong += out[i] != image[(y * width + x) * 3 + i % 3];
    }
    CHECK(wrong == 0, "%zu of %zu x %zu patches of %zu: %zu bytes are wrong", keep, rows,
          columns, side, wrong);
    CHECK(out[keep * bytes] == 0xa5, "written behind the end");
    free(out);
    free(image);
}

static void test_copies(void)
{
    struct patch_grid grid;
    struct error error;
    check_copy(1, 1, 1, 1);
    check_copy(2, 5, 3, 10);
    check_copy(5, 2, 16, 3);
    check_copy(7, 11, 14, 40);
    check_copy(14, 14, 8, 98);
    static const size_t bad[][3] = {{224, 224, 15}, {224, 225, 16}, {225, 224, 16},
                                    {0, 16, 16},    {16, 0, 16},    {16, 16, 0},
                                    {8, 8, 16}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(patch_grid_init(&grid, bad[i][0], bad[i][1], bad[i][2], &error) == STATUS_DATA,
              "%zu x %zu into patches of %zu", bad[i][0], bad[i][1], bad[i][2]);
}

/* ---- captions ---- */

static void check_text(const char *what, size_t length, size_t count,
                       const int32_t *expected)
{
    static const int32_t content[] = {11, 12, 13, 14, 15, 16};
    static const struct text_specials specials = {101, 102, 7};
    const struct text_reduction reduction = {TEXT_TRUNCATE, length};
    int32_t out[9];
    memset(out, 0x55, sizeof out);
    text_reduce(&reduction, &specials, count > 0 ? content : NULL, count, out);
    CHECK(memcmp(out, expected, length * sizeof out[0]) == 0, "%s: %d %d %d %d", what, out[0],
          out[1], out[2], out[3]);
    CHECK(out[length] == 0x55555555, "%s: written behind the end", what);
}

static void test_captions(void)
{
    check_text("empty", 5, 0, (const int32_t[]){101, 102, 7, 7, 7});
    check_text("short", 5, 1, (const int32_t[]){101, 11, 102, 7, 7});
    check_text("one place left", 5, 2, (const int32_t[]){101, 11, 12, 102, 7});
    check_text("exactly full", 5, 3, (const int32_t[]){101, 11, 12, 13, 102});
    check_text("one too many", 5, 4, (const int32_t[]){101, 11, 12, 13, 102});
    check_text("far too many", 4, 6, (const int32_t[]){101, 11, 12, 102});
    check_text("room for one", 3, 6, (const int32_t[]){101, 11, 102});
    check_text("room for none", 2, 6, (const int32_t[]){101, 102});
}

/* ---- strategies ---- */

static void test_strategies(void)
{
    static const struct {
        const char *text;
        enum image_strategy strategy;
        size_t amount;
    } good[] = {
        {"none", IMAGE_NONE, 0},           {"resize:1", IMAGE_RESIZE, 1},
        {"resize:8192", IMAGE_RESIZE, 8192}, {"random:49", IMAGE_RANDOM, 49},
        {"random:+7", IMAGE_RANDOM, 7},
    };
    static const char *const bad[] = {
        "",          "random",     "random:",      "random:0",    "random:-1", "resize:8193",
        "rand:3",    "randomly:3", "random:3x",    "random: 3 4", "none:3",    "Random:3",
        "random:1e2", "random=3",  ":3",           "random:99999999999999999999",
        "random:3:4", "%s%s%s%n",
    };
    struct image_reduction image;
    struct text_reduction text;
    struct error error;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        CHECK(image_reduction_parse(&image, good[i].text, &error) == STATUS_OK &&
                  image.strategy == good[i].strategy && image.amount == good[i].amount,
              "'%s' became %d:%zu", good[i].text, image.strategy, image.amount);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(image_reduction_parse(&image, bad[i], &error) == STATUS_USAGE, "'%s'", bad[i]);
        CHECK(strncmp(error.text, "--image: ", 9) == 0, "'%s' for '%s'", error.text, bad[i]);
    }
    CHECK(image_reduction_parse(&image, "blur:3", &error) == STATUS_USAGE &&
              strstr(error.text, "none, resize:N, random:N") != NULL,
          "'%s' does not list the strategies", error.text);
    CHECK(image_reduction_parse(&image, "random:0", &error) == STATUS_USAGE &&
              strstr(error.text, "from 1 to 8192") != NULL,
          "'%s' does not give the range", error.text);

    CHECK(image_reduction_parse(&image, "a\nb\x1b[2J\x7f", &error) == STATUS_USAGE &&
              strstr(error.text, "'a?b?[2J?'") != NULL,
          "'%s' is not one harmless line", error.text);

    CHECK(text_reduction_parse(&text, "none", &error) == STATUS_OK &&
              text.strategy == TEXT_NONE,
          "none became %d", text.strategy);
    CHECK(text_reduction_parse(&text, "truncate:2", &error) == STATUS_OK &&
              text.strategy == TEXT_TRUNCATE && text.length == 2,
          "truncate:2 became %d:%zu", text.strategy, text.length);
    CHECK(text_reduction_parse(&text, "truncate:4096", &error) == STATUS_OK, "%s", error.text);
    CHECK(text_reduction_parse(&text, "truncate:1", &error) == STATUS_USAGE, "truncate:1");
    CHECK(text_reduction_parse(&text, "truncate:4097", &error) == STATUS_USAGE, "4097");
    CHECK(text_reduction_parse(&text, "resize:8", &error) == STATUS_USAGE &&
              strncmp(error.text, "--text: ", 8) == 0,
          "'%s'", error.text);
}

/* ---- lists of lines ---- */

/* `expected`: the lines, each ended by '|'. */
static void check_list(const char *text, size_t size, const char *expected)
{
    struct text_list list;
    struct error error = {.status = STATUS_OK};
    char joined[200] = "";
    uint8_t *exact = malloc(size + 1);
    memcpy(exact + 1, text, size);
    enum status status = text_list_parse(&list, exact + 1, size, &error);
    for (size_t i = 0; i < list.count; i++) {
        size_t used = strlen(joined);
        snprintf(joined + used, sizeof joined - used, "%s|", list.lines[i]);
        CHECK(text_list_find(&list, list.lines[i]) <= i, "line %zu is not found", i);
    }
    CHECK(text_list_find(&list, "no such line") == list.count, "a line that is not there");
    CHECK(status == STATUS_OK && strcmp(joined, expected) == 0,
          "'%.*s': got '%s', expected '%s' %s", (int)size, text, joined, expected, error.text);
    text_list_free(&list);
    CHECK(list.count == 0 && list.lines == NULL, "freed, but not empty");
    free(exact);
}

#define LIST(text, expected) check_list(text, sizeof(text) - 1, expected)

static void test_lists(void)
{
    static const char *const empty[] = {"", "\n", " \n\t\n", "\r\n\r\n", "\xc2\x85"};
    struct text_list list;
    struct error error;
    LIST("cat", "cat|");
    LIST("cat\n", "cat|");
    LIST("cat\ndog", "cat|dog|");
    LIST("cat\r\ndog\r\n", "cat|dog|");
    LIST("cat\rdog\n\rfox", "cat|dog||fox|");
    LIST("\ncat\n\n\ndog\n\n\n", "|cat|||dog|");
    LIST("  hot dog \t\n", "hot dog|");
    LIST("a\x0b" "b\x0c" "c\x1c" "d\x1d" "e\x1e" "f", "a|b|c|d|e|f|");
    LIST("a\xc2\x85" "b\xe2\x80\xa8" "c\xe2\x80\xa9" "d", "a|b|c|d|");
    LIST("caf\xc3\xa9\n\xe2\x80\x94", "caf\xc3\xa9|\xe2\x80\x94|");
    LIST("a\x1f" "b\xc2", "a\x1f" "b\xc2|"); /* neither US nor half a NEL breaks a line */
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++)
        CHECK(text_list_parse(&list, (const uint8_t *)empty[i], strlen(empty[i]), &error) ==
                      STATUS_DATA &&
                  list.count == 0,
              "list %zu is not empty", i);
    CHECK(text_list_parse(&list, (const uint8_t *)"a\nb\0c", 5, &error) == STATUS_DATA &&
              strstr(error.text, "NUL") != NULL,
          "'%s'", error.text);
}

static void test_templates(void)
{
    static const struct {
        const char *template, *expected;
    } good[] = {
        {"a photo of a {c}.", "a photo of a hot {dog}."},
        {"{c}", "hot {dog}"},
        {"{c}{c}", "hot {dog}hot {dog}"},
        {"no class", "no class"},
        {"", ""},
        {"{{c}} is {c} is }}{{", "{c} is hot {dog} is }{"},
        {"{{{c}}}", "{hot {dog}}"},
    };
    static const char *const bad[] = {"{", "}", "{}", "{d}", "a {c", "a c}", "{{c}", "{ c}"};
    struct buffer out = {0};
    struct error error = {.status = STATUS_OK};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        const char *want = good[i].expected;
        enum status status = template_fill(good[i].template, "hot {dog}", &out, &error);
        CHECK(status == STATUS_OK && out.size == strlen(want) &&
                  (out.size == 0 || memcmp(out.data, want, out.size) == 0),
              "'%s': got '%.*s', expected '%s'", good[i].template, (int)out.size,
              out.size > 0 ? (const char *)out.data : "", want);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(template_fill(bad[i], "cat", &out, &error) == STATUS_DATA, "'%s'", bad[i]);
    buffer_free(&out);
}

int main(void)
{
    test_choices();
    test_uniform();
    test_copies();
    test_captions();
    test_strategies();
    test_lists();
    test_templates();
    return check_report("reduce");
}
