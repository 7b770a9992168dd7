/* token-reduce - fixes the length of image and text sequences, the heart of CLIPA.
 *
 * In:   `image` U8 [B,H,W,3], where --image is given; `tokens` I32 ragged, where --text is
 * Out:  a smaller `image`, or `patches` U8 [B,K,P*P*3] with `patches.position` I32 [B,K];
 *       `text_tokens` I32 [B,L]; everything else unchanged
 * Memory: one record in and what replaces it.
 * Ends: with the stream. */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/number.h"
#include "formats/reduce_image.h"
#include "formats/reduce_text.h"
#include "formats/resample.h"
#include "frame/stage.h"
#include "stream/position.h"

static struct {
    const char *image;
    const char *text;
    int64_t patch;
    int64_t seed;
    bool keep;
} options = {.image = "none", .text = "none", .patch = 16};

static struct option_spec option_table[] = {
    {.name = "image", .argument = "STRATEGY", .help = "none, resize:S or random:K",
     OPTION_TEXT(&options.image)},
    {.name = "text", .argument = "STRATEGY", .help = "none or truncate:L",
     OPTION_TEXT(&options.text)},
    {.name = "patch", .letter = 'p', .argument = "P",
     .help = "side of a patch in pixels, for the masks", OPTION_INTEGER(&options.patch, 1, 1024)},
    {.name = "seed", .argument = "N", .help = "seed of the random strategies",
     OPTION_INTEGER(&options.seed, 0, 0x1p53)},
    {.name = "keep", .help = "pass on what was replaced, too", OPTION_FLAG(&options.keep)},
};

static const struct program program = {
    .name = "token-reduce",
    .purpose = "Reduces the image and text tokens of a stream to a fixed number.",
    .operands = "[FILE]",
    .example = "... | token-reduce --image random:98 --text truncate:16 | train-step ...",
    .streams = STAGE_READS | STAGE_WRITES,
    .options = option_table,
    .option_count = sizeof option_table / sizeof option_table[0],
};

/* What one reduction needs from record to record. */
struct work {
    struct image_reduction image;
    struct text_reduction text;
    struct text_specials specials;
    uint64_t samples;         /* of the records before */
    uint64_t cut;             /* captions that were longer than L */
    struct patch_grid grid;   /* of the last record */
    struct buffer choice;     /* scratch for choosing patches */
    struct buffer pixels;     /* smaller images or patches */
    struct buffer positions;
    struct buffer text_tokens;
    struct resampler *resampler;
};

static enum status resize_images(struct work *work, struct record *record,
                                 const struct tensor *image, struct error *error)
{
    size_t batch = image->shape[0], height = image->shape[1], width = image->shape[2];
    size_t side = work->image.amount, pixels = side * side * 3, total;
    if (!size_multiply(batch, pixels, &total))
        return error_memory(error, SIZE_MAX, "resized images");
    enum status status = buffer_reserve(&work->pixels, total, error);
    for (size_t i = 0; status == STATUS_OK && i < batch; i++)
        status = resample_whole(work->resampler,
                                (const uint8_t *)image->data + i * height * width * 3, width,
                                height, work->pixels.data + i * pixels, side, side, error);
    if (status != STATUS_OK)
        return status;

    const size_t shape[] = {batch, side, side, 3};
    struct tensor smaller;
    tensor_init(&smaller, "image", DTYPE_U8, 4, shape, work->pixels.data);
    return record_put(record, &smaller, error);
}

/* Reserves the outputs for a batch of masked images; *patches is the number in the grid. */
static enum status prepare_mask(struct work *work, const struct tensor *image,
                                struct error *error)
{
    enum status status = patch_grid_init(&work->grid, image->shape[1], image->shape[2],
                                         (size_t)options.patch, error);
    size_t kept, bytes;
    if (status != STATUS_OK)
        return status;
    if (!size_multiply(image->shape[0], work->image.amount, &kept) ||
        !size_multiply(kept, (size_t)(options.patch * options.patch) * 3, &bytes))
        return error_memory(error, SIZE_MAX, "patches");
    status = buffer_reserve(&work->choice, work->grid.rows * work->grid.columns * 4, error);
    if (status == STATUS_OK)
        status = buffer_reserve(&work->pixels, bytes, error);
    if (status == STATUS_OK)
        status = buffer_reserve(&work->positions, kept * sizeof(int32_t), error);
    return status;
}

static enum status mask_images(struct work *work, struct record *record,
                               const struct tensor *image, struct error *error)
{
    const int64_t *positions;
    enum status status = prepare_mask(work, image, error);
    if (status == STATUS_OK)
        status = position_find(record, &positions, error);
    if (status != STATUS_OK)
        return status;

    size_t batch = image->shape[0], keep = work->image.amount;
    size_t image_bytes = image->shape[1] * image->shape[2] * 3;
    size_t patch_bytes = work->grid.patch * work->grid.patch * 3;
    int32_t *kept = (int32_t *)work->positions.data;
    for (size_t i = 0; i < batch && status == STATUS_OK; i++) {
        struct sample_identity id = position_identity(positions, i, work->samples);
        struct rng rng;
        rng_init(&rng, (uint64_t)options.seed, id.epoch, id.sample, RNG_IMAGE_TOKENS);
        status = image_choose_patches(&work->image, &work->grid, &rng,
                                      (uint32_t *)work->choice.data, kept + i * keep, error);
        if (status == STATUS_OK)
            image_copy_patches(&work->grid, (const uint8_t *)image->data + i * image_bytes,
                               kept + i * keep, keep,
                               work->pixels.data + i * keep * patch_bytes);
    }
    if (status != STATUS_OK)
        return status;

    struct tensor tensor;
    const size_t patches_shape[] = {batch, keep, patch_bytes};
    if (!options.keep)
        record_remove(record, "image");
    tensor_init(&tensor, "patches", DTYPE_U8, 3, patches_shape, work->pixels.data);
    status = record_put(record, &tensor, error);
    tensor_init(&tensor, "patches.position", DTYPE_I32, 2, patches_shape, kept);
    return status == STATUS_OK ? record_put(record, &tensor, error) : status;
}

