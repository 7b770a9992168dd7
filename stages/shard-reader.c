/* shard-reader - reads webdataset shards into a stream of samples; every pipeline's source.
 *
 * In:   tar, tar.gz and tar.zst files, or one tar on standard input
 * Out:  `key`, `image_bytes`, `text` U8 ragged; `label` I64 [B], where there are labels;
 *       `position` I64 [B,3]: epoch, shard, index
 * Memory: one record, and with --shuffle one window of encoded samples.
 * Ends: after --epochs or --limit. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "formats/sample_batch.h"
#include "formats/sample_reader.h"
#include "frame/bad_samples.h"
#include "frame/stage.h"
#include "model/checkpoint.h"

static struct {
    int64_t batch, epochs, window, seed, limit, rank, world;
    bool shuffle;
    const char *start;
    const char *keys[SHARD_FIELDS];
} options = {
    .batch = 256,
    .epochs = 1,
    .window = 5000,
    .world = 1,
    .keys = {"jpg;png;jpeg;webp", "txt", "cls"},
};
static struct bad_samples bad = BAD_SAMPLES_DEFAULTS;

static struct option_spec option_table[] = {
    {.name = "batch", .letter = 'b', .argument = "N", .help = "samples in a record",
     OPTION_INTEGER(&options.batch, 1, 1 << 20)},
    {.name = "epochs", .argument = "N", .help = "passes over the shards; 0: for ever",
     OPTION_INTEGER(&options.epochs, 0, INT32_MAX)},
    {.name = "shuffle", .help = "permute shards and samples", OPTION_FLAG(&options.shuffle)},
    {.name = "window", .argument = "N", .help = "samples that --shuffle mixes in memory",
     OPTION_INTEGER(&options.window, 1, 1 << 26)},
    {.name = "seed", .argument = "N", .help = "seed of the order",
     OPTION_INTEGER(&options.seed, 0, 0x1p53)},
    {.name = "limit", .argument = "N",
     .help = "end after N samples from the run's beginning; 0: no limit",
     OPTION_INTEGER(&options.limit, 0, 0x1p53)},
    {.name = "start", .argument = "POSITION",
     .help = "go on after EPOCH,SHARD,INDEX or the checkpoint in a directory",
     OPTION_TEXT(&options.start)},
    {.name = "rank", .argument = "R", .help = "which of --world readers this is, from 0",
     OPTION_INTEGER(&options.rank, 0, (1 << 20) - 1)},
    {.name = "world", .argument = "N", .help = "readers that share the samples",
     OPTION_INTEGER(&options.world, 1, 1 << 20)},
    {.name = "image-key", .argument = "LIST", .help = "extensions of the image, or none",
     OPTION_TEXT(&options.keys[SHARD_IMAGE])},
    {.name = "text-key", .argument = "LIST", .help = "extensions of the caption, or none",
     OPTION_TEXT(&options.keys[SHARD_TEXT])},
    {.name = "label-key", .argument = "LIST", .help = "extensions of the label, or none",
     OPTION_TEXT(&options.keys[SHARD_LABEL])},
    BAD_SAMPLES_OPTIONS(&bad),
};

static const struct program program = {
    .name = "shard-reader",
    .purpose = "Reads webdataset shards into a stream of samples.",
    .operands = "SHARD...",
    .example =
        "shard-reader 'laion/{00000..41455}.tar' --shuffle --epochs 0 --limit 128000000 | ...",
    .streams = STAGE_WRITES,
    .options = option_table,
    .option_count = sizeof option_table / sizeof option_table[0],
};

/* ---- which samples are good ---- */

enum labels { LABELS_UNKNOWN, LABELS_NONE, LABELS_ALL };

/* The first good sample says whether the samples have labels. */
struct judge {
    enum labels labels;
    int64_t label; /* of the last good sample */
};

static const char *extensions_of(enum shard_field field)
{
    const char *keys = options.keys[field];
    return strcmp(keys, "none") == 0 ? NULL : keys;
}

