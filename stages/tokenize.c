/* tokenize - captions to token ids by CLIP's BPE or BERT's WordPiece, or to a BPE vocabulary.
 *
 * In:   `text` U8 ragged, UTF-8
 * Out:  `tokens`, `tokens.word` I32 ragged beside it, and everything else unchanged;
 *       with --learn, a vocabulary file instead of records
 * Memory: one record and its tokens; with --learn, each distinct word once.
 * Ends: with the stream. A vocabulary is written only after END. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "base/pool.h"
#include "formats/bpe.h"
#include "formats/bpe_learn.h"
#include "formats/text_clean.h"
#include "formats/tokenizer.h"
#include "frame/stage.h"
#include "model/vocabulary.h"

enum {
    CHUNK = 32, /* captions that a thread takes at a time */
    CLEAN_AUTO = 0,
};

/* After "auto" in the order of enum text_cleaning. */
static const char *const clean_names[] = {"auto",         "lower", "whitespace",
                                          "canonicalize", "none",  NULL};

static struct {
    const char *vocab;
    int clean;
    int64_t learn;
    int64_t threads;
} options;

static struct option_spec option_table[] = {
    {.name = "vocab", .argument = "VOCABULARY",
     .help = "vocabulary: BPE merges as CLIP's, or WordPiece entries as BERT's",
     OPTION_TEXT(&options.vocab)},
    {.name = "clean", .argument = "MODE",
     .help = "how to clean captions; auto: lower for BPE, whitespace for WordPiece",
     OPTION_CHOICE(&options.clean, clean_names)},
    {.name = "learn", .argument = "N", .help = "write a BPE vocabulary of N tokens instead",
     OPTION_INTEGER(&options.learn, BPE_VOCAB_MIN, BPE_VOCAB_MAX)},
    {.name = "threads", .letter = 'j', .argument = "N", .neutral = true,
     .help = "threads; 0: one per processor", OPTION_INTEGER(&options.threads, 0, 1024)},
};

static const struct program program = {
    .name = "tokenize",
    .purpose = "Turns captions into CLIP's or BERT's tokens, or learns a vocabulary from them.",
    .operands = "[FILE]",
    .example = "... | tokenize --vocab bpe_simple_vocab_16e6.txt.gz | token-reduce ...",
    .streams = STAGE_READS | STAGE_WRITES,
    .options = option_table,
    .option_count = sizeof option_table / sizeof option_table[0],
};

static enum text_cleaning cleaning(enum text_cleaning preset)
{
    return options.clean == CLEAN_AUTO ? preset : (enum text_cleaning)(options.clean - 1);
}

/* ---- encoding ---- */

/* What one thread works with. Its tokens of a record lie together until they are gathered. */
struct lane {
    struct text_cleaner cleaner;
    struct buffer cleaned;
    struct tokenizer_scratch *scratch;
    struct buffer tokens; /* int32_t */
    struct buffer words;
    enum status status; /* of the first caption that failed, and why */
    struct error error;
};

/* Where the tokens of one chunk of captions are. */
struct chunk {
    const struct lane *lane;
    size_t start; /* in bytes */
    size_t size;
};

struct work {
    struct tokenizer *tokenizer;
    struct pool *pool;
    struct lane *lanes; /* [threads] */
    int lane_count;
    struct ragged text;     /* of the current record */
    struct buffer chunks;   /* struct chunk */
    struct buffer offsets;  /* int64_t [B + 1] */
    struct buffer tokens;   /* int32_t, all of the record */
    struct buffer words;
};

static enum status encode_caption(const struct tokenizer *tokenizer, struct lane *lane,
                                  const struct ragged *text, size_t sample)
{
    const uint8_t *bytes = (const uint8_t *)text->data + text->offsets[sample];
    const size_t size = (size_t)(text->offsets[sample + 1] - text->offsets[sample]);
    enum status status = text_clean(&lane->cleaner, bytes, size, &lane->cleaned, &lane->error);
    if (status == STATUS_OK)
        status = tokenizer_encode(tokenizer, lane->scratch, lane->cleaned.data,
                                  lane->cleaned.size, &lane->tokens, &lane->words,
                                  &lane->error);
    if (status != STATUS_OK)
        error_prefix(&lane->error, "sample %zu of the record", sample);
    return status;
}

/* Leaves, for each caption, the length of its tokens where its end will be. */
static void encode_chunk(void *context, size_t item, int worker)
{
    const struct work *work = context;
    struct lane *lane = &work->lanes[worker];
    int64_t *offsets = (void *)work->offsets.data;
    struct chunk *chunk = (struct chunk *)(void *)work->chunks.data + item;
    const size_t first = item * CHUNK;
    const size_t left = work->text.batch - first;

    *chunk = (struct chunk){.lane = lane, .start = lane->tokens.size};
    for (size_t i = first; i < first + (left < CHUNK ? left : CHUNK); i++) {
        const size_t before = lane->tokens.size;
        if (lane->status == STATUS_OK)
            lane->status = encode_caption(work->tokenizer, lane, &work->text, i);
        offsets[i + 1] = (int64_t)((lane->tokens.size - before) / sizeof(int32_t));
    }
    chunk->size = lane->tokens.size - chunk->start;
}

