/* stage.h - what every program shares: command line, streams, messages, statistics, exit.
 *
 * A stage's main() reads:
 *
 *     int main(int argc, char **argv)
 *     {
 *         struct stage stage;
 *         struct record record;
 *         stage_begin(&stage, &program, argc, argv);
 *         ...its own set-up...
 *         stage_open_input(&stage);
 *         stage_open_output(&stage);
 *         while (stage_read(&stage, &record)) {
 *             do_the_work(&record);
 *             stage_write(&stage, &record);
 *         }
 *         return stage_finish(&stage);
 *     }
 *
 * These functions are the policy that libraries do not have: on failure they print one line on
 * stderr, write ABORT downstream and exit with the documented code. */
#ifndef FRAME_STAGE_H
#define FRAME_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "frame/options.h"
#include "stream/metadata.h"
#include "stream/reader.h"
#include "stream/record.h"
#include "stream/writer.h"

enum stage_streams {
    STAGE_READS = 1,  /* records come in, from a file operand or stdin */
    STAGE_WRITES = 2, /* records go out, to stdout */
};

struct program {
    const char *name;
    const char *purpose;  /* one sentence, for --help */
    const char *operands; /* as the help shows them, as "[FILE]" or "SHARD..."; NULL: none */
    const char *example;  /* one real command line */
    unsigned streams;     /* enum stage_streams; a reader takes at most one operand */
    struct option_spec *options;
    size_t option_count;
};

struct stage {
    const struct program *program;
    char **operands;
    int operand_count;
    struct reader *reader;
    struct writer *writer;
    struct metadata facts;   /* what this stage adds to the stream's metadata */
    uint64_t dropped;        /* samples that this stage dropped */
    uint64_t samples_total;  /* expected in all, for the progress line; 0: unknown */
    int64_t start_ns;
    int64_t input_wait_ns;   /* time spent on input that is not a stream of records */
    uint64_t input_bytes;
    uint64_t work_samples;   /* for programs without streams */
    /* private */
    char *provenance;
    uint64_t seen_version;
    int input_fd;
    int64_t progress_ns;
    bool progress;
};

/* Parses the command line. --help and --version print and exit with 0; a mistake exits with
 * 64. SIGPIPE gets its default action back. */
void stage_begin(struct stage *stage, const struct program *program, int argc, char **argv);

/* Opens the file operand, or stdin where there is none or it is "-". */
void stage_open_input(struct stage *stage);

/* Opens stdout as a stream; binary records are not written to a terminal. */
void stage_open_output(struct stage *stage);

/* Adds a fact to the metadata of all records written from now on, in place of an upstream
 * fact of that name. */
void stage_set_fact(struct stage *stage, const char *key, const char *value);
void stage_set_fact_number(struct stage *stage, const char *key, int64_t value);

/* A fact of the stream being read, or NULL; known after the first record. */
const char *stage_fact(const struct stage *stage, const char *key);

/* The next record; false after END. Anything wrong with the stream is fatal. */
bool stage_read(struct stage *stage, struct record *record);

/* As stage_read, for a stage that has something to save first: gives the status back. *more is
 * false after END. */
enum status stage_try_read(struct stage *stage, struct record *record, bool *more,
                           struct error *error);

/* Writes a record with the upstream facts, this stage's own and its provenance. */
void stage_write(struct stage *stage, const struct record *record);

/* Ends with a message: "name: text", the hint on a second line, ABORT downstream. */
_Noreturn void stage_fail(struct stage *stage, const struct error *error);

/* As stage_fail, where the status is not STATUS_OK; the usual way to call a library. */
void stage_check(struct stage *stage, enum status status, const struct error *error);

/* One line on stderr, "name: warning: ...". */
void stage_warn(const struct stage *stage, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* One line on stderr, "name: ...", unless --quiet. */
void stage_note(const struct stage *stage, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* "name version --option=value ...": what decides this program's output. */
const char *stage_provenance(const struct stage *stage);

/* Draws the progress line, at most twice a second, where it is wanted: stderr is a terminal
 * and stdout is not a pipe to a stage that draws its own. */
void stage_progress(struct stage *stage, uint64_t samples, uint64_t total);

/* Writes END, closes and checks the output, prints the statistics line. Returns the exit code
 * for main(). */
int stage_finish(struct stage *stage);

#endif
