/* vocabulary_text.h - the lines of a vocabulary file, which is text, plain or gzip. */
#ifndef FORMATS_VOCABULARY_TEXT_H
#define FORMATS_VOCABULARY_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum { VOCABULARY_TEXT_MAX = 64 << 20 }; /* bytes, packed and unpacked */

/* A zeroed struct is empty. */
struct vocabulary_text {
    const uint8_t *data; /* in the file, or in unpacked */
    size_t size;
    size_t position; /* of the next line */
    size_t line;     /* number of the line read last, from 1; 0 before the first */
    struct buffer unpacked;
};

/* The file data[0..size) must outlive the text. STATUS_DATA where it is too long, or gzip that
 * is damaged. */
enum status vocabulary_text_open(struct vocabulary_text *text, const uint8_t *data, size_t size,
                                 struct error *error);
void vocabulary_text_close(struct vocabulary_text *text);

/* The next line without its "\n"; false at the end of the file. */
bool vocabulary_text_next_line(struct vocabulary_text *text, const uint8_t **line,
                               size_t *size);

/* Goes back to the first line. */
void vocabulary_text_rewind(struct vocabulary_text *text);

/* Whether the first line is a header that has "#version", as files of BPE merges have. */
bool vocabulary_text_has_version(const struct vocabulary_text *text);

#endif
