/* marks.h - the names of what is not data: END, ABORT and checksums. */
#ifndef STREAM_MARKS_H
#define STREAM_MARKS_H

#include <stddef.h>
#include <stdint.h>

#define MARK_KEY "clipipe" /* metadata key of a record that is a mark */
#define MARK_END "end"
#define MARK_ABORT "abort"

/* A record with a checksum says so in its metadata and carries it as its last tensor, U8 [4],
 * little-endian; END carries it as metadata, eight hex digits. */
#define MARK_CHECKSUM_KEY "checksum"
#define MARK_CRC_KEY "crc32c"
#define MARK_CRC_SIZE 4

/* The CRC-32C of END's header, with the eight digits of its own value taken as zeros. */
uint32_t marks_end_crc(const char *json, size_t size);

#endif
