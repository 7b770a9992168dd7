/* Which patches the image masks keep, how often, and what becomes of whole batches. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "formats/index_set.h"
#include "formats/reduce_image.h"
#include "formats/reduce_image_batch.h"
#include "tests/unit/check.h"

enum { PATCHES_MAX = 1024 };

/* ---- strategies as text ---- */

static void test_strategies(void)
{
    static const struct {
        const char *text;
        enum image_strategy strategy;
        size_t amount, share_bp;
    } good[] = {
        {"none", IMAGE_NONE, 0, 0},         {"resize:1", IMAGE_RESIZE, 1, 0},
        {"resize:8192", IMAGE_RESIZE, 8192, 0}, {"random:49", IMAGE_RANDOM, 49, 0},
        {"random:+7", IMAGE_RANDOM, 7, 0},  {"grid:67108864", IMAGE_GRID, 67108864, 0},
        {"block:25%", IMAGE_BLOCK, 0, 2500}, {"random:100%", IMAGE_RANDOM, 0, 10000},
        {"grid:0.01%", IMAGE_GRID, 0, 1},   {"random:33.33%", IMAGE_RANDOM, 0, 3333},
    };
    static const char *const bad[] = {
        "",          "random",     "random:",      "random:0",     "random:-1",   "resize:8193",
        "rand:3",    "randomly:3", "random:3x",    "random: 3 4",  "none:3",      "Random:3",
        "random:1e2", "random=3",  ":3",           "random:99999999999999999999", "block:0%",
        "random:3:4", "%s%s%s%n",  "resize:50%",   "grid:100.01%", "grid:-5%",    "grid:%",
        "grid:5%%",  "grid:5% ",   "grid:1.001%",  "grid:nan%",    "grid:inf%",
        "grid:67108865", "grid:0.001%", "grid:00000000000000000005%",
    };
    struct image_reduction image;
    struct error error;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        CHECK(image_reduction_parse(&image, good[i].text, &error) == STATUS_OK &&
                  image.strategy == good[i].strategy && image.amount == good[i].amount &&
                  image.share_bp == good[i].share_bp,
              "'%s' became %d:%zu or %zu / 10000", good[i].text, image.strategy, image.amount,
              image.share_bp);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(image_reduction_parse(&image, bad[i], &error) == STATUS_USAGE, "'%s'", bad[i]);
        CHECK(strncmp(error.text, "--image: ", 9) == 0, "'%s' for '%s'", error.text, bad[i]);
    }
    CHECK(image_reduction_parse(&image, "blur:3", &error) == STATUS_USAGE &&
              strstr(error.text, "none, resize:N, random:N, grid:N, block:N") != NULL,
          "'%s' does not list the strategies", error.text);
    CHECK(image_reduction_parse(&image, "resize:0", &error) == STATUS_USAGE &&
              strstr(error.text, "from 1 to 8192") != NULL && strchr(error.text, '%') == NULL,
          "'%s' does not give the range", error.text);
    CHECK(image_reduction_parse(&image, "grid:0", &error) == STATUS_USAGE &&
              strstr(error.text, "from 1 to 67108864, or N%") != NULL,
          "'%s' does not give the range", error.text);
    CHECK(image_reduction_parse(&image, "a\nb\x1b[2J\x7f", &error) == STATUS_USAGE &&
              strstr(error.text, "'a?b?[2J?'") != NULL,
          "'%s' is not one harmless line", error.text);
}

/* The counts of CLIPA's own runs, and shares that binary fractions would get wrong. */
static void test_shares(void)
{
    static const struct {
        size_t rows, columns, share_bp, keep;
    } cases[] = {
        {16, 16, 7000, 179}, {16, 16, 6000, 153}, {24, 24, 6000, 345}, {14, 14, 2500, 49},
        {10, 10, 2900, 29},  {10, 10, 5700, 57},  {7, 7, 1, 1},        {1, 1, 9999, 1},
        {3, 5, 10000, 15},   {8192, 8192, 10000, 67108864},
    };
    struct error error = {.status = STATUS_OK};
    size_t keep;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct patch_grid grid = {cases[i].rows, cases[i].columns, 1};
        const struct image_reduction reduction = {.strategy = IMAGE_RANDOM,
                                                  .share_bp = cases[i].share_bp};
        CHECK(image_patches_kept(&reduction, &grid, &keep, &error) == STATUS_OK &&
                  keep == cases[i].keep,
              "%zu / 10000 of %zu x %zu: kept %zu, expected %zu", cases[i].share_bp,
              cases[i].rows, cases[i].columns, keep, cases[i].keep);
    }
}