/* Puts the chunks in order, so that the result is the same for any number of threads. */
static enum status gather(struct work *work, size_t chunk_count, struct error *error)
{
    const struct chunk *chunks = (const void *)work->chunks.data;
    work->tokens.size = work->words.size = 0;
    for (size_t i = 0; i < chunk_count; i++) {
        const struct chunk *chunk = &chunks[i];
        if (chunk->size == 0)
            continue;
        const uint8_t *tokens = chunk->lane->tokens.data + chunk->start;
        const uint8_t *words = chunk->lane->words.data + chunk->start;
        enum status status = buffer_append(&work->tokens, tokens, chunk->size, error);
        if (status == STATUS_OK)
            status = buffer_append(&work->words, words, chunk->size, error);
        if (status != STATUS_OK)
            return status;
    }
    int64_t *offsets = (void *)work->offsets.data;
    offsets[0] = 0;
    for (size_t i = 0; i < work->text.batch; i++)
        offsets[i + 1] += offsets[i];
    return STATUS_OK;
}

static enum status encode_record(struct work *work, struct record *record, struct error *error)
{
    enum status status = record_require_ragged(record, "text", DTYPE_U8, &work->text, error);
    if (status != STATUS_OK)
        return status;
    const size_t batch = work->text.batch;
    const size_t chunk_count = (batch + CHUNK - 1) / CHUNK;
    status = buffer_reserve(&work->chunks, chunk_count * sizeof(struct chunk), error);
    if (status == STATUS_OK)
        status = buffer_reserve(&work->offsets, (batch + 1) * sizeof(int64_t), error);
    if (status != STATUS_OK)
        return status;

    for (int i = 0; i < work->lane_count; i++)
        work->lanes[i].tokens.size = work->lanes[i].words.size = 0;
    pool_run(work->pool, chunk_count, encode_chunk, work);
    for (int i = 0; i < work->lane_count; i++) {
        if (work->lanes[i].status != STATUS_OK) {
            *error = work->lanes[i].error;
            return work->lanes[i].status;
        }
    }
    status = gather(work, chunk_count, error);
    const size_t length = work->tokens.size / sizeof(int32_t);
    if (status == STATUS_OK)
        status = record_put_ragged(record, "tokens", DTYPE_I32, work->tokens.data, length,
                                   (void *)work->offsets.data, batch, error);
    if (status == STATUS_OK)
        status = record_put_ragged(record, "tokens.word", DTYPE_I32, work->words.data, length,
                                   (void *)work->offsets.data, batch, error);
    return status;
}

/* ---- the vocabulary ---- */

/* Later stages know the vocabulary by these facts; train-step copies the file into its
 * checkpoint, and the checksum says that it is still this one. */
static void set_facts(struct stage *stage, const struct tokenizer *tokenizer, const char *crc)
{
    struct error error;
    char *path = realpath(options.vocab, NULL);
    if (path == NULL)
        stage_fail(stage, (error_set_errno(&error, STATUS_NO_INPUT, "cannot open %s",
                                           options.vocab), &error));
    stage_set_fact(stage, "tokenizer.type", tokenizer_type_name(tokenizer_type(tokenizer)));
    stage_set_fact(stage, "tokenizer.path", path);
    stage_set_fact(stage, "tokenizer.crc32c", crc);
    stage_set_fact_number(stage, "tokenizer.size", tokenizer_size(tokenizer));
    stage_set_fact_number(stage, "tokenizer.start", tokenizer_start(tokenizer));
    stage_set_fact_number(stage, "tokenizer.end", tokenizer_end(tokenizer));
    stage_set_fact_number(stage, "tokenizer.padding", tokenizer_padding(tokenizer));
    stage_set_fact(stage, "tokenizer.clean",
                   text_cleaning_name(cleaning(tokenizer_default_cleaning(tokenizer))));
    free(path);
}

static void open_vocabulary(struct stage *stage, struct work *work)
{
    struct error error;
    struct buffer file = {0};
    char crc[VOCABULARY_CRC_SIZE];
    stage_check(stage, vocabulary_load(options.vocab, NULL, &file, crc, &error), &error);
    enum status status = tokenizer_open(&work->tokenizer, file.data, file.size, &error);
    if (status != STATUS_OK)
        error_prefix(&error, "%s", options.vocab);
    stage_check(stage, status, &error);
    set_facts(stage, work->tokenizer, crc);
    buffer_free(&file);
}

