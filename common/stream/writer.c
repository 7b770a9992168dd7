#include "stream/writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/crc32c.h"
#include "stream/header.h"
#include "stream/marks.h"
#include "stream/reader.h"
#include "stream/sink.h"

struct writer {
    struct sink sink;
    const char *name;
    bool checksum;
    struct metadata metadata;
    struct buffer header;
    struct tensor tensors[RECORD_TENSORS_MAX + 1]; /* of the record being written, in order */
    struct writer_stats stats;
};

enum status writer_open(struct writer **out, int fd, const char *name,
                        struct writer_options options, struct error *error)
{
    struct writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return error_memory(error, sizeof *writer, "a writer");
    writer->name = name;
    writer->checksum = options.checksum;
    enum status status = sink_init(&writer->sink, fd, options.zstd_level, error);
    if (status == STATUS_OK && options.checksum)
        status = metadata_set(&writer->metadata, MARK_CHECKSUM_KEY, MARK_CRC_KEY, error);
    if (status != STATUS_OK) {
        writer_close(writer);
        return status;
    }
    *out = writer;
    return STATUS_OK;
}

/* Whether there are checksums is this writer's own fact: a copied one is left out. */
enum status writer_set_metadata(struct writer *writer, const struct metadata *metadata,
                                struct error *error)
{
    metadata_free(&writer->metadata);
    enum status status = STATUS_OK;
    if (writer->checksum)
        status = metadata_set(&writer->metadata, MARK_CHECKSUM_KEY, MARK_CRC_KEY, error);
    for (size_t i = 0; status == STATUS_OK && i < metadata->count; i++)
        if (strcmp(metadata->entries[i].key, MARK_CHECKSUM_KEY) != 0)
            status = metadata_set(&writer->metadata, metadata->entries[i].key,
                                  metadata->entries[i].value, error);
    return status;
}

static enum status write_parts(struct writer *writer, struct iovec *parts, int count, int last,
                               struct error *error)
{
    enum status status = sink_write(&writer->sink, parts, count, last, error);
    return status == STATUS_OK ? STATUS_OK : error_prefix(error, "%s", writer->name);
}

static void put_crc(const struct writer *writer, size_t count, uint8_t out[MARK_CRC_SIZE])
{
    uint32_t crc = crc32c(0, writer->header.data, writer->header.size);
    for (size_t i = 0; i < count; i++)
        crc = crc32c(crc, writer->tensors[i].data, writer->tensors[i].size);
    for (int i = 0; i < MARK_CRC_SIZE; i++)
        out[i] = (uint8_t)(crc >> 8 * i);
}

enum status writer_put(struct writer *writer, const struct record *record,
                       struct error *error)
{
    size_t batch, count = record->count;
    if (record_batch(record, &batch, error) != STATUS_OK) {
        error->status = STATUS_BUG;
        return error_prefix(error, "%s: record %" PRIu64, writer->name, writer->stats.records);
    }
    memcpy(writer->tensors, record->tensors, count * sizeof record->tensors[0]);
    header_sort_tensors(writer->tensors, count);

    uint8_t crc[MARK_CRC_SIZE];
    if (writer->checksum) {
        const size_t shape[1] = {MARK_CRC_SIZE};
        tensor_init(&writer->tensors[count++], MARK_CRC_KEY, DTYPE_U8, 1, shape, crc);
    }
    writer->header.size = 0;
    enum status status =
        header_format(&writer->header, writer->tensors, count, &writer->metadata, error);
    if (status != STATUS_OK)
        return status;
    if (writer->header.size > STREAM_HEADER_LIMIT)
        return error_set(error, STATUS_DATA, "%s: header of %zu bytes, at most %d allowed",
                         writer->name, writer->header.size, STREAM_HEADER_LIMIT);
    if (writer->checksum)
        put_crc(writer, count - 1, crc);

    struct iovec parts[RECORD_TENSORS_MAX + 2] = {{writer->header.data, writer->header.size}};
    for (size_t i = 0; i < count; i++)
        parts[i + 1] = (struct iovec){writer->tensors[i].data, writer->tensors[i].size};
    status = write_parts(writer, parts, (int)count + 1, 0, error);
    writer->stats.records++;
    writer->stats.samples += batch;
    return status;
}

static enum status write_mark(struct writer *writer, const struct metadata *metadata,
                              struct error *error)
{
    writer->header.size = 0;
    enum status status = header_format(&writer->header, NULL, 0, metadata, error);
    if (status != STATUS_OK)
        return status;
    const char *json = (const char *)writer->header.data + HEADER_LENGTH_SIZE;
    size_t size = writer->header.size - HEADER_LENGTH_SIZE;
    if (metadata_get(metadata, MARK_CRC_KEY) != NULL) {
        char digits[9];
        snprintf(digits, sizeof digits, "%08x", marks_end_crc(json, size));
        char *zeros = memmem(json, size, "00000000\"}}", 11);
        memcpy(zeros, digits, 8);
    }
    struct iovec part = {writer->header.data, writer->header.size};
    return write_parts(writer, &part, 1, 1, error);
}

enum status writer_end(struct writer *writer, uint64_t dropped, struct error *error)
{
    const struct {
        const char *key;
        uint64_t value;
    } counts[] = {{"records", writer->stats.records},
                  {"samples", writer->stats.samples},
                  {"dropped", dropped}};
    struct metadata mark = {0};
    enum status status = metadata_set(&mark, MARK_KEY, MARK_END, error);
    for (size_t i = 0; status == STATUS_OK && i < 3; i++) {
        char text[24];
        snprintf(text, sizeof text, "%" PRIu64, counts[i].value);
        status = metadata_set(&mark, counts[i].key, text, error);
    }
    if (status == STATUS_OK && writer->checksum)
        status = metadata_set(&mark, MARK_CRC_KEY, "00000000", error);
    if (status == STATUS_OK)
        status = write_mark(writer, &mark, error);
    metadata_free(&mark);
    return status;
}

void writer_abort(struct writer *writer, const char *stage, const char *reason)
{
    struct error ignored;
    struct metadata mark = {0};
    if (metadata_set(&mark, MARK_KEY, MARK_ABORT, &ignored) == STATUS_OK &&
        metadata_set(&mark, "stage", stage, &ignored) == STATUS_OK &&
        metadata_set(&mark, "reason", reason, &ignored) == STATUS_OK)
        write_mark(writer, &mark, &ignored);
    metadata_free(&mark);
}

struct writer_stats writer_stats(const struct writer *writer)
{
    struct writer_stats stats = writer->stats;
    stats.bytes = writer->sink.bytes;
    stats.wait_ns = writer->sink.wait_ns;
    return stats;
}

void writer_close(struct writer *writer)
{
    if (writer == NULL)
        return;
    sink_free(&writer->sink);
    metadata_free(&writer->metadata);
    buffer_free(&writer->header);
    free(writer);
}
