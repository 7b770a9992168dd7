#include "stream/source.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

static const uint8_t zstd_magic[4] = {0x28, 0xb5, 0x2f, 0xfd};

void source_init(struct source *source, int fd)
{
    memset(source, 0, offsetof(struct source, raw));
    source->fd = fd;
    source->stop_fd = -1;
    source->at_boundary = 1;
    fcntl(fd, F_SETPIPE_SZ, 1 << 20);
}

void source_free(struct source *source)
{
    ZSTD_freeDCtx(source->zstd);
    source->zstd = NULL;
}

void source_mark_boundary(struct source *source)
{
    source->at_boundary = 1;
}

/* Waits until there is something to read; false if it is the word to stop. */
static bool wait_readable(const struct source *source)
{
    struct pollfd ready[2] = {{.fd = source->fd, .events = POLLIN},
                              {.fd = source->stop_fd, .events = POLLIN}};
    while (poll(ready, 2, -1) < 0 && errno == EINTR)
        ;
    return ready[1].revents == 0;
}

/* One read(); 0 bytes at the end of the file. */
static enum status read_some(struct source *source, void *data, size_t size, size_t *got,
                             struct error *error)
{
    int64_t start = clock_now_ns();
    ssize_t count;
    if (source->stop_fd >= 0 && !wait_readable(source))
        return error_set(error, STATUS_RETRY, "stopped while reading");
    do
        count = read(source->fd, data, size);
    while (count < 0 && errno == EINTR);
    source->wait_ns += clock_now_ns() - start;
    if (count < 0)
        return error_set_errno(error, STATUS_IO, "cannot read");
    *got = (size_t)count;
    return STATUS_OK;
}

/* Makes at least `wanted` raw bytes available, fewer only at the end of the file. */
static enum status fill_raw(struct source *source, size_t wanted, struct error *error)
{
    if (source->end - source->begin >= wanted)
        return STATUS_OK;
    memmove(source->raw, source->raw + source->begin, source->end - source->begin);
    source->end -= source->begin;
    source->begin = 0;
    while (source->end < wanted) {
        size_t got;
        enum status status = read_some(source, source->raw + source->end,
                                       SOURCE_BUFFER_SIZE - source->end, &got, error);
        if (status != STATUS_OK)
            return status;
        if (got == 0)
            break;
        source->end += got;
    }
    return STATUS_OK;
}

/* A record's header length would have to be over 4 GB to look like the magic number. */
static enum status look_for_frame(struct source *source, struct error *error)
{
    enum status status = fill_raw(source, sizeof zstd_magic, error);
    if (status != STATUS_OK)
        return status;
    source->at_boundary = 0;
    if (source->end - source->begin < sizeof zstd_magic ||
        memcmp(source->raw + source->begin, zstd_magic, sizeof zstd_magic) != 0)
        return STATUS_OK;
    if (source->zstd == NULL && (source->zstd = ZSTD_createDCtx()) == NULL)
        return error_memory(error, 1 << 17, "zstd");
    source->in_frame = 1;
    return STATUS_OK;
}

static enum status read_frame(struct source *source, uint8_t *data, size_t size, size_t *got,
                              bool *ended, struct error *error)
{
    ZSTD_outBuffer out = {data, size, 0};
    *ended = false;
    while (out.pos < size && source->in_frame) {
        enum status status = fill_raw(source, 1, error);
        if (status != STATUS_OK)
            return status;
        ZSTD_inBuffer in = {source->raw, source->end, source->begin};
        bool at_end = source->begin == source->end;
        size_t before = out.pos;
        size_t left = ZSTD_decompressStream(source->zstd, &out, &in);
        source->begin = in.pos;
        if (ZSTD_isError(left))
            return error_set(error, STATUS_DATA, "damaged zstd frame: %s",
                             ZSTD_getErrorName(left));
        if (left == 0) {
            source->in_frame = 0;
            source->at_boundary = 1;
        } else if (at_end && out.pos == before) {
            *ended = true;
            break;
        }
    }
    *got = out.pos;
    return STATUS_OK;
}

/* Small reads go through the buffer, large ones straight to where they belong. */
static enum status read_plain(struct source *source, uint8_t *data, size_t size, size_t *got,
                              struct error *error)
{
    size_t have = source->end - source->begin;
    if (have == 0 && size >= SOURCE_BUFFER_SIZE)
        return read_some(source, data, size, got, error);
    if (have == 0) {
        enum status status = fill_raw(source, 1, error);
        if (status != STATUS_OK)
            return status;
        have = source->end - source->begin;
    }
    *got = have < size ? have : size;
    memcpy(data, source->raw + source->begin, *got);
    source->begin += *got;
    return STATUS_OK;
}

enum status source_read(struct source *source, void *data, size_t size, size_t *got,
                        struct error *error)
{
    *got = 0;
    while (*got < size) {
        enum status status = STATUS_OK;
        if (source->at_boundary && !source->in_frame)
            status = look_for_frame(source, error);
        if (status != STATUS_OK)
            return status;

        size_t part = 0;
        bool ended;
        uint8_t *to = (uint8_t *)data + *got;
        bool packed = source->in_frame;
        if (packed) {
            status = read_frame(source, to, size - *got, &part, &ended, error);
        } else {
            status = read_plain(source, to, size - *got, &part, error);
            ended = part == 0;
        }
        if (status != STATUS_OK)
            return status;
        *got += part;
        source->bytes += part;
        if (ended)
            break;
    }
    return STATUS_OK;
}
