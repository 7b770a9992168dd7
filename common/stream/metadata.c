#include "stream/metadata.h"

#include <stdlib.h>
#include <string.h>

static struct metadata_entry *find(const struct metadata *map, const char *key)
{
    for (size_t i = 0; i < map->count; i++)
        if (strcmp(map->entries[i].key, key) == 0)
            return &map->entries[i];
    return NULL;
}

const char *metadata_get(const struct metadata *map, const char *key)
{
    const struct metadata_entry *entry = find(map, key);
    return entry == NULL ? NULL : entry->value;
}

static enum status reserve_one(struct metadata *map, struct error *error)
{
    if (map->count < map->capacity)
        return STATUS_OK;
    size_t capacity = map->capacity == 0 ? 16 : 2 * map->capacity;
    void *entries = realloc(map->entries, capacity * sizeof map->entries[0]);
    if (entries == NULL)
        return error_memory(error, capacity * sizeof map->entries[0], "metadata");
    map->entries = entries;
    map->capacity = capacity;
    return STATUS_OK;
}

enum status metadata_set(struct metadata *map, const char *key, const char *value,
                         struct error *error)
{
    struct metadata_entry *entry = find(map, key);
    if (entry == NULL) {
        enum status status = reserve_one(map, error);
        if (status != STATUS_OK)
            return status;
    }

    char *copy = strdup(value);
    char *name = entry == NULL ? strdup(key) : NULL;
    if (copy == NULL || (entry == NULL && name == NULL)) {
        free(copy);
        free(name);
        return error_memory(error, strlen(key) + strlen(value), "metadata");
    }
    if (entry == NULL) {
        map->entries[map->count].key = name;
        map->entries[map->count++].value = copy;
    } else {
        free(entry->value);
        entry->value = copy;
    }
    return STATUS_OK;
}

enum status metadata_copy(struct metadata *to, const struct metadata *from,
                          struct error *error)
{
    metadata_free(to);
    for (size_t i = 0; i < from->count; i++) {
        enum status status =
            metadata_set(to, from->entries[i].key, from->entries[i].value, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

bool metadata_equal(const struct metadata *a, const struct metadata *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->entries[i].key, b->entries[i].key) != 0 ||
            strcmp(a->entries[i].value, b->entries[i].value) != 0)
            return false;
    return true;
}

void metadata_free(struct metadata *map)
{
    for (size_t i = 0; i < map->count; i++) {
        free(map->entries[i].key);
        free(map->entries[i].value);
    }
    free(map->entries);
    *map = (struct metadata){0};
}
