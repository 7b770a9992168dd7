/* The file: a line that says what it is, a line with the identity, then one line for each
 * product, each with a check of its own:
 *
 *   clipipe cuda plans 1
 *   NVIDIA H200, ...
 *   0123456789abcdef PRODUCT = WAY
 */
#include "kernels/cuda/cuda_plan.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char first_line[] = "clipipe cuda plans 1";

enum { path_bytes = 4096, line_bytes = 1024, check_digits = 16, entries_most = 65536 };

struct entry {
    char *product, *way; /* both in one piece of memory, which `product` begins */
};

struct cuda_plans {
    char path[path_bytes]; /* "" where there is no file */
    char identity[line_bytes];
    bool foreign; /* the file is something else's: hands off */
    struct entry *entries;
    int count, room;
};

/* FNV-1a, from Fowler, Noll and Vo. */
static uint64_t hash(uint64_t h, const char *text)
{
    for (; *text != '\0'; text++)
        h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return h;
}

static uint64_t check_of(const struct cuda_plans *plans, const char *product, const char *way)
{
    return hash(hash(hash(0xcbf29ce484222325u, plans->identity), product), way);
}

/* ---- where ---- */

/* Makes the directories of a path, as far as they do not exist. */
static bool make_directories(const char *path)
{
    char directory[path_bytes];
    snprintf(directory, sizeof directory, "%s", path);
    for (char *slash = strchr(directory + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(directory, 0700) != 0 && errno != EEXIST)
            return false;
        *slash = '/';
    }
    return true;
}

static bool choose_path(struct cuda_plans *plans)
{
    const char *named = getenv("CLIPIPE_CUDA_PLANS");
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    const unsigned long long id = hash(0xcbf29ce484222325u, plans->identity);
    int length = 0;
    if (named != NULL && named[0] != '\0')
        length = snprintf(plans->path, path_bytes, "%s",
                          strcmp(named, "off") == 0 ? "" : named);
    else if (cache != NULL && cache[0] == '/')
        length = snprintf(plans->path, path_bytes, "%s/clipipe/cuda-plans-%016llx", cache, id);
    else if (home != NULL && home[0] == '/')
        length = snprintf(plans->path, path_bytes, "%s/.cache/clipipe/cuda-plans-%016llx", home,
                          id);
    return length > 0 && length < path_bytes - 32; /* room for the name of a temporary file */
}

/* ---- entries ---- */

static struct entry *find(const struct cuda_plans *plans, const char *product)
{
    for (int i = 0; i < plans->count; i++)
        if (strcmp(plans->entries[i].product, product) == 0)
            return &plans->entries[i];
    return NULL;
}

static bool add(struct cuda_plans *plans, const char *product, const char *way)
{
    const size_t product_bytes = strlen(product) + 1, way_bytes = strlen(way) + 1;
    if (plans->count == entries_most)
        return false;
    if (plans->count == plans->room) {
        const int room = plans->room == 0 ? 64 : 2 * plans->room;
        struct entry *entries = (struct entry *)realloc((void *)plans->entries,
                                                        (size_t)room * sizeof *entries);
        if (entries == NULL)
            return false;
        plans->entries = entries;
        plans->room = room;
    }
    char *text = (char *)malloc(product_bytes + way_bytes);
    if (text == NULL)
        return false;
    memcpy(text, product, product_bytes);
    memcpy(text + product_bytes, way, way_bytes);
    plans->entries[plans->count++] = {text, text + product_bytes};
    return true;
}

void cuda_plans_drop(struct cuda_plans *plans, const char *product)
{
    struct entry *entry = find(plans, product);
    if (entry == NULL)
        return;
    free(entry->product);
    *entry = plans->entries[--plans->count];
}

/* ---- the file ---- */

/* False at the end, and at a line that is too long or has no end: no line of ours is so. */
static bool read_line(FILE *file, char line[line_bytes])
{
    if (fgets(line, line_bytes, file) == NULL)
        return false;
    char *end = strchr(line, '\n');
    if (end == NULL)
        return false;
    *end = '\0';
    return true;
}

