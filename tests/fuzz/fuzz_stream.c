/* Any bytes as a stream of records, and as the header of one. What is accepted comes out the
 * same after it has been written and read again. */
#include "stream/header.h"
#include "stream/marks.h"
#include "stream/reader.h"
#include "stream/writer.h"
#include "tests/fuzz/fuzz.h"

enum { RECORD_BYTES_MAX = 1 << 20 };

bool fuzz_accepted;

static uint64_t digest_tensor(const struct tensor *tensor)
{
    uint64_t digest = fuzz_digest(0, tensor->name, strlen(tensor->name));
    digest = fuzz_digest(digest, &tensor->dtype, sizeof tensor->dtype);
    digest = fuzz_digest(digest, tensor->shape, (size_t)tensor->rank * sizeof tensor->shape[0]);
    return fuzz_digest(digest, tensor->data, tensor->data == NULL ? 0 : tensor->size);
}

/* Whether a stream has checksums is its writer's choice. */
static uint64_t digest_metadata(uint64_t digest, const struct metadata *metadata)
{
    for (size_t i = 0; i < metadata->count; i++) {
        const struct metadata_entry *entry = &metadata->entries[i];
        if (strcmp(entry->key, MARK_CHECKSUM_KEY) == 0)
            continue;
        digest = fuzz_digest(digest, entry->key, strlen(entry->key) + 1);
        digest = fuzz_digest(digest, entry->value, strlen(entry->value) + 1);
    }
    return digest;
}

/* ---- streams ---- */

/* Passes a stream on to `writer` unless that is NULL; a writer may refuse a record, for its
 * header can be longer than what was read. *digest covers every record. */
static enum status read_stream(int fd, struct writer **writer, uint64_t *digest)
{
    struct reader *reader;
    struct record record;
    struct error error = {.status = STATUS_OK};
    uint64_t version, samples = 0;
    bool end = false;
    *digest = 0;
    MUST(reader_open(&reader, fd, "input", RECORD_BYTES_MAX, &error) == STATUS_OK);
    enum status status = reader_next(reader, &record, &end, &error);
    while (status == STATUS_OK && !end) {
        size_t batch;
        MUST(record_batch(&record, &batch, &error) == STATUS_OK);
        samples += batch;
        for (size_t i = 0; i < record.count; i++)
            *digest += digest_tensor(&record.tensors[i]); /* a writer may reorder them */
        const struct metadata *metadata = reader_metadata(reader, &version);
        *digest = digest_metadata(*digest, metadata);
        if (*writer != NULL &&
            (writer_set_metadata(*writer, metadata, &error) != STATUS_OK ||
             writer_put(*writer, &record, &error) != STATUS_OK)) {
            MUST(error.status == STATUS_DATA);
            writer_close(*writer);
            *writer = NULL;
        }
        status = reader_next(reader, &record, &end, &error);
    }
    MUST(reader_stats(reader).samples == samples);
    reader_close(reader);
    if (status == STATUS_TRUNCATED) /* no END: not damage, but no success either */
        error.status = status = STATUS_DATA;
    fuzz_check_status(status, &error);
    return status;
}

static void try_stream(const uint8_t *data, size_t size)
{
    static int in, out;
    char path[FUZZ_PATH_SIZE];
    struct writer *writer, *none = NULL;
    struct error error;
    uint64_t digest, again;
    fuzz_file(&in, path, data, size);
    fuzz_file(&out, path, NULL, 0);
    MUST(writer_open(&writer, out, "output", (struct writer_options){.checksum = size & 1},
                     &error) == STATUS_OK);
    fuzz_accepted = read_stream(in, &writer, &digest) == STATUS_OK;
    if (fuzz_accepted && writer != NULL) {
        MUST(writer_end(writer, 0, &error) == STATUS_OK && lseek(out, 0, SEEK_SET) == 0);
        MUST(read_stream(out, &none, &again) == STATUS_OK);
        MUST(again == digest);
    }
    writer_close(writer);
}

/* ---- headers ---- */

static uint64_t digest_header(const struct header *header)
{
    uint64_t digest = digest_metadata(header->data_size, &header->metadata);
    size_t at = 0;
    for (size_t i = 0; i < header->count; i++) {
        MUST(header->offsets[i] == at);
        at += header->tensors[i].size;
        digest = digest * 3 + digest_tensor(&header->tensors[i]);
    }
    MUST(header->data_size == at);
    return digest;
}