/* ---- choosing ---- */

static const char *const names[] = {"none", "resize", "random", "grid", "block"};

/* A chooser of K of rows x columns patches; empty, after a failed CHECK, where it fails. */
static struct patch_chooser prepare(enum image_strategy strategy, bool corner, size_t rows,
                                    size_t columns, size_t keep)
{
    const struct image_reduction reduction = {strategy, keep, 0, corner};
    const struct patch_grid grid = {rows, columns, 8};
    struct patch_chooser chooser = {.keep = 0};
    struct error error = {.status = STATUS_OK};
    enum status status = patch_chooser_prepare(&chooser, &reduction, &grid, &error);
    CHECK(status == STATUS_OK && chooser.keep == keep, "%s:%zu of %zu x %zu: kept %zu %s",
          names[strategy], keep, rows, columns, chooser.keep, error.text);
    return chooser;
}

static void draw(const struct patch_chooser *chooser, uint64_t epoch, uint64_t sample,
                 int32_t *position)
{
    static uint64_t scratch[PATCHES_MAX / 64];
    struct rng rng;
    rng_init(&rng, 9, epoch, sample, RNG_IMAGE_TOKENS);
    patch_chooser_draw(chooser, &rng, scratch, position);
}

static void check_choice(enum image_strategy strategy, bool corner, size_t rows, size_t columns,
                         size_t keep)
{
    struct patch_chooser chooser = prepare(strategy, corner, rows, columns, keep);
    int32_t position[PATCHES_MAX + 1], again[PATCHES_MAX];
    size_t wrong = 0, behind = 0, different = 0;
    for (uint64_t sample = 0; sample < 8; sample++) {
        memset(position, 0x55, sizeof position);
        draw(&chooser, 0, sample, position);
        for (size_t i = 0; i < keep; i++)
            wrong += position[i] < 0 || position[i] >= (int32_t)(rows * columns) ||
                     (i > 0 && position[i] <= position[i - 1]);
        behind += position[keep] != 0x55555555;
        draw(&chooser, 0, sample, again);
        different += memcmp(position, again, keep * sizeof position[0]) != 0;
    }
    CHECK(wrong == 0, "%s:%zu of %zu x %zu: %zu positions out of order or range",
          names[strategy], keep, rows, columns, wrong);
    CHECK(behind == 0, "%s:%zu of %zu x %zu: more than was asked", names[strategy], keep, rows,
          columns);
    CHECK(different == 0, "%s:%zu of %zu x %zu: two results for one sample", names[strategy],
          keep, rows, columns);
    patch_chooser_free(&chooser);
}

static void check_too_many(enum image_strategy strategy, size_t rows, size_t columns)
{
    const size_t patches = rows * columns;
    const struct image_reduction reduction = {strategy, patches + 1, 0, false};
    const struct patch_grid grid = {rows, columns, 8};
    struct patch_chooser chooser = {.keep = 0};
    struct error error = {.status = STATUS_OK};
    char numbers[50];
    snprintf(numbers, sizeof numbers, "%zu of %zu", patches + 1, patches);
    CHECK(patch_chooser_prepare(&chooser, &reduction, &grid, &error) == STATUS_DATA &&
              strstr(error.text, numbers) != NULL,
          "%s of %zu x %zu: '%s' does not say %s", names[strategy], rows, columns, error.text,
          numbers);
    patch_chooser_free(&chooser);
}

