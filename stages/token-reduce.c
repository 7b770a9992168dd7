/* token-reduce - fixes the length of image and text sequences, the heart of CLIPA.
 *
 * In:   `image` U8 [B,H,W,3], where --image is given; `tokens` I32 ragged, where --text is, and
 *       for syntax `tokens.word` and `tokens.priority` beside it
 * Out:  a smaller `image`, or `patches` U8 [B,K,P*P*3] with `patches.position` I32 [B,K];
 *       `text_tokens` I32 [B,L]; everything else unchanged
 * Memory: one record in and what replaces it.
 * Ends: with the stream. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/pool.h"
#include "formats/reduce_image_batch.h"
#include "formats/reduce_text.h"
#include "formats/sample_draws.h"
#include "frame/stage.h"
#include "model/text_facts.h"
#include "stream/position.h"

enum { CHUNK = 64 }; /* captions that a thread takes at a time */
enum grid_choice { GRID_RANDOM, GRID_FIXED };
enum syntax { SYNTAX_WORDS, SYNTAX_PIECES };
enum { LAYOUT_AUTO };

static const char *const grid_names[] = {"random", "fixed", NULL};
static const char *const interpolation_names[] = {"bicubic", "bilinear", NULL};
static const char *const layout_names[] = {"auto",      "clip",     "bert",
                                           "clipa-jax", "bert-sep", NULL};
static const char *const syntax_names[] = {"words", "pieces", NULL};

static struct {
    const char *image, *text;
    int grid_choice, interpolation, layout, syntax;
    int64_t patch, seed, threads;
    bool keep;
} options = {.image = "none", .text = "none", .patch = 16};

