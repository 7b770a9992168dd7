/* strategy.h - reads "none" or "NAME:N", the way a reduction is written on a command line. */
#ifndef FORMATS_STRATEGY_H
#define FORMATS_STRATEGY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct strategy_name {
    const char *name;
    int value;
};

struct strategy_list {
    const char *option; /* for messages, as "--image" */
    const struct strategy_name *names;
    size_t count;
    int64_t least, most; /* range of N */
};

/* *value becomes the strategy's and *amount N; both 0 for "none". STATUS_USAGE otherwise, with
 * the names in the message. */
enum status strategy_parse(const struct strategy_list *list, const char *text, int *value,
                           size_t *amount, struct error *error);

#endif
