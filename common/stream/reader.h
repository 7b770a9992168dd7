/* reader.h - reads a stream of records and knows whether it is whole.
 *
 * A stream is complete only if its last record is END; an end of file anywhere else is
 * STATUS_TRUNCATED. `cat a.rec b.rec` is a stream. Damage of any other kind is STATUS_DATA. */
#ifndef STREAM_READER_H
#define STREAM_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "stream/metadata.h"
#include "stream/record.h"

enum {
    STREAM_HEADER_LIMIT = 1 << 16, /* bytes of JSON in a record of a stream */
};

struct reader; /* one thread at a time */

struct reader_stats {
    uint64_t records;
    uint64_t samples;
    uint64_t dropped; /* as counted by the stages before, known after END */
    uint64_t bytes;   /* unpacked */
    int64_t wait_ns;  /* spent waiting for input */
};

/* `name` is for messages. `record_limit` is the largest record in bytes, 0 for 4 GiB. The
 * descriptor stays the caller's. */
enum status reader_open(struct reader **reader, int fd, const char *name,
                        uint64_t record_limit, struct error *error);

/* From now on reading ends with STATUS_RETRY as soon as `fd` is readable: a signalfd, say. */
void reader_stop_on(struct reader *reader, int fd);

/* The next record, checked (shapes, offsets, batch, checksum where there is one), or *end true
 * after END at the end of the file. The record's data is valid and writable until the next
 * call. Messages say which record, at which byte. */
enum status reader_next(struct reader *reader, struct record *record, bool *end,
                        struct error *error);

/* Facts that hold for the whole stream, as of the last record read. `*version` changes
 * whenever they do: at the first record, and where streams are joined. */
const struct metadata *reader_metadata(const struct reader *reader, uint64_t *version);

struct reader_stats reader_stats(const struct reader *reader);

/* After STATUS_TRUNCATED: the stage that wrote ABORT and its reason, or false. */
bool reader_abort_cause(const struct reader *reader, const char **stage, const char **reason);

/* Accepts NULL. */
void reader_close(struct reader *reader);

#endif