/* Every K of every small grid, and some of the large ones. */
static void test_choices(void)
{
    static const size_t large[][3] = {
        {14, 14, 1},   {14, 14, 48},   {14, 14, 49},  {14, 14, 195},
        {14, 14, 196}, {7, 13, 90},    {1, 300, 77},  {300, 1, 99},
        {32, 32, 1023}, {32, 32, 1024}, {2, 500, 333}, {31, 33, 500},
    };
    for (int strategy = IMAGE_RANDOM; strategy <= IMAGE_BLOCK; strategy++) {
        for (size_t rows = 1; rows <= 6; rows++)
            for (size_t columns = 1; columns <= 6; columns++) {
                for (size_t keep = 1; keep <= rows * columns; keep++)
                    check_choice(strategy, keep % 2 == 0, rows, columns, keep);
                check_too_many(strategy, rows, columns);
            }
        for (size_t i = 0; i < sizeof large / sizeof large[0]; i++)
            check_choice(strategy, i % 2 == 0, large[i][0], large[i][1], large[i][2]);
    }
}

/* A chooser may be prepared again, for another grid or strategy. */
static void test_prepare_again(void)
{
    const struct image_reduction grid_reduction = {IMAGE_GRID, 4, 0, false};
    const struct patch_grid wide = {2, 8, 8}, square = {4, 4, 8};
    struct patch_chooser again = prepare(IMAGE_GRID, true, 2, 8, 4);
    struct patch_chooser fresh = prepare(IMAGE_GRID, false, 4, 4, 4);
    struct error error;
    int32_t a[4], b[4];
    CHECK(patch_chooser_prepare(&again, &grid_reduction, &wide, &error) == STATUS_OK &&
              patch_chooser_prepare(&again, &grid_reduction, &square, &error) == STATUS_OK,
          "%s", error.text);
    size_t different = 0;
    for (uint64_t sample = 0; sample < 20; sample++) {
        draw(&again, 0, sample, a);
        draw(&fresh, 0, sample, b);
        different += memcmp(a, b, sizeof a) != 0;
    }
    CHECK(different == 0, "%zu of 20 draws differ from those of a fresh one", different);
    patch_chooser_free(&again);
    patch_chooser_free(&fresh);
}

/* ---- how likely each is ---- */

/* Chi-square of counts that ought to be equal, against its mean plus five deviations. */
static void check_even(const int *count, size_t cells, const char *what)
{
    double sum = 0, chi = 0;
    for (size_t i = 0; i < cells; i++)
        sum += count[i];
    const double mean = sum / (double)cells, freedom = (double)cells - 1;
    for (size_t i = 0; i < cells; i++)
        chi += (count[i] - mean) * (count[i] - mean) / mean;
    CHECK_NEAR(chi, freedom, 5 * sqrt(2 * freedom), "%s: chi-square of %zu counts", what,
               cells);
}

/* Each kept in 5/12 of the draws; the deviation is measured in standard errors. Every pair is
 * equally likely, too, so that no neighbours stick together. `keep` on either side of half. */
static void check_random(int keep)
{
    enum { ROWS = 3, COLUMNS = 4, PATCHES = ROWS * COLUMNS, DRAWS = 20000 };
    int single[PATCHES] = {0}, pair[PATCHES][PATCHES] = {{0}};
    int32_t position[PATCHES];
    struct patch_chooser chooser = prepare(IMAGE_RANDOM, false, ROWS, COLUMNS, (size_t)keep);
    for (uint64_t sample = 0; sample < DRAWS; sample++) {
        draw(&chooser, 0, sample, position);
        for (int i = 0; i < keep; i++)
            for (int j = 0; j < i; j++)
                pair[position[j]][position[i]]++;
        for (int i = 0; i < keep; i++)
            single[position[i]]++;
    }
    const double p = (double)keep / PATCHES, q = p * (keep - 1) / (PATCHES - 1);
    for (int i = 0; i < PATCHES; i++) {
        CHECK_NEAR(single[i], DRAWS * p, 4.5 * sqrt(DRAWS * p * (1 - p)), "%d kept: patch %d",
                   keep, i);
        for (int j = i + 1; j < PATCHES; j++)
            CHECK_NEAR(pair[i][j], DRAWS * q, 4.5 * sqrt(DRAWS * q * (1 - q)),
                       "%d kept: patches %d and %d", keep, i, j);
    }
    patch_chooser_free(&chooser);
}

/* ---- grid ---- */

