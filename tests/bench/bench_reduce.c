/* bench_reduce [MILLISECONDS] - speed of each reduction on one core, from memory to memory, as
 * rows of a Markdown table: samples, bytes kept, and for masks memcpy over as many bytes.
 *
 * Batches are of 256 samples, as in the stage. A time is the least of several runs, those of a
 * strategy and of memcpy in turn, so that a machine that is busy for a while slows both. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/number.h"
#include "formats/reduce_image.h"
#include "formats/reduce_text.h"
#include "formats/resample.h"

enum { BATCH = 256, TOKENS_MAX = 30 };

static int64_t milliseconds = 300;
static struct rng rng;
static uint64_t epoch; /* of the run, so that each draws anew */

/* What a run works on; one for all. */
struct job {
    size_t side, patch;
    struct patch_chooser chooser;
    struct resampler *resampler;
    uint8_t *images;  /* [BATCH,side,side,3] */
    uint8_t *out;     /* as large */
    size_t kept_bytes;
    uint64_t scratch[16];
    int32_t position[BATCH * 1024];
    struct text_reduction text;
    struct buffer text_scratch;
    int32_t tokens[BATCH][TOKENS_MAX], word[BATCH][TOKENS_MAX];
    uint8_t priority[BATCH][TOKENS_MAX];
    size_t count[BATCH];
    int32_t text_tokens[BATCH * TEXT_LENGTH_MAX];
};

static struct job job;

typedef void operation(void);

static void run_mask(void)
{
    const size_t image_bytes = job.side * job.side * 3;
    const size_t keep = job.chooser.keep, patch_bytes = job.patch * job.patch * 3;
    for (size_t i = 0; i < BATCH; i++) {
        int32_t *position = job.position + i * keep;
        rng_init(&rng, 1, epoch, i, RNG_IMAGE_TOKENS);
        patch_chooser_draw(&job.chooser, &rng, job.scratch, position);
        image_copy_patches(&job.chooser.grid, job.images + i * image_bytes, position, keep,
                           job.out + i * keep * patch_bytes);
    }
    epoch++;
}

static void run_memcpy(void)
{
    memcpy(job.out, job.images, job.kept_bytes);
}

static void run_resize(void)
{
    const size_t image_bytes = job.side * job.side * 3;
    const size_t side = job.chooser.reduction.amount;
    struct error error;
    for (size_t i = 0; i < BATCH; i++)
        if (resample_whole(job.resampler, job.images + i * image_bytes, job.side, job.side,
                           job.out + i * side * side * 3, side, side, &error) != STATUS_OK)
            exit(error.status);
}

static void run_text(void)
{
    static const struct text_specials specials = {49406, 49407, 0};
    struct error error;
    for (size_t i = 0; i < BATCH; i++) {
        const struct text_input input = {job.tokens[i], job.word[i], job.priority[i],
                                         job.count[i]};
        rng_init(&rng, 1, epoch, i, RNG_TEXT_TOKENS);
        if (text_reduce(&job.text, &specials, &input, &rng, &job.text_scratch,
                        job.text_tokens + i * job.text.length, &error) != STATUS_OK)
            exit(error.status);
    }
    epoch++;
}

static double seconds_of(operation *run)
{
    const int64_t before = clock_now_ns();
    run();
    return 1e-9 * (double)(clock_now_ns() - before);
}

/* Prints a row; `with_memcpy`: and the rate of memcpy. */
static void measure(const char *title, operation *run, size_t bytes, bool with_memcpy)
{
    double best = INFINITY, best_memcpy = INFINITY;
    const int64_t start = clock_now_ns();
    job.kept_bytes = bytes;
    do {
        best = fmin(best, seconds_of(run));
        if (with_memcpy)
            best_memcpy = fmin(best_memcpy, seconds_of(run_memcpy));
    } while (clock_now_ns() - start < milliseconds * 1000000);
    const double gigabytes = 1e-9 * (double)bytes;
    printf("| %s | %.0f | %.2f |", title, BATCH / best, gigabytes / best);
    if (with_memcpy)
        printf(" %.2f | %.2f |\n", gigabytes / best_memcpy, best_memcpy / best);
    else
        printf(" | |\n");
    fflush(stdout);
}

