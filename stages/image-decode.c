/* image-decode - encoded images to pixels of one size, as a model is trained or evaluated.
 *
 * In:   `image_bytes` U8 ragged: JPEG, WebP or PNG
 * Out:  `image` U8 [B,N,N,3] in its place; samples that cannot be decoded are dropped
 * Memory: one record, its pixels, and for each thread one decoded image.
 * Ends: with the stream. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/number.h"
#include "base/pool.h"
#include "formats/image.h"
#include "formats/image_square.h"
#include "frame/bad_samples.h"
#include "frame/stage.h"
#include "model/config.h"
#include "model/step_directory.h"
#include "stream/position.h"

/* By enum square_crop and square_filter. */
static const char *const crop_names[] = {"random", "center", "squash", "longest", NULL};
static const char *const interpolation_names[] = {"bicubic", "bilinear", "random", NULL};

static struct {
    const char *like, *mean, *std, *color_jitter;
    int64_t size, seed, threads, max_image_pixels, fill_color;
    double scale[2], ratio[2];
    int crop, interpolation;
    bool keep;
    struct color_jitter jitter;
    struct bad_samples bad;
} options = {
    .max_image_pixels = IMAGE_PIXELS_MAX,
    .scale = {0.9, 1.0},
    .ratio = {3.0 / 4.0, 4.0 / 3.0},
    .bad = BAD_SAMPLES_DEFAULTS,
};

static struct option_spec option_table[] = {
    {.name = "size", .letter = 'n', .argument = "N",
     .help = "side of the image in pixels; default: --like's",
     OPTION_INTEGER(&options.size, 1, 8192)},
    {.name = "like", .argument = "DIR",
     .help = "prepare images for evaluation as this checkpoint or model file says",
     OPTION_TEXT(&options.like)},
    {.name = "crop", .argument = "KIND", .help = "what becomes the square",
     OPTION_CHOICE(&options.crop, crop_names)},
    {.name = "scale", .argument = "A,B", .help = "area of a random crop, of the image's",
     OPTION_PAIR(&options.scale, 1e-6, 1)},
    {.name = "ratio", .argument = "A,B", .help = "its width by its height",
     OPTION_PAIR(&options.ratio, 1e-3, 1e3)},
    {.name = "fill-color", .argument = "N", .help = "gray around an image that longest pads",
     OPTION_INTEGER(&options.fill_color, 0, 255)},
    {.name = "interpolation", .argument = "KIND", .help = "antialiased in any case",
     OPTION_CHOICE(&options.interpolation, interpolation_names)},
    {.name = "color-jitter", .argument = "B,C,S,H",
     .help = "range of brightness, contrast, saturation and hue",
     OPTION_TEXT(&options.color_jitter)},
    {.name = "color-jitter-prob", .argument = "P", .help = "share of images that are jittered",
     OPTION_REAL(&options.jitter.probability, 0, 1)},
    {.name = "gray-scale-prob", .argument = "P", .help = "share of images that become gray",
     OPTION_REAL(&options.jitter.gray_probability, 0, 1)},
    {.name = "mean", .argument = "R,G,B", .help = "passed on to later stages, not subtracted",
     OPTION_TEXT(&options.mean)},
    {.name = "std", .argument = "R,G,B", .help = "likewise", OPTION_TEXT(&options.std)},
    {.name = "seed", .argument = "N", .help = "of the random crops and colours",
     OPTION_INTEGER(&options.seed, 0, 0x1p53)},
    {.name = "max-image-pixels", .argument = "N", .help = "larger images are bad samples",
     OPTION_INTEGER(&options.max_image_pixels, 1, 0x1p40)},
    BAD_SAMPLES_OPTIONS(&options.bad),
    {.name = "keep", .help = "pass on image_bytes, too", OPTION_FLAG(&options.keep)},
    {.name = "threads", .letter = 'j', .argument = "N", .neutral = true,
     .help = "0: one per processor", OPTION_INTEGER(&options.threads, 0, 256)},
};