/* One patch of each side x side window, each patch as often as another. */
static void check_windows(size_t side, size_t rows, size_t columns)
{
    enum { DRAWS = 4000 };
    const size_t across = columns / side, windows = rows / side * across;
    struct patch_chooser chooser = prepare(IMAGE_GRID, false, rows, columns, windows);
    int32_t position[PATCHES_MAX];
    int count[PATCHES_MAX] = {0};
    size_t wrong = 0;
    for (uint64_t sample = 0; sample < DRAWS; sample++) {
        bool seen[PATCHES_MAX] = {false};
        draw(&chooser, 0, sample, position);
        for (size_t i = 0; i < windows; i++) {
            const size_t row = (size_t)position[i] / columns;
            const size_t column = (size_t)position[i] % columns;
            const size_t window = row / side * across + column / side;
            wrong += seen[window];
            seen[window] = true;
            count[position[i]]++;
        }
    }
    CHECK(wrong == 0, "%zu x %zu, windows of %zu: %zu times two patches of a window", rows,
          columns, side, wrong);
    check_even(count, rows * columns, "patches under grid");
    patch_chooser_free(&chooser);
}

static void test_windows(void)
{
    check_windows(2, 2, 2);
    check_windows(2, 14, 14);
    check_windows(2, 4, 10);
    check_windows(2, 10, 4);
    check_windows(3, 9, 9);
    check_windows(3, 3, 12);
    check_windows(4, 8, 12);
    check_windows(1, 3, 5);
}

static void test_corners(void)
{
    struct patch_chooser chooser = prepare(IMAGE_GRID, true, 6, 8, 12);
    static const int32_t expected[] = {0, 2, 4, 6, 16, 18, 20, 22, 32, 34, 36, 38};
    int32_t position[12];
    for (uint64_t sample = 0; sample < 3; sample++) {
        draw(&chooser, sample, sample, position);
        CHECK(memcmp(position, expected, sizeof expected) == 0,
              "6 x 8, sample %d: not the upper left of each window: %d %d %d ...", (int)sample,
              position[0], position[1], position[2]);
    }
    patch_chooser_free(&chooser);
}

/* The cells of any grid: the path visits every patch once, goes from neighbour to neighbour but
 * between bands, and no cell is wider or higher than two bands. */
static void check_cells(size_t rows, size_t columns, size_t keep)
{
    const size_t patches = rows * columns;
    struct patch_chooser chooser = prepare(IMAGE_GRID, false, rows, columns, keep);
    const int32_t *path = (const void *)chooser.path.data;
    bool seen[PATCHES_MAX] = {false};
    size_t twice = 0, jumps = 0;
    long extent = 0;
    for (size_t cell = 0; cell < keep; cell++) {
        const size_t begin = cell * patches / keep, end = (cell + 1) * patches / keep;
        long low_row = 1000, high_row = 0, low_column = 1000, high_column = 0;
        for (size_t i = begin; i < end; i++) {
            const long row = path[i] / (long)columns, column = path[i] % (long)columns;
            twice += seen[path[i]];
            seen[path[i]] = true;
            if (i > 0) {
                const long up = labs(row - path[i - 1] / (long)columns);
                jumps += up + labs(column - path[i - 1] % (long)columns) != 1;
            }
            low_row = row < low_row ? row : low_row;
            high_row = row > high_row ? row : high_row;
            low_column = column < low_column ? column : low_column;
            high_column = column > high_column ? column : high_column;
        }
        extent = high_row - low_row > extent ? high_row - low_row : extent;
        extent = high_column - low_column > extent ? high_column - low_column : extent;
    }
    const double side = sqrt(ceil((double)patches / (double)keep));
    CHECK(twice == 0, "%zu x %zu, %zu cells: %zu patches in two", rows, columns, keep, twice);
    CHECK(jumps <= rows / (size_t)(side < 2 ? 1 : side), "%zu x %zu, %zu cells: %zu jumps",
          rows, columns, keep, jumps);
    CHECK((double)extent + 1 <= 2 * side + 2, "%zu x %zu, %zu cells: one extends over %ld",
          rows, columns, keep, extent + 1);
    patch_chooser_free(&chooser);
}