static void read_entry(struct cuda_plans *plans, char *line)
{
    char *end;
    const unsigned long long check = strtoull(line, &end, 16);
    char *separator = strstr(line, " = ");
    if (end != line + check_digits || *end != ' ' || separator == NULL || separator <= end)
        return;
    *separator = '\0';
    const char *product = end + 1, *way = separator + 3;
    if (check == check_of(plans, product, way) && find(plans, product) == NULL)
        (void)add(plans, product, way);
}

/* Takes in the entries of the file that are not known yet. */
static void read_file(struct cuda_plans *plans)
{
    char line[line_bytes];
    FILE *file = fopen(plans->path, "re");
    if (file == NULL) {
        plans->foreign = errno != ENOENT;
        return;
    }
    const int first = fgetc(file);
    const bool empty = first == EOF && ferror(file) == 0;
    ungetc(first, file);
    plans->foreign = !empty && (!read_line(file, line) || strcmp(line, first_line) != 0);
    if (!empty && !plans->foreign && read_line(file, line) &&
        strcmp(line, plans->identity) == 0)
        while (read_line(file, line))
            read_entry(plans, line);
    fclose(file);
}

static bool write_entries(const struct cuda_plans *plans, FILE *file)
{
    bool good = fprintf(file, "%s\n%s\n", first_line, plans->identity) > 0;
    for (int i = 0; good && i < plans->count; i++) {
        const struct entry *e = &plans->entries[i];
        good = fprintf(file, "%016llx %s = %s\n",
                       (unsigned long long)check_of(plans, e->product, e->way), e->product,
                       e->way) > 0;
    }
    return good;
}

static void write_file(const struct cuda_plans *plans)
{
    char temporary[path_bytes];
    if (snprintf(temporary, sizeof temporary, "%s.%ld", plans->path, (long)getpid()) >=
        (int)sizeof temporary)
        return;
    FILE *file = fopen(temporary, "we");
    if (file == NULL)
        return;
    bool good = write_entries(plans, file);
    good = fflush(file) == 0 && good;
    good = fclose(file) == 0 && good;
    if (!good || rename(temporary, plans->path) != 0)
        unlink(temporary);
}

static bool directory_writable(const char *path)
{
    char directory[path_bytes];
    snprintf(directory, sizeof directory, "%s", path);
    char *slash = strrchr(directory, '/');
    if (slash == NULL)
        return access(".", W_OK) == 0;
    slash[slash == directory] = '\0';
    return access(directory, W_OK) == 0;
}

/* ---- the interface ---- */

struct cuda_plans *cuda_plans_open(const char *identity)
{
    struct cuda_plans *plans = (struct cuda_plans *)calloc(1, sizeof *plans);
    if (plans == NULL)
        return NULL;
    snprintf(plans->identity, sizeof plans->identity, "%s", identity);
    if (choose_path(plans))
        read_file(plans);
    else
        plans->path[0] = '\0';
    if (plans->path[0] != '\0' && !plans->foreign && !make_directories(plans->path))
        plans->foreign = true;
    return plans;
}

void cuda_plans_close(struct cuda_plans *plans)
{
    if (plans == NULL)
        return;
    for (int i = 0; i < plans->count; i++)
        free(plans->entries[i].product);
    free((void *)plans->entries);
    free(plans);
}

bool cuda_plans_can_keep(const struct cuda_plans *plans)
{
    return plans->path[0] != '\0' && !plans->foreign && directory_writable(plans->path);
}

const char *cuda_plans_find(const struct cuda_plans *plans, const char *product)
{
    const struct entry *entry = find(plans, product);
    return entry == NULL ? NULL : entry->way;
}

const char *cuda_plans_keep(struct cuda_plans *plans, const char *product, const char *way)
{
    const bool writing = cuda_plans_can_keep(plans);
    if (writing)
        read_file(plans);
    if (find(plans, product) == NULL) {
        if (!add(plans, product, way))
            return NULL;
        if (writing && !plans->foreign)
            write_file(plans);
    }
    return cuda_plans_find(plans, product);
}