static const struct program program = {
    .name = "image-decode",
    .purpose = "Decodes, crops, resizes and jitters the images of a stream.",
    .operands = "[FILE]",
    .example = "shard-reader 'data/{0..9}.tar' | image-decode --size 112 --scale 0.4,1.0 | ...",
    .streams = STAGE_READS | STAGE_WRITES,
    .options = option_table,
    .option_count = sizeof option_table / sizeof option_table[0],
};

struct work {
    struct pool *pool;
    struct square_recipe recipe;
    struct square_maker **makers; /* one for each thread */
    struct ragged encoded;        /* of the current record */
    const int64_t *position;      /* of the current record, or NULL */
    uint64_t samples;             /* of the records before */
    struct buffer pixels;         /* [B,N,N,3] */
    struct buffer errors;         /* struct error [B]; status says whether the sample is bad */
    struct buffer keep;           /* bool [B] */
};

/* ---- one sample, on any thread ---- */

static void decode_item(void *context, size_t sample, int worker)
{
    struct work *work = context;
    const int64_t *offsets = work->encoded.offsets + sample;
    const uint8_t *bytes = (const uint8_t *)work->encoded.data + offsets[0];
    const size_t square = work->recipe.side * work->recipe.side * 3;
    const struct sample_identity id = position_identity(work->position, sample, work->samples);
    struct error *error = (struct error *)work->errors.data + sample;
    error->status = square_make(work->makers[worker], &work->recipe, bytes,
                                (size_t)(offsets[1] - offsets[0]), id.epoch, id.sample,
                                work->pixels.data + sample * square, error);
}

/* ---- one record ---- */

static enum status prepare(struct work *work, struct record *record, struct error *error)
{
    size_t pixels = work->recipe.side * work->recipe.side * 3, bytes;
    enum status status =
        record_require_ragged(record, "image_bytes", DTYPE_U8, &work->encoded, error);
    if (status == STATUS_OK)
        status = position_find(record, &work->position, error);
    if (status != STATUS_OK)
        return status;
    if (!size_multiply(work->encoded.batch, pixels, &bytes))
        return error_memory(error, SIZE_MAX, "images");
    status = buffer_reserve(&work->pixels, bytes, error);
    if (status == STATUS_OK)
        status =
            buffer_reserve(&work->errors, work->encoded.batch * sizeof(struct error), error);
    if (status == STATUS_OK)
        status = buffer_reserve(&work->keep, work->encoded.batch, error);
    return status;
}

/* Reports bad samples in order, whichever thread met them. */
static size_t report_bad(struct stage *stage, const struct work *work, struct record *record)
{
    const struct error *errors = (const struct error *)work->errors.data;
    bool *keep = (bool *)work->keep.data;
    struct ragged keys = {.data = NULL};
    struct error ignored;
    size_t bad = 0;
    bool named = record_require_ragged(record, "key", DTYPE_U8, &keys, &ignored) == STATUS_OK;
    for (size_t i = 0; i < work->encoded.batch; i++) {
        keep[i] = errors[i].status == STATUS_OK;
        if (keep[i])
            continue;
        if (errors[i].status != STATUS_DATA)
            stage_fail(stage, &errors[i]);
        const char *key = named ? (const char *)keys.data + keys.offsets[i] : NULL;
        size_t key_size = named ? (size_t)(keys.offsets[i + 1] - keys.offsets[i]) : 0;
        bad_samples_take(&options.bad, stage, key, key_size, work->samples + i + 1, &errors[i]);
        bad++;
    }
    return bad;
}

