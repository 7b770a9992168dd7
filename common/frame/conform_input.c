#include "frame/conform_input.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "stream/header.h"
#include "stream/reader.h"
#include "stream/record.h"
#include "stream/writer.h"

static const char *const mark = "conform.mark";

/* ---- streams in memory ---- */

static enum status open_memory(struct stream_bytes bytes, int *fd, struct error *error)
{
    *fd = memfd_create("stream", MFD_CLOEXEC);
    if (*fd < 0 || io_write_all(*fd, bytes.data, bytes.size) != 0 ||
        lseek(*fd, 0, SEEK_SET) != 0)
        return error_set_errno(error, STATUS_SYSTEM, "cannot hold a stream of %zu bytes",
                               bytes.size);
    return STATUS_OK;
}

enum status conform_input_load(int fd, struct buffer *out, struct error *error)
{
    struct stat about;
    out->size = 0;
    if (fstat(fd, &about) != 0 || lseek(fd, 0, SEEK_SET) != 0)
        return error_set_errno(error, STATUS_SYSTEM, "cannot hold a stream");
    enum status status = buffer_reserve(out, (size_t)about.st_size, error);
    if (status != STATUS_OK)
        return status;
    const ssize_t got = io_read_full(fd, out->data, (size_t)about.st_size);
    if (got < 0)
        return error_set_errno(error, STATUS_SYSTEM, "cannot read a stream");
    out->size = (size_t)got;
    return STATUS_OK;
}

/* ---- changing a stream ---- */

/* The value of the mark of a sample: any two neighbours differ. */
static uint8_t mark_value(uint64_t sample)
{
    return (uint8_t)(sample * 37 + 11);
}

static enum status add_mark(struct record *record, struct buffer *values, uint64_t samples,
                            struct error *error)
{
    size_t batch;
    enum status status = record_batch(record, &batch, error);
    if (status == STATUS_OK)
        status = buffer_reserve(values, batch, error);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < batch; i++)
        values->data[i] = mark_value(samples + i);
    struct tensor tensor;
    tensor_init(&tensor, mark, DTYPE_U8, 1, &batch, values->data);
    return record_put(record, &tensor, error);
}

static enum status set_facts(struct writer *writer, const struct metadata *facts, bool marked,
                             struct error *error)
{
    struct metadata map = {0};
    enum status status = metadata_copy(&map, facts, error);
    if (status == STATUS_OK && marked)
        status = metadata_set(&map, mark, "kept", error);
    if (status == STATUS_OK)
        status = writer_set_metadata(writer, &map, error);
    metadata_free(&map);
    return status;
}

static enum status copy_records(struct reader *reader, struct writer *writer,
                                enum stream_change change, struct error *error)
{
    struct record record;
    struct buffer values = {0};
    bool end = false;
    enum status status = reader_next(reader, &record, &end, error);
    for (uint64_t samples = 0; status == STATUS_OK && !end;) {
        uint64_t version;
        const struct metadata *facts = reader_metadata(reader, &version);
        status = set_facts(writer, facts, change == STREAM_MARKED, error);
        if (status == STATUS_OK && change == STREAM_MARKED)
            status = add_mark(&record, &values, samples, error);
        if (status == STATUS_OK && change != STREAM_EMPTY)
            status = writer_put(writer, &record, error);
        samples = reader_stats(reader).samples;
        if (status == STATUS_OK)
            status = reader_next(reader, &record, &end, error);
    }
    buffer_free(&values);
    return status;
}

