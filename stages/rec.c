/* rec - looks at streams of records and at checkpoints.
 *
 * In:   records (stat, head, cat, dump, check), safetensors files (stat, check), lines of
 *       statistics (times)
 * Out:  records (head, cat), otherwise text
 * Memory: one record.
 * Ends: with the stream; `head` earlier. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "frame/bottleneck.h"
#include "frame/stage.h"
#include "stream/describe.h"
#include "stream/safetensors.h"

static struct {
    int64_t samples;
    int64_t values;
} options = {.samples = 1, .values = 16};

static struct option_spec head_options[] = {
    {.name = "samples", .letter = 'n', .argument = "N", .help = "how many samples",
     OPTION_INTEGER(&options.samples, 0, 0x1p53)},
};
static struct option_spec dump_options[] = {
    {.name = "values", .argument = "N", .help = "write arrays of up to N numbers in full",
     OPTION_INTEGER(&options.values, 0, 0x1p31)},
};

static _Noreturn void fail_memory(struct stage *stage, size_t bytes)
{
    struct error error;
    error_memory(&error, bytes, "a summary");
    stage_fail(stage, &error);
}

/* ---- stat ---- */

/* One row of the table: a tensor over the whole stream. */
struct row {
    struct tensor tensor; /* as first seen */
    bool ragged;
    uint64_t bytes;
    struct value_range range;
};

static struct row *find_row(struct stage *stage, struct row **rows, size_t *count,
                            const struct tensor *tensor)
{
    for (size_t i = 0; i < *count; i++)
        if (strcmp((*rows)[i].tensor.name, tensor->name) == 0)
            return &(*rows)[i];
    struct row *grown = realloc(*rows, (*count + 1) * sizeof **rows);
    if (grown == NULL)
        fail_memory(stage, (*count + 1) * sizeof **rows);
    *rows = grown;
    grown[*count] = (struct row){.tensor = *tensor};
    return &grown[(*count)++];
}

static void print_row(const struct row *row, bool stream)
{
    char shape[256] = "[";
    for (int d = 0; d < row->tensor.rank; d++) {
        size_t used = strlen(shape);
        if (d == 0 && stream)
            snprintf(shape + used, sizeof shape - used, "%s", row->ragged ? "ragged" : "B");
        else
            snprintf(shape + used, sizeof shape - used, "%s%zu", d > 0 ? "," : "",
                     row->tensor.shape[d]);
    }
    size_t used = strlen(shape);
    snprintf(shape + used, sizeof shape - used, "]");
    double mean = row->range.count > 0 ? row->range.sum / (double)row->range.count : 0;
    printf("%-36s %-5s %-17s %12" PRIu64 " %12.6g %12.6g %12.6g", row->tensor.name,
           dtype_name(row->tensor.dtype), shape, row->bytes, row->range.low, mean,
           row->range.high);
    if (row->range.not_finite > 0)
        printf("  %" PRIu64 " not finite", row->range.not_finite);
    putchar('\n');
}

static void print_table(const struct row *rows, size_t count, bool stream)
{
    printf("%-36s %-5s %-17s %12s %12s %12s %12s\n", "tensor", "type", "shape", "bytes", "min",
           "mean", "max");
    for (size_t i = 0; i < count; i++)
        print_row(&rows[i], stream);
}

static void print_metadata(const struct metadata *metadata)
{
    for (size_t i = 0; i < metadata->count; i++)
        printf("%s: %s\n", metadata->entries[i].key, metadata->entries[i].value);
}

static void add_tensor(struct stage *stage, struct row **rows, size_t *count,
                       const struct tensor *tensor, bool ragged)
{
    struct row *row = find_row(stage, rows, count, tensor);
    row->ragged = ragged;
    row->bytes += tensor->size;
    value_range_add(&row->range, tensor);
}

