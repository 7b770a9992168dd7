/* conform_process.h - runs a program once, fed and watched as conform.h needs it; private to
 * it.
 *
 * The program leads a process group of its own, which is killed when the run is over: nothing
 * is left behind, whatever it started. Its output is held in memory; no file is made. */
#ifndef FRAME_CONFORM_PROCESS_H
#define FRAME_CONFORM_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum {
    PROCESS_SIGNAL = 256,         /* added to the number of the signal that ended a program */
    PROCESS_ARGUMENTS_MAX = 1000, /* of a command line */
    PROCESS_OUTPUT_MAX = 1 << 28, /* bytes on stdout or stderr before it is killed */
};

enum process_output {
    PROCESS_CAPTURED,
    PROCESS_FULL,        /* /dev/full */
    PROCESS_CLOSED,      /* no descriptor 1 */
    PROCESS_READER_GONE, /* a pipe that nobody reads */
};

struct process_setup {
    char *const *command; /* ended by NULL */
    const char *more[3];  /* further arguments, ended by NULL */
    const uint8_t *input; /* fed through a pipe; NULL: stdin is /dev/null */
    size_t input_size;
    bool dribble;         /* a byte at a time, each after the one before was read */
    bool terminate;       /* keep the pipe open and send SIGTERM once the input is read */
    enum process_output output;
    bool ignore_sigpipe;  /* as a parent that ignores SIGPIPE leaves it */
    double limit_seconds; /* then it is killed */
};

/* A zeroed struct is empty. */
struct process_result {
    int code;       /* exit status, or PROCESS_SIGNAL + signal */
    bool timed_out; /* or wrote too much: killed for it */
    double seconds; /* until it ended; of terminate, from SIGTERM on */
    struct buffer out, err; /* each with a NUL after its contents */
};

/* STATUS_NO_INPUT where the program cannot be executed, STATUS_SYSTEM where the system refuses.
 * SIGINT, SIGTERM and SIGHUP to the caller kill the program, too. Not for more than one thread
 * at a time. */
enum status process_run(const struct process_setup *setup, struct process_result *result,
                        struct error *error);
void process_result_free(struct process_result *result);

#endif