static enum status judge_sample(struct judge *judge, const struct shard_sample *sample,
                                struct error *error)
{
    const char *reason;
    bool has_label = sample->present[SHARD_LABEL];
    if (sample->problem[0] != '\0')
        return error_set(error, STATUS_DATA, "%s", sample->problem);
    if (extensions_of(SHARD_IMAGE) != NULL && !sample->present[SHARD_IMAGE])
        return error_set(error, STATUS_DATA, "it has no image");
    if (extensions_of(SHARD_TEXT) != NULL && !sample->present[SHARD_TEXT])
        return error_set(error, STATUS_DATA, "it has no caption");
    if (extensions_of(SHARD_TEXT) != NULL &&
        !shard_check_caption(&sample->fields[SHARD_TEXT], &reason))
        return error_set(error, STATUS_DATA, "%s", reason);
    if (judge->labels == LABELS_ALL && !has_label)
        return error_set(error, STATUS_DATA, "it has no label, unlike the first sample");
    if (judge->labels != LABELS_NONE && has_label &&
        !shard_parse_label(&sample->fields[SHARD_LABEL], &judge->label))
        return error_set(error, STATUS_DATA, "its label is not a whole number");
    if (judge->labels == LABELS_UNKNOWN)
        judge->labels = has_label ? LABELS_ALL : LABELS_NONE;
    return STATUS_OK;
}

/* ---- the run ---- */

struct run {
    struct stage *stage;
    struct shard_list shards;
    struct sample_reader *reader;
    struct judge judge;
    bool started; /* in the middle, by --start */
    int64_t first_epoch;
    uint64_t seen, good;  /* by this process */
    int64_t turn;         /* whose the next good sample is */
    int64_t emitted;      /* samples written since the run's beginning */
    char extensions[160]; /* seen while no sample was good, for the hint */
    uint64_t damaged;     /* shards, part of `seen` */
    struct error damage;  /* of the first of them */
};

static enum status take_damage(void *context, struct error *error)
{
    struct run *run = context;
    run->seen++;
    if (run->damaged++ == 0)
        run->damage = *error;
    bad_samples_take(&bad, run->stage, NULL, 0, run->seen, error);
    return STATUS_OK;
}

static enum status ignore_damage(void *context, struct error *error)
{
    (void)context;
    (void)error;
    return STATUS_OK;
}

static struct sample_reader_options reader_options(struct run *run)
{
    struct sample_reader_options out = {
        .order = {(uint64_t)options.seed, options.shuffle, (uint32_t)options.window},
        .epochs = options.epochs,
        .damage = take_damage,
        .damage_context = run,
    };
    for (int field = 0; field < SHARD_FIELDS; field++)
        out.shard.keys[field] = extensions_of((enum shard_field)field);
    return out;
}

static void note_extensions(struct run *run, const struct shard_sample *sample)
{
    const char *next = (const char *)sample->extensions.data;
    const char *end = next + sample->extensions.size;
    for (; next < end; next += strlen(next) + 1) {
        char item[24];
        snprintf(item, sizeof item, " .%.20s", next);
        size_t used = strlen(run->extensions);
        if (strstr(run->extensions, item) == NULL &&
            used + strlen(item) < sizeof run->extensions)
            memcpy(run->extensions + used, item, strlen(item) + 1);
    }
}

_Noreturn static void fail_without_good(struct run *run)
{
    struct error error;
    if (run->damaged > 0 && run->damaged == run->seen)
        stage_fail(run->stage, &run->damage);
    error_set(&error, STATUS_DATA, "none of %" PRIu64 " samples in %zu shards is good",
              run->seen, run->shards.count);
    if (run->extensions[0] != '\0')
        error_hint(&error, "found%s; --image-key is %s, --text-key is %s", run->extensions,
                   options.keys[SHARD_IMAGE], options.keys[SHARD_TEXT]);
    stage_fail(run->stage, &error);
}

/* A run that finds nothing would otherwise end with --max-bad, which explains less. */
enum { NONE_GOOD_AFTER = 1000 };

static void take_bad(struct run *run, const struct shard_sample *sample, int64_t shard,
                     struct error *error)
{
    bool may_skip_all = bad.limit_is_percent && bad.limit >= 100;
    if (run->good == 0) {
        note_extensions(run, sample);
        if (run->seen >= NONE_GOOD_AFTER && !may_skip_all)
            fail_without_good(run);
    }
    char name[300];
    int size = snprintf(name, sizeof name, "%.*s", (int)sample->key.size,
                        (const char *)sample->key.data);
    error_prefix(error, "shard %s: sample '%.*s'", shard_list_name(&run->shards, (size_t)shard),
                 size < 200 ? size : 200, name);
    bad_samples_take(&bad, run->stage, NULL, 0, run->seen, error);
}

