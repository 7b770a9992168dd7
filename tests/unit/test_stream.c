/* Streams end to end: what is written is read back; every cut and every flipped header bit of
 * a checksummed stream is found; END, ABORT, joined and compressed streams; limits. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/io.h"
#include "check.h"
#include "stream/describe.h"
#include "stream/header.h"
#include "stream/reader.h"
#include "stream/writer.h"

enum { RECORDS = 3 };

/* A nameless file with these bytes, at its beginning. */
static int memory_file(const void *data, size_t size)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    if (fd < 0 || io_write_all(fd, data, size) != 0 || lseek(fd, 0, SEEK_SET) != 0)
        abort();
    return fd;
}

static void make_record(struct record *record, int number)
{
    static int64_t offsets[4];
    static uint8_t text[64], image[3 * 12];
    static int64_t label[3];
    const size_t label_shape[] = {3}, image_shape[] = {3, 2, 2, 3};
    struct tensor tensor;
    struct error error;
    record->count = 0;
    for (int i = 0; i < 3; i++) {
        label[i] = 10 * number + i;
        offsets[i + 1] = offsets[i] + number + i;
    }
    memset(text, 'a' + number, sizeof text);
    memset(image, 40 + number, sizeof image);
    record_put_ragged(record, "text", DTYPE_U8, text, (size_t)offsets[3], offsets, 3, &error);
    tensor_init(&tensor, "image", DTYPE_U8, 4, image_shape, image);
    record_put(record, &tensor, &error);
    tensor_init(&tensor, "label", DTYPE_I64, 1, label_shape, label);
    record_put(record, &tensor, &error);
}

/* Writes a stream of RECORDS records into `out`. */
static void make_stream(struct buffer *out, struct writer_options options, bool end)
{
    struct writer *writer;
    struct error error;
    struct metadata metadata = {0};
    int fd = memory_file("", 0);
    enum status status = writer_open(&writer, fd, "test", options, &error);
    metadata_set(&metadata, "pg.1", "test 1 --x=y", &error);
    writer_set_metadata(writer, &metadata, &error);
    for (int i = 0; status == STATUS_OK && i < RECORDS; i++) {
        struct record record;
        make_record(&record, i);
        status = writer_put(writer, &record, &error);
    }
    if (end)
        status |= writer_end(writer, 2, &error);
    CHECK(status == STATUS_OK, "writing: %s", error.text);
    writer_close(writer);
    metadata_free(&metadata);

    off_t size = lseek(fd, 0, SEEK_END);
    lseek(fd, 0, SEEK_SET);
    buffer_reserve(out, (size_t)size, &error);
    out->size = (size_t)io_read_full(fd, out->data, (size_t)size);
    close(fd);
}

/* Reads a whole stream; gives the final status and counts the records before it. */
static enum status read_stream(const void *data, size_t size, struct reader_stats *stats,
                               struct error *error)
{
    struct reader *reader;
    struct record record;
    bool end = false;
    int fd = memory_file(data, size);
    enum status status = reader_open(&reader, fd, "test", 0, error);
    while (status == STATUS_OK && !end)
        status = reader_next(reader, &record, &end, error);
    *stats = reader_stats(reader);
    reader_close(reader);
    close(fd);
    return status;
}

static void test_round_trip(struct writer_options options, const char *what)
{
    struct buffer bytes = {0};
    struct reader *reader;
    struct record record, expected;
    struct error error;
    bool end;
    make_stream(&bytes, options, true);
    int fd = memory_file(bytes.data, bytes.size);
    CHECK(reader_open(&reader, fd, "test", 0, &error) == STATUS_OK, "%s", what);
    for (int i = 0; i < RECORDS; i++) {
        enum status status = reader_next(reader, &record, &end, &error);
        CHECK(status == STATUS_OK && !end, "%s record %d: %s", what, i, error.text);
        make_record(&expected, i);
        CHECK(record.count == expected.count, "%s: %zu tensors", what, record.count);
        for (size_t t = 0; t < expected.count; t++) {
            const struct tensor *want = &expected.tensors[t];
            const struct tensor *got = record_find(&record, want->name);
            CHECK(got != NULL && got->size == want->size &&
                      memcmp(got->data, want->data, want->size) == 0,
                  "%s: tensor %s", what, want->name);
            CHECK(got != NULL && (uintptr_t)got->data % dtype_size(got->dtype) == 0,
                  "%s: tensor %s is aligned", what, want->name);
        }
    }
    uint64_t version;
    const char *value = metadata_get(reader_metadata(reader, &version), "pg.1");
    CHECK(value != NULL && strcmp(value, "test 1 --x=y") == 0, "%s: metadata", what);
    CHECK(reader_next(reader, &record, &end, &error) == STATUS_OK && end, "%s: end", what);
    CHECK(reader_stats(reader).dropped == 2 && reader_stats(reader).samples == 3 * RECORDS,
          "%s: counts", what);
    reader_close(reader);
    close(fd);
    buffer_free(&bytes);
}

