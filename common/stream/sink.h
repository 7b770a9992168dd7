/* sink.h - where a stream's bytes go, packed as zstd on the way if asked. */
#ifndef STREAM_SINK_H
#define STREAM_SINK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <zstd.h>

#include "base/error.h"

struct sink {
    int fd;
    ZSTD_CCtx *zstd;  /* NULL: plain */
    uint8_t *packed;  /* owned, packed_size bytes */
    size_t packed_size;
    uint64_t bytes;   /* accepted so far, before packing */
    int64_t wait_ns;  /* spent in writev() */
};

/* zstd_level 0 writes plain bytes. The descriptor stays the caller's. */
enum status sink_init(struct sink *sink, int fd, int zstd_level, struct error *error);
void sink_free(struct sink *sink);

/* Writes all parts, which are consumed; what was written is on its way to the reader when this
 * returns, also through zstd. `last` ends the zstd frame. STATUS_IO on failure. */
enum status sink_write(struct sink *sink, struct iovec *parts, int count, int last,
                       struct error *error);

#endif
