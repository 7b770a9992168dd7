/* crc32c.h - CRC-32C (Castagnoli), the checksum of records and checkpoints. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc`, the value for the bytes before (0 at the start), over `size` more bytes.
 * crc32c(0, "123456789", 9) is 0xe3069283. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);

#endif
