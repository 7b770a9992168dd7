/* pos-tag - parts of speech of captions, as priorities for syntax masking.
 *
 * In:   `text` U8 ragged, `tokens` and `tokens.word` I32 ragged, as tokenize writes them;
 *       with --learn or --test, a treebank: lines "word TAB tag"
 * Out:  `tokens.priority` U8 ragged beside them, `tokens.word` by the words that were tagged,
 *       and everything else unchanged; with --learn, a model; with --test, a line of JSON
 * Memory: one record and what is added to it; the model; the treebank and what is learned.
 * Ends: with the stream or the treebank. A model is written only when it is complete. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/pool.h"
#include "formats/tagger_caption.h"
#include "formats/tagger_learn.h"
#include "frame/stage.h"

enum {
    CHUNK = 32,               /* captions that a thread takes at a time */
    FILE_BYTES_MAX = 1 << 30, /* of a model or treebank */
};

static struct {
    const char *model;
    bool learn;
    const char *test;
    int64_t passes, runs, seed;
    int64_t threads;
} options = {.passes = TAGGER_PASSES, .runs = TAGGER_RUNS, .seed = 1};

static struct option_spec option_table[] = {
    {.name = "model", .argument = "MODEL", .help = "tag by this model, not the built-in one",
     OPTION_TEXT(&options.model)},
    {.name = "learn", .help = "write a model learned from a treebank instead",
     OPTION_FLAG(&options.learn)},
    {.name = "test", .argument = "TREEBANK",
     .help = "print how well the model tags this instead", OPTION_TEXT(&options.test)},
    {.name = "passes", .argument = "N", .help = "with --learn: times each sentence is read",
     OPTION_INTEGER(&options.passes, 1, 1000)},
    {.name = "runs", .argument = "N", .help = "with --learn: models learned and averaged",
     OPTION_INTEGER(&options.runs, 1, 100)},
    {.name = "seed", .argument = "N", .help = "with --learn: seed of the order and the draws",
     OPTION_INTEGER(&options.seed, 0, 0x1p53)},
    {.name = "threads", .letter = 'j', .argument = "N", .neutral = true,
     .help = "threads; 0: one per processor", OPTION_INTEGER(&options.threads, 0, 1024)},
};

static const struct program program = {
    .name = "pos-tag",
    .purpose = "Tags the words of captions and adds their priorities for syntax masking.",
    .operands = "[FILE]",
    .example = "... | tokenize --vocab FILE | pos-tag | token-reduce --text syntax:16 | ...",
    .streams = STAGE_READS | STAGE_WRITES,
    .options = option_table,
    .option_count = sizeof option_table / sizeof option_table[0],
};

/* ---- tagging ---- */

/* What one thread works with. */
struct lane {
    struct caption_tagger tools;
    enum status status; /* of the first caption that failed, and why */
    struct error error;
};

struct work {
    struct tagger *tagger;
    struct pool *pool;
    struct lane *lanes; /* [lane_count] */
    int lane_count;
    struct caption_source source; /* of the current record, as all below */
    struct ragged text, tokens, words;
    struct buffer new_words; /* int32_t, one a token */
    struct buffer priorities;
};

static enum status tag_caption(const struct work *work, struct lane *lane, size_t sample)
{
    const int64_t *texts = work->text.offsets + sample;
    const int64_t *tokens = work->tokens.offsets + sample;
    enum status status = caption_tag(
        &work->source, &lane->tools, (const uint8_t *)work->text.data + texts[0],
        (size_t)(texts[1] - texts[0]), (const int32_t *)work->words.data + tokens[0],
        (size_t)(tokens[1] - tokens[0]), (int32_t *)(void *)work->new_words.data + tokens[0],
        work->priorities.data + tokens[0], &lane->error);
    if (status != STATUS_OK)
        error_prefix(&lane->error, "sample %zu of the record", sample);
    return status;
}

static void tag_chunk(void *context, size_t item, int worker)
{
    const struct work *work = context;
    struct lane *lane = &work->lanes[worker];
    const size_t first = item * CHUNK, left = work->text.batch - first;
    for (size_t i = first; i < first + (left < CHUNK ? left : CHUNK); i++)
        if (lane->status == STATUS_OK)
            lane->status = tag_caption(work, lane, i);
}