static enum status reduce_images(struct work *work, struct record *record,
                                 struct error *error)
{
    const struct tensor *image;
    enum status status = record_require(record, "image", DTYPE_U8, 4, &image, error);
    if (status != STATUS_OK)
        return status;
    if (image->shape[3] != 3)
        return error_set(error, STATUS_DATA, "tensor 'image' has %zu channels, expected 3",
                         image->shape[3]);
    return work->image.strategy == IMAGE_RESIZE ? resize_images(work, record, image, error)
                                                : mask_images(work, record, image, error);
}

/* The last two ids of a byte-level BPE vocabulary are start and end; open_clip pads with 0. */
static enum status find_specials(const struct stage *stage, struct work *work,
                                 struct error *error)
{
    int64_t size;
    const char *text = stage_fact(stage, "tokenizer.size");
    if (text == NULL || !number_parse_integer(text, &size) || size < 2 || size > INT32_MAX) {
        error_set(error, STATUS_DATA, "the stream does not name its vocabulary");
        return error_hint(error, "tokens come from `tokenize --vocab FILE`, which writes the "
                                 "metadata tokenizer.size");
    }
    work->specials = (struct text_specials){(int32_t)(size - 2), (int32_t)(size - 1), 0};
    return STATUS_OK;
}

static enum status reduce_texts(struct stage *stage, struct work *work, struct record *record,
                                struct error *error)
{
    struct ragged tokens;
    enum status status = find_specials(stage, work, error);
    if (status == STATUS_OK)
        status = record_require_ragged(record, "tokens", DTYPE_I32, &tokens, error);
    size_t values;
    if (status != STATUS_OK)
        return status;
    if (!size_multiply(tokens.batch, work->text.length, &values))
        return error_memory(error, SIZE_MAX, "text tokens");
    status = buffer_reserve(&work->text_tokens, values * sizeof(int32_t), error);
    if (status != STATUS_OK)
        return status;

    int32_t *out = (int32_t *)work->text_tokens.data;
    for (size_t i = 0; i < tokens.batch; i++) {
        int64_t begin = tokens.offsets[i];
        size_t count = (size_t)(tokens.offsets[i + 1] - begin);
        text_reduce(&work->text, &work->specials, (const int32_t *)tokens.data + begin, count,
                    out + i * work->text.length);
        work->cut += count + 2 > work->text.length;
    }
    if (!options.keep) {
        record_remove(record, "tokens");
        record_remove(record, "tokens.word");
        record_remove(record, "tokens.priority");
    }
    struct tensor tensor;
    const size_t shape[] = {tokens.batch, work->text.length};
    tensor_init(&tensor, "text_tokens", DTYPE_I32, 2, shape, out);
    return record_put(record, &tensor, error);
}

static enum status reduce(struct stage *stage, struct work *work, struct record *record,
                          struct error *error)
{
    size_t batch;
    enum status status = record_batch(record, &batch, error);
    if (status == STATUS_OK && work->image.strategy != IMAGE_NONE)
        status = reduce_images(work, record, error);
    if (status == STATUS_OK && work->text.strategy != TEXT_NONE)
        status = reduce_texts(stage, work, record, error);
    work->samples += batch;
    return status;
}

static void set_facts(struct stage *stage, const struct work *work)
{
    if (work->image.strategy != IMAGE_NONE)
        stage_set_fact(stage, "image.strategy", options.image);
    if (work->image.strategy == IMAGE_RESIZE)
        stage_set_fact_number(stage, "image.size", (int64_t)work->image.amount);
    if (work->text.strategy != TEXT_NONE)
        stage_set_fact(stage, "text.strategy", options.text);
}

int main(int argc, char **argv)
{
    struct stage stage;
    struct record record;
    struct error error;
    struct work work = {.samples = 0};

    stage_begin(&stage, &program, argc, argv);
    stage_check(&stage, image_reduction_parse(&work.image, options.image, &error), &error);
    stage_check(&stage, text_reduction_parse(&work.text, options.text, &error), &error);
    stage_check(&stage, resampler_open(&work.resampler, RESAMPLE_BICUBIC, &error), &error);
    stage_open_input(&stage);
    stage_open_output(&stage);
    set_facts(&stage, &work);

    while (stage_read(&stage, &record)) {
        stage_check(&stage, reduce(&stage, &work, &record, &error), &error);
        stage_write(&stage, &record);
    }

    if (work.cut > 0)
        stage_note(&stage, "%.1f%% of the captions have more than %zu tokens and were shortened",
                   100.0 * (double)work.cut / (double)work.samples, work.text.length);
    resampler_close(work.resampler);
    buffer_free(&work.choice);
    buffer_free(&work.pixels);
    buffer_free(&work.positions);
    buffer_free(&work.text_tokens);
    return stage_finish(&stage);
}
