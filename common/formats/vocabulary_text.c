#include "formats/vocabulary_text.h"

#include <string.h>
#include <zlib.h>

enum { UNPACK_STEP = 1 << 20 };

static bool is_gzip(const uint8_t *data, size_t size)
{
    return size >= 2 && data[0] == 0x1F && data[1] == 0x8B;
}

/* A gzip file is one member or several, each of which unpacks to a part of the text. */
static enum status unpack(const uint8_t *data, size_t size, struct buffer *out,
                          struct error *error)
{
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)size};
    if (inflateInit2(&stream, 15 + 16) != Z_OK)
        return error_memory(error, 1 << 16, "unpacking a vocabulary");
    enum status status = STATUS_OK;
    int result = Z_OK;
    while (result == Z_OK) {
        if (out->size >= VOCABULARY_TEXT_MAX) {
            status = error_set(error, STATUS_DATA, "vocabulary: unpacks to more than %d bytes",
                               VOCABULARY_TEXT_MAX);
            goto out_stream;
        }
        status = buffer_reserve(out, out->size + UNPACK_STEP, error);
        if (status != STATUS_OK)
            goto out_stream;
        stream.next_out = out->data + out->size;
        stream.avail_out = UNPACK_STEP;
        result = inflate(&stream, Z_NO_FLUSH);
        out->size += UNPACK_STEP - stream.avail_out;
        if (result == Z_STREAM_END && is_gzip(stream.next_in, stream.avail_in))
            result = inflateReset(&stream);
    }
    if (result != Z_STREAM_END)
        status = error_set(error, STATUS_DATA,
                           "vocabulary: the gzip data %s before byte %zu of %zu",
                           result == Z_BUF_ERROR ? "end" : "are damaged",
                           size - stream.avail_in, size);
out_stream:
    inflateEnd(&stream);
    return status;
}

enum status vocabulary_text_open(struct vocabulary_text *text, const uint8_t *data, size_t size,
                                 struct error *error)
{
    *text = (struct vocabulary_text){.data = data, .size = size};
    if (size > VOCABULARY_TEXT_MAX)
        return error_set(error, STATUS_DATA, "vocabulary: %zu bytes, more than %d", size,
                         VOCABULARY_TEXT_MAX);
    if (!is_gzip(data, size))
        return STATUS_OK;
    enum status status = unpack(data, size, &text->unpacked, error);
    if (status != STATUS_OK) {
        vocabulary_text_close(text);
        return status;
    }
    text->data = text->unpacked.data;
    text->size = text->unpacked.size;
    return STATUS_OK;
}

void vocabulary_text_close(struct vocabulary_text *text)
{
    buffer_free(&text->unpacked);
    *text = (struct vocabulary_text){.data = NULL};
}

bool vocabulary_text_next_line(struct vocabulary_text *text, const uint8_t **line, size_t *size)
{
    if (text->position == text->size)
        return false;
    *line = text->data + text->position;
    const size_t left = text->size - text->position;
    const uint8_t *end = memchr(*line, '\n', left);
    *size = end == NULL ? left : (size_t)(end - *line);
    text->position += *size + (end != NULL);
    text->line++;
    return true;
}

void vocabulary_text_rewind(struct vocabulary_text *text)
{
    text->position = 0;
    text->line = 0;
}

bool vocabulary_text_has_version(const struct vocabulary_text *text)
{
    static const char version[] = "#version";
    struct vocabulary_text first = {.data = text->data, .size = text->size};
    const uint8_t *line;
    size_t size;
    return vocabulary_text_next_line(&first, &line, &size) &&
           memmem(line, size, version, sizeof version - 1) != NULL;
}
