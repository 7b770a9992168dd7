/* fuzz.h - what a fuzz target offers to libFuzzer (`make fuzz`) and replay.c (`make check`). */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/io.h"

/* Tries one input, any bytes at all; returns 0. What must never happen ends the process. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whether the last input was taken as valid. */
extern bool fuzz_accepted;

/* Replaces *out by valid input number `number`; false after the last. */
bool fuzz_seed(int number, struct buffer *out);

/* An assertion that no build leaves out. */
#define MUST(condition)                                                                   \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: must hold: %s\n", __FILE__, __LINE__, #condition);    \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

/* `status` is success or a refusal of bad data, with a message of one line. */
static inline void fuzz_check_status(enum status status, const struct error *error)
{
    MUST(status == STATUS_OK || status == STATUS_DATA);
    MUST(status == STATUS_OK || error->status == status);
    MUST(status == STATUS_OK || error->text[0] != '\0');
    MUST(status == STATUS_OK || strchr(error->text, '\n') == NULL);
}

static inline void fuzz_append(struct buffer *out, const void *data, size_t size)
{
    struct error error;
    MUST(buffer_append(out, data, size, &error) == STATUS_OK);
}

/* Makes the file `*fd`, which exists in memory only and is made at the first call, hold these
 * bytes; `path` becomes a name for it. */
enum { FUZZ_PATH_SIZE = 32 };
static inline void fuzz_file(int *fd, char path[FUZZ_PATH_SIZE], const void *data, size_t size)
{
    if (*fd <= 0)
        *fd = memfd_create("fuzz", MFD_CLOEXEC);
    MUST(*fd > 0 && ftruncate(*fd, 0) == 0 && lseek(*fd, 0, SEEK_SET) == 0);
    MUST(io_write_all(*fd, data, size) == 0 && lseek(*fd, 0, SEEK_SET) == 0);
    snprintf(path, FUZZ_PATH_SIZE, "/proc/self/fd/%d", *fd);
}

/* Appends what the file holds. */
static inline void fuzz_append_file(int fd, struct buffer *out)
{
    char part[4096];
    ssize_t got;
    MUST(lseek(fd, 0, SEEK_SET) == 0);
    while ((got = io_read_full(fd, part, sizeof part)) > 0)
        fuzz_append(out, part, (size_t)got);
    MUST(got == 0);
}

/* Reads every byte, so that a sanitizer sees what must not be read. */
static inline uint64_t fuzz_digest(uint64_t digest, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++)
        digest = (digest ^ bytes[i]) * UINT64_C(0x100000001b3);
    return digest;
}

#endif
