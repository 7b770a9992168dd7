/* embed - the embeddings of images, captions or both by a checkpoint.
 *
 * In:   `image` U8 [B,S,S,3] or `patches` with `patches.position`;
 *       `text_tokens` I32 [B,L] or, in its absence, `text` U8 ragged
 * Out:  `image_embedding`, `text_embedding` F32 [B,E] of unit length in the place of what they
 *       were made from; everything else unchanged
 * Memory: the model for one batch, one record and its embeddings.
 * Ends: with the stream. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "frame/stage.h"
#include "frame/waiting.h"
#include "model/batch.h"
#include "model/caption_encoder.h"
#include "model/checkpoint.h"

enum modality { BOTH, IMAGE, TEXT };

static const char *const modality_names[] = {"both", "image", "text", NULL};

static struct {
    const char *model, *vocab;
    int64_t batch_size, threads;
    int modality, device, precision;
    bool keep, ema;
} options = {.batch_size = 64};

static struct option_spec option_table[] = {
    {.name = "model", .argument = "DIR", .required = true,
     .help = "a checkpoint, or the newest below DIR", OPTION_TEXT(&options.model)},
    {.name = "ema", .help = "the averaged weights", OPTION_FLAG(&options.ema)},
    {.name = "modality", .argument = "KIND",
     .help = "what to embed; both: all that the stream has",
     OPTION_CHOICE(&options.modality, modality_names)},
    {.name = "vocab", .argument = "FILE", .help = "in place of the checkpoint's vocabulary",
     OPTION_TEXT(&options.vocab)},
    {.name = "keep", .help = "pass on images and text tokens, too", OPTION_FLAG(&options.keep)},
    {.name = "batch-size", .argument = "N", .neutral = true,
     .help = "samples in the model at once", OPTION_INTEGER(&options.batch_size, 1, 65536)},
    {.name = "device", .argument = "NAME", .neutral = true, .help = "backend",
     OPTION_CHOICE(&options.device, kernels_device_names)},
    {.name = "precision", .argument = "NAME", .help = "arithmetic",
     OPTION_CHOICE(&options.precision, kernels_precision_names)},
    {.name = "threads", .letter = 'j', .argument = "N", .neutral = true,
     .help = "of the cpu backend; 0: one per processor",
     OPTION_INTEGER(&options.threads, 0, 1024)},
};

static const struct program program = {
    .name = "embed",
    .purpose = "Adds the embeddings of its images and captions to a stream.",
    .operands = "[FILE]",
    .example = "shard-reader 'data/{0..9}.tar' | image-decode --like run/ | embed --model run/ "
               "> embedded.rec",
    .streams = STAGE_READS | STAGE_WRITES,
    .options = option_table,
    .option_count = sizeof option_table / sizeof option_table[0],
};

struct work {
    struct stage *stage;
    struct kernels *kernels;
    struct checkpoint checkpoint;
    struct clip *clip; /* NULL before the first record */
    size_t kept;       /* patches that it is laid out for */
    bool images, texts;
    bool captions; /* the texts come as captions, not as tokens */
    struct caption_encoder encoder;
    struct buffer patches, position; /* of one batch */
    struct buffer tokens;            /* of one record, where they are made here */
    struct buffer image_embeddings, text_embeddings; /* F32 [B,E] */
};

/* ---- the first record says what there is to embed ---- */

/* A warning, because augmented images may be what the user wants to look at. */
static void compare_preparation(const struct work *work)
{
    static const char *const crops[][2] = {
        {"shortest", "center"}, {"squash", "squash"}, {"longest", "longest"}};
    const struct preprocess_config *like = &work->checkpoint.config.preprocess;
    const char *crop = stage_fact(work->stage, "image.crop");
    const char *interpolation = stage_fact(work->stage, "image.interpolation");
    if (crop == NULL || interpolation == NULL)
        return;
    const char *wanted = "center";
    for (size_t i = 0; i < sizeof crops / sizeof crops[0]; i++)
        if (strcmp(like->resize_mode, crops[i][0]) == 0)
            wanted = crops[i][1];
    if (strcmp(crop, wanted) != 0 || strcmp(interpolation, like->interpolation) != 0)
        stage_warn(work->stage,
                   "images were prepared by %s crop and %s interpolation, the model's "
                   "evaluation takes %s and %s: image-decode --like",
                   crop, interpolation, wanted, like->interpolation);
}

/* Tokens of another vocabulary would give embeddings that mean nothing. */
static enum status check_tokenizer(const struct work *work, struct error *error)
{
    static const char *const keys[] = {"tokenizer.type", "tokenizer.crc32c", "text.layout"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *found = stage_fact(work->stage, keys[i]);
        const char *expected = metadata_get(&work->checkpoint.about, keys[i]);
        if (found == NULL || expected == NULL || strcmp(found, expected) == 0)
            continue;
        error_set(error, STATUS_DATA, "text_tokens were made with %s %s, the model's have %s",
                  keys[i], found, expected);
        return error_hint(error, "tokenize --vocab %s/vocab.txt.gz, or leave out token-reduce "
                                 "--text", work->checkpoint.path);
    }
    return STATUS_OK;
}

