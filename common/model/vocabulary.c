#include "model/vocabulary.h"

#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/io.h"

enum { VOCABULARY_LIMIT = 64 << 20 };

enum status vocabulary_load(const char *path, const char *expected, struct buffer *out,
                            char crc[VOCABULARY_CRC_SIZE], struct error *error)
{
    enum status status = io_read_file(path, VOCABULARY_LIMIT, out, error);
    if (status == STATUS_NO_INPUT)
        error_hint(error, "name the vocabulary with --vocab");
    if (status != STATUS_OK)
        return status;
    snprintf(crc, VOCABULARY_CRC_SIZE, "%08x", crc32c(0, out->data, out->size));
    if (expected != NULL && strcmp(expected, crc) != 0)
        return error_set(error, STATUS_DATA, "vocabulary %s has checksum %s, the tokens were made "
                                             "with %s",
                         path, crc, expected);
    return STATUS_OK;
}
