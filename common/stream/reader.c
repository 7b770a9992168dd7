#include "stream/reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/crc32c.h"
#include "stream/header.h"
#include "stream/marks.h"
#include "stream/source.h"

struct reader {
    struct source source;
    const char *name;
    uint64_t record_limit;
    uint64_t record_start; /* byte where the current record begins */
    struct header header;
    char *json; /* the text that `header` was parsed from, kept to recognise it again */
    size_t json_size;
    char *json_next; /* STREAM_HEADER_LIMIT bytes each */
    uint64_t metadata_version;
    struct buffer data;
    bool ended;      /* the last thing read was END */
    bool checksummed; /* this stream said that it carries checksums */
    struct reader_stats stats;
    uint64_t part_records, part_samples; /* since the last END */
    char abort_stage[64];
    char abort_reason[480];
};

enum status reader_open(struct reader **out, int fd, const char *name, uint64_t record_limit,
                        struct error *error)
{
    struct reader *reader = malloc(sizeof *reader);
    char *texts = malloc(2 * STREAM_HEADER_LIMIT);
    if (reader == NULL || texts == NULL) {
        free(reader);
        free(texts);
        return error_memory(error, sizeof *reader + 2 * STREAM_HEADER_LIMIT, "a reader");
    }
    memset(reader, 0, sizeof *reader);
    source_init(&reader->source, fd);
    reader->name = name;
    reader->record_limit = record_limit != 0 ? record_limit : (uint64_t)4 << 30;
    reader->metadata_version = 1;
    reader->json = texts;
    reader->json_next = texts + STREAM_HEADER_LIMIT;
    *out = reader;
    return STATUS_OK;
}

void reader_stop_on(struct reader *reader, int fd)
{
    reader->source.stop_fd = fd;
}

static enum status locate(struct reader *reader, struct error *error)
{
    return error_prefix(error, "%s: record %" PRIu64 " at byte %" PRIu64, reader->name,
                        reader->stats.records, reader->record_start);
}

/* Reads all of data[0..size) or says that the stream is truncated. */
static enum status read_part(struct reader *reader, void *data, size_t size, const char *what,
                             struct error *error)
{
    size_t got;
    enum status status = source_read(&reader->source, data, size, &got, error);
    if (status == STATUS_OK && got < size)
        status = error_set(error, STATUS_TRUNCATED, "stream ends after %zu of %zu bytes of %s",
                           got, size, what);
    return status;
}

/* The length of the next header, or *end at the end of a complete stream. */
static enum status read_length(struct reader *reader, size_t *length, bool *end,
                               struct error *error)
{
    uint8_t bytes[HEADER_LENGTH_SIZE];
    size_t got;
    *end = false;
    enum status status = source_read(&reader->source, bytes, sizeof bytes, &got, error);
    if (status != STATUS_OK)
        return status;
    if (got == 0) {
        *end = reader->ended && !reader->source.in_frame;
        if (*end)
            return STATUS_OK;
        return error_set(error, STATUS_TRUNCATED, reader->ended
                                                      ? "stream ends inside a zstd frame"
                                                      : "stream ends without END");
    }
    if (got < sizeof bytes)
        return error_set(error, STATUS_TRUNCATED, "stream ends after %zu of %zu bytes of a "
                                                  "header's length",
                         got, sizeof bytes);
    uint64_t value = header_load_length(bytes);
    if (value < 2 || value > STREAM_HEADER_LIMIT) {
        error_set(error, STATUS_DATA, "header of %" PRIu64 " bytes, expected 2 to %d", value,
                  STREAM_HEADER_LIMIT);
        if (reader->stats.records == 0)
            error_hint(error, "this does not look like a stream of records");
        return error->status;
    }
    *length = (size_t)value;
    return STATUS_OK;
}

/* Parses the header unless it is the one before. Ragged tensors change their offsets with
 * every record; streams of fixed shapes are recognised by a comparison. */
static enum status read_header(struct reader *reader, size_t length, struct error *error)
{
    enum status status = read_part(reader, reader->json_next, length, "header", error);
    if (status != STATUS_OK)
        return status;
    if (length == reader->json_size && memcmp(reader->json, reader->json_next, length) == 0)
        return STATUS_OK;