/* A cell of s patches gives each of them 1/s of the draws. */
static void check_odd_grid(size_t rows, size_t columns, size_t keep)
{
    enum { DRAWS = 6000 };
    const size_t patches = rows * columns;
    struct patch_chooser chooser = prepare(IMAGE_GRID, false, rows, columns, keep);
    const int32_t *path = (const void *)chooser.path.data;
    int32_t position[PATCHES_MAX];
    int count[PATCHES_MAX] = {0};
    for (uint64_t sample = 0; sample < DRAWS; sample++) {
        draw(&chooser, 0, sample, position);
        for (size_t i = 0; i < keep; i++)
            count[position[i]]++;
    }
    for (size_t cell = 0; cell < keep; cell++) {
        const size_t begin = cell * patches / keep, end = (cell + 1) * patches / keep;
        const double p = 1.0 / (double)(end - begin);
        for (size_t i = begin; i < end; i++)
            CHECK_NEAR(count[path[i]], DRAWS * p, 4.5 * sqrt(DRAWS * p * (1 - p)),
                       "%zu x %zu, %zu cells: patch %d", rows, columns, keep, path[i]);
    }
    patch_chooser_free(&chooser);
}

static void test_cells(void)
{
    for (size_t rows = 2; rows <= 16; rows += 2)
        for (size_t columns = 7; columns <= 16; columns += 3)
            for (size_t keep = rows * columns / 10 + 1; keep <= rows * columns; keep += 5)
                check_cells(rows, columns, keep);
    check_cells(14, 14, 49);
    check_cells(7, 7, 12);
    check_odd_grid(7, 7, 12);
    check_odd_grid(5, 3, 4);
    check_odd_grid(1, 11, 3);
    check_odd_grid(11, 1, 3);
    check_odd_grid(6, 6, 36);
}

/* ---- block ---- */

static void check_block(size_t rows, size_t columns, size_t keep, size_t high, size_t wide)
{
    enum { DRAWS = 5000 };
    struct patch_chooser chooser = prepare(IMAGE_BLOCK, false, rows, columns, keep);
    int32_t position[PATCHES_MAX];
    int count[PATCHES_MAX] = {0};
    size_t wrong = 0;
    for (uint64_t sample = 0; sample < DRAWS; sample++) {
        draw(&chooser, 0, sample, position);
        const size_t top = (size_t)position[0] / columns, left = (size_t)position[0] % columns;
        if (top + high > rows || left + wide > columns) {
            wrong++;
            continue;
        }
        count[top * (columns - wide + 1) + left]++;
        for (size_t i = 0; i < keep; i++)
            wrong += (size_t)position[i] !=
                     (top + i / wide) * columns + left + i % wide;
    }
    CHECK(wrong == 0, "block:%zu of %zu x %zu is not one of %zu x %zu", keep, rows, columns,
          high, wide);
    const size_t places = (rows - high + 1) * (columns - wide + 1);
    if (places > 1)
        check_even(count, places, "places of a block");
    else
        CHECK(count[0] == DRAWS, "block:%zu of %zu x %zu moves", keep, rows, columns);
    patch_chooser_free(&chooser);
}

static void test_blocks(void)
{
    check_block(14, 14, 49, 7, 7);
    check_block(14, 14, 1, 1, 1);
    check_block(14, 14, 2, 1, 2);
    check_block(14, 14, 3, 2, 2);     /* 1 x 3 is too long */
    check_block(14, 14, 98, 7, 14);
    check_block(14, 14, 50, 5, 10);
    check_block(14, 14, 47, 7, 7);    /* a prime: last row of 5 */
    check_block(14, 14, 195, 14, 14);
    check_block(14, 14, 196, 14, 14);
    check_block(7, 7, 12, 3, 4);
    check_block(7, 13, 90, 7, 13);
    check_block(13, 7, 12, 3, 4);
    check_block(2, 60, 50, 2, 25);    /* no squarer one fits */
    check_block(60, 2, 51, 26, 2);
    check_block(1, 9, 4, 1, 4);
    check_block(1, 1, 1, 1, 1);
}

/* ---- draws ---- */

