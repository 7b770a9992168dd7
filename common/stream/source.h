/* source.h - the bytes of a stream, from a pipe or file, zstd frames unpacked on the way. */
#ifndef STREAM_SOURCE_H
#define STREAM_SOURCE_H

#include <stddef.h>
#include <stdint.h>
#include <zstd.h>

#include "base/error.h"

enum { SOURCE_BUFFER_SIZE = 1 << 16 };

struct source {
    int fd;
    int stop_fd;        /* readable when reading is to stop; -1: none */
    ZSTD_DCtx *zstd;    /* NULL until the first compressed frame */
    int in_frame;       /* inside a zstd frame */
    int at_boundary;    /* where a zstd frame may begin */
    size_t begin, end;  /* the unread part of raw */
    uint64_t bytes;     /* delivered so far, unpacked */
    int64_t wait_ns;    /* spent in read() */
    uint8_t raw[SOURCE_BUFFER_SIZE];
};

/* The descriptors stay the caller's. The pipe is enlarged where that is allowed. */
void source_init(struct source *source, int fd);
void source_free(struct source *source);

/* Fills data[0..size) unless the stream ends before; *got says how much there is. STATUS_IO
 * where read fails, STATUS_RETRY when stop_fd becomes readable, STATUS_DATA for a damaged zstd
 * frame. A frame that stops in the middle is an early end, not an error: *got is short. */
enum status source_read(struct source *source, void *data, size_t size, size_t *got,
                        struct error *error);

/* Says that a stream has just ended, so that what follows may be compressed or not. */
void source_mark_boundary(struct source *source);

#endif