/* Replaces image_bytes by image; the number of samples left in *batch. */
static enum status decode_record(struct stage *stage, struct work *work, struct record *record,
                                 size_t *batch, struct error *error)
{
    enum status status = prepare(work, record, error);
    if (status != STATUS_OK)
        return status;
    *batch = work->encoded.batch;
    pool_run(work->pool, *batch, decode_item, work);
    size_t bad = report_bad(stage, work, record);
    work->samples += *batch;

    if (!options.keep)
        record_remove(record, "image_bytes");
    const size_t side = work->recipe.side, shape[] = {*batch, side, side, 3};
    struct tensor image;
    tensor_init(&image, "image", DTYPE_U8, 4, shape, work->pixels.data);
    status = record_put(record, &image, error);
    if (status == STATUS_OK && bad > 0)
        *batch = record_select(record, (const bool *)work->keep.data, *batch);
    return status;
}

/* ---- options that need more than a parser ---- */

static bool given(const char *name)
{
    for (size_t i = 0; i < program.option_count; i++)
        if (strcmp(option_table[i].name, name) == 0)
            return option_table[i].given;
    return false;
}

/* The configuration that --like means: a file, a checkpoint's, or that of the newest checkpoint
 * below an output directory. */
static void find_config(struct stage *stage, char path[STEP_PATH_MAX])
{
    struct error error;
    struct stat about;
    int64_t *steps = NULL;
    size_t count = 0;
    snprintf(path, STEP_PATH_MAX, "%s", options.like);
    if (stat(path, &about) != 0 || !S_ISDIR(about.st_mode))
        return;
    snprintf(path, STEP_PATH_MAX, "%.*s/%s", STEP_PATH_MAX - STEP_NAMES_MAX, options.like,
             CHECKPOINT_CONFIG_NAME);
    if (access(path, F_OK) == 0)
        return;
    stage_check(stage, step_list(options.like, &steps, &count, &error), &error);
    if (count > 0)
        stage_check(stage,
                    step_path(path, options.like, steps[0], "/" CHECKPOINT_CONFIG_NAME, &error),
                    &error);
    free(steps);
}

/* What later stages read as three numbers: each with the fewest digits that give it back. */
static void set_color_fact(struct stage *stage, const char *key, const double value[3])
{
    char text[120] = "";
    for (int c = 0; c < 3; c++) {
        char number[40];
        for (int digits = 1; digits <= 17; digits++) {
            snprintf(number, sizeof number, "%.*g", digits, value[c]);
            if (strtod(number, NULL) == value[c])
                break;
        }
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%s", c == 0 ? "" : ",", number);
    }
    stage_set_fact(stage, key, text);
}

/* open_clip trains with bicubic crops, whatever the model is evaluated with. */
static void take_config(struct stage *stage)
{
    static const char *const resize_modes[] = {"", "shortest", "squash", "longest"};
    struct clip_config config;
    struct error error;
    char path[STEP_PATH_MAX];
    find_config(stage, path);
    stage_check(stage, clip_config_load(&config, path, NULL, &error), &error);
    const struct preprocess_config *like = &config.preprocess;

    if (options.size == 0)
        options.size = (int64_t)config.vision.image_size;
    for (int crop = SQUARE_CENTER; crop <= SQUARE_LONGEST && !given("crop"); crop++)
        if (strcmp(like->resize_mode, resize_modes[crop]) == 0)
            options.crop = crop;
    if (!given("interpolation") && options.crop != SQUARE_RANDOM)
        options.interpolation =
            strcmp(like->interpolation, "bilinear") == 0 ? SQUARE_BILINEAR : SQUARE_BICUBIC;
    if (!given("fill-color"))
        options.fill_color = like->fill_color;
    set_color_fact(stage, "image.mean", like->mean);
    set_color_fact(stage, "image.std", like->std);
    clip_config_free(&config);
}

/* `low` is the least that makes sense. */
static enum status parse_color(struct stage *stage, const char *text, const char *key,
                               double low, struct error *error)
{
    double value[3];
    if (text == NULL)
        return STATUS_OK;
    bool good = number_parse_list(text, value, 3);
    if (!good || value[0] < low || value[1] < low || value[2] < low)
        return error_set(error, STATUS_USAGE,
                         "--%s: expected three numbers R,G,B of pixels in [0,1], found '%.60s'",
                         strchr(key, '.') + 1, text);
    set_color_fact(stage, key, value);
    return STATUS_OK;
}

