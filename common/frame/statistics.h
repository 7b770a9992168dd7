/* statistics.h - where a stage spent its time, as a line for people and as JSON. */
#ifndef FRAME_STATISTICS_H
#define FRAME_STATISTICS_H

#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

struct statistics {
    const char *name;
    uint64_t records, samples, bytes, dropped;
    int64_t total_ns;
    int64_t input_ns;  /* waiting for input */
    int64_t output_ns; /* waiting for output */
};

/* "name: N records, N samples, N MB, N s; waiting for input x%, working y%, waiting for
 * output z%" */
void statistics_print(const struct statistics *statistics, FILE *out);

/* Appends one line of JSON in a single write, so that the stages of a pipeline share a file. */
enum status statistics_append(const struct statistics *statistics, const char *path,
                              struct error *error);

#endif