static void test_draws(void)
{
    int32_t a[49], b[49];
    for (int strategy = IMAGE_RANDOM; strategy <= IMAGE_BLOCK; strategy++) {
        struct patch_chooser chooser = prepare(strategy, false, 14, 14, 49);
        size_t epochs = 0, samples = 0;
        for (uint64_t i = 0; i < 50; i++) {
            draw(&chooser, 0, i, a);
            draw(&chooser, 1, i, b);
            epochs += memcmp(a, b, sizeof a) == 0;
            draw(&chooser, 0, i + 1, b);
            samples += memcmp(a, b, sizeof a) == 0;
        }
        CHECK(epochs < 8, "%s: %zu of 50 samples are masked alike in two epochs",
              names[strategy], epochs);
        CHECK(samples < 8, "%s: %zu of 50 samples are masked as the next", names[strategy],
              samples);
        patch_chooser_free(&chooser);
    }
}

static void test_index_set(void)
{
    static const size_t cases[][2] = {{1, 0},   {1, 1},    {64, 0},   {64, 64},   {65, 33},
                                      {63, 62}, {128, 65}, {1000, 1}, {1000, 999}, {200, 100}};
    uint64_t set[17];
    int32_t list[1000];
    struct rng rng;
    rng_init(&rng, 1, 2, 3, RNG_TEST);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t count = cases[i][0], size = cases[i][1], words = index_set_words(count);
        memset(set, 0xff, sizeof set);
        index_set_draw(set, count, size, &rng);
        const size_t found = index_set_list(set, count, list);
        size_t wrong = 0;
        for (size_t j = 0; j < found; j++)
            wrong += (size_t)list[j] >= count || (j > 0 && list[j] <= list[j - 1]);
        CHECK(found == size && wrong == 0, "%zu of %zu: found %zu, %zu wrong", size, count,
              found, wrong);
        CHECK(set[words] == UINT64_MAX, "%zu of %zu: written behind the end", size, count);
    }
}

/* ---- copies ---- */

static uint8_t *make_pixels(size_t size)
{
    uint8_t *pixels = malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        pixels[i] = (uint8_t)(i * 2654435761u >> 22);
    return pixels;
}

static void check_copy(size_t rows, size_t columns, size_t side, size_t keep)
{
    const size_t width = columns * side, bytes = side * side * 3;
    struct patch_grid grid = {.rows = 0};
    struct error error = {.status = STATUS_OK};
    struct patch_chooser chooser = prepare(IMAGE_RANDOM, false, rows, columns, keep);
    int32_t position[PATCHES_MAX];
    uint8_t *image = make_pixels(rows * side * width * 3), *out = malloc(keep * bytes + 1);
    CHECK(patch_grid_init(&grid, rows * side, width, side, &error) == STATUS_OK, "%s",
          error.text);
    CHECK(grid.rows == rows && grid.columns == columns, "a grid of %zu x %zu", grid.rows,
          grid.columns);
    draw(&chooser, 0, 3, position);
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
    patch_chooser_free(&chooser);
}

