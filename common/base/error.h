/* error.h - how a library function reports what went wrong.
 *
 * Functions that can fail return an enum status and take a struct error as their last
 * parameter. They never print and never exit; a stage prints the text and exits with the
 * status, whose values are the exit codes that every manual page documents. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

enum status {
    STATUS_OK = 0,
    STATUS_USAGE = 64,       /* the command line is wrong */
    STATUS_DATA = 65,        /* bad data, or a shape that does not fit */
    STATUS_NO_INPUT = 66,    /* an input cannot be opened */
    STATUS_UNAVAILABLE = 69, /* a backend or device is absent */
    STATUS_BUG = 70,         /* our own mistake */
    STATUS_SYSTEM = 71,      /* the system refused: memory, threads */
    STATUS_IO = 74,          /* reading, writing or closing failed */
    STATUS_RETRY = 75,       /* stopped by a signal after a checkpoint; try again */
    STATUS_TRUNCATED = 76,   /* upstream ended without END */
};

struct error {
    enum status status;
    char text[480]; /* one line, lower case, no full stop: place, subject, found, expected;
                     * control characters that came with a name stand as '?' */
    char hint[240]; /* what to do about it, or empty */
};

/* Each sets *error and returns `status`, so that a caller writes `return error_set(...)`. */
enum status error_set(struct error *error, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Like error_set, followed by ": " and the text of the current errno. */
enum status error_set_errno(struct error *error, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the text, for the place that an inner function cannot know.
 * Returns error->status. */
enum status error_prefix(struct error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Sets the second line that a stage prints. Returns error->status. */
enum status error_hint(struct error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The common case: STATUS_SYSTEM, "cannot allocate N bytes for WHAT". */
enum status error_memory(struct error *error, unsigned long long bytes, const char *what);

#endif