static void try_header(const uint8_t *data, size_t size)
{
    struct header header = {0};
    struct buffer text = {0};
    struct error error;
    enum status status = header_parse(&header, (const char *)data, size, &error);
    fuzz_check_status(status, &error);
    if (status == STATUS_OK) {
        uint64_t digest = digest_header(&header);
        fuzz_accepted = true;
        MUST(header_format(&text, header.tensors, header.count, &header.metadata, &error) ==
             STATUS_OK);
        MUST(header_load_length(text.data) == text.size - HEADER_LENGTH_SIZE);
        MUST(header_parse(&header, (const char *)text.data + HEADER_LENGTH_SIZE,
                          text.size - HEADER_LENGTH_SIZE, &error) == STATUS_OK);
        MUST(digest_header(&header) == digest);
    }
    buffer_free(&text);
    header_free(&header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_stream(data, size);
    try_header(data, size);
    return 0;
}

/* ---- seeds ---- */

static void put_record(struct writer *writer, size_t batch)
{
    uint8_t pixels[4 * 12], text[16];
    int64_t offsets[5] = {0}, labels[4];
    const size_t image_shape[] = {batch, 2, 2, 3}, label_shape[] = {batch};
    struct record record = {.count = 0};
    struct tensor tensor;
    struct error error;
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(7 * i);
    memset(text, 'x', sizeof text);
    for (size_t i = 0; i < batch; i++) {
        labels[i] = (int64_t)i - 1;
        offsets[i + 1] = offsets[i] + (int64_t)i;
    }
    tensor_init(&tensor, "image", DTYPE_U8, 4, image_shape, pixels);
    enum status status = record_put(&record, &tensor, &error);
    tensor_init(&tensor, "label", DTYPE_I64, 1, label_shape, labels);
    if (status == STATUS_OK)
        status = record_put(&record, &tensor, &error);
    if (status == STATUS_OK)
        status = record_put_ragged(&record, "text", DTYPE_U8, text, (size_t)offsets[batch],
                                   offsets, batch, &error);
    if (status == STATUS_OK)
        status = writer_put(writer, &record, &error);
    MUST(status == STATUS_OK);
}

/* A stream of `records` records, appended. */
static void add_stream(struct buffer *out, struct writer_options options, int records)
{
    static int fd;
    char path[FUZZ_PATH_SIZE];
    struct metadata metadata = {0};
    struct writer *writer;
    struct error error;
    fuzz_file(&fd, path, NULL, 0);
    MUST(writer_open(&writer, fd, "seed", options, &error) == STATUS_OK);
    MUST(metadata_set(&metadata, "pg.1", "maker 1 --x='\xc3\xa9 \\ \" \n'", &error) ==
         STATUS_OK);
    MUST(writer_set_metadata(writer, &metadata, &error) == STATUS_OK);
    for (int i = 0; i < records; i++)
        put_record(writer, (size_t)(1 + i % 4));
    MUST(writer_end(writer, 3, &error) == STATUS_OK);
    writer_close(writer);
    metadata_free(&metadata);
    fuzz_append_file(fd, out);
}

bool fuzz_seed(int number, struct buffer *out)
{
    static const char header[] =
        "{\"__metadata__\":{\"k\":\"\\u00e9\\ud83d\\ude00\"},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
        "\"b\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[24,25]},"
        "\"c\":{\"shape\":[0,9],\"data_offsets\":[25,25],\"dtype\":\"I8\"}}  ";
    static const struct writer_options plain = {0}, checked = {.checksum = true},
                                       packed = {.checksum = true, .zstd_level = 3};
    out->size = 0;
    switch (number) {
    case 0:
        add_stream(out, plain, 2);
        return true;
    case 1:
        add_stream(out, checked, 3);
        return true;
    case 2:
        add_stream(out, packed, 3);
        return true;
    case 3: /* joined */
        add_stream(out, packed, 1);
        add_stream(out, plain, 1);
        return true;
    case 4:
        add_stream(out, checked, 0);
        return true;
    case 5:
        fuzz_append(out, header, sizeof header - 1);
        return true;
    }
    return false;
}