static enum status find_modalities(struct work *work, struct record *record,
                                   struct error *error)
{
    const bool image = record_find(record, "image") != NULL ||
                       record_find(record, "patches") != NULL;
    const bool tokens = record_find(record, "text_tokens") != NULL;
    const bool text = record_find(record, "text") != NULL;
    work->images = image && options.modality != TEXT;
    work->texts = (tokens || text) && options.modality != IMAGE;
    work->captions = work->texts && !tokens;
    if ((options.modality == IMAGE && !image) || (!work->images && !work->texts)) {
        error_set(error, STATUS_DATA, "nothing to embed: no tensor %s",
                  options.modality == IMAGE  ? "image or patches"
                  : options.modality == TEXT ? "text_tokens or text"
                                             : "image, patches, text_tokens or text");
        if (record_find(record, "tokens") != NULL)
            error_hint(error, "tokens alone have no length: token-reduce --text truncate:%zu",
                       work->checkpoint.config.text.context_length);
        return STATUS_DATA;
    }
    return work->texts && tokens ? check_tokenizer(work, error) : STATUS_OK;
}

/* The model is laid out for as many patches as the first record brings. */
static enum status open_model(struct work *work, struct record *record, struct error *error)
{
    const struct clip_config *config = &work->checkpoint.config;
    struct image_input images = {.kept = 1};
    enum status status = find_modalities(work, record, error);
    if (status == STATUS_OK && work->images) {
        status = image_input_find(record, config, &images, error);
        compare_preparation(work);
    }
    work->kept = images.kept;
    const struct clip_shape shape = {.batch = (size_t)options.batch_size, .kept = work->kept};
    if (status == STATUS_OK)
        status = clip_open(&work->clip, work->kernels, config, &shape, error);
    if (status == STATUS_OK)
        status = checkpoint_load_parameters(&work->checkpoint, work->clip, error);
    if (status == STATUS_OK && work->captions) {
        status = caption_encoder_open(&work->encoder, &work->checkpoint, options.vocab, error);
        if (status != STATUS_OK && options.vocab == NULL && error->hint[0] == '\0')
            error_hint(error, "name it by --vocab, or embed --modality image");
    }
    return status;
}

/* ---- records ---- */

static enum status reserve_embeddings(const struct work *work, struct buffer *out, size_t batch,
                                      struct error *error)
{
    size_t bytes;
    if (!size_multiply(batch, work->checkpoint.config.embed_dim * sizeof(float), &bytes))
        return error_memory(error, SIZE_MAX, "embeddings");
    return buffer_reserve(out, bytes, error);
}

/* The backend is never given more than a batch, so that memory does not grow with records. */
static enum status embed_images(struct work *work, const struct image_input *images,
                                struct error *error)
{
    const struct clip_config *config = &work->checkpoint.config;
    const size_t P = config->vision.patch_size, E = config->embed_dim;
    const size_t most = (size_t)options.batch_size;
    const size_t batch = images->batch < most ? images->batch : most;
    enum status status =
        reserve_embeddings(work, &work->image_embeddings, images->batch, error);
    if (status == STATUS_OK)
        status = buffer_reserve(&work->patches, batch * images->kept * P * P * 3, error);
    if (status == STATUS_OK)
        status = buffer_reserve(&work->position, batch * images->kept * sizeof(int32_t), error);
    int32_t *position = images->position == NULL ? NULL : (int32_t *)work->position.data;
    for (size_t from = 0; status == STATUS_OK && from < images->batch; from += batch) {
        const size_t left = images->batch - from, count = left < batch ? left : batch;
        image_input_copy(images, config, from, count, work->patches.data, position);
        status = clip_encode_image(work->clip, work->patches.data, position, count,
                                   (float *)work->image_embeddings.data + from * E, error);
    }
    return status;
}

/* The record's captions as tokens [B,L] in work->tokens. */
static enum status encode_captions(struct work *work, struct record *record,
                                   const int32_t **tokens, size_t *batch, struct error *error)
{
    const size_t L = work->checkpoint.config.text.context_length;
    struct ragged text;
    size_t bytes;
    enum status status = record_require_ragged(record, "text", DTYPE_U8, &text, error);
    if (status != STATUS_OK)
        return status;
    if (!size_multiply(text.batch, L * sizeof(int32_t), &bytes))
        return error_memory(error, SIZE_MAX, "tokens");
    status = buffer_reserve(&work->tokens, bytes, error);
    for (size_t i = 0; status == STATUS_OK && i < text.batch; i++) {
        const uint8_t *caption = (const uint8_t *)text.data + text.offsets[i];
        status = caption_encoder_run(&work->encoder, caption,
                                     (size_t)(text.offsets[i + 1] - text.offsets[i]),
                                     (int32_t *)work->tokens.data + i * L, error);
    }
    *tokens = (const int32_t *)work->tokens.data;
    *batch = text.batch;
    return status;
}