/* The three tensors, with one number of samples and the same offsets for both of the tokens. */
static enum status find_tensors(struct work *work, struct record *record, struct error *error)
{
    size_t batch;
    enum status status = record_batch(record, &batch, error);
    if (status == STATUS_OK)
        status = record_require_ragged(record, "text", DTYPE_U8, &work->text, error);
    if (status == STATUS_OK)
        status = record_require_ragged(record, "tokens", DTYPE_I32, &work->tokens, error);
    if (status == STATUS_OK)
        status = record_require_ragged(record, "tokens.word", DTYPE_I32, &work->words, error);
    if (status == STATUS_OK && memcmp(work->tokens.offsets, work->words.offsets,
                                      (batch + 1) * sizeof *work->tokens.offsets) != 0)
        status = error_set(error, STATUS_DATA,
                           "'tokens' and 'tokens.word' have different offsets, expected equal");
    return status;
}

/* How the captions became tokens. A stream from a tokenize that did not say how it cleans came
 * from one that cleaned as open_clip does. */
static enum status find_tokenizer(const struct stage *stage, struct work *work,
                                  struct error *error)
{
    const char *type = stage_fact(stage, "tokenizer.type");
    const char *clean = stage_fact(stage, "tokenizer.clean");
    if (type == NULL || !tokenizer_type_from_name(type, &work->source.type)) {
        error_set(error, STATUS_DATA,
                  "the stream's tokenizer is '%s', expected clip or wordpiece",
                  type == NULL ? "" : type);
        return error_hint(error, "tokens come from `tokenize --vocab FILE`, which writes the "
                                 "metadata tokenizer.type");
    }
    work->source.cleaning =
        work->source.type == TOKENIZER_CLIP ? TEXT_CLEAN_LOWER : TEXT_CLEAN_WHITESPACE;
    if (clean != NULL && !text_cleaning_from_name(clean, &work->source.cleaning))
        return error_set(error, STATUS_DATA, "the stream's captions are cleaned by '%s', "
                         "expected lower, whitespace, canonicalize or none", clean);
    return STATUS_OK;
}

static enum status tag_record(const struct stage *stage, struct work *work,
                              struct record *record, struct error *error)
{
    enum status status = find_tokenizer(stage, work, error);
    if (status == STATUS_OK)
        status = find_tensors(work, record, error);
    if (status != STATUS_OK)
        return status;
    const size_t batch = work->tokens.batch, length = (size_t)work->tokens.offsets[batch];
    status = buffer_reserve(&work->new_words, length * sizeof(int32_t), error);
    if (status == STATUS_OK)
        status = buffer_reserve(&work->priorities, length, error);
    if (status != STATUS_OK)
        return status;

    pool_run(work->pool, (batch + CHUNK - 1) / CHUNK, tag_chunk, work);
    for (int i = 0; i < work->lane_count; i++) {
        if (work->lanes[i].status != STATUS_OK) {
            *error = work->lanes[i].error;
            return work->lanes[i].status;
        }
    }
    status = record_put_ragged(record, "tokens.word", DTYPE_I32, work->new_words.data, length,
                               work->tokens.offsets, batch, error);
    if (status == STATUS_OK)
        status = record_put_ragged(record, "tokens.priority", DTYPE_U8, work->priorities.data,
                                   length, work->tokens.offsets, batch, error);
    return status;
}

/* ---- the model ---- */

static struct tagger *open_tagger(struct stage *stage)
{
    struct error error;
    struct buffer file = {0};
    struct tagger *tagger = NULL;
    if (options.model == NULL) {
        stage_check(stage, tagger_open_english(&tagger, &error), &error);
        return tagger;
    }
    stage_check(stage, io_read_file(options.model, FILE_BYTES_MAX, &file, &error), &error);
    enum status status = tagger_open(&tagger, file.data, file.size, &error);
    if (status != STATUS_OK)
        error_prefix(&error, "%s", options.model);
    stage_check(stage, status, &error);
    buffer_free(&file);
    return tagger;
}

