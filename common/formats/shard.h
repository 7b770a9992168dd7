/* shard.h - samples in tar files, as webdataset arranges them.
 *
 * A sample is a run of consecutive members whose names differ in the extension only:
 * dir/000123.jpg, dir/000123.txt, ... The key is the path up to the first dot of its last
 * component, the extension (lower-cased) what follows that dot. A new sample starts where
 * the key changes or an extension comes again. Members that are not regular files, that have
 * no dot or begin with one, and everything below a first component __like_this__ are passed
 * over. webdataset carries an unfinished sample from one shard into the next; here a sample
 * ends with its shard, so that shards can be read in any order.
 * Source: webdataset 0.2.86 tariterators.py, open_clip training/data.py.
 *
 * The archive may be plain, gzip or zstd; its bytes say which, not its name. */
#ifndef FORMATS_SHARD_H
#define FORMATS_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

/* ---- reading ---- */

enum shard_field { SHARD_IMAGE, SHARD_TEXT, SHARD_LABEL, SHARD_FIELDS };

struct shard_options {
    /* For each field the extensions that may hold it, best first, as in "jpg;png;jpeg;webp".
     * NULL: do not read this field. The strings must outlive the reader. */
    const char *keys[SHARD_FIELDS];
    bool presence_only[SHARD_FIELDS]; /* note that the field is there, do not read it */
    size_t member_size_max; /* in bytes; 0 for 256 MiB */
};

struct shard_sample {
    int64_t index; /* in the shard, from 0, counting every sample */
    struct buffer key;
    struct buffer fields[SHARD_FIELDS];
    bool present[SHARD_FIELDS];
    struct buffer extensions; /* of all its members, each with a terminating zero */
    char problem[96];       /* why a member could not be taken, or empty */
};

struct shard_reader; /* one thread at a time */

/* Opens a file, or standard input for "-". STATUS_NO_INPUT where that is impossible. What is
 * in it shows at the first sample. */
enum status shard_reader_open(struct shard_reader **reader, const char *path,
                              const struct shard_options *options, struct error *error);

/* Reads the next sample into *sample, which may hold an earlier one, whose memory is used
 * again; *found is false at the end of the shard. A member that is too large makes the sample
 * have a problem, not an error. STATUS_DATA where the archive is damaged or ends early. If that
 * happens inside a member, its sample is lost; if it happens in the header of a member, or
 * there is no end mark, the members before are whole and their sample comes first, then the
 * error. Messages name the path. */
enum status shard_reader_next(struct shard_reader *reader, struct shard_sample *sample,
                              bool *found, struct error *error);

/* Passes over `count` samples without reading their data, seeking in plain tar files. *skipped
 * is less than count at the end of the shard and on an error, which comes after the same
 * samples as in shard_reader_next. */
enum status shard_reader_skip(struct shard_reader *reader, int64_t count, int64_t *skipped,
                              struct error *error);

/* Accepts NULL. */
void shard_reader_close(struct shard_reader *reader);

/* Frees a sample's buffers; accepts a zeroed struct. */
void shard_sample_free(struct shard_sample *sample);

/* Whether a caption can be trained on: UTF-8, and not only what Python's str.strip removes.
 * *reason becomes a constant phrase otherwise. */
bool shard_check_caption(const struct buffer *text, const char **reason);

/* Reads a .cls member: a decimal integer with blanks around it. */
bool shard_parse_label(const struct buffer *text, int64_t *label);

/* ---- writing ---- */

struct shard_writer; /* one thread at a time */

/* Begins a shard beside `path`, under a temporary name. `zstd_level` 0 writes a plain tar.
 * The bytes depend on the members alone: ustar, time, user and group 0, mode 0444. */
enum status shard_writer_open(struct shard_writer **writer, const char *path, int zstd_level,
                              struct error *error);

/* Appends the member KEY.EXTENSION. Members of one sample must follow each other. */
enum status shard_writer_put(struct shard_writer *writer, const char *key,
                             const char *extension, const void *data, size_t size,
                             struct error *error);

/* Writes the end mark, syncs and gives the shard its name. The writer is freed, whatever the
 * result. */
enum status shard_writer_finish(struct shard_writer *writer, struct error *error);

/* Removes the unfinished file and frees the writer. Accepts NULL. */
void shard_writer_abandon(struct shard_writer *writer);

#endif