static void test_copies(void)
{
    struct patch_grid grid;
    struct error error;
    for (size_t side = 1; side <= 33; side++)
        check_copy(2, 5, side, 7);
    check_copy(1, 1, 1, 1);
    check_copy(5, 2, 16, 3);
    check_copy(14, 14, 8, 98);
    static const size_t bad[][3] = {
        {224, 224, 15}, {224, 225, 16}, {225, 224, 16}, {0, 16, 16}, {16, 0, 16}, {16, 16, 0},
        {8, 8, 16},     {8192, 8193, 1}, {SIZE_MAX - 15, SIZE_MAX - 15, 16}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(patch_grid_init(&grid, bad[i][0], bad[i][1], bad[i][2], &error) == STATUS_DATA,
              "%zu x %zu into patches of %zu", bad[i][0], bad[i][1], bad[i][2]);
}

/* ---- whole batches ---- */

enum { BATCH = 70, HEIGHT = 24, WIDTH = 32, IMAGE_BYTES = HEIGHT * WIDTH * 3 };

/* The same images in one batch by one thread, and in two by three threads. */
static void check_batches(enum image_strategy strategy, size_t amount, size_t bytes)
{
    const struct image_reduction reduction = {strategy, amount, 0, false};
    struct image_reducer one = {.lanes = NULL}, three = {.lanes = NULL};
    struct pool *single = NULL, *triple = NULL;
    struct error error = {.status = STATUS_OK};
    uint8_t *images = make_pixels(BATCH * IMAGE_BYTES);
    const size_t cut = 33;
    const struct sample_draws whole = {4, NULL, 100}, rest = {4, NULL, 100 + cut};
    bool opened = pool_open(&single, 1, &error) == STATUS_OK &&
                  pool_open(&triple, 3, &error) == STATUS_OK &&
                  image_reducer_open(&one, &reduction, 4, RESAMPLE_BICUBIC, single, &error) ==
                      STATUS_OK &&
                  image_reducer_open(&three, &reduction, 4, RESAMPLE_BICUBIC, triple, &error) ==
                      STATUS_OK;
    CHECK(opened, "%s", error.text);
    enum status status =
        image_reducer_run(&one, images, BATCH, HEIGHT, WIDTH, &whole, &error);
    CHECK(status == STATUS_OK, "%s", error.text);
    status = image_reducer_run(&three, images, cut, HEIGHT, WIDTH, &whole, &error);
    CHECK(status == STATUS_OK && memcmp(one.pixels.data, three.pixels.data, cut * bytes) == 0,
          "%s: the first %zu differ %s", names[strategy], cut, error.text);
    status = image_reducer_run(&three, images + cut * IMAGE_BYTES, BATCH - cut, HEIGHT, WIDTH,
                               &rest, &error);
    CHECK(status == STATUS_OK && memcmp(one.pixels.data + cut * bytes, three.pixels.data,
                                        (BATCH - cut) * bytes) == 0,
          "%s: the others differ %s", names[strategy], error.text);
    status =
        image_reducer_run(&three, NULL, 0, (size_t)1 << 20, (size_t)1 << 40, &rest, &error);
    CHECK(status == (strategy == IMAGE_RESIZE ? STATUS_OK : STATUS_DATA),
          "%s: no image of great size: %d", names[strategy], status);
    image_reducer_close(&one);
    image_reducer_close(&three);
    pool_close(single);
    pool_close(triple);
    free(images);
}

/* Resizing is the resampler's, whatever the shape; a failure in a thread comes back. */
static void test_resize(void)
{
    const struct image_reduction reduction = {IMAGE_RESIZE, 9, 0, false};
    const struct sample_draws draws = {0, NULL, 0};
    struct image_reducer reducer = {.lanes = NULL};
    struct resampler *resampler = NULL;
    struct pool *pool = NULL;
    struct error error = {.status = STATUS_OK};
    uint8_t *images = make_pixels(3 * IMAGE_BYTES), expected[9 * 9 * 3];
    CHECK(pool_open(&pool, 2, &error) == STATUS_OK &&
              image_reducer_open(&reducer, &reduction, 16, RESAMPLE_BILINEAR, pool, &error) ==
                  STATUS_OK &&
              resampler_open(&resampler, RESAMPLE_BILINEAR, &error) == STATUS_OK,
          "%s", error.text);
    CHECK(image_reducer_run(&reducer, images, 3, HEIGHT, WIDTH, &draws, &error) == STATUS_OK,
          "%s", error.text);
    for (size_t i = 0; i < 3; i++)
        CHECK(resample_whole(resampler, images + i * IMAGE_BYTES, WIDTH, HEIGHT, expected, 9, 9,
                             &error) == STATUS_OK &&
                  memcmp(reducer.pixels.data + i * sizeof expected, expected,
                         sizeof expected) == 0,
              "image %zu differs", i);
    CHECK(image_reducer_run(&reducer, images, 3, 0, WIDTH, &draws, &error) == STATUS_DATA,
          "images without a row");
    image_reducer_close(&reducer);
    resampler_close(resampler);
    pool_close(pool);
    free(images);
}

int main(void)
{
    test_strategies();
    test_shares();
    test_choices();
    test_prepare_again();
    check_random(5);
    check_random(8);
    test_windows();
    test_corners();
    test_cells();
    test_blocks();
    test_draws();
    test_index_set();
    test_copies();
    check_batches(IMAGE_RANDOM, 11, 11 * 4 * 4 * 3);
    check_batches(IMAGE_GRID, 12, 12 * 4 * 4 * 3);
    check_batches(IMAGE_BLOCK, 12, 12 * 4 * 4 * 3);
    check_batches(IMAGE_RESIZE, 13, 13 * 13 * 3);
    test_resize();
    return check_report("reduce_image");
}
