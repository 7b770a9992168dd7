/* io.h - system calls that finish what they begin: short counts and EINTR are retried. */
#ifndef BASE_IO_H
#define BASE_IO_H

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/buffer.h"
#include "base/error.h"

/* Reads until `size` bytes are there or the file ends; -1 with errno on failure. */
ssize_t io_read_full(int fd, void *data, size_t size);

/* Writes everything; -1 with errno on failure. `parts` is consumed. */
int io_write_all(int fd, const void *data, size_t size);
int io_writev_all(int fd, struct iovec *parts, int count);

/* The whole of a regular file or pipe, at most `limit` bytes, into an empty buffer.
 * STATUS_NO_INPUT where it cannot be opened, STATUS_DATA where it is longer. */
enum status io_read_file(const char *path, size_t limit, struct buffer *out,
                         struct error *error);

/* Creates or replaces `path`, fsynced before it returns. */
enum status io_write_file(const char *path, const void *data, size_t size,
                          struct error *error);

/* Makes the names in a directory durable. */
enum status io_sync_directory(const char *path, struct error *error);

#endif
