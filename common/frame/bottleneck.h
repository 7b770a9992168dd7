/* bottleneck.h - reads the statistics that stages append and says which one is the slowest. */
#ifndef FRAME_BOTTLENECK_H
#define FRAME_BOTTLENECK_H

#include <stdio.h>

#include "base/error.h"

/* Reads lines of JSON as statistics_append writes them and prints a table, one line a stage,
 * and a last line that names the stage with the largest share of time at work: in a steady
 * pipeline those before it wait for output and those after it wait for input. */
enum status bottleneck_print(const char *path, FILE *out, struct error *error);

#endif