static void stat_stream(struct stage *stage)
{
    struct record record;
    struct row *rows = NULL;
    size_t count = 0;
    struct metadata metadata = {0};
    struct error error;
    bool first = true;

    stage_open_input(stage);
    while (stage_read(stage, &record)) {
        uint64_t version;
        if (first)
            stage_check(stage,
                        metadata_copy(&metadata, reader_metadata(stage->reader, &version),
                                      &error),
                        &error);
        first = false;
        for (size_t i = 0; i < record.count; i++)
            if (!record_is_offsets(&record, &record.tensors[i]))
                add_tensor(stage, &rows, &count, &record.tensors[i],
                           record_offsets(&record, record.tensors[i].name) != NULL);
    }
    struct reader_stats stats = reader_stats(stage->reader);
    printf("complete: %" PRIu64 " records, %" PRIu64 " samples, %" PRIu64 " dropped, %" PRIu64
           " bytes\n",
           stats.records, stats.samples, stats.dropped, stats.bytes);
    print_metadata(&metadata);
    print_table(rows, count, true);
    metadata_free(&metadata);
    free(rows);
}

static void stat_file(struct stage *stage, const char *path)
{
    struct safetensors file;
    struct row *rows = NULL;
    size_t count = 0;
    struct error error;
    stage_check(stage, safetensors_open(&file, path, &error), &error);
    for (size_t i = 0; i < file.header.count; i++)
        add_tensor(stage, &rows, &count, &file.header.tensors[i], false);
    printf("%s: %zu tensors, %zu bytes of data\n", path, file.header.count,
           file.header.data_size);
    print_metadata(&file.header.metadata);
    print_table(rows, count, false);
    free(rows);
    safetensors_close(&file);
}

/* The safetensors file that the operand means: itself by its ending, or a checkpoint's model
 * where it is a directory. NULL for a stream, which has END and many blobs. */
static const char *find_safetensors(const struct stage *stage)
{
    static const char ending[] = ".safetensors";
    static char path[4096];
    if (stage->operand_count == 0)
        return NULL;
    const char *operand = stage->operands[0];
    size_t length = strlen(operand), suffix = sizeof ending - 1;
    if (length > suffix && strcmp(operand + length - suffix, ending) == 0)
        return operand;
    struct stat about;
    if (stat(operand, &about) != 0 || !S_ISDIR(about.st_mode))
        return NULL;
    snprintf(path, sizeof path, "%s/open_clip_model.safetensors", operand);
    return path;
}

static void run_stat(struct stage *stage)
{
    const char *path = find_safetensors(stage);
    if (path != NULL)
        stat_file(stage, path);
    else
        stat_stream(stage);
}

/* ---- head, cat, dump, check ---- */

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
        if (batch > left) {
            bool *keep = calloc(batch, sizeof keep[0]);
            if (keep == NULL)
                fail_memory(stage, batch);
            for (size_t i = 0; i < left; i++)
                keep[i] = true;
            batch = record_select(&record, keep, batch);
            free(keep);
        }
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

static void check_file(struct stage *stage, const char *path)
{
    struct safetensors file;
    struct error error;
    stage_check(stage, safetensors_open(&file, path, &error), &error);
    for (size_t i = 0; i < file.header.count; i++) {
        struct value_range range = {0};
        value_range_add(&range, &file.header.tensors[i]);
        if (range.not_finite > 0) {
            error_set(&error, STATUS_DATA, "%s: tensor '%s' has %" PRIu64 " values not finite",
                      path, file.header.tensors[i].name, range.not_finite);
            stage_fail(stage, &error);
        }
    }
    printf("%s: whole, %zu tensors, %zu bytes of data, all finite\n", path, file.header.count,
           file.header.data_size);
    safetensors_close(&file);
}

static void run_check(struct stage *stage)
{
    const char *path = find_safetensors(stage);
    if (path != NULL) {
        check_file(stage, path);
        return;
    }
    struct record record;
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
    .purpose = "Looks at streams of records and at checkpoints. Verbs: stat head cat dump check "
               "times; `rec VERB --help` tells more.",
    .operands = "VERB...",
    .example = "rec stat train.rec",
};

int main(int argc, char **argv)
{
    struct stage stage;
    for (size_t i = 0; argc > 1 && i < VERB_COUNT; i++) {
        if (strcmp(argv[1], verbs[i].word) != 0)
            continue;
        stage_begin(&stage, &verbs[i].program, argc - 1, argv + 1);
        verbs[i].run(&stage);
        return stage_finish(&stage);
    }
    stage_begin(&stage, &program, argc, argv);
    struct error error;
    error_set(&error, STATUS_USAGE, "unknown verb '%.40s'", stage.operands[0]);
    error_hint(&error, "the verbs are stat, head, cat, dump, check and times");
    stage_fail(&stage, &error);
}
