#include "stream/marks.h"

#include <string.h>

#include "base/crc32c.h"

uint32_t marks_end_crc(const char *json, size_t size)
{
    static const char field[] = "\"" MARK_CRC_KEY "\":\"", zeros[] = "00000000";
    const size_t digits = sizeof zeros - 1;
    const char *found = memmem(json, size, field, sizeof field - 1);
    if (found == NULL || (size_t)(json + size - found) < sizeof field - 1 + digits)
        return crc32c(0, json, size);
    size_t before = (size_t)(found - json) + sizeof field - 1;
    uint32_t crc = crc32c(0, json, before);
    crc = crc32c(crc, zeros, digits);
    return crc32c(crc, json + before + digits, size - before - digits);
}
