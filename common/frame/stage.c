#include "frame/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/number.h"
#include "frame/provenance.h"
#include "frame/statistics.h"
#include "frame/version.h"

/* ---- options that all programs have ---- */

enum checksum_choice { CHECKSUM_AUTO, CHECKSUM_ON, CHECKSUM_OFF };
enum progress_choice { PROGRESS_AUTO, PROGRESS_ALWAYS, PROGRESS_NEVER };

static const char *const checksum_names[] = {"auto", "on", "off", NULL};
static const char *const progress_names[] = {"auto", "always", "never", NULL};

static struct {
    int checksum;
    int64_t zstd_level;
    int64_t record_limit_bytes;
    int progress;
    bool quiet;
    const char *stats;
    bool help;
    bool version;
} common = {.record_limit_bytes = (int64_t)4 << 30};

static struct option_spec write_options[] = {
    {.name = "checksum", .argument = "WHEN", .neutral = true,
     .help = "add a crc32c to every record; auto: to files",
     OPTION_CHOICE(&common.checksum, checksum_names)},
    {.name = "zstd", .argument = "LEVEL", .neutral = true,
     .help = "compress the output, 1 to 19; 0: no", OPTION_INTEGER(&common.zstd_level, 0, 19)},
};
static struct option_spec read_options[] = {
    {.name = "max-record-bytes", .argument = "N", .neutral = true,
     .help = "refuse larger records",
     OPTION_INTEGER(&common.record_limit_bytes, 1, 0x1p46)},
};
static struct option_spec all_options[] = {
    {.name = "stats", .argument = "FILE", .neutral = true,
     .help = "append the statistics as a line of JSON", OPTION_TEXT(&common.stats)},
    {.name = "progress", .argument = "WHEN", .neutral = true, .help = "draw a progress line",
     OPTION_CHOICE(&common.progress, progress_names)},
    {.name = "quiet", .letter = 'q', .neutral = true, .help = "no statistics at the end",
     OPTION_FLAG(&common.quiet)},
    {.name = "help", .letter = 'h', .neutral = true, .help = "print this and exit",
     OPTION_FLAG(&common.help)},
    {.name = "version", .letter = 'V', .neutral = true, .help = "print the version and exit",
     OPTION_FLAG(&common.version)},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static size_t option_parts(const struct program *program, struct option_part parts[4])
{
    size_t count = 0;
    parts[count++] = (struct option_part){program->options, program->option_count};
    if (program->streams & STAGE_WRITES)
        parts[count++] = (struct option_part){write_options, COUNT(write_options)};
    if (program->streams & STAGE_READS)
        parts[count++] = (struct option_part){read_options, COUNT(read_options)};
    parts[count++] = (struct option_part){all_options, COUNT(all_options)};
    return count;
}

static void print_help(const struct program *program)
{
    struct option_part parts[4];
    size_t count = option_parts(program, parts);
    printf("usage: %s [OPTION]... %s\n%s\n\n", program->name,
           program->operands == NULL ? "" : program->operands, program->purpose);
    options_print_help(parts, count);
    printf("example:\n  %s\n", program->example);
}

/* ---- messages ---- */

static void clear_progress(const struct stage *stage)
{
    if (stage->progress && stage->progress_ns != 0)
        fprintf(stderr, "\r\033[K");
}

static void print_error(const struct stage *stage, const struct error *error)
{
    clear_progress(stage);
    fprintf(stderr, "%s: %s\n", stage->program->name, error->text);
    if (error->hint[0] != '\0')
        fprintf(stderr, "%s: hint: %s\n", stage->program->name, error->hint);
}

static void print_line(const struct stage *stage, const char *kind, const char *format,
                       va_list args)
{
    char text[600];
    vsnprintf(text, sizeof text, format, args);
    clear_progress(stage);
    fprintf(stderr, "%s: %s%s\n", stage->program->name, kind, text);
}

void stage_warn(const struct stage *stage, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_line(stage, "warning: ", format, args);
    va_end(args);
}

void stage_note(const struct stage *stage, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!common.quiet)
        print_line(stage, "", format, args);
    va_end(args);
}

void stage_fail(struct stage *stage, const struct error *error)
{
    print_error(stage, error);
    if (stage->writer != NULL && error->status != STATUS_IO) {
        const char *origin = stage->program->name, *reason = error->text;
        if (stage->reader == NULL || !reader_abort_cause(stage->reader, &origin, &reason)) {
            origin = stage->program->name;
            reason = error->text;
        }
        writer_abort(stage->writer, origin, reason);
    }
    exit(error->status);
}

void stage_check(struct stage *stage, enum status status, const struct error *error)
{
    if (status != STATUS_OK)
        stage_fail(stage, error);
}

/* ---- the beginning ---- */

static enum status check_required(const struct program *program, struct error *error)
{
    for (size_t i = 0; i < program->option_count; i++)
        if (program->options[i].required && !program->options[i].given)
            return error_set(error, STATUS_USAGE, "--%s is required", program->options[i].name);
    return STATUS_OK;
}