static void test_every_cut(struct writer_options options, const char *what)
{
    struct buffer bytes = {0};
    struct reader_stats stats;
    struct error error;
    make_stream(&bytes, options, true);
    size_t wrong = 0, previous = 0;
    for (size_t cut = 0; cut < bytes.size; cut++) {
        enum status status = read_stream(bytes.data, cut, &stats, &error);
        if (status != STATUS_TRUNCATED || stats.records < previous || stats.records > RECORDS) {
            printf("%s: cut at %zu of %zu: status %d, %s\n", what, cut, bytes.size, status,
                   error.text);
            wrong++;
        }
        previous = stats.records;
    }
    CHECK(wrong == 0, "%s: %zu cuts not found", what, wrong);
    CHECK(previous == RECORDS, "%s: records before the last cut are delivered", what);
    buffer_free(&bytes);
}

/* The bytes that are not tensors' data: lengths, headers and padding. */
static bool *find_header_bytes(const struct buffer *bytes)
{
    bool *is_header = calloc(bytes->size, sizeof is_header[0]);
    struct header header = {0};
    struct error error;
    for (size_t at = 0; at < bytes->size;) {
        size_t length = HEADER_LENGTH_SIZE + (size_t)header_load_length(bytes->data + at);
        header_parse(&header, (const char *)bytes->data + at + HEADER_LENGTH_SIZE,
                     length - HEADER_LENGTH_SIZE, &error);
        memset(is_header + at, true, length);
        at += length + header.data_size;
    }
    header_free(&header);
    return is_header;
}

static void test_every_flip(void)
{
    struct buffer bytes = {0};
    struct reader_stats stats;
    struct error error;
    make_stream(&bytes, (struct writer_options){.checksum = true}, true);
    bool *is_header = find_header_bytes(&bytes);
    size_t wrong = 0, headers = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        headers += is_header[i];
        for (int bit = 0; bit < 8; bit++) {
            bytes.data[i] ^= (uint8_t)(1 << bit);
            enum status status = read_stream(bytes.data, bytes.size, &stats, &error);
            if (status != STATUS_DATA && status != STATUS_TRUNCATED) {
                printf("bit %d of byte %zu (%s): status %d\n", bit, i,
                       is_header[i] ? "header" : "data", status);
                wrong++;
            }
            bytes.data[i] ^= (uint8_t)(1 << bit);
        }
    }
    CHECK(wrong == 0 && headers > 1000, "%zu flips not found, %zu header bytes", wrong, headers);
    free(is_header);
    buffer_free(&bytes);
}

static void test_joined(void)
{
    struct buffer plain = {0}, packed = {0}, joined = {0};
    struct reader_stats stats;
    struct error error;
    make_stream(&plain, (struct writer_options){.checksum = false}, true);
    make_stream(&packed, (struct writer_options){.checksum = true, .zstd_level = 1}, true);
    CHECK(packed.size < plain.size, "%zu packed, %zu plain", packed.size, plain.size);
    const struct buffer *const parts[] = {&plain, &packed, &packed, &plain};
    for (int i = 0; i < 4; i++)
        buffer_append(&joined, parts[i]->data, parts[i]->size, &error);
    CHECK(read_stream(joined.data, joined.size, &stats, &error) == STATUS_OK, "%s", error.text);
    CHECK(stats.records == 4 * RECORDS && stats.dropped == 8, "%llu records",
          (unsigned long long)stats.records);

    joined.size = 0;
    make_stream(&joined, (struct writer_options){.checksum = false}, false);
    CHECK(read_stream(joined.data, joined.size, &stats, &error) == STATUS_TRUNCATED,
          "a stream without END");
    buffer_free(&plain);
    buffer_free(&packed);
    buffer_free(&joined);
}

static void test_abort(void)
{
    struct buffer bytes = {0};
    struct writer *writer;
    struct reader *reader;
    struct record record;
    struct error error;
    bool end;
    const char *stage = "", *reason = "";
    int fd = memory_file("", 0);
    writer_open(&writer, fd, "test", (struct writer_options){.checksum = false}, &error);
    make_record(&record, 1);
    writer_put(writer, &record, &error);
    writer_abort(writer, "image-decode", "shard 7: \"bad\"");
    writer_close(writer);
    lseek(fd, 0, SEEK_SET);

    reader_open(&reader, fd, "test", 0, &error);
    CHECK(reader_next(reader, &record, &end, &error) == STATUS_OK, "the record before");
    CHECK(reader_next(reader, &record, &end, &error) == STATUS_TRUNCATED, "ABORT");
    CHECK(reader_abort_cause(reader, &stage, &reason) && strcmp(stage, "image-decode") == 0 &&
              strcmp(reason, "shard 7: \"bad\"") == 0,
          "cause: %s, %s", stage, reason);
    reader_close(reader);
    close(fd);
    buffer_free(&bytes);
}

