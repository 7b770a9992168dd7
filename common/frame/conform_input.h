/* conform_input.h - the streams that conform.h feeds to a program; private to it. */
#ifndef FRAME_CONFORM_INPUT_H
#define FRAME_CONFORM_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

/* A stream in memory. */
struct stream_bytes {
    const uint8_t *data;
    size_t size;
};

/* What a whole stream holds, as far as checks want to know. */
struct stream_summary {
    uint64_t records, samples;
    bool has_mark;       /* every record has the tensor `conform.mark` ... */
    bool has_fact;       /* ... and the fact of that name */
    struct buffer marks; /* its values, one byte a sample */
};

/* How a stream is written anew. */
enum stream_change {
    STREAM_ABORTED,  /* ABORT by "first-stage" in place of END */
    STREAM_EMPTY,    /* END alone */
    STREAM_JOINED,   /* twice, one after the other */
    STREAM_MARKED,   /* with a tensor U8 [B] and a fact, both called conform.mark */
    STREAM_PACKED,   /* by zstd */
    STREAM_DAMAGED,  /* with checksums, and one bit of the first record's data flipped */
};

#define STREAM_ABORT_STAGE "first-stage"
#define STREAM_ABORT_REASON "the disk caught fire"

/* A small stream with every tensor that a reduction may want: images of 32 x 32 pixels,
 * captions, tokens of a vocabulary of 514 and their priorities. Replaces the contents of *out.
 */
enum status conform_input_sample(struct buffer *out, struct error *error);

/* Replaces the contents of *out by the changed stream. STATUS_DATA or STATUS_TRUNCATED where
 * `in` is no whole stream. */
enum status conform_input_change(struct stream_bytes in, enum stream_change change,
                                 struct buffer *out, struct error *error);

/* Reads a stream to its end. Not STATUS_OK where it is not whole. Frees nothing but on failure;
 * the caller frees out->marks. */
enum status conform_input_read(struct stream_bytes in, struct stream_summary *out,
                               struct error *error);

/* The whole contents of a file in memory. */
enum status conform_input_load(int fd, struct buffer *out, struct error *error);

/* The byte at which record `i` begins (0 <= i); `size` where there are fewer records or the
 * stream is packed. */
size_t conform_input_record_start(struct stream_bytes in, size_t i);

#endif