static void bench_image(size_t side, size_t patch, bool corner, const char *strategy)
{
    struct image_reduction reduction = {.corner = corner};
    struct patch_grid grid;
    struct error error;
    char title[100];
    job.side = side;
    job.patch = patch;
    enum status status = image_reduction_parse(&reduction, strategy, &error);
    snprintf(title, sizeof title, "%s%s, %zu px", strategy, corner ? " fixed" : "", side);
    if (reduction.strategy == IMAGE_RESIZE) {
        job.chooser.reduction = reduction;
        measure(title, run_resize, BATCH * reduction.amount * reduction.amount * 3, false);
        return;
    }
    if (status == STATUS_OK)
        status = patch_grid_init(&grid, side, side, patch, &error);
    if (status == STATUS_OK)
        status = patch_chooser_prepare(&job.chooser, &reduction, &grid, &error);
    if (status != STATUS_OK) {
        fprintf(stderr, "bench_reduce: %s\n", error.text);
        exit(status);
    }
    snprintf(title, sizeof title, "%s%s, %zu px, patches of %zu", strategy,
             corner ? " fixed" : "", side, patch);
    measure(title, run_mask, BATCH * job.chooser.keep * patch * patch * 3, true);
}

static void bench_text(const char *strategy)
{
    struct error error;
    char title[100];
    if (text_reduction_parse(&job.text, strategy, &error) != STATUS_OK)
        exit(error.status);
    snprintf(title, sizeof title, "%s", strategy);
    measure(title, run_text, BATCH * job.text.length * sizeof(int32_t), false);
}

/* Captions of 4 to 30 tokens, words of one or two. */
static void make_inputs(void)
{
    const size_t bytes = (size_t)BATCH * 224 * 224 * 3;
    struct error error;
    job.images = malloc(bytes);
    job.out = malloc(bytes);
    if (job.images == NULL || job.out == NULL ||
        resampler_open(&job.resampler, RESAMPLE_BICUBIC, &error) != STATUS_OK)
        exit(STATUS_SYSTEM);
    rng_init(&rng, 5, 0, 0, RNG_TEST);
    for (size_t i = 0; i < bytes; i++)
        job.images[i] = (uint8_t)(rng_next(&rng) >> 56);
    memset(job.out, 1, bytes);
    for (size_t i = 0; i < BATCH; i++) {
        job.count[i] = 4 + rng_below(&rng, TOKENS_MAX - 3);
        for (size_t j = 0; j < TOKENS_MAX; j++) {
            job.tokens[i][j] = (int32_t)rng_below(&rng, 49406);
            job.word[i][j] = (int32_t)(2 * j / 3);
            job.priority[i][j] = (uint8_t)(1 + rng_below(&rng, 4));
        }
    }
}

int main(int argc, char **argv)
{
    if (argc > 2 || (argc == 2 && !number_parse_integer(argv[1], &milliseconds))) {
        fprintf(stderr, "usage: bench_reduce [MILLISECONDS]\n");
        return STATUS_USAGE;
    }
    make_inputs();
    printf("| reduction, batches of %d | samples/s | GB/s kept | memcpy GB/s | ratio |\n"
           "| --- | ---: | ---: | ---: | ---: |\n",
           BATCH);
    bench_image(224, 16, false, "random:49");
    bench_image(224, 16, false, "grid:49");
    bench_image(224, 16, true, "grid:49");
    bench_image(224, 16, false, "block:49");
    bench_image(224, 14, false, "random:64");
    bench_image(112, 16, false, "random:12");
    bench_image(112, 16, false, "grid:12");
    bench_image(112, 16, false, "block:12");
    bench_image(224, 16, false, "resize:112");
    bench_text("truncate:16");
    bench_text("random:16");
    bench_text("shuffle:16");
    bench_text("block:16");
    bench_text("syntax:16");
    return 0;
}
