/* image-decode - encoded images to pixels of one size.
 *
 * In:   `image_bytes` U8 ragged: JPEG, WebP or PNG
 * Out:  `image` U8 [B,N,N,3] in its place; samples that cannot be decoded are dropped
 * Memory: one record, its pixels, and for each thread one decoded image.
 * Ends: with the stream. */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/number.h"
#include "base/pool.h"
#include "formats/crop.h"
#include "formats/image.h"
#include "formats/resample.h"
#include "frame/bad_samples.h"
#include "frame/stage.h"
#include "stream/position.h"

enum crop { CROP_RANDOM, CROP_CENTER, CROP_SQUASH };

static const char *const crop_names[] = {"random", "center", "squash", NULL};
static const char *const interpolation_names[] = {"bicubic", "bilinear", NULL};

static struct {
    int64_t size, seed, threads, max_image_pixels;
    double scale[2], ratio[2];
    int crop, interpolation;
    bool keep;
    struct bad_samples bad;
} options = {
    .max_image_pixels = IMAGE_PIXELS_MAX,
    .scale = {0.9, 1.0},
    .ratio = {3.0 / 4.0, 4.0 / 3.0},
    .bad = BAD_SAMPLES_DEFAULTS,
};

static struct option_spec option_table[] = {
    {.name = "size", .letter = 'n', .argument = "N", .required = true,
     .help = "side of the image in pixels", OPTION_INTEGER(&options.size, 1, 8192)},
    {.name = "crop", .argument = "KIND", .help = "what becomes the square",
     OPTION_CHOICE(&options.crop, crop_names)},
    {.name = "scale", .argument = "A,B", .help = "area of a random crop, of the image's",
     OPTION_PAIR(&options.scale, 1e-6, 1)},
    {.name = "ratio", .argument = "A,B", .help = "its width by its height",
     OPTION_PAIR(&options.ratio, 1e-3, 1e3)},
    {.name = "interpolation", .argument = "KIND", .help = "antialiased in either case",
     OPTION_CHOICE(&options.interpolation, interpolation_names)},
    {.name = "seed", .argument = "N", .help = "of the random crops",
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
    .purpose = "Decodes, crops and resizes the images of a stream.",
    .operands = "[FILE]",
    .example = "shard-reader 'data/{0..9}.tar' | image-decode --size 112 --scale 0.4,1.0 | ...",
    .streams = STAGE_READS | STAGE_WRITES,
    .options = option_table,
    .option_count = sizeof option_table / sizeof option_table[0],
};

/* What one thread works with. */
struct hand {
    struct image_decoder *decoder;
    struct resampler *resampler;
};

struct work {
    struct pool *pool;
    struct hand *hands;      /* one for each thread */
    struct ragged encoded;   /* of the current record */
    const int64_t *position; /* of the current record, or NULL */
    uint64_t samples;        /* of the records before */
    struct buffer pixels;    /* [B,N,N,3] */
    struct buffer errors;    /* struct error [B]; status says whether the sample is bad */
    struct buffer keep;      /* bool [B] */
};

/* ---- one sample, on any thread ---- */

/* The part of the image that is needed, and how the resized result is cut. */
static struct image_region choose_region(const struct work *work, size_t sample,
                                         const struct image_info *info,
                                         struct resample_job *job)
{
    struct image_region region = {.width = info->width, .height = info->height};
    size_t side = (size_t)options.size;
    *job = (struct resample_job){.out_width = side, .out_height = side,
                                 .window_width = side, .window_height = side};
    if (options.crop == CROP_RANDOM) {
        struct sample_identity id = position_identity(work->position, sample, work->samples);
        struct rng rng;
        rng_init(&rng, (uint64_t)options.seed, id.epoch, id.sample, RNG_CROP);
        region = crop_random(&rng, info->width, info->height, options.scale, options.ratio);
    } else if (options.crop == CROP_CENTER) {
        struct center_crop crop = crop_center(info->width, info->height, side);
        job->out_width = crop.out_width;
        job->out_height = crop.out_height;
        job->x = crop.x;
        job->y = crop.y;
    }
    job->width = region.width;
    job->height = region.height;
    return region;
}

static enum status decode_sample(const struct work *work, struct hand *hand, size_t sample,
                                 struct error *error)
{
    int64_t begin = work->encoded.offsets[sample], end = work->encoded.offsets[sample + 1];
    struct image_info info;
    enum status status = image_decoder_begin(
        hand->decoder, (const uint8_t *)work->encoded.data + begin, (size_t)(end - begin),
        (uint64_t)options.max_image_pixels, &info, error);
    if (status != STATUS_OK)
        return status;
    struct resample_job job;
    struct image_region region = choose_region(work, sample, &info, &job);
    status = image_decoder_region(hand->decoder, &region, &job.source, error);
    job.out = work->pixels.data + sample * (size_t)(options.size * options.size) * 3;
    return status == STATUS_OK ? resample_window(hand->resampler, &job, error) : status;
}

static void decode_item(void *context, size_t sample, int worker)
{
    struct work *work = context;
    struct error *error = (struct error *)work->errors.data + sample;
    error->status = decode_sample(work, &work->hands[worker], sample, error);
}

/* ---- one record ---- */

static enum status prepare(struct work *work, struct record *record, struct error *error)
{
    size_t pixels = (size_t)(options.size * options.size) * 3, bytes;
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
    const size_t side = (size_t)options.size, shape[] = {*batch, side, side, 3};
    struct tensor image;
    tensor_init(&image, "image", DTYPE_U8, 4, shape, work->pixels.data);
    status = record_put(record, &image, error);
    if (status == STATUS_OK && bad > 0)
        *batch = record_select(record, (const bool *)work->keep.data, *batch);
    return status;
}

static void begin(struct stage *stage, struct work *work)
{
    struct error error;
    bad_samples_begin(&options.bad, stage);
    stage_check(stage, pool_open(&work->pool, (int)options.threads, &error), &error);
    size_t hands = (size_t)pool_threads(work->pool);
    work->hands = calloc(hands, sizeof work->hands[0]);
    if (work->hands == NULL)
        stage_fail(stage, (error_memory(&error, hands, "threads"), &error));
    for (size_t i = 0; i < hands; i++) {
        stage_check(stage, image_decoder_open(&work->hands[i].decoder, &error), &error);
        stage_check(stage,
                    resampler_open(&work->hands[i].resampler,
                                   options.interpolation == 0 ? RESAMPLE_BICUBIC
                                                              : RESAMPLE_BILINEAR,
                                   &error),
                    &error);
    }
    stage_set_fact_number(stage, "image.size", options.size);
    stage_set_fact(stage, "image.crop", crop_names[options.crop]);
    stage_set_fact(stage, "image.interpolation", interpolation_names[options.interpolation]);
}

static void end(struct work *work)
{
    for (int i = 0; i < pool_threads(work->pool); i++) {
        image_decoder_close(work->hands[i].decoder);
        resampler_close(work->hands[i].resampler);
    }
    free(work->hands);
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
