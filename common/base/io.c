#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

ssize_t io_read_full(int fd, void *data, size_t size)
{
    size_t have = 0;
    while (have < size) {
        ssize_t got = read(fd, (uint8_t *)data + have, size - have);
        if (got == 0)
            break;
        if (got < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        have += (size_t)got;
    }
    return (ssize_t)have;
}

int io_write_all(int fd, const void *data, size_t size)
{
    struct iovec part = {(void *)data, size};
    return io_writev_all(fd, &part, 1);
}

int io_writev_all(int fd, struct iovec *parts, int count)
{
    while (count > 0) {
        ssize_t wrote = writev(fd, parts, count < 64 ? count : 64);
        if (wrote < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        size_t left = (size_t)wrote;
        while (count > 0 && left >= parts->iov_len) {
            left -= parts->iov_len;
            parts++;
            count--;
        }
        if (count > 0) {
            parts->iov_base = (uint8_t *)parts->iov_base + left;
            parts->iov_len -= left;
        }
    }
    return 0;
}

enum status io_read_file(const char *path, size_t limit, struct buffer *out,
                         struct error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, STATUS_NO_INPUT, "cannot open %s", path);

    enum status status = STATUS_OK;
    for (;;) {
        status = buffer_reserve(out, out->size + 65536, error);
        if (status != STATUS_OK)
            break;
        ssize_t got = io_read_full(fd, out->data + out->size, out->capacity - out->size);
        if (got < 0) {
            status = error_set_errno(error, STATUS_IO, "cannot read %s", path);
            break;
        }
        if (got == 0)
            break;
        out->size += (size_t)got;
        if (out->size > limit) {
            status = error_set(error, STATUS_DATA, "%s is longer than %zu bytes", path, limit);
            break;
        }
    }
    close(fd);
    return status;
}

enum status io_write_file(const char *path, const void *data, size_t size,
                          struct error *error)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return error_set_errno(error, STATUS_IO, "cannot create %s", path);
    if (io_write_all(fd, data, size) != 0 || fsync(fd) != 0) {
        error_set_errno(error, STATUS_IO, "cannot write %s", path);
        close(fd);
        return error->status;
    }
    if (close(fd) != 0)
        return error_set_errno(error, STATUS_IO, "cannot close %s", path);
    return STATUS_OK;
}

enum status io_sync_directory(const char *path, struct error *error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, STATUS_IO, "cannot open directory %s", path);
    int failed = fsync(fd);
    if (failed)
        error_set_errno(error, STATUS_IO, "cannot sync directory %s", path);
    close(fd);
    return failed ? error->status : STATUS_OK;
}