    struct metadata before = reader->header.metadata;
    reader->header.metadata = (struct metadata){0};
    reader->json_size = 0;
    status = header_parse(&reader->header, reader->json_next, length, error);
    if (!metadata_equal(&before, &reader->header.metadata))
        reader->metadata_version++;
    metadata_free(&before);
    if (status != STATUS_OK)
        return status;

    char *text = reader->json;
    reader->json = reader->json_next;
    reader->json_next = text;
    reader->json_size = length;
    return STATUS_OK;
}

/* ---- END and ABORT ---- */

static bool parse_count(const char *text, uint64_t *out)
{
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return false;
    char *end;
    *out = strtoull(text, &end, 10);
    return *end == '\0';
}

/* An END of a checksummed stream carries the CRC of its own header, the digits taken as 0. */
static enum status check_end_crc(struct reader *reader, struct error *error)
{
    const char *value = metadata_get(&reader->header.metadata, MARK_CRC_KEY);
    if (value == NULL) {
        if (reader->checksummed)
            return error_set(error, STATUS_DATA, "END without the checksum of its stream");
        return STATUS_OK;
    }
    uint32_t found = marks_end_crc(reader->json, reader->json_size);
    char expected[9];
    snprintf(expected, sizeof expected, "%08x", found);
    if (strcmp(value, expected) != 0)
        return error_set(error, STATUS_DATA, "END has checksum %s, expected %s", value, expected);
    return STATUS_OK;
}

static enum status take_end(struct reader *reader, struct error *error)
{
    static const char *const keys[] = {MARK_KEY, "records", "samples", "dropped", MARK_CRC_KEY};
    const struct metadata *metadata = &reader->header.metadata;
    for (size_t i = 0; i < metadata->count; i++) {
        bool known = false;
        for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++)
            known |= strcmp(metadata->entries[i].key, keys[k]) == 0;
        if (!known)
            return error_set(error, STATUS_DATA, "END with unknown key '%.60s'",
                             metadata->entries[i].key);
    }

    uint64_t records, samples, dropped;
    if (!parse_count(metadata_get(metadata, "records"), &records) ||
        !parse_count(metadata_get(metadata, "samples"), &samples) ||
        !parse_count(metadata_get(metadata, "dropped"), &dropped))
        return error_set(error, STATUS_DATA, "END without records, samples or dropped");
    enum status status = check_end_crc(reader, error);
    if (status != STATUS_OK)
        return status;
    if (records != reader->part_records || samples != reader->part_samples)
        return error_set(error, STATUS_DATA,
                         "END counts %" PRIu64 " records and %" PRIu64 " samples, read %" PRIu64
                         " and %" PRIu64,
                         records, samples, reader->part_records, reader->part_samples);
    reader->stats.dropped += dropped;
    reader->part_records = reader->part_samples = 0;
    reader->checksummed = false;
    reader->ended = true;
    source_mark_boundary(&reader->source);
    return STATUS_OK;
}

static enum status take_abort(struct reader *reader, struct error *error)
{
    const char *stage = metadata_get(&reader->header.metadata, "stage");
    const char *reason = metadata_get(&reader->header.metadata, "reason");
    snprintf(reader->abort_stage, sizeof reader->abort_stage, "%s",
             stage == NULL ? "unknown" : stage);
    snprintf(reader->abort_reason, sizeof reader->abort_reason, "%s",
             reason == NULL ? "unknown" : reason);
    return error_set(error, STATUS_TRUNCATED, "%s failed upstream: %s", reader->abort_stage,
                     reader->abort_reason);
}

/* ---- records ---- */

static enum status read_data(struct reader *reader, struct error *error)
{
    struct header *header = &reader->header;
    if (header->data_size > reader->record_limit)
        return error_set(error, STATUS_DATA, "%zu bytes of data, at most %" PRIu64 " allowed",
                         header->data_size, reader->record_limit);
    if (header->count > RECORD_TENSORS_MAX)
        return error_set(error, STATUS_DATA, "%zu tensors in a record, at most %d allowed",
                         header->count, RECORD_TENSORS_MAX);
    reader->data.size = 0; /* nothing to preserve when the buffer grows */
    enum status status = buffer_reserve(&reader->data, header->data_size, error);
    if (status == STATUS_OK)
        status = read_part(reader, reader->data.data, header->data_size, "data", error);
    return status;
}

/* Takes the checksum out of the record and compares. It covers the length, the header and
 * all data before it; it is the last tensor. */
