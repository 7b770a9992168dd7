/* rec - looks at streams of records, at checkpoints and at the programs that make them.
 *
 * In:   records (stat, head, cat, dump, view, check), safetensors files (stat, check), lines of
 *       statistics (times), a small stream and a program (conform)
 * Out:  records (head, cat), a PNG (view), otherwise text
 * Memory: one record; view: the samples that it shows as well; conform: its input and outputs.
 * Ends: with the stream; head and view as soon as they have enough. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "frame/bottleneck.h"
#include "frame/conform.h"
#include "frame/conform_input.h"
#include "frame/stage.h"
#include "frame/view.h"
#include "stream/describe.h"

static struct {
    int64_t samples, values;
    int64_t shown, columns, cell, lines; /* of a sheet */
    const char *out;
    struct conform_options conform;
} options = {.samples = 1, .values = 16, .shown = 24, .lines = 8, .conform = {.seconds = 10}};

static struct option_spec head_options[] = {
    {.name = "samples", .letter = 'n', .argument = "N", .help = "how many samples",
     OPTION_INTEGER(&options.samples, 0, 0x1p53)},
};
static struct option_spec dump_options[] = {
    {.name = "values", .argument = "N", .help = "write arrays of up to N numbers in full",
     OPTION_INTEGER(&options.values, 0, 0x1p31)},
};
static struct option_spec view_options[] = {
    {.name = "samples", .letter = 'n', .argument = "N", .help = "how many samples",
     OPTION_INTEGER(&options.shown, 1, 100000)},
    {.name = "columns", .argument = "N", .help = "cells in a row; 0: as many as fit",
     OPTION_INTEGER(&options.columns, 0, 1000)},
    {.name = "cell", .argument = "N", .help = "side of a cell in pixels; 0: to suit the images",
     OPTION_INTEGER(&options.cell, 0, 4096)},
    {.name = "lines", .argument = "N", .help = "longest caption in lines",
     OPTION_INTEGER(&options.lines, 1, 1000)},
    {.name = "out", .argument = "FILE", .help = "write to FILE instead of standard output",
     OPTION_TEXT(&options.out)},
};
static struct option_spec conform_options[] = {
    {.name = "source", .help = "the program reads no stream",
     OPTION_FLAG(&options.conform.source)},
    {.name = "sink", .help = "what it writes is no stream", OPTION_FLAG(&options.conform.sink)},
    {.name = "varies", .help = "its output differs from run to run",
     OPTION_FLAG(&options.conform.varies)},
    {.name = "threads", .argument = "OPTION", .help = "how it takes a number of threads, as -j",
     OPTION_TEXT(&options.conform.threads)},
    {.name = "no-options", .help = "leave out --help, --version and unknown options",
     OPTION_FLAG(&options.conform.no_options)},
    {.name = "only-options", .help = "nothing but --help, --version and unknown options",
     OPTION_FLAG(&options.conform.only_options)},
    {.name = "strict", .help = "exit codes and messages as those of clipipe's own programs",
     OPTION_FLAG(&options.conform.strict)},
    {.name = "seconds", .argument = "N", .help = "time to spend on streams that are cut",
     OPTION_REAL(&options.conform.seconds, 0, 86400)},
};

/* ---- stat ---- */

static void stat_stream(struct stage *stage)
{
    struct record record;
    struct tensor_table table = {.rows = NULL};
    struct metadata metadata = {0};
    struct error error;
    bool first = true;

    stage_open_input(stage);
    while (stage_read(stage, &record)) {
        uint64_t version;
        const struct metadata *facts = reader_metadata(stage->reader, &version);
        if (first)
            stage_check(stage, metadata_copy(&metadata, facts, &error), &error);
        first = false;
        stage_check(stage, tensor_table_add_record(&table, &record, &error), &error);
    }
    struct reader_stats stats = reader_stats(stage->reader);
    printf("complete: %" PRIu64 " records, %" PRIu64 " samples, %" PRIu64 " dropped, %" PRIu64
           " bytes\n",
           stats.records, stats.samples, stats.dropped, stats.bytes);
    describe_metadata(stdout, &metadata);
    tensor_table_print(&table, true, stdout);
    metadata_free(&metadata);
    tensor_table_free(&table);
}

