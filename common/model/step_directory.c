#include "model/step_directory.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "model/manifest.h"

enum { STEP_DIGITS_MIN = 8 };

enum status step_path(char path[STEP_PATH_MAX], const char *out, int64_t step,
                      const char *suffix, struct error *error)
{
    if (strlen(out) > STEP_PATH_MAX - STEP_NAMES_MAX)
        return error_set(error, STATUS_USAGE, "the path of the output directory is too long");
    snprintf(path, STEP_PATH_MAX, "%s/step-%0*" PRId64 "%s", out, STEP_DIGITS_MIN, step,
             suffix);
    return STATUS_OK;
}

/* The step in "step-00001000" + suffix; false for any other name. */
static bool parse_name(const char *name, const char *suffix, int64_t *step)
{
    char again[STEP_NAMES_MAX];
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9')
        return false;
    *step = strtoll(name + 5, NULL, 10);
    snprintf(again, sizeof again, "step-%0*" PRId64 "%s", STEP_DIGITS_MIN, *step, suffix);
    return strcmp(again, name) == 0;
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* The steps of all names with this suffix. */
static enum status list_names(const char *out, const char *suffix, int64_t **steps,
                              size_t *count, struct error *error)
{
    size_t capacity = 0;
    *steps = NULL;
    *count = 0;
    DIR *directory = opendir(out);
    if (directory == NULL && errno == ENOTDIR) {
        error_set(error, STATUS_NO_INPUT, "%s is no directory, as checkpoints are", out);
        return error_hint(error, "pipelines/convert-checkpoint.py makes one of a .pt or "
                                 ".safetensors file");
    }
    if (directory == NULL)
        return errno == ENOENT ? STATUS_OK
                               : error_set_errno(error, STATUS_IO, "cannot open %s", out);
    const struct dirent *entry;
    while (errno = 0, (entry = readdir(directory)) != NULL) {
        int64_t step;
        if (!parse_name(entry->d_name, suffix, &step))
            continue;
        if (*count == capacity) {
            capacity = capacity == 0 ? 16 : 2 * capacity;
            int64_t *more = realloc(*steps, capacity * sizeof **steps);
            if (more == NULL)
                break;
            *steps = more;
        }
        (*steps)[(*count)++] = step;
    }
    enum status status = STATUS_OK;
    if (errno != 0)
        status = error_set_errno(error, STATUS_IO, "cannot list %s", out);
    closedir(directory);
    if (status != STATUS_OK) {
        free(*steps);
        *steps = NULL;
        *count = 0;
        return status;
    }
    if (*count > 1)
        qsort(*steps, *count, sizeof **steps, newest_first);
    return STATUS_OK;
}

enum status step_list(const char *out, int64_t **steps, size_t *count, struct error *error)
{
    return list_names(out, "", steps, count, error);
}

/* A rename onto a directory that is not empty fails, so an earlier one steps aside first.
 * Should the machine stop between the two renames, the next older checkpoint is the newest. */
enum status step_publish(const char *out, int64_t step, struct error *error)
{
    char temporary[STEP_PATH_MAX], final[STEP_PATH_MAX], old[STEP_PATH_MAX];
    enum status status = step_path(temporary, out, step, ".tmp", error);
    if (status == STATUS_OK)
        status = step_path(final, out, step, "", error);
    if (status == STATUS_OK)
        status = step_path(old, out, step, ".old", error);
    if (status == STATUS_OK)
        status = step_remove(old, error);
    if (status == STATUS_OK)
        status = io_sync_directory(temporary, error);
    if (status != STATUS_OK)
        return status;

    bool replaces = rename(final, old) == 0;
    if (!replaces && errno != ENOENT)
        return error_set_errno(error, STATUS_IO, "cannot rename %s", final);
    if (rename(temporary, final) != 0) {
        error_set_errno(error, STATUS_IO, "cannot rename %s", temporary);
        if (replaces)
            (void)rename(old, final);
        return error->status;
    }
    status = io_sync_directory(out, error);
    return status == STATUS_OK && replaces ? step_remove(old, error) : status;
}

enum status step_remove(const char *directory, struct error *error)
{
    static const char *const names[] = {
        MANIFEST_NAME,         CHECKPOINT_STATE_NAME,   CHECKPOINT_ABOUT_NAME,
        CHECKPOINT_CONFIG_NAME, CHECKPOINT_MODEL_NAME, CHECKPOINT_AVERAGE_NAME,
        CHECKPOINT_VOCAB_NAME};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[STEP_PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        if (unlink(path) != 0 && errno != ENOENT)
            return error_set_errno(error, STATUS_IO, "cannot remove %s", path);
    }
    if (rmdir(directory) != 0 && errno != ENOENT && errno != ENOTEMPTY && errno != EEXIST)
        return error_set_errno(error, STATUS_IO, "cannot remove %s", directory);
    return STATUS_OK;
}

static enum status remove_steps(const char *out, const char *suffix, const int64_t *steps,
                                size_t count, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        char path[STEP_PATH_MAX];
        status = step_path(path, out, steps[i], suffix, error);
        if (status == STATUS_OK)
            status = step_remove(path, error);
    }
    return status;
}

enum status step_prune(const char *out, int keep, struct error *error)
{
    int64_t *steps;
    size_t count;
    enum status status = step_list(out, &steps, &count, error);
    if (status == STATUS_OK && count > (size_t)keep)
        status = remove_steps(out, "", steps + keep, count - (size_t)keep, error);
    free(steps);
    return status;
}

enum status step_remove_leftovers(const char *out, struct error *error)
{
    static const char *const suffixes[] = {".tmp", ".old"};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < 2 && status == STATUS_OK; i++) {
        int64_t *steps;
        size_t count;
        status = list_names(out, suffixes[i], &steps, &count, error);
        if (status == STATUS_OK)
            status = remove_steps(out, suffixes[i], steps, count, error);
        free(steps);
    }
    return status;
}
