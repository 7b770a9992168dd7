/* safetensors.h - one safetensors file: checkpoints, weights, single records.
 *
 * Reading is strict (header.h), with upstream's header limit of 100 MB, and the file must end
 * where the last tensor does. */
#ifndef STREAM_SAFETENSORS_H
#define STREAM_SAFETENSORS_H

#include <stddef.h>

#include "base/error.h"
#include "stream/header.h"

/* A file mapped for reading. header.tensors[i].data points into it; all data is aligned to
 * its element size. Read-only: writing to the data faults. */
struct safetensors {
    struct header header;
    void *map;
    size_t map_size;
    void *copy; /* owned; in place of the map where the file's own alignment is too small */
};

/* STATUS_NO_INPUT where the file cannot be opened, STATUS_DATA where it is not right. On
 * failure *file is zeroed. */
enum status safetensors_open(struct safetensors *file, const char *path, struct error *error);

/* The tensor of that name, or NULL. */
const struct tensor *safetensors_find(const struct safetensors *file, const char *name);

/* Unmaps; accepts a zeroed struct. */
void safetensors_close(struct safetensors *file);

/* Creates or replaces `path` with `count` tensors (reordered in place by decreasing element
 * size) and fsyncs it. *crc, unless NULL, becomes the CRC-32C of the whole file. STATUS_IO on
 * failure, which leaves an incomplete file: write beside the final name and rename. */
enum status safetensors_write(const char *path, struct tensor *tensors, size_t count,
                              const struct metadata *metadata, uint32_t *crc,
                              struct error *error);

#endif