/* The safetensors file that the operand means: itself by its ending, or a checkpoint's model
 * where it is a directory. NULL for a stream, which has END and many blobs. */
static const char *find_safetensors(const struct stage *stage)
{
    static char path[4096];
    struct stat about;
    if (stage->operand_count == 0)
        return NULL;
    const char *operand = stage->operands[0], *ending = strrchr(operand, '.');
    if (ending != NULL && strcmp(ending, ".safetensors") == 0)
        return operand;
    if (stat(operand, &about) != 0 || !S_ISDIR(about.st_mode))
        return NULL;
    snprintf(path, sizeof path, "%s/open_clip_model.safetensors", operand);
    return path;
}

static void run_stat(struct stage *stage)
{
    const char *path = find_safetensors(stage);
    struct error error;
    if (path != NULL)
        stage_check(stage, describe_file(stdout, path, &error), &error);
    else
        stat_stream(stage);
}

/* ---- head, cat, dump, check ---- */

/* Leaves the first `count` samples of a record of `batch`. */
static size_t keep_first(struct stage *stage, struct record *record, size_t batch, size_t count)
{
    struct error error;
    bool *keep = calloc(batch, sizeof keep[0]);
    if (keep == NULL)
        stage_fail(stage, (error_memory(&error, batch, "samples"), &error));
    for (size_t i = 0; i < count; i++)
        keep[i] = true;
    batch = record_select(record, keep, batch);
    free(keep);
    return batch;
}

static void run_head(struct stage *stage)
{
    struct record record;
    struct error error;
    size_t batch;
    uint64_t left = (uint64_t)options.samples;

    stage_open_input(stage);
    stage_open_output(stage);
    while (left > 0 && stage_read(stage, &record)) {
        stage_check(stage, record_batch(&record, &batch, &error), &error);
        if (batch > left)
            batch = keep_first(stage, &record, batch, (size_t)left);
        stage_write(stage, &record);
        left -= batch;
    }
}

static void run_cat(struct stage *stage)
{
    struct record record;
    stage_open_input(stage);
    stage_open_output(stage);
    while (stage_read(stage, &record))
        stage_write(stage, &record);
}

static void run_dump(struct stage *stage)
{
    struct record record;
    struct error error;
    size_t batch;
    stage_open_input(stage);
    while (stage_read(stage, &record)) {
        stage_check(stage, record_batch(&record, &batch, &error), &error);
        for (size_t i = 0; i < batch; i++)
            describe_sample(stdout, &record, i, (size_t)options.values);
    }
}

static void run_check(struct stage *stage)
{
    const char *path = find_safetensors(stage);
    struct error error;
    struct record record;
    if (path != NULL) {
        stage_check(stage, describe_file_health(stdout, path, &error), &error);
        return;
    }
    stage_open_input(stage);
    bool checksummed = true;
    uint64_t version;
    while (stage_read(stage, &record))
        checksummed &=
            metadata_get(reader_metadata(stage->reader, &version), "checksum") != NULL;
    struct reader_stats stats = reader_stats(stage->reader);
    printf("complete: %" PRIu64 " records, %" PRIu64 " samples, %" PRIu64 " dropped, %s\n",
           stats.records, stats.samples, stats.dropped,
           checksummed && stats.records > 0 ? "checksums right" : "without checksums");
}

/* ---- times ---- */

static void run_times(struct stage *stage)
{
    struct error error;
    stage_check(stage, bottleneck_print(stage->operands[0], stdout, &error), &error);
}

/* ---- view ---- */