/* The next good sample of any rank; false at the end of the shards. */
static bool next_good(struct run *run, const struct shard_sample **sample,
                      struct sample_position *position)
{
    struct error error;
    for (;;) {
        stage_check(run->stage, sample_reader_next(run->reader, sample, position, &error),
                    &error);
        if (*sample == NULL)
            return false;
        /* For ever over nothing: a whole epoch has gone by. */
        if (run->good == 0 && position->epoch > run->first_epoch + run->started)
            fail_without_good(run);
        run->seen++;
        if (judge_sample(&run->judge, *sample, &error) == STATUS_OK) {
            run->good++;
            return true;
        }
        take_bad(run, *sample, position->shard, &error);
    }
}

/* ---- records ---- */

/* Samples that wait for their record. Up to `complete` they can be written; behind them is at
 * most one whose turn of the ranks is not over, and which is dropped if it never is. */
struct waiting {
    struct sample_batch batch;
    size_t complete;
};

/* Writes the complete samples and begins a new record. */
static void write_waiting(struct run *run, struct waiting *waiting)
{
    struct error error;
    struct record record;
    const struct sample_batch_fields fields = {
        .image = extensions_of(SHARD_IMAGE) != NULL,
        .text = extensions_of(SHARD_TEXT) != NULL,
        .label = run->judge.labels == LABELS_ALL,
    };
    stage_check(run->stage,
                sample_batch_view(&waiting->batch, waiting->complete, fields, &record, &error),
                &error);
    stage_write(run->stage, &record);
    sample_batch_clear(&waiting->batch);
    waiting->complete = 0;
}

/* Of every `world` good samples in a row each rank takes one, and all only if all can. */
static void take_good(struct run *run, struct waiting *waiting,
                      const struct shard_sample *sample, struct sample_position position)
{
    struct error error;
    if (run->turn == options.rank)
        stage_check(run->stage,
                    sample_batch_append(&waiting->batch, sample, run->judge.label, position,
                                        &error),
                    &error);
    if (++run->turn < options.world)
        return;
    run->turn = 0;
    if (waiting->batch.count > waiting->complete) {
        waiting->complete++;
        run->emitted++;
    }
    if (waiting->complete == (size_t)options.batch)
        write_waiting(run, waiting);
}

/* ---- starting ---- */

/* EPOCH,SHARD,INDEX; false for anything else, which is then a directory. */
static bool parse_position(const char *text, struct sample_position *out)
{
    char parts[3][24];
    int end = 0;
    int64_t *const values[3] = {&out->epoch, &out->shard, &out->index};
    if (sscanf(text, "%23[0-9],%23[0-9],%23[0-9]%n", parts[0], parts[1], parts[2], &end) != 3 ||
        text[end] != '\0')
        return false;
    for (int i = 0; i < 3; i++)
        if (!number_parse_integer(parts[i], values[i]))
            return false;
    return true;
}

/* The position that --start means; false for the beginning. A directory without a checkpoint is
 * the beginning, so that one command line serves the first run and the resumed one; a position
 * with a slip in it must not pass for such a directory. */
static bool find_start(struct run *run, struct sample_position *position)
{
    if (options.start == NULL || parse_position(options.start, position))
        return options.start != NULL;

    struct error error, warning = {0};
    if (strchr(options.start, ',') != NULL &&
        options.start[strspn(options.start, "0123456789,")] == '\0') {
        error_set(&error, STATUS_USAGE, "--start: '%.60s' is not a position EPOCH,SHARD,INDEX",
                  options.start);
        stage_fail(run->stage, &error);
    }
    struct checkpoint checkpoint = {0};
    enum status status = checkpoint_open_latest(&checkpoint, options.start, &warning, &error);
    if (status == STATUS_NO_INPUT)
        return false;
    stage_check(run->stage, status, &error);
    if (warning.text[0] != '\0')
        stage_warn(run->stage, "%s", warning.text);
    bool found = checkpoint.has_state;
    *position = (struct sample_position){checkpoint.progress.position[0],
                                         checkpoint.progress.position[1],
                                         checkpoint.progress.position[2]};
    checkpoint_close(&checkpoint);
    return found;
}

/* Good samples of one epoch, up to *last and with it, or all where last is NULL. Images are not
 * read, only found. */
static int64_t count_good(struct run *run, int64_t epoch, const struct sample_position *last)
{
    struct error error;
    struct sample_reader *reader;
    struct sample_reader_options counting = reader_options(run);
    counting.damage = ignore_damage;
    counting.first_epoch = epoch;
    counting.epochs = epoch + 1;
    counting.shard.presence_only[SHARD_IMAGE] = true;
    stage_check(run->stage, sample_reader_open(&reader, &run->shards, &counting, &error),
                &error);

    int64_t good = 0;
    for (;;) {
        const struct shard_sample *sample;
        struct sample_position at;
        stage_check(run->stage, sample_reader_next(reader, &sample, &at, &error), &error);
        if (sample == NULL)
            break;
        good += judge_sample(&run->judge, sample, &error) == STATUS_OK;
        if (last != NULL && at.shard == last->shard && at.index == last->index)
            break;
    }
    sample_reader_close(reader);
    return good;
}

