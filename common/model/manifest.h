/* manifest.h - the list of a directory's files with their sizes and CRC-32C sums.
 *
 * The file MANIFEST has a first line "clipipe manifest 1, N files" and N lines
 * "e3069283 4096 open_clip_config.json": sum, bytes, name. */
#ifndef MODEL_MANIFEST_H
#define MODEL_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define MANIFEST_NAME "MANIFEST"

enum { MANIFEST_FILES_MAX = 8, MANIFEST_FILE_NAME_MAX = 63 };

struct manifest_file {
    char name[MANIFEST_FILE_NAME_MAX + 1];
    uint64_t size; /* in bytes */
    uint32_t crc;
};

struct manifest {
    struct manifest_file files[MANIFEST_FILES_MAX];
    size_t count;
};

/* The caller adds at most MANIFEST_FILES_MAX files. */
void manifest_add(struct manifest *manifest, const char *name, uint64_t size, uint32_t crc);

bool manifest_has(const struct manifest *manifest, const char *name);

/* Writes DIRECTORY/MANIFEST and fsyncs it. */
enum status manifest_write(const struct manifest *manifest, const char *directory,
                           struct error *error);

/* Reads DIRECTORY/MANIFEST. STATUS_NO_INPUT where there is none, STATUS_DATA where it is not
 * as above. */
enum status manifest_read(struct manifest *manifest, const char *directory,
                          struct error *error);

/* Reads every file that is listed. STATUS_DATA names the first that is absent, has another
 * size or another sum. */
enum status manifest_verify(const struct manifest *manifest, const char *directory,
                            struct error *error);

#endif
