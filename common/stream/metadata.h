/* metadata.h - the string to string map of a record's header, in order of insertion. */
#ifndef STREAM_METADATA_H
#define STREAM_METADATA_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct metadata_entry {
    char *key;
    char *value;
};

/* A zeroed struct is an empty map. Keys and values are UTF-8 without NUL, owned. */
struct metadata {
    struct metadata_entry *entries;
    size_t count;
    size_t capacity;
};

/* The value of a key, or NULL; valid until the map changes. */
const char *metadata_get(const struct metadata *map, const char *key);

/* Adds, or replaces in place. */
enum status metadata_set(struct metadata *map, const char *key, const char *value,
                         struct error *error);

/* Makes *to equal to *from; *to may have contents, which are freed. */
enum status metadata_copy(struct metadata *to, const struct metadata *from,
                          struct error *error);

/* The same keys with the same values in the same order. */
bool metadata_equal(const struct metadata *a, const struct metadata *b);

/* Frees everything and leaves an empty map. */
void metadata_free(struct metadata *map);

#endif