static void write_sheet(struct stage *stage, const struct buffer *png)
{
    struct error error;
    enum status status = STATUS_OK;
    if (options.out != NULL)
        status = io_write_file(options.out, png->data, png->size, &error);
    else if (io_write_all(STDOUT_FILENO, png->data, png->size) != 0)
        status = error_set_errno(&error, STATUS_IO, "standard output");
    stage_check(stage, status, &error);
}

static void run_view(struct stage *stage)
{
    const struct view_options wanted = {(size_t)options.shown, (size_t)options.columns,
                                        (size_t)options.cell, (size_t)options.lines};
    const char *source = stage->operand_count > 0 ? stage->operands[0] : "standard input";
    struct view *view;
    struct record record;
    struct buffer png = {0};
    struct error error;
    uint64_t version;

    if (options.out == NULL && isatty(STDOUT_FILENO)) {
        error_set(&error, STATUS_USAGE, "a picture is not written to a terminal");
        error_hint(&error, "send it to a file: `> sheet.png` or --out sheet.png");
        stage_fail(stage, &error);
    }
    stage_check(stage, view_open(&view, &wanted, source, &error), &error);
    stage_open_input(stage);
    while (view_has_room(view) && stage_read(stage, &record))
        stage_check(stage,
                    view_add_record(view, &record, reader_metadata(stage->reader, &version),
                                    &error),
                    &error);
    if (view_warning(view) != NULL)
        stage_warn(stage, "dropped tokens are not shown: %s", view_warning(view));
    stage_check(stage, view_encode(view, &png, &error), &error);
    write_sheet(stage, &png);
    buffer_free(&png);
    view_close(view);
}

/* ---- conform ---- */

/* The arguments after the first "--", which begin with the program; -1 where there is none.
 * getopt moves INPUT behind it, so that only the original order tells them apart. */
static int arguments_after_dashes = -1;

static void find_dashes(int argc, char **argv)
{
    for (int i = argc - 1; i > 0; i--)
        if (strcmp(argv[i], "--") == 0)
            arguments_after_dashes = argc - i - 1;
}

/* Leaves the program and its arguments as operands and returns INPUT, or NULL. */
static const char *take_input(struct stage *stage)
{
    const bool none = options.conform.source || options.conform.only_options;
    const int program = arguments_after_dashes < 0
                            ? 0
                            : stage->operand_count - arguments_after_dashes;
    struct error error;
    if (program > (none ? 0 : 1) || program >= stage->operand_count) {
        error_set(&error, STATUS_USAGE, program >= stage->operand_count
                                            ? "no program to check"
                                            : "more before -- than the input that is expected");
        error_hint(&error, "rec conform [OPTION]... [INPUT] -- PROGRAM [ARGUMENT]...");
        stage_fail(stage, &error);
    }
    stage->operands += program;
    stage->operand_count -= program;
    return program > 0 ? stage->operands[-1] : NULL;
}

static void run_conform(struct stage *stage)
{
    enum { INPUT_LIMIT = 64 << 20 };
    const char *path = take_input(stage);
    struct conform_counts counts;
    struct buffer input = {0};
    struct error error;
    enum status status = STATUS_OK;
    if (path != NULL)
        status = io_read_file(path, INPUT_LIMIT, &input, &error);
    else if (!options.conform.source && !options.conform.only_options)
        status = conform_input_sample(&input, &error);
    stage_check(stage, status, &error);
    stage_check(stage,
                conform_run(&options.conform, stage->operands, input.data, input.size, stdout,
                            &counts, &error),
                &error);
    buffer_free(&input);
    printf("%s: %d passed, %d failed, %d left out\n", stage->operands[0], counts.passed,
           counts.failed, counts.skipped);
    if (counts.failed > 0) {
        error_set(&error, STATUS_DATA, "%s fails %d of %d checks", stage->operands[0],
                  counts.failed, counts.passed + counts.failed);
        stage_fail(stage, &error);
    }
}

/* ---- the verbs ---- */