static void open_work(struct stage *stage, struct work *work)
{
    struct error error;
    work->tagger = open_tagger(stage);
    work->source.tagger = work->tagger;
    stage_check(stage, pool_open(&work->pool, (int)options.threads, &error), &error);
    work->lane_count = pool_threads(work->pool);
    const size_t size = (size_t)work->lane_count * sizeof *work->lanes;
    work->lanes = calloc(1, size);
    if (work->lanes == NULL)
        stage_fail(stage, (error_memory(&error, size, "threads"), &error));
    stage_set_fact(stage, "tagger", options.model == NULL ? "english" : options.model);
}

static void close_work(struct work *work)
{
    for (int i = 0; i < work->lane_count; i++)
        caption_tagger_free(&work->lanes[i].tools);
    free(work->lanes);
    pool_close(work->pool);
    tagger_close(work->tagger);
    buffer_free(&work->new_words);
    buffer_free(&work->priorities);
}

/* ---- treebanks ---- */

static void open_treebank(struct stage *stage, const char *path, struct buffer *file,
                          struct treebank *treebank)
{
    struct error error;
    const bool is_stdin = strcmp(path, "-") == 0;
    enum status status =
        io_read_file(is_stdin ? "/dev/stdin" : path, FILE_BYTES_MAX, file, &error);
    stage_check(stage, status, &error);
    status = treebank_open(treebank, file->data, file->size, &error);
    if (status != STATUS_OK)
        error_prefix(&error, "%s", is_stdin ? "standard input" : path);
    stage_check(stage, status, &error);
}

static int learn(struct stage *stage)
{
    const struct tagger_learning learning = {(int)options.passes, (int)options.runs,
                                             (uint64_t)options.seed};
    struct error error;
    struct treebank treebank;
    struct buffer file = {0}, model = {0};
    if (isatty(STDOUT_FILENO)) {
        error_set(&error, STATUS_USAGE, "a model is not written to a terminal");
        stage_fail(stage, &error);
    }
    open_treebank(stage, stage->operand_count > 0 ? stage->operands[0] : "-", &file, &treebank);
    stage_check(stage, tagger_learn(&treebank, &learning, &model, &error), &error);
    if (io_write_all(STDOUT_FILENO, model.data, model.size) < 0)
        stage_fail(stage, (error_set_errno(&error, STATUS_IO, "standard output"), &error));
    stage_note(stage, "%zu bytes learned from %zu words, %zu tags", model.size,
               treebank.tags.size, treebank.tag_count);
    treebank_close(&treebank);
    buffer_free(&file);
    buffer_free(&model);
    return stage_finish(stage);
}

static int test(struct stage *stage)
{
    struct error error;
    struct treebank treebank;
    struct tagger_score score;
    struct buffer file = {0};
    struct tagger *tagger = open_tagger(stage);
    open_treebank(stage, options.test, &file, &treebank);
    stage_check(stage, tagger_test(tagger, &treebank, &score, &error), &error);
    printf("{\"words\": %" PRIu64 ", \"tag_accuracy\": %.5f, \"priority_accuracy\": %.5f}\n",
           score.words, (double)score.tags_right / (double)score.words,
           (double)score.priorities_right / (double)score.words);
    treebank_close(&treebank);
    tagger_close(tagger);
    buffer_free(&file);
    return stage_finish(stage);
}

int main(int argc, char **argv)
{
    struct stage stage;
    struct record record;
    struct error error;
    struct work work = {.tagger = NULL};

    stage_begin(&stage, &program, argc, argv);
    if (options.learn && (options.test != NULL || options.model != NULL)) {
        error_set(&error, STATUS_USAGE, "--learn goes with neither --test nor --model");
        stage_fail(&stage, &error);
    }
    if (options.learn)
        return learn(&stage);
    if (options.test != NULL)
        return test(&stage);
    open_work(&stage, &work);
    stage_open_input(&stage);
    stage_open_output(&stage);

    while (stage_read(&stage, &record)) {
        stage_check(&stage, tag_record(&stage, &work, &record, &error), &error);
        stage_write(&stage, &record);
    }

    close_work(&work);
    return stage_finish(&stage);
}
