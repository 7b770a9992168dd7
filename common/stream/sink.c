#include "stream/sink.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/io.h"

enum status sink_init(struct sink *sink, int fd, int zstd_level, struct error *error)
{
    *sink = (struct sink){.fd = fd};
    fcntl(fd, F_SETPIPE_SZ, 1 << 20);
    if (zstd_level == 0)
        return STATUS_OK;

    sink->packed_size = ZSTD_CStreamOutSize();
    sink->packed = malloc(sink->packed_size);
    sink->zstd = ZSTD_createCCtx();
    if (sink->packed == NULL || sink->zstd == NULL) {
        sink_free(sink);
        return error_memory(error, sink->packed_size, "zstd");
    }
    ZSTD_CCtx_setParameter(sink->zstd, ZSTD_c_compressionLevel, zstd_level);
    ZSTD_CCtx_setParameter(sink->zstd, ZSTD_c_checksumFlag, 1);
    return STATUS_OK;
}

void sink_free(struct sink *sink)
{
    ZSTD_freeCCtx(sink->zstd);
    free(sink->packed);
    *sink = (struct sink){.fd = -1};
}

static enum status write_plain(struct sink *sink, struct iovec *parts, int count,
                               struct error *error)
{
    int64_t start = clock_now_ns();
    int failed = io_writev_all(sink->fd, parts, count);
    sink->wait_ns += clock_now_ns() - start;
    if (failed)
        return error_set_errno(error, STATUS_IO, "cannot write");
    return STATUS_OK;
}

static enum status write_packed(struct sink *sink, ZSTD_inBuffer *in, ZSTD_EndDirective end,
                                struct error *error)
{
    size_t left;
    do {
        ZSTD_outBuffer out = {sink->packed, sink->packed_size, 0};
        left = ZSTD_compressStream2(sink->zstd, &out, in, end);
        if (ZSTD_isError(left))
            return error_set(error, STATUS_SYSTEM, "zstd: %s", ZSTD_getErrorName(left));
        struct iovec part = {sink->packed, out.pos};
        enum status status = out.pos > 0 ? write_plain(sink, &part, 1, error) : STATUS_OK;
        if (status != STATUS_OK)
            return status;
    } while (end == ZSTD_e_continue ? in->pos < in->size : left > 0);
    return STATUS_OK;
}

enum status sink_write(struct sink *sink, struct iovec *parts, int count, int last,
                       struct error *error)
{
    for (int i = 0; i < count; i++)
        sink->bytes += parts[i].iov_len;
    if (sink->zstd == NULL)
        return write_plain(sink, parts, count, error);

    for (int i = 0; i < count; i++) {
        ZSTD_inBuffer in = {parts[i].iov_base, parts[i].iov_len, 0};
        enum status status = write_packed(sink, &in, ZSTD_e_continue, error);
        if (status != STATUS_OK)
            return status;
    }
    ZSTD_inBuffer nothing = {NULL, 0, 0};
    return write_packed(sink, &nothing, last ? ZSTD_e_end : ZSTD_e_flush, error);
}