#define OPTIONS(table) .options = table, .option_count = sizeof(table) / sizeof((table)[0])

static const struct verb {
    const char *word;
    void (*run)(struct stage *stage);
    struct program program;
} verbs[] = {
    {"stat", run_stat,
     {.name = "rec stat",
      .purpose = "Prints the tensors of a stream or checkpoint: types, shapes, ranges.",
      .operands = "[FILE]",
      .example = "shard-reader 'data/{0..9}.tar' | image-decode --size 112 | rec stat",
      .streams = STAGE_READS}},
    {"head", run_head,
     {.name = "rec head",
      .purpose = "Passes on the first samples of a stream, as a complete stream.",
      .operands = "[FILE]",
      .example = "rec head -n 100 train.rec | rec dump",
      .streams = STAGE_READS | STAGE_WRITES,
      OPTIONS(head_options)}},
    {"cat", run_cat,
     {.name = "rec cat",
      .purpose = "Passes on a stream: joins parts, packs and unpacks, adds checksums.",
      .operands = "[FILE]",
      .example = "cat a.rec b.rec | rec cat --zstd 3 > both.rec",
      .streams = STAGE_READS | STAGE_WRITES}},
    {"dump", run_dump,
     {.name = "rec dump",
      .purpose = "Prints a stream as text, one line of JSON for each sample.",
      .operands = "[FILE]",
      .example = "rec dump train.rec | jq -r .text | sort | uniq -c",
      .streams = STAGE_READS,
      OPTIONS(dump_options)}},
    {"check", run_check,
     {.name = "rec check",
      .purpose = "Reads a stream or checkpoint to its end and says whether it is whole.",
      .operands = "[FILE]",
      .example = "rec check run/step-00001000/open_clip_model.safetensors",
      .streams = STAGE_READS}},
    {"view", run_view,
     {.name = "rec view",
      .purpose = "Draws the samples of a stream as the model sees them, as a PNG.",
      .operands = "[FILE]",
      .example = "... | token-reduce --image random:50% --text syntax:8 | rec view > sheet.png",
      .streams = STAGE_READS,
      OPTIONS(view_options)}},
    {"conform", run_conform,
     {.name = "rec conform",
      .purpose = "Checks that a program keeps the contract of a stage, from outside.",
      .operands = "[INPUT] -- PROGRAM [ARGUMENT]...",
      .example = "rec conform tokens.rec -- ./my-stage --keep 8",
      OPTIONS(conform_options)}},
    {"times", run_times,
     {.name = "rec times",
      .purpose = "Prints where the stages of a run spent their time and names the bottleneck.",
      .operands = "FILE",
      .example = "CLIPIPE_STATS=stats.jsonl sh pipeline.sh; rec times stats.jsonl"}},
};

enum { VERB_COUNT = sizeof verbs / sizeof verbs[0] };

/* Without a verb: the list of verbs as help, or what all programs understand. */
static const struct program program = {
    .name = "rec",
    .purpose = "Looks at streams of records and at checkpoints. Verbs: stat head cat dump view "
               "check times conform; `rec VERB --help` tells more.",
    .operands = "VERB...",
    .example = "rec stat train.rec",
};

int main(int argc, char **argv)
{
    struct stage stage;
    for (size_t i = 0; argc > 1 && i < VERB_COUNT; i++) {
        if (strcmp(argv[1], verbs[i].word) != 0)
            continue;
        find_dashes(argc, argv);
        stage_begin(&stage, &verbs[i].program, argc - 1, argv + 1);
        verbs[i].run(&stage);
        return stage_finish(&stage);
    }
    stage_begin(&stage, &program, argc, argv);
    struct error error;
    error_set(&error, STATUS_USAGE, "unknown verb '%.40s'", stage.operands[0]);
    error_hint(&error, "the verbs are stat, head, cat, dump, view, check, times and conform");
    stage_fail(&stage, &error);
}
