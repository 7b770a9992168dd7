/* writer.h - writes a stream of records, ended by END or ABORT. */
#ifndef STREAM_WRITER_H
#define STREAM_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "stream/metadata.h"
#include "stream/record.h"

struct writer; /* one thread at a time */

struct writer_options {
    bool checksum;  /* a CRC-32C in every record */
    int zstd_level; /* 0: plain */
};

struct writer_stats {
    uint64_t records;
    uint64_t samples;
    uint64_t bytes;  /* before packing */
    int64_t wait_ns; /* spent waiting for output */
};

/* `name` is for messages. The descriptor stays the caller's. */
enum status writer_open(struct writer **writer, int fd, const char *name,
                        struct writer_options options, struct error *error);

/* The facts that every record from now on carries; copied. */
enum status writer_set_metadata(struct writer *writer, const struct metadata *metadata,
                                struct error *error);

/* Writes one record, whole, in one system call where the kernel takes it. STATUS_IO where the
 * output fails, STATUS_BUG for a record whose tensors do not agree, STATUS_DATA for a header
 * larger than a reader would take. */
enum status writer_put(struct writer *writer, const struct record *record,
                       struct error *error);

/* Writes END: the stream is complete. `dropped` counts samples lost on the way, by this stage
 * and those before. */
enum status writer_end(struct writer *writer, uint64_t dropped, struct error *error);

/* Writes ABORT instead: `stage` failed for `reason`. Failures are ignored. */
void writer_abort(struct writer *writer, const char *stage, const char *reason);

struct writer_stats writer_stats(const struct writer *writer);

/* Frees the writer; accepts NULL. Nothing is written here. */
void writer_close(struct writer *writer);

#endif