/* A blob with this header and no data behind it. */
static enum status read_header_only(const char *json, uint64_t length, struct error *error)
{
    struct buffer bytes = {0};
    struct reader_stats stats;
    uint8_t size[8];
    for (int i = 0; i < 8; i++)
        size[i] = (uint8_t)(length >> 8 * i);
    buffer_append(&bytes, size, sizeof size, error);
    buffer_append(&bytes, json, strlen(json), error);
    enum status status = read_stream(bytes.data, bytes.size, &stats, error);
    buffer_free(&bytes);
    return status;
}

static void test_hostile(void)
{
    static const char *const headers[] = {
        "{}",
        "{\"x\":{\"dtype\":\"U8\",\"shape\":[5000000000],\"data_offsets\":[0,5000000000]}}",
        "{\"x\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}",
        "{\"__metadata__\":{\"clipipe\":\"end\"}}",
        "{\"__metadata__\":{\"clipipe\":\"end\",\"records\":\"1\",\"samples\":\"0\","
        "\"dropped\":\"0\"}}",
        "{\"__metadata__\":{\"clipipe\":\"end\",\"records\":\"0\",\"samples\":\"0\","
        "\"dropped\":\"0\",\"more\":\"0\"}}",
        "{\"__metadata__\":{\"clipipe\":\"other\"}}",
    };
    struct error error;
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        enum status status = read_header_only(headers[i], strlen(headers[i]), &error);
        CHECK(status == STATUS_DATA || (i == 2 && status == STATUS_TRUNCATED),
              "case %zu: status %d", i, status);
    }
    const uint64_t lengths[] = {0, 1, STREAM_HEADER_LIMIT + 1, UINT64_MAX, UINT64_C(1) << 40};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        CHECK(read_header_only("{}", lengths[i], &error) == STATUS_DATA, "length %llu",
              (unsigned long long)lengths[i]);
    CHECK(read_header_only("{\"__metadata__\":{\"clipipe\":\"end\",\"records\":\"0\","
                           "\"samples\":\"0\",\"dropped\":\"0\"}}",
                           76, &error) == STATUS_OK,
          "an empty stream: %s", error.text);
}

static void test_batches(void)
{
    struct record record;
    struct error error;
    size_t batch;
    make_record(&record, 1);
    CHECK(record_batch(&record, &batch, &error) == STATUS_OK && batch == 3, "batch");
    int64_t *offsets = record_find(&record, "text.offsets")->data;
    const int64_t kept[] = {0, 1, 3, 6}; /* lengths 1, 2, 3 */
    memcpy(offsets, kept, sizeof kept);
    record_find(&record, "text")->shape[0] = record_find(&record, "text")->size = 6;
    memcpy(record_find(&record, "text")->data, "abbccc", 6);

    offsets[1] = 4;
    CHECK(record_batch(&record, &batch, &error) == STATUS_DATA, "offsets that descend");
    offsets[1] = 1;
    record_find(&record, "label")->shape[0] = 2;
    CHECK(record_batch(&record, &batch, &error) == STATUS_DATA, "batches that differ");
    record_find(&record, "label")->shape[0] = 3;

    const bool keep[] = {true, false, true};
    CHECK(record_select(&record, keep, 3) == 2, "two samples kept");
    CHECK(record_batch(&record, &batch, &error) == STATUS_OK && batch == 2, "%s", error.text);
    struct ragged text;
    record_require_ragged(&record, "text", DTYPE_U8, &text, &error);
    CHECK(text.offsets[1] == 1 && text.offsets[2] == 4 && memcmp(text.data, "accc", 4) == 0,
          "ragged data moved up");
    const int64_t *label = record_find(&record, "label")->data;
    CHECK(label[0] == 10 && label[1] == 12, "rows moved up");
    record_remove(&record, "text");
    CHECK(record_find(&record, "text") == NULL && record_find(&record, "text.offsets") == NULL,
          "both parts removed");
}

static void test_describe(void)
{
    static const char raw[] = "a\"\\\n\xff\xc3\xa9";
    char *line = NULL;
    size_t size = 0;
    struct record record;
    FILE *out = open_memstream(&line, &size);
    describe_string(out, raw, sizeof raw - 1);
    make_record(&record, 2);
    memcpy(record_find(&record, "text")->data, "xy", 2);
    describe_sample(out, &record, 0, 4);
    fclose(out);
    CHECK(strcmp(line, "\"a\\\"\\\\\\u000a\xef\xbf\xbd\xc3\xa9\"{\"text\":\"xy\","
                       "\"image\":{\"dtype\":\"U8\",\"shape\":[1,2,2,3]},\"label\":20}\n") == 0,
          "got %s", line);
    free(line);
}

int main(void)
{
    const struct writer_options plain = {.checksum = false}, checked = {.checksum = true},
                                packed = {.checksum = true, .zstd_level = 3};
    test_round_trip(plain, "plain");
    test_round_trip(checked, "checksummed");
    test_round_trip(packed, "compressed");
    test_every_cut(plain, "plain");
    test_every_cut(checked, "checksummed");
    test_every_cut(packed, "compressed");
    test_every_flip();
    test_joined();
    test_abort();
    test_hostile();
    test_batches();
    test_describe();
    return check_report("stream");
}