static enum status embed_texts(struct work *work, struct record *record, struct error *error)
{
    const int32_t *tokens;
    size_t batch;
    enum status status =
        work->captions
            ? encode_captions(work, record, &tokens, &batch, error)
            : text_input_find(record, &work->checkpoint.config, &tokens, &batch, error);
    if (status == STATUS_OK)
        status = reserve_embeddings(work, &work->text_embeddings, batch, error);
    if (status == STATUS_OK)
        status = clip_encode_text(work->clip, tokens, batch,
                                  (float *)work->text_embeddings.data, error);
    return status;
}

/* Adds the embeddings, all of which must be of unit length: NaN fails, too. */
static enum status put_embeddings(struct work *work, struct record *record, const char *name,
                                  struct buffer *embeddings, size_t batch, struct error *error)
{
    const size_t E = work->checkpoint.config.embed_dim, shape[] = {batch, E};
    struct tensor tensor;
    for (size_t i = 0; i < batch; i++) {
        const float *row = (const float *)embeddings->data + i * E;
        double square = 0;
        for (size_t e = 0; e < E; e++)
            square += (double)row[e] * (double)row[e];
        if (!(fabs(square - 1) <= 1e-3))
            return error_set(error, STATUS_DATA,
                             "sample %zu of the record: %s of length %g, expected 1: the "
                             "weights of %s are damaged or not trained",
                             i, name, sqrt(square), work->checkpoint.path);
    }
    tensor_init(&tensor, name, DTYPE_F32, 2, shape, embeddings->data);
    return record_put(record, &tensor, error);
}

static void remove_consumed(const struct work *work, struct record *record)
{
    if (work->images) {
        record_remove(record, "image");
        record_remove(record, "patches");
        record_remove(record, "patches.position");
    }
    if (work->texts)
        record_remove(record, "text_tokens");
}

static enum status embed_record(struct work *work, struct record *record, struct error *error)
{
    struct image_input images = {.batch = 0};
    size_t batch;
    enum status status = record_batch(record, &batch, error);
    if (status == STATUS_OK && work->clip == NULL)
        status = open_model(work, record, error);
    if (status == STATUS_OK && work->images)
        status = image_input_find(record, &work->checkpoint.config, &images, error);
    if (status == STATUS_OK && work->images && images.kept != work->kept)
        status = error_set(error, STATUS_DATA,
                           "the stream changed: %zu patches by image, %zu in its first record",
                           images.kept, work->kept);
    if (status == STATUS_OK && work->images)
        status = embed_images(work, &images, error);
    if (status == STATUS_OK && work->texts)
        status = embed_texts(work, record, error);
    if (status == STATUS_OK && work->images)
        status = put_embeddings(work, record, "image_embedding", &work->image_embeddings, batch,
                                error);
    if (status == STATUS_OK && work->texts)
        status = put_embeddings(work, record, "text_embedding", &work->text_embeddings, batch,
                                error);
    if (status == STATUS_OK && !options.keep)
        remove_consumed(work, record);
    return status;
}

static void begin(struct work *work)
{
    struct error error, warning;
    stage_check(work->stage,
                checkpoint_open_latest(&work->checkpoint, options.model, &warning, &error),
                &error);
    if (warning.text[0] != '\0')
        stage_warn(work->stage, "%s", warning.text);
    stage_check(work->stage,
                kernels_open(&work->kernels, kernels_device_names[options.device],
                             (enum precision)options.precision, (int)options.threads, &error),
                &error);
    if (options.ema)
        stage_check(work->stage, checkpoint_use_average(&work->checkpoint, &error), &error);
    stage_set_fact(work->stage, "embedding.model", work->checkpoint.path);
    stage_set_fact(work->stage, "embedding.weights", options.ema ? "average" : "last");
    stage_set_fact_number(work->stage, "embedding.size",
                          (int64_t)work->checkpoint.config.embed_dim);
}

static void end(struct work *work)
{
    caption_encoder_close(&work->encoder);
    clip_close(work->clip);
    kernels_close(work->kernels);
    checkpoint_close(&work->checkpoint);
    buffer_free(&work->patches);
    buffer_free(&work->position);
    buffer_free(&work->tokens);
    buffer_free(&work->image_embeddings);
    buffer_free(&work->text_embeddings);
}

int main(int argc, char **argv)
{
    struct stage stage;
    struct record record;
    struct error error;
    struct work work = {.stage = &stage};

    waiting_be_passive(argv);
    stage_begin(&stage, &program, argc, argv);
    begin(&work);
    stage_open_input(&stage);
    stage_open_output(&stage);

    while (stage_read(&stage, &record)) {
        stage_check(&stage, embed_record(&work, &record, &error), &error);
        stage_write(&stage, &record);
    }

    end(&work);
    return stage_finish(&stage);
}
