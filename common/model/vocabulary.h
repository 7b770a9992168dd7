/* vocabulary.h - a tokenizer's vocabulary file, as bytes that are passed on unchanged. */
#ifndef MODEL_VOCABULARY_H
#define MODEL_VOCABULARY_H

#include "base/buffer.h"
#include "base/error.h"

enum { VOCABULARY_CRC_SIZE = 9 }; /* eight hex digits and NUL */

/* Reads the file into an empty buffer; crc[] becomes its CRC-32C in hex. STATUS_DATA where
 * `expected` is not NULL and not that; STATUS_NO_INPUT, with a hint, where it cannot be opened. */
enum status vocabulary_load(const char *path, const char *expected, struct buffer *out,
                            char crc[VOCABULARY_CRC_SIZE], struct error *error);

#endif
