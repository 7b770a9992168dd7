/* conform.h - runs the contract of a stage on any program, as it is and from outside.
 *
 * What every program between two pipes must hold: a good stream gives a whole one, the same one
 * each time; a stream that was cut, damaged or aborted never does; what the program does not
 * know passes through; it ends when its reader does and when it is told to. With `strict` also
 * the letter of it, as programs of this project have it: exit codes, messages, statistics. */
#ifndef FRAME_CONFORM_H
#define FRAME_CONFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

struct conform_options {
    bool source;       /* reads no stream */
    bool sink;         /* what it writes is not a stream */
    bool varies;       /* its output differs from run to run */
    bool strict;
    bool no_options;   /* leave out --help, --version and unknown options */
    bool only_options; /* nothing else */
    const char *threads; /* its option for the number of threads, as "-j"; NULL: none */
    double seconds;    /* to spend on cutting the stream; a few cuts are made in any case */
};

struct conform_counts {
    int passed, failed, skipped;
};

/* Runs command[] (ended by NULL) on input[0..size), a small whole stream that it accepts; NULL
 * for a source or only_options. Writes a line to `out` for each check: "ok", "not ok" with what
 * was found, or "left out". Not STATUS_OK only where checking itself failed: the program cannot
 * be executed (STATUS_NO_INPUT), the input is no whole stream (STATUS_DATA, STATUS_TRUNCATED),
 * the system refuses (STATUS_SYSTEM). One thread at a time; sets signal handlers while it runs.
 */
enum status conform_run(const struct conform_options *options, char *const *command,
                        const uint8_t *input, size_t size, FILE *out,
                        struct conform_counts *counts, struct error *error);

#endif