static enum status parse_jitter(struct error *error)
{
    double *amount = options.jitter.amount;
    if ((options.color_jitter != NULL) != (options.jitter.probability > 0))
        return error_set(error, STATUS_USAGE,
                         "--color-jitter and --color-jitter-prob go together");
    if (options.color_jitter == NULL)
        return STATUS_OK;
    bool good = number_parse_list(options.color_jitter, amount, COLOR_STEPS);
    for (int step = 0; good && step < COLOR_STEPS; step++)
        good = amount[step] >= 0 && amount[step] <= (step == COLOR_HUE ? 0.5 : 1e3);
    return good ? STATUS_OK
                : error_set(error, STATUS_USAGE,
                            "--color-jitter: expected four numbers from 0 on, the last at most "
                            "0.5, found '%.60s'", options.color_jitter);
}

static struct square_recipe settle_recipe(struct stage *stage)
{
    struct error error;
    if (options.size == 0 && options.like == NULL) {
        error_set(&error, STATUS_USAGE, "--size is required without --like");
        stage_fail(stage, &error);
    }
    if (options.like != NULL)
        take_config(stage);
    stage_check(stage, parse_color(stage, options.mean, "image.mean", -1e3, &error), &error);
    stage_check(stage, parse_color(stage, options.std, "image.std", 1e-6, &error), &error);
    stage_check(stage, parse_jitter(&error), &error);
    stage_set_fact_number(stage, "image.size", options.size);
    stage_set_fact(stage, "image.crop", crop_names[options.crop]);
    stage_set_fact(stage, "image.interpolation", interpolation_names[options.interpolation]);
    return (struct square_recipe){.side = (size_t)options.size,
                                  .crop = (enum square_crop)options.crop,
                                  .filter = (enum square_filter)options.interpolation,
                                  .scale = {options.scale[0], options.scale[1]},
                                  .ratio = {options.ratio[0], options.ratio[1]},
                                  .fill = (uint8_t)options.fill_color,
                                  .jitter = options.jitter,
                                  .seed = (uint64_t)options.seed,
                                  .pixels_max = (uint64_t)options.max_image_pixels};
}

static void begin(struct stage *stage, struct work *work)
{
    struct error error;
    work->recipe = settle_recipe(stage);
    bad_samples_begin(&options.bad, stage);
    stage_check(stage, pool_open(&work->pool, (int)options.threads, &error), &error);
    size_t makers = (size_t)pool_threads(work->pool);
    work->makers = calloc(makers, sizeof work->makers[0]);
    if (work->makers == NULL)
        stage_fail(stage, (error_memory(&error, makers, "threads"), &error));
    for (size_t i = 0; i < makers; i++)
        stage_check(stage, square_maker_open(&work->makers[i], &error), &error);
}

static void end(struct work *work)
{
    for (int i = 0; i < pool_threads(work->pool); i++)
        square_maker_close(work->makers[i]);
    free(work->makers);
    pool_close(work->pool);
    buffer_free(&work->pixels);
    buffer_free(&work->errors);
    buffer_free(&work->keep);
}

int main(int argc, char **argv)
{
    struct stage stage;
    struct record record;
    struct error error;
    struct work work = {.samples = 0};
    size_t batch = 0;

    stage_begin(&stage, &program, argc, argv);
    begin(&stage, &work);
    stage_open_input(&stage);
    stage_open_output(&stage);

    while (stage_read(&stage, &record)) {
        stage_check(&stage, decode_record(&stage, &work, &record, &batch, &error), &error);
        if (batch > 0)
            stage_write(&stage, &record);
    }

    bad_samples_end(&options.bad, &stage, work.samples);
    end(&work);
    return stage_finish(&stage);
}