static struct option_spec option_table[] = {
    {.name = "image", .argument = "STRATEGY",
     .help = "none, resize:S, random:K, grid:K or block:K; K of all patches, or N%",
     OPTION_TEXT(&options.image)},
    {.name = "text", .argument = "STRATEGY",
     .help = "none, truncate:L, random:L, shuffle:L, block:L or syntax:L",
     OPTION_TEXT(&options.text)},
    {.name = "patch", .letter = 'p', .argument = "P",
     .help = "side of a patch in pixels, for the masks",
     OPTION_INTEGER(&options.patch, 1, 1024)},
    {.name = "grid-choice", .argument = "KIND",
     .help = "which patch of each cell grid:K keeps; fixed: always its first",
     OPTION_CHOICE(&options.grid_choice, grid_names)},
    {.name = "interpolation", .argument = "KIND",
     .help = "of resize:S, antialiased in either case",
     OPTION_CHOICE(&options.interpolation, interpolation_names)},
    {.name = "layout", .argument = "KIND",
     .help = "places of the special tokens; auto: the tokenizer's, clip or bert",
     OPTION_CHOICE(&options.layout, layout_names)},
    {.name = "syntax", .argument = "BY",
     .help = "priorities of syntax:L, those of pos-tag or of vocabulary entries",
     OPTION_CHOICE(&options.syntax, syntax_names)},
    {.name = "seed", .argument = "N", .help = "seed of the random strategies",
     OPTION_INTEGER(&options.seed, 0, 0x1p53)},
    {.name = "keep", .help = "pass on what was replaced, too", OPTION_FLAG(&options.keep)},
    {.name = "threads", .letter = 'j', .argument = "N", .neutral = true,
     .help = "threads; 0: one per processor", OPTION_INTEGER(&options.threads, 0, 256)},
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

/* What one thread works with. */
struct lane {
    struct buffer scratch;    /* of text_reduce */
    struct buffer priorities; /* of the pieces of a caption */
    uint64_t cut;             /* captions that were shortened */
    enum status status;       /* of the first caption that failed, and why */
    struct error error;
};

struct work {
    struct pool *pool;
    struct lane *lanes; /* [threads] */
    struct image_reducer images;
    struct text_reduction text;
    struct vocabulary_ranking ranking; /* for --syntax pieces */
    struct sample_draws draws;         /* of the current record, as all below */
    size_t batch;
    struct text_specials specials;
    struct ragged tokens;
    const int32_t *word;     /* beside the tokens, or NULL, as the next */
    const uint8_t *priority;
    struct buffer text_tokens; /* int32_t [B,L] */
};

/* Sets a fact where that changes something, as a change costs a new header. */
static void state_fact(struct stage *stage, const char *key, const char *value)
{
    const char *before = metadata_get(&stage->facts, key);
    if (before == NULL || strcmp(before, value) != 0)
        stage_set_fact(stage, key, value);
}

/* ---- images ---- */

static enum status put_smaller(struct work *work, struct record *record, struct error *error)
{
    const size_t side = work->images.reduction.amount;
    const size_t shape[] = {work->batch, side, side, 3};
    struct tensor image;
    tensor_init(&image, "image", DTYPE_U8, 4, shape, work->images.pixels.data);
    return record_put(record, &image, error);
}

static enum status put_patches(struct stage *stage, struct work *work, struct record *record,
                               struct error *error)
{
    const struct patch_grid *grid = &work->images.grid;
    const size_t shape[] = {work->batch, work->images.kept, grid->patch * grid->patch * 3};
    struct tensor tensor;
    char text[50];
    snprintf(text, sizeof text, "%zux%zu", grid->rows, grid->columns);
    state_fact(stage, "image.grid", text);
    if (!options.keep)
        record_remove(record, "image");
    tensor_init(&tensor, "patches", DTYPE_U8, 3, shape, work->images.pixels.data);
    enum status status = record_put(record, &tensor, error);
    tensor_init(&tensor, "patches.position", DTYPE_I32, 2, shape, work->images.positions.data);
    return status == STATUS_OK ? record_put(record, &tensor, error) : status;
}

static enum status reduce_images(struct stage *stage, struct work *work, struct record *record,
                                 struct error *error)
{
    const struct tensor *image;
    enum status status = record_require(record, "image", DTYPE_U8, 4, &image, error);
    if (status != STATUS_OK)
        return status;
    if (image->shape[3] != 3)
        return error_set(error, STATUS_DATA, "tensor 'image' has %zu channels, expected 3",
                         image->shape[3]);
    status = image_reducer_run(&work->images, image->data, work->batch, image->shape[1],
                               image->shape[2], &work->draws, error);
    if (status != STATUS_OK)
        return status;
    return work->images.reduction.strategy == IMAGE_RESIZE
               ? put_smaller(work, record, error)
               : put_patches(stage, work, record, error);
}

/* ---- texts ---- */

static enum status reduce_caption(const struct work *work, struct lane *lane, size_t i)
{
    const int64_t begin = work->tokens.offsets[i];
    const size_t count = (size_t)(work->tokens.offsets[i + 1] - begin);
    const bool cut = count > text_reduction_room(&work->text);
    int32_t *out = (int32_t *)(void *)work->text_tokens.data + i * work->text.length;
    struct rng rng = sample_draws_rng(&work->draws, i, RNG_TEXT_TOKENS);
    struct text_input input = {.tokens = (const int32_t *)work->tokens.data + begin,
                               .count = count};
    lane->cut += cut;
    if (work->word != NULL)
        input.word = work->word + begin;
    if (work->priority != NULL)
        input.priority = work->priority + begin;
    if (cut && work->text.pieces) {
        enum status status = buffer_reserve(&lane->priorities, count, &lane->error);
        if (status == STATUS_OK)
            status = vocabulary_ranking_look_up(&work->ranking, input.tokens, count,
                                                lane->priorities.data, &lane->error);
        if (status != STATUS_OK)
            return status;
        input.priority = lane->priorities.data;
    }
    return text_reduce(&work->text, &work->specials, &input, &rng, &lane->scratch, out,
                       &lane->error);
}

static void reduce_chunk(void *context, size_t item, int worker)
{
    const struct work *work = context;
    struct lane *lane = &work->lanes[worker];
    const size_t first = item * CHUNK, left = work->batch - first;
    for (size_t i = first; i < first + (left < CHUNK ? left : CHUNK); i++) {
        if (lane->status != STATUS_OK)
            return;
        lane->status = reduce_caption(work, lane, i);
        if (lane->status != STATUS_OK)
            error_prefix(&lane->error, "sample %zu of the record", i);
    }
}

static enum status run_chunks(struct work *work, struct error *error)
{
    pool_run(work->pool, (work->batch + CHUNK - 1) / CHUNK, reduce_chunk, work);
    for (int i = 0; i < pool_threads(work->pool); i++) {
        if (work->lanes[i].status != STATUS_OK) {
            *error = work->lanes[i].error;
            return work->lanes[i].status;
        }
    }
    return STATUS_OK;
}

/* A tensor with an element for each token. */
static enum status find_beside_tokens(const struct work *work, struct record *record,
                                      const char *name, enum dtype dtype, const void **out,
                                      struct error *error)
{
    struct ragged ragged;
    enum status status = record_require_ragged(record, name, dtype, &ragged, error);
    if (status != STATUS_OK)
        return status;
    const size_t size = (work->batch + 1) * sizeof ragged.offsets[0];
    if (memcmp(ragged.offsets, work->tokens.offsets, size) != 0)
        return error_set(error, STATUS_DATA, "'%s' and 'tokens' differ in length", name);
    *out = ragged.data;
    return STATUS_OK;
}

/* What syntax needs to know of the tokens. */
static enum status find_words(struct work *work, struct record *record,
                              const struct metadata *facts, struct error *error)
{
    const void *data = NULL;
    enum status status =
        find_beside_tokens(work, record, "tokens.word", DTYPE_I32, &data, error);
    if (status != STATUS_OK)
        return status;
    work->word = data;
    if (work->text.pieces)
        return vocabulary_rank(&work->ranking, facts, error);
    const bool tagged = record_find(record, "tokens.priority") != NULL;
    status = find_beside_tokens(work, record, "tokens.priority", DTYPE_U8, &data, error);
    if (!tagged)
        error_hint(error, "put pos-tag before token-reduce, or choose --syntax pieces");
    work->priority = data;
    return status;
}

static void choose_layout(struct stage *stage, struct work *work, const struct metadata *facts)
{
    if (options.layout == LAYOUT_AUTO)
        work->text.layout = text_layout_for(facts);
    else
        text_layout_from_name(layout_names[options.layout], &work->text.layout);
    state_fact(stage, "text.layout", text_layout_name(work->text.layout));
}

static enum status reduce_texts(struct stage *stage, struct work *work, struct record *record,
                                struct error *error)
{
    uint64_t version;
    const struct metadata *facts = reader_metadata(stage->reader, &version);
    const size_t shape[] = {work->batch, work->text.length};
    struct tensor tensor;
    size_t bytes;
    enum status status = text_specials_find(facts, &work->specials, error);
    if (status == STATUS_OK)
        status = record_require_ragged(record, "tokens", DTYPE_I32, &work->tokens, error);
    if (status == STATUS_OK && work->text.strategy == TEXT_SYNTAX)
        status = find_words(work, record, facts, error);
    if (status == STATUS_OK && !tensor_shape_size(DTYPE_I32, 2, shape, &bytes))
        status = error_memory(error, SIZE_MAX, "text tokens");
    if (status == STATUS_OK)
        status = buffer_reserve(&work->text_tokens, bytes, error);
    if (status != STATUS_OK)
        return status;
    choose_layout(stage, work, facts);
    status = run_chunks(work, error);
    if (status != STATUS_OK)
        return status;