static enum status check_operands(const struct stage *stage, struct error *error)
{
    const struct program *program = stage->program;
    int most = program->operands == NULL                        ? 0
               : strstr(program->operands, "...") != NULL       ? INT32_MAX
                                                                : 1;
    bool one_needed = program->operands != NULL && program->operands[0] != '[';
    if (stage->operand_count > most)
        return error_set(error, STATUS_USAGE, "unexpected operand '%.60s'",
                         stage->operands[most]);
    if (one_needed && stage->operand_count == 0)
        return error_set(error, STATUS_USAGE, "missing operand, expected %s", program->operands);
    return STATUS_OK;
}

/* A program started with one of its three descriptors closed would get it back from the
 * first open() and mix messages into data. A closed stdout stays an error: it is opened for
 * reading, so that the first write fails. */
static void keep_standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            open("/dev/null", fd == 2 ? O_WRONLY : O_RDONLY);
}

const char *stage_provenance(const struct stage *stage)
{
    return stage->provenance;
}

void stage_begin(struct stage *stage, const struct program *program, int argc, char **argv)
{
    struct error error;
    struct option_part parts[4];
    size_t count = option_parts(program, parts);
    int first_operand = argc;

    keep_standard_descriptors();
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, SIG_IGN); /* a write beyond `ulimit -f` then fails like any other */
    *stage = (struct stage){.program = program, .start_ns = clock_now_ns(), .input_fd = -1};

    enum status status = options_parse(parts, count, argc, argv, &first_operand, &error);
    if (status == STATUS_OK && (common.help || common.version)) {
        if (common.help)
            print_help(program);
        else
            version_print(program->name);
        if (fflush(stdout) != 0 || ferror(stdout))
            stage_fail(stage, (error_set_errno(&error, STATUS_IO, "standard output"), &error));
        exit(STATUS_OK);
    }
    stage->operands = argv + first_operand;
    stage->operand_count = argc - first_operand;
    if (status == STATUS_OK)
        status = check_required(program, &error);
    if (status == STATUS_OK)
        status = check_operands(stage, &error);
    if (status != STATUS_OK) {
        error_hint(&error, "%s --help lists the options", program->name);
        stage_fail(stage, &error);
    }
    bool source = !(program->streams & STAGE_READS);
    stage->provenance =
        provenance_format(program->name, program->options, program->option_count,
                          stage->operands, source ? stage->operand_count : 0);
    if (stage->provenance == NULL)
        stage_fail(stage, (error_memory(&error, 4096, "the provenance"), &error));

    struct stat about;
    bool piped = fstat(STDOUT_FILENO, &about) == 0 && !S_ISCHR(about.st_mode) &&
                 !S_ISREG(about.st_mode);
    stage->progress = common.progress == PROGRESS_ALWAYS ||
                      (common.progress == PROGRESS_AUTO && isatty(STDERR_FILENO) && !piped);
}

void stage_open_input(struct stage *stage)
{
    struct error error;
    const char *name = stage->operand_count > 0 ? stage->operands[0] : "-";
    if (strcmp(name, "-") == 0) {
        name = "standard input";
        stage->input_fd = STDIN_FILENO;
        if (isatty(STDIN_FILENO)) {
            error_set(&error, STATUS_USAGE, "records do not come from a terminal");
            error_hint(&error, "%s --help shows how to pipe them in", stage->program->name);
            stage_fail(stage, &error);
        }
    } else {
        stage->input_fd = open(name, O_RDONLY | O_CLOEXEC);
        if (stage->input_fd < 0)
            stage_fail(stage, (error_set_errno(&error, STATUS_NO_INPUT, "cannot open %s", name),
                               &error));
    }
    stage_check(stage,
                reader_open(&stage->reader, stage->input_fd, name,
                            (uint64_t)common.record_limit_bytes, &error),
                &error);
}

void stage_open_output(struct stage *stage)
{
    struct error error;
    struct stat about;
    if (isatty(STDOUT_FILENO)) {
        error_set(&error, STATUS_USAGE, "binary records are not written to a terminal");
        error_hint(&error, "pipe them into the next stage, a file, or `rec dump`");
        stage_fail(stage, &error);
    }
    bool to_file = fstat(STDOUT_FILENO, &about) == 0 && S_ISREG(about.st_mode);
    struct writer_options options = {
        .checksum = common.checksum == CHECKSUM_ON ||
                    (common.checksum == CHECKSUM_AUTO && to_file),
        .zstd_level = (int)common.zstd_level,
    };
    stage_check(stage,
                writer_open(&stage->writer, STDOUT_FILENO, "standard output", options, &error),
                &error);
}

/* ---- facts ---- */

static const char *const total_fact = "samples.total";

void stage_set_fact(struct stage *stage, const char *key, const char *value)
{
    struct error error;
    stage_check(stage, metadata_set(&stage->facts, key, value, &error), &error);
    stage->seen_version = 0;
}

void stage_set_fact_number(struct stage *stage, const char *key, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    stage_set_fact(stage, key, text);
}

const char *stage_fact(const struct stage *stage, const char *key)
{
    uint64_t version;
    return metadata_get(reader_metadata(stage->reader, &version), key);
}