static enum status rewrite(int from, int to, enum stream_change change, struct error *error)
{
    struct reader *reader = NULL;
    struct writer *writer = NULL;
    const struct writer_options options = {
        .checksum = change == STREAM_DAMAGED,
        .zstd_level = change == STREAM_PACKED ? 3 : 0,
    };
    enum status status = reader_open(&reader, from, "input", 0, error);
    if (status == STATUS_OK)
        status = writer_open(&writer, to, "a changed input", options, error);
    if (status == STATUS_OK)
        status = copy_records(reader, writer, change, error);
    if (status == STATUS_OK && change == STREAM_ABORTED)
        writer_abort(writer, STREAM_ABORT_STAGE, STREAM_ABORT_REASON);
    else if (status == STATUS_OK)
        status = writer_end(writer, 0, error);
    writer_close(writer);
    reader_close(reader);
    return status;
}

/* Inside the first record's data. */
static void flip_bit(struct buffer *stream)
{
    const size_t data =
        HEADER_LENGTH_SIZE + (size_t)header_load_length(stream->data) + HEADER_ALIGNMENT / 8;
    if (data < stream->size)
        stream->data[data] ^= 1;
}

enum status conform_input_change(struct stream_bytes in, enum stream_change change,
                                 struct buffer *out, struct error *error)
{
    out->size = 0;
    if (change == STREAM_JOINED) {
        enum status status = buffer_append(out, in.data, in.size, error);
        return status == STATUS_OK ? buffer_append(out, in.data, in.size, error) : status;
    }
    int from = -1, to = memfd_create("changed", MFD_CLOEXEC);
    enum status status =
        to >= 0 ? STATUS_OK : error_set_errno(error, STATUS_SYSTEM, "cannot hold a stream");
    if (status == STATUS_OK)
        status = open_memory(in, &from, error);
    if (status == STATUS_OK)
        status = rewrite(from, to, change, error);
    if (status == STATUS_OK)
        status = conform_input_load(to, out, error);
    if (status == STATUS_OK && change == STREAM_DAMAGED)
        flip_bit(out);
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return status;
}

/* ---- reading a stream ---- */

static enum status summarize(struct reader *reader, struct stream_summary *out,
                             struct error *error)
{
    struct record record;
    bool end = false;
    for (;;) {
        enum status status = reader_next(reader, &record, &end, error);
        if (status != STATUS_OK || end)
            return status;
        uint64_t version;
        const char *fact = metadata_get(reader_metadata(reader, &version), mark);
        const struct tensor *tensor = record_find(&record, mark);
        out->has_fact &= fact != NULL && strcmp(fact, "kept") == 0;
        out->has_mark &= tensor != NULL && tensor->dtype == DTYPE_U8 && tensor->rank == 1;
        if (out->has_mark)
            status = buffer_append(&out->marks, tensor->data, tensor->size, error);
        if (status != STATUS_OK)
            return status;
    }
}

enum status conform_input_read(struct stream_bytes in, struct stream_summary *out,
                               struct error *error)
{
    struct reader *reader = NULL;
    int fd;
    *out = (struct stream_summary){.has_mark = true, .has_fact = true};
    enum status status = open_memory(in, &fd, error);
    if (status == STATUS_OK)
        status = reader_open(&reader, fd, "output", 0, error);
    if (status == STATUS_OK)
        status = summarize(reader, out, error);
    if (status == STATUS_OK) {
        out->records = reader_stats(reader).records;
        out->samples = reader_stats(reader).samples;
    } else {
        buffer_free(&out->marks);
    }
    reader_close(reader);
    if (fd >= 0)
        close(fd);
    return status;
}

size_t conform_input_record_start(struct stream_bytes in, size_t i)
{
    struct header header = {0};
    struct error error;
    size_t at = 0;
    for (; i > 0 && at + HEADER_LENGTH_SIZE <= in.size; i--) {
        const uint64_t length = header_load_length(in.data + at);
        at += HEADER_LENGTH_SIZE;
        if (length > in.size - at || header_parse(&header, (const char *)in.data + at,
                                                  (size_t)length, &error) != STATUS_OK)
            break;
        at += (size_t)length + header.data_size;
    }
    header_free(&header);
    return i == 0 && at < in.size ? at : in.size;
}
