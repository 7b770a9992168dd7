/* shard_list.h - the names of many shards, written as a few patterns.
 *
 *   laion/{00000..41455}.tar     numbers; a leading zero at either end keeps the width
 *   {0..100..10}.tar             every tenth; {9..0} counts down
 *   {train,extra}-{0..7}.tar     alternatives, several sets per pattern, sets inside sets
 *   a.tar::b.tar                 several patterns in one argument, as open_clip writes them
 *   odd\{name\}.tar              a backslash takes away the meaning of the next character
 *
 * Names come in the order of the patterns, the last set changing fastest, as in the shell. */
#ifndef FORMATS_SHARD_LIST_H
#define FORMATS_SHARD_LIST_H

#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"

#define SHARD_LIST_NAMES_MAX 10000000u

/* A zeroed struct is an empty list. */
struct shard_list {
    struct buffer text;    /* the names, each with its terminating zero */
    struct buffer offsets; /* size_t into text, one per name */
    size_t count;
};

/* Appends every name that `pattern` stands for. STATUS_USAGE for a pattern that cannot be read
 * or a list that would have more than SHARD_LIST_NAMES_MAX names; the list is then
 * incomplete. */
enum status shard_list_add(struct shard_list *list, const char *pattern, struct error *error);

/* index < count; the name lives until the next shard_list_add. */
const char *shard_list_name(const struct shard_list *list, size_t index);

void shard_list_free(struct shard_list *list);

#endif