    if (!options.keep) {
        record_remove(record, "tokens");
        record_remove(record, "tokens.word");
        record_remove(record, "tokens.priority");
    }
    tensor_init(&tensor, "text_tokens", DTYPE_I32, 2, shape, work->text_tokens.data);
    return record_put(record, &tensor, error);
}

/* ---- records ---- */

static enum status reduce(struct stage *stage, struct work *work, struct record *record,
                          struct error *error)
{
    enum status status = record_batch(record, &work->batch, error);
    if (status == STATUS_OK)
        status = position_find(record, &work->draws.position, error);
    if (status == STATUS_OK && work->images.reduction.strategy != IMAGE_NONE)
        status = reduce_images(stage, work, record, error);
    if (status == STATUS_OK && work->text.strategy != TEXT_NONE)
        status = reduce_texts(stage, work, record, error);
    work->draws.samples_before += work->batch;
    return status;
}

/* Those that are known before the first record. */
static void set_facts(struct stage *stage, const struct work *work)
{
    const struct image_reduction *image = &work->images.reduction;
    if (image->strategy != IMAGE_NONE)
        stage_set_fact(stage, "image.strategy", options.image);
    if (image->strategy == IMAGE_RESIZE)
        stage_set_fact_number(stage, "image.size", (int64_t)image->amount);
    else if (image->strategy != IMAGE_NONE)
        stage_set_fact_number(stage, "image.patch", options.patch);
    if (work->text.strategy != TEXT_NONE)
        stage_set_fact(stage, "text.strategy", options.text);
    if (work->text.strategy == TEXT_SYNTAX)
        stage_set_fact(stage, "text.syntax", syntax_names[options.syntax]);
}

static void open_work(struct stage *stage, struct work *work)
{
    struct error error;
    struct image_reduction image = {.corner = options.grid_choice == GRID_FIXED};
    stage_check(stage, image_reduction_parse(&image, options.image, &error), &error);
    stage_check(stage, text_reduction_parse(&work->text, options.text, &error), &error);
    work->text.pieces = options.syntax == SYNTAX_PIECES && work->text.strategy == TEXT_SYNTAX;
    work->draws.seed = (uint64_t)options.seed;
    stage_check(stage, pool_open(&work->pool, (int)options.threads, &error), &error);
    stage_check(stage, image_reducer_open(&work->images, &image, (size_t)options.patch,
                                          (enum resample_filter)options.interpolation,
                                          work->pool, &error), &error);
    const size_t size = (size_t)pool_threads(work->pool) * sizeof *work->lanes;
    work->lanes = calloc(1, size);
    if (work->lanes == NULL)
        stage_fail(stage, (error_memory(&error, size, "threads"), &error));
}

/* No strategy shortens a caption that fits, and all shorten any other. */
static void report_cut(const struct stage *stage, const struct work *work)
{
    uint64_t cut = 0;
    for (int i = 0; i < pool_threads(work->pool); i++)
        cut += work->lanes[i].cut;
    if (cut > 0)
        stage_note(stage, "%.1f%% of the captions have more than %zu tokens and were shortened",
                   100.0 * (double)cut / (double)work->draws.samples_before,
                   text_reduction_room(&work->text));
}

static void close_work(struct work *work)
{
    for (int i = 0; i < pool_threads(work->pool); i++) {
        buffer_free(&work->lanes[i].scratch);
        buffer_free(&work->lanes[i].priorities);
    }
    free(work->lanes);
    image_reducer_close(&work->images);
    pool_close(work->pool);
    vocabulary_ranking_free(&work->ranking);
    buffer_free(&work->text_tokens);
}

int main(int argc, char **argv)
{
    struct stage stage;
    struct record record;
    struct error error;
    struct work work = {.batch = 0};

    stage_begin(&stage, &program, argc, argv);
    open_work(&stage, &work);
    stage_open_input(&stage);
    stage_open_output(&stage);
    set_facts(&stage, &work);

    while (stage_read(&stage, &record)) {
        stage_check(&stage, reduce(&stage, &work, &record, &error), &error);
        stage_write(&stage, &record);
    }

    report_cut(&stage, &work);
    close_work(&work);
    return stage_finish(&stage);
}
