#include "model/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/crc32c.h"
#include "base/io.h"

enum { MANIFEST_SIZE_MAX = 4096, CHUNK_BYTES = 1 << 20 };

void manifest_add(struct manifest *manifest, const char *name, uint64_t size, uint32_t crc)
{
    struct manifest_file *file = &manifest->files[manifest->count++];
    snprintf(file->name, sizeof file->name, "%s", name);
    file->size = size;
    file->crc = crc;
}

bool manifest_has(const struct manifest *manifest, const char *name)
{
    for (size_t i = 0; i < manifest->count; i++)
        if (strcmp(manifest->files[i].name, name) == 0)
            return true;
    return false;
}

/* Writes the text, at most MANIFEST_SIZE_MAX bytes, and returns its length. */
static size_t format(const struct manifest *manifest, char text[MANIFEST_SIZE_MAX])
{
    int used = snprintf(text, MANIFEST_SIZE_MAX, "clipipe manifest 1, %zu files\n",
                        manifest->count);
    for (size_t i = 0; i < manifest->count; i++) {
        const struct manifest_file *file = &manifest->files[i];
        used += snprintf(text + used, MANIFEST_SIZE_MAX - (size_t)used,
                         "%08" PRIx32 " %" PRIu64 " %s\n", file->crc, file->size, file->name);
    }
    return (size_t)used;
}

enum status manifest_write(const struct manifest *manifest, const char *directory,
                           struct error *error)
{
    char path[PATH_MAX], text[MANIFEST_SIZE_MAX];
    size_t size = format(manifest, text);
    snprintf(path, sizeof path, "%s/" MANIFEST_NAME, directory);
    return io_write_file(path, text, size, error);
}

/* Reads leniently; whoever formats the result and does not get the same bytes has read
 * something else than a manifest. */
static void parse(struct manifest *manifest, const char *text)
{
    int used = 0;
    size_t count = 0;
    *manifest = (struct manifest){0};
    if (sscanf(text, "clipipe manifest 1, %1zu files%n", &count, &used) != 1)
        return;
    while (manifest->count < count && manifest->count < MANIFEST_FILES_MAX) {
        struct manifest_file *file = &manifest->files[manifest->count];
        text += used;
        if (sscanf(text, " %8" SCNx32 " %20" SCNu64 " %63s%n", &file->crc, &file->size,
                   file->name, &used) != 3 ||
            strchr(file->name, '/') != NULL)
            return;
        manifest->count++;
    }
}

enum status manifest_read(struct manifest *manifest, const char *directory,
                          struct error *error)
{
    char path[PATH_MAX], again[MANIFEST_SIZE_MAX];
    struct buffer text = {0};
    snprintf(path, sizeof path, "%s/" MANIFEST_NAME, directory);
    enum status status = io_read_file(path, MANIFEST_SIZE_MAX, &text, error);
    size_t size = text.size;
    if (status == STATUS_OK)
        status = buffer_append(&text, "", 1, error);
    if (status == STATUS_OK) {
        parse(manifest, (const char *)text.data);
        if (format(manifest, again) != size || memcmp(again, text.data, size) != 0)
            status = error_set(error, STATUS_DATA, MANIFEST_NAME " is damaged after line %zu",
                               manifest->count);
    }
    buffer_free(&text);
    return status;
}

/* Size and sum of an open file, read to its end; -1 with errno on failure. */
static int measure_file(int fd, void *chunk, uint64_t *size, uint32_t *crc)
{
    *size = 0;
    *crc = 0;
    for (;;) {
        ssize_t got = io_read_full(fd, chunk, CHUNK_BYTES);
        if (got <= 0)
            return (int)got;
        *size += (uint64_t)got;
        *crc = crc32c(*crc, chunk, (size_t)got);
    }
}

static enum status verify_file(const struct manifest_file *file, const char *directory,
                               void *chunk, struct error *error)
{
    char path[PATH_MAX];
    uint64_t size;
    uint32_t crc;
    snprintf(path, sizeof path, "%s/%s", directory, file->name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, STATUS_DATA, "cannot open %s", file->name);
    int result = measure_file(fd, chunk, &size, &crc);
    if (result != 0)
        error_set_errno(error, STATUS_IO, "cannot read %s", file->name);
    close(fd);
    if (result != 0)
        return STATUS_IO;
    if (size != file->size)
        return error_set(error, STATUS_DATA,
                         "%s has %" PRIu64 " bytes, expected %" PRIu64, file->name, size,
                         file->size);
    if (crc != file->crc)
        return error_set(error, STATUS_DATA,
                         "%s has the checksum %08" PRIx32 ", expected %08" PRIx32, file->name,
                         crc, file->crc);
    return STATUS_OK;
}

enum status manifest_verify(const struct manifest *manifest, const char *directory,
                            struct error *error)
{
    void *chunk = malloc(CHUNK_BYTES);
    if (chunk == NULL)
        return error_memory(error, CHUNK_BYTES, "reading a checkpoint");
    enum status status = STATUS_OK;
    for (size_t i = 0; i < manifest->count && status == STATUS_OK; i++)
        status = verify_file(&manifest->files[i], directory, chunk, error);
    free(chunk);
    return status;
}
