/* options.h - one table from which a program's parser, help text and provenance are made. */
#ifndef FRAME_OPTIONS_H
#define FRAME_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum option_kind {
    OPTION_KIND_FLAG,    /* bool: true where given */
    OPTION_KIND_INTEGER, /* int64_t in [low, high] */
    OPTION_KIND_REAL,    /* double in [low, high] */
    OPTION_KIND_PAIR,    /* double[2], "a,b", both in [low, high], a <= b */
    OPTION_KIND_TEXT,    /* const char * */
    OPTION_KIND_CHOICE,  /* int: index into choices */
};

struct option_spec {
    const char *name;     /* long name, without dashes */
    char letter;          /* short name, or 0 */
    const char *argument; /* how the help calls the argument; NULL for flags */
    const char *help;     /* one line; the range, the choices and the default are added */
    enum option_kind kind;
    void *value;          /* holds the default until parsed */
    double low, high;     /* integers up to 2^53 */
    const char *const *choices; /* ended by NULL */
    bool required;
    bool neutral;         /* does not change what is written: left out of the provenance */
    bool given;           /* set by the parser */
};

#define OPTION_FLAG(v) .kind = OPTION_KIND_FLAG, .value = (v)
#define OPTION_INTEGER(v, least, most) \
    .kind = OPTION_KIND_INTEGER, .value = (v), .low = (least), .high = (most)
#define OPTION_REAL(v, least, most) \
    .kind = OPTION_KIND_REAL, .value = (v), .low = (least), .high = (most)
#define OPTION_PAIR(v, least, most) \
    .kind = OPTION_KIND_PAIR, .value = (v), .low = (least), .high = (most)
#define OPTION_TEXT(v) .kind = OPTION_KIND_TEXT, .value = (v)
#define OPTION_CHOICE(v, list) .kind = OPTION_KIND_CHOICE, .value = (v), .choices = (list)

/* A table of options in several parts, as a program's own and the common ones. */
struct option_part {
    struct option_spec *specs;
    size_t count;
};

/* Parses the command line with getopt_long; *first_operand is the index in argv of the first
 * operand (argv is permuted). STATUS_USAGE where something is unknown, missing or out of
 * range. */
enum status options_parse(const struct option_part *parts, size_t part_count, int argc,
                          char **argv, int *first_operand, struct error *error);

/* The option's value as text ("112", "0.4,1", "random"); `text` of `size` bytes. */
void option_format(const struct option_spec *spec, char *text, size_t size);

/* Prints one line or two for each option on stdout. */
void options_print_help(const struct option_part *parts, size_t part_count);

#endif