/* Sets run->emitted, which --limit needs, to what the run had written when it reached `last`.
 * Every epoch has the same good samples, so that at most two have to be looked at. */
static void count_emitted(struct run *run, struct sample_position last)
{
    struct error error;
    int64_t before = last.epoch > 0 ? count_good(run, 0, NULL) : 0;
    if (__builtin_mul_overflow(before, last.epoch, &before)) {
        error_set(&error, STATUS_DATA, "position: epoch %" PRId64 " is out of range",
                  last.epoch);
        stage_fail(run->stage, &error);
    }
    before += count_good(run, last.epoch, &last);
    if (before == 0 || (before - 1) % options.world != options.rank) {
        error_set(&error, STATUS_DATA,
                  "position %" PRId64 ",%" PRId64 ",%" PRId64 " is not one of rank %" PRId64,
                  last.epoch, last.shard, last.index, options.rank);
        stage_fail(run->stage, &error);
    }
    run->emitted = (before - 1) / options.world + 1;
}

/* The fact lets train-step see that the stream goes on where its checkpoint ends. */
static void start_after(struct run *run, struct sample_position last)
{
    struct error error;
    char text[80];
    snprintf(text, sizeof text, "%" PRId64 ",%" PRId64 ",%" PRId64, last.epoch, last.shard,
             last.index);
    stage_set_fact(run->stage, "start", text);
    if (options.limit != 0)
        count_emitted(run, last);
    run->started = true;
    run->first_epoch = last.epoch;
    run->turn = (options.rank + 1) % options.world;
    stage_check(run->stage, sample_reader_start(run->reader, last, &error), &error);
}

static void check_options(struct stage *stage, const struct run *run)
{
    struct error error = {0};
    bool from_stdin = false;
    for (size_t i = 0; i < run->shards.count; i++)
        from_stdin = from_stdin || strcmp(shard_list_name(&run->shards, i), "-") == 0;
    if (options.rank >= options.world)
        error_set(&error, STATUS_USAGE, "--rank %" PRId64 " is not below --world %" PRId64,
                  options.rank, options.world);
    else if (from_stdin && (run->shards.count > 1 || options.epochs != 1))
        error_set(&error, STATUS_USAGE, "standard input can be read once, as the only shard");
    else if (from_stdin && options.start != NULL && options.limit != 0)
        error_set(&error, STATUS_USAGE,
                  "--start with --limit reads shards twice, standard input can be read once");
    stage_check(stage, error.status, &error);
}

static void open_run(struct run *run, struct stage *stage)
{
    struct error error;
    struct sample_position position;
    *run = (struct run){.stage = stage};
    for (int i = 0; i < stage->operand_count; i++)
        stage_check(stage, shard_list_add(&run->shards, stage->operands[i], &error), &error);
    check_options(stage, run);
    stage_open_output(stage);
    stage_set_fact_number(stage, "shards", (int64_t)run->shards.count);
    if (options.limit != 0)
        stage_set_fact_number(stage, "samples.total", options.limit);

    struct sample_reader_options settings = reader_options(run);
    stage_check(stage, sample_reader_open(&run->reader, &run->shards, &settings, &error),
                &error);
    if (find_start(run, &position))
        start_after(run, position);
}

int main(int argc, char **argv)
{
    struct stage stage;
    struct error error;
    struct run run;
    struct waiting waiting = {.complete = 0};
    const struct shard_sample *sample;
    struct sample_position position;

    stage_begin(&stage, &program, argc, argv);
    bad_samples_begin(&bad, &stage);
    open_run(&run, &stage);
    stage_check(&stage, sample_batch_init(&waiting.batch, (size_t)options.batch, &error), &error);

    while ((options.limit == 0 || run.emitted < options.limit) &&
           next_good(&run, &sample, &position))
        take_good(&run, &waiting, sample, position);

    if (run.good == 0 && !run.started)
        fail_without_good(&run);
    if (waiting.complete > 0)
        write_waiting(&run, &waiting);
    bad_samples_end(&bad, &stage, run.seen);

    sample_batch_free(&waiting.batch);
    sample_reader_close(run.reader);
    shard_list_free(&run.shards);
    return stage_finish(&stage);
}