/* Upstream's facts, then this stage's, then its provenance. */
static enum status update_metadata(struct stage *stage, const struct metadata *upstream,
                                   struct error *error)
{
    struct metadata map = {0};
    enum status status = metadata_copy(&map, upstream, error);
    for (size_t i = 0; status == STATUS_OK && i < stage->facts.count; i++)
        status = metadata_set(&map, stage->facts.entries[i].key, stage->facts.entries[i].value,
                              error);
    if (status == STATUS_OK)
        status = provenance_append(&map, stage->provenance, error);
    if (status == STATUS_OK)
        status = writer_set_metadata(stage->writer, &map, error);
    metadata_free(&map);
    return status;
}

/* ---- records ---- */

enum status stage_try_read(struct stage *stage, struct record *record, bool *more,
                           struct error *error)
{
    bool end = true;
    enum status status = reader_next(stage->reader, record, &end, error);
    *more = !end;
    if (status != STATUS_OK || end)
        return status;
    if (stage->samples_total == 0) {
        int64_t total;
        const char *text = stage_fact(stage, total_fact);
        if (text != NULL && number_parse_integer(text, &total) && total > 0)
            stage->samples_total = (uint64_t)total;
    }
    if (stage->writer == NULL)
        stage_progress(stage, reader_stats(stage->reader).samples, stage->samples_total);
    return STATUS_OK;
}

bool stage_read(struct stage *stage, struct record *record)
{
    struct error error;
    bool more;
    stage_check(stage, stage_try_read(stage, record, &more, &error), &error);
    return more;
}

void stage_write(struct stage *stage, const struct record *record)
{
    static const struct metadata none;
    struct error error;
    uint64_t version = 1;
    const struct metadata *upstream = &none;
    if (stage->reader != NULL)
        upstream = reader_metadata(stage->reader, &version);
    if (version != stage->seen_version) {
        stage_check(stage, update_metadata(stage, upstream, &error), &error);
        stage->seen_version = version;
    }
    stage_check(stage, writer_put(stage->writer, record, &error), &error);
    stage_progress(stage, writer_stats(stage->writer).samples, stage->samples_total);
}

void stage_progress(struct stage *stage, uint64_t samples, uint64_t total)
{
    int64_t now = clock_now_ns();
    if (!stage->progress || now - stage->progress_ns < 500000000)
        return;
    stage->progress_ns = now;
    double seconds = (double)(now - stage->start_ns) * 1e-9;
    double rate = (double)samples / seconds;
    fprintf(stderr, "\r\033[K%s: %" PRIu64 " samples, %.0f/s", stage->program->name, samples,
            rate);
    if (total > samples && rate > 0) {
        int64_t left = (int64_t)((double)(total - samples) / rate);
        fprintf(stderr, ", %.0f%%, %" PRId64 ":%02d:%02d left",
                100.0 * (double)samples / (double)total, left / 3600, (int)(left / 60 % 60),
                (int)(left % 60));
    }
}

/* ---- the end ---- */

static void collect_statistics(const struct stage *stage, struct statistics *out)
{
    *out = (struct statistics){
        .name = stage->program->name,
        .samples = stage->work_samples,
        .bytes = stage->input_bytes,
        .dropped = stage->dropped,
        .total_ns = clock_now_ns() - stage->start_ns,
        .input_ns = stage->input_wait_ns,
    };
    if (stage->reader != NULL) {
        struct reader_stats in = reader_stats(stage->reader);
        out->records = in.records;
        out->samples = in.samples;
        out->bytes = in.bytes;
        out->input_ns += in.wait_ns;
    }
    if (stage->writer != NULL) {
        struct writer_stats written = writer_stats(stage->writer);
        out->output_ns = written.wait_ns;
        if (stage->reader == NULL) {
            out->records = written.records;
            out->samples = written.samples;
            out->bytes = written.bytes;
        }
    }
}

int stage_finish(struct stage *stage)
{
    struct error error;
    uint64_t upstream_dropped =
        stage->reader != NULL ? reader_stats(stage->reader).dropped : 0;
    if (stage->writer != NULL)
        stage_check(stage, writer_end(stage->writer, upstream_dropped + stage->dropped, &error),
                    &error);
    struct statistics statistics;
    collect_statistics(stage, &statistics);

    writer_close(stage->writer);
    stage->writer = NULL;
    if (fflush(stdout) != 0 || ferror(stdout) || close(STDOUT_FILENO) != 0)
        stage_fail(stage, (error_set_errno(&error, STATUS_IO, "standard output"),
                           &error));
    reader_close(stage->reader);
    stage->reader = NULL;
    if (stage->input_fd > STDERR_FILENO)
        close(stage->input_fd);

    clear_progress(stage);
    if (!common.quiet)
        statistics_print(&statistics, stderr);
    const char *path = common.stats != NULL ? common.stats : getenv("CLIPIPE_STATS");
    if (path != NULL && path[0] != '\0')
        stage_check(stage, statistics_append(&statistics, path, &error), &error);
    metadata_free(&stage->facts);
    free(stage->provenance);
    return STATUS_OK;
}
