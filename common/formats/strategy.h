/* strategy.h - reads "none", "NAME:N" or "NAME:N%", the way a reduction is written on a command
 * line. */
#ifndef FORMATS_STRATEGY_H
#define FORMATS_STRATEGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* A strategy that a list offers. */
struct strategy_kind {
    const char *name;
    int value;
    int64_t least, most; /* range of N */
    bool share;          /* N% will do, too: above 0, to 100, with two decimals at most */
};

struct strategy_list {
    const char *option; /* for messages, as "--image" */
    const struct strategy_kind *kinds;
    size_t count;
};

/* What was read: all zero for "none". */
struct strategy {
    int value;
    size_t amount;     /* N, or 0 where a share was given */
    size_t share_bp;   /* the share in basis points, hundredths of a percent, or 0 */
};

/* STATUS_USAGE, with the names or the range in the message, where the text is none of them. */
enum status strategy_parse(const struct strategy_list *list, const char *text,
                           struct strategy *out, struct error *error);

#endif