static void open_work(struct stage *stage, struct work *work)
{
    struct error error;
    open_vocabulary(stage, work);
    stage_check(stage, pool_open(&work->pool, (int)options.threads, &error), &error);
    work->lane_count = pool_threads(work->pool);
    const size_t size = (size_t)work->lane_count * sizeof *work->lanes;
    work->lanes = calloc(1, size);
    if (work->lanes == NULL)
        stage_fail(stage, (error_memory(&error, size, "threads"), &error));
    for (int i = 0; i < work->lane_count; i++) {
        struct lane *lane = &work->lanes[i];
        lane->cleaner.mode = cleaning(tokenizer_default_cleaning(work->tokenizer));
        stage_check(stage, tokenizer_scratch_open(&lane->scratch, work->tokenizer, &error),
                    &error);
    }
}

static void close_work(struct work *work)
{
    for (int i = 0; i < work->lane_count; i++) {
        struct lane *lane = &work->lanes[i];
        text_cleaner_free(&lane->cleaner);
        tokenizer_scratch_close(lane->scratch);
        buffer_free(&lane->cleaned);
        buffer_free(&lane->tokens);
        buffer_free(&lane->words);
    }
    free(work->lanes);
    pool_close(work->pool);
    tokenizer_close(work->tokenizer);
    buffer_free(&work->chunks);
    buffer_free(&work->offsets);
    buffer_free(&work->tokens);
    buffer_free(&work->words);
}

/* ---- learning ---- */

struct learning {
    struct bpe_learner *learner;
    struct text_cleaner cleaner;
    struct buffer cleaned;
};

static enum status learn_record(struct learning *learning, struct record *record,
                                struct error *error)
{
    struct ragged text;
    enum status status = record_require_ragged(record, "text", DTYPE_U8, &text, error);
    for (size_t i = 0; status == STATUS_OK && i < text.batch; i++) {
        const uint8_t *bytes = (const uint8_t *)text.data + text.offsets[i];
        const size_t size = (size_t)(text.offsets[i + 1] - text.offsets[i]);
        status = text_clean(&learning->cleaner, bytes, size, &learning->cleaned, error);
        if (status == STATUS_OK)
            status = bpe_learner_add(learning->learner, learning->cleaned.data,
                                     learning->cleaned.size, error);
    }
    return status;
}

static void write_vocabulary(struct stage *stage, struct learning *learning)
{
    struct error error;
    struct buffer text = {0}, packed = {0};
    const struct bpe_learner_stats stats = bpe_learner_stats(learning->learner);
    size_t merges;
    enum status status =
        bpe_learner_finish(learning->learner, (int)options.learn, &text, &merges, &error);
    if (status == STATUS_OK)
        status = bpe_pack(text.data, text.size, &packed, &error);
    if (status == STATUS_OK && io_write_all(STDOUT_FILENO, packed.data, packed.size) < 0)
        status = error_set_errno(&error, STATUS_IO, "standard output");
    stage_check(stage, status, &error);

    const int64_t size = BPE_VOCAB_MIN + (int64_t)merges;
    stage_note(stage, "%" PRId64 " tokens learned from %" PRIu64 " words, %" PRIu64 " distinct",
               size, stats.words, stats.words_distinct);
    if (size < options.learn)
        stage_warn(stage, "%" PRId64 " tokens wanted, but no further pair occurs twice",
                   options.learn);
    if (stats.words_too_long > 0)
        stage_warn(stage, "%" PRIu64 " words of more than %d bytes left out",
                   stats.words_too_long, BPE_LEARN_WORD_MAX);
    buffer_free(&text);
    buffer_free(&packed);
}

static int learn(struct stage *stage)
{
    struct record record;
    struct error error;
    struct learning learning = {.cleaner = {.mode = cleaning(TEXT_CLEAN_LOWER)}};

    stage_check(stage, bpe_learner_open(&learning.learner, &error), &error);
    stage_open_input(stage);
    if (isatty(STDOUT_FILENO)) {
        error_set(&error, STATUS_USAGE, "a packed vocabulary is not written to a terminal");
        stage_fail(stage, &error);
    }
    while (stage_read(stage, &record))
        stage_check(stage, learn_record(&learning, &record, &error), &error);
    write_vocabulary(stage, &learning);

    bpe_learner_close(learning.learner);
    text_cleaner_free(&learning.cleaner);
    buffer_free(&learning.cleaned);
    return stage_finish(stage);
}

int main(int argc, char **argv)
{
    struct stage stage;
    struct record record;
    struct error error;
    struct work work = {.tokenizer = NULL};

    stage_begin(&stage, &program, argc, argv);
    if ((options.vocab == NULL) == (options.learn == 0)) {
        error_set(&error, STATUS_USAGE, "expected either --vocab or --learn");
        stage_fail(&stage, &error);
    }
    if (options.learn != 0)
        return learn(&stage);
    open_work(&stage, &work);
    stage_open_input(&stage);
    stage_open_output(&stage);

    while (stage_read(&stage, &record)) {
        stage_check(&stage, encode_record(&work, &record, &error), &error);
        stage_write(&stage, &record);
    }

    close_work(&work);
    return stage_finish(&stage);
}