static enum status check_crc(struct reader *reader, struct record *record, struct error *error)
{
    const char *kind = metadata_get(&reader->header.metadata, MARK_CHECKSUM_KEY);
    struct tensor *tensor = record_find(record, MARK_CRC_KEY);
    if (kind == NULL && tensor == NULL)
        return STATUS_OK;
    if (kind == NULL || strcmp(kind, MARK_CRC_KEY) != 0 || tensor == NULL ||
        tensor != &record->tensors[record->count - 1] || tensor->dtype != DTYPE_U8 ||
        tensor->size != MARK_CRC_SIZE)
        return error_set(error, STATUS_DATA, "damaged checksum field");
    reader->checksummed = true;

    const uint8_t *stored = tensor->data;
    uint8_t length[HEADER_LENGTH_SIZE];
    for (int i = 0; i < HEADER_LENGTH_SIZE; i++)
        length[i] = (uint8_t)((uint64_t)reader->json_size >> 8 * i);
    uint32_t crc = crc32c(0, length, sizeof length);
    crc = crc32c(crc, reader->json, reader->json_size);
    crc = crc32c(crc, reader->data.data, reader->header.data_size - MARK_CRC_SIZE);
    uint32_t expected = (uint32_t)stored[0] | (uint32_t)stored[1] << 8 |
                        (uint32_t)stored[2] << 16 | (uint32_t)stored[3] << 24;
    if (crc != expected)
        return error_set(error, STATUS_DATA, "checksum is %08x, expected %08x", crc, expected);
    record->count--;
    return STATUS_OK;
}

static enum status take_record(struct reader *reader, struct record *record,
                               struct error *error)
{
    enum status status = read_data(reader, error);
    if (status != STATUS_OK)
        return status;
    record->count = reader->header.count;
    for (size_t i = 0; i < record->count; i++) {
        record->tensors[i] = reader->header.tensors[i];
        record->tensors[i].data = reader->data.data + reader->header.offsets[i];
    }
    status = check_crc(reader, record, error);
    size_t batch = 0;
    if (status == STATUS_OK)
        status = record_batch(record, &batch, error);
    if (status != STATUS_OK)
        return status;
    reader->stats.records++;
    reader->stats.samples += batch;
    reader->part_records++;
    reader->part_samples += batch;
    reader->ended = false;
    return STATUS_OK;
}

enum status reader_next(struct reader *reader, struct record *record, bool *end,
                        struct error *error)
{
    for (;;) {
        size_t length = 0;
        reader->record_start = reader->source.bytes;
        enum status status = read_length(reader, &length, end, error);
        if (status == STATUS_OK && *end)
            return STATUS_OK;
        if (status == STATUS_OK)
            status = read_header(reader, length, error);
        if (status != STATUS_OK)
            return locate(reader, error);

        const char *mark = metadata_get(&reader->header.metadata, MARK_KEY);
        if (mark == NULL) {
            status = take_record(reader, record, error);
            return status == STATUS_OK ? STATUS_OK : locate(reader, error);
        }
        if (reader->header.count > 0)
            status = error_set(error, STATUS_DATA, "mark '%.20s' with tensors", mark);
        else if (strcmp(mark, MARK_END) == 0)
            status = take_end(reader, error);
        else if (strcmp(mark, MARK_ABORT) == 0)
            return take_abort(reader, error);
        else
            status = error_set(error, STATUS_DATA, "unknown mark '%.20s'", mark);
        if (status != STATUS_OK)
            return locate(reader, error);
    }
}

const struct metadata *reader_metadata(const struct reader *reader, uint64_t *version)
{
    *version = reader->metadata_version;
    return &reader->header.metadata;
}

struct reader_stats reader_stats(const struct reader *reader)
{
    struct reader_stats stats = reader->stats;
    stats.bytes = reader->source.bytes;
    stats.wait_ns = reader->source.wait_ns;
    return stats;
}

bool reader_abort_cause(const struct reader *reader, const char **stage, const char **reason)
{
    *stage = reader->abort_stage;
    *reason = reader->abort_reason;
    return reader->abort_stage[0] != '\0';
}

void reader_close(struct reader *reader)
{
    if (reader == NULL)
        return;
    source_free(&reader->source);
    header_free(&reader->header);
    buffer_free(&reader->data);
    free(reader->json < reader->json_next ? reader->json : reader->json_next);
    free(reader);
}
