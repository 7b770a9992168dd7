#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "frame/conform_input.h"
#include "stream/record.h"
#include "stream/writer.h"

enum { SAMPLES = 5, FIRST_BATCH = 3, SIDE = 32, PIXELS = SIDE * SIDE * 3 };

static const char *const captions[SAMPLES] = {
    "a photo of a small dog", "",           "zwei gro\u00dfe V\u00f6gel",
    "red circle on a square", "\U0001F408",
};

/* A batch under construction: a ragged tensor's data and offsets. */
struct column {
    struct buffer data, offsets;
};

/* One token for each byte of a word, as a vocabulary without merges has it. */
static enum status append_caption(struct column *text, struct column *tokens,
                                  struct column *words, struct column *ranks,
                                  const char *caption, struct error *error)
{
    enum status status = buffer_append(&text->data, caption, strlen(caption), error);
    int32_t word = 0;
    for (const char *at = caption; *at != '\0' && status == STATUS_OK; at++) {
        if (*at == ' ') {
            word++;
            continue;
        }
        const int32_t token = (uint8_t)*at;
        const uint8_t rank = (uint8_t)(1 + word % 4);
        status = buffer_append(&tokens->data, &token, sizeof token, error);
        if (status == STATUS_OK)
            status = buffer_append(&words->data, &word, sizeof word, error);
        if (status == STATUS_OK)
            status = buffer_append(&ranks->data, &rank, sizeof rank, error);
    }
    return status;
}

static enum status end_sample(struct column *column, size_t element, struct error *error)
{
    const int64_t end = (int64_t)(column->data.size / element);
    return buffer_append(&column->offsets, &end, sizeof end, error);
}

enum { COLUMN_KEY, COLUMN_TEXT, COLUMN_TOKENS, COLUMN_WORDS, COLUMN_RANKS, COLUMNS };

static const struct {
    const char *name;
    enum dtype dtype;
} column_kinds[COLUMNS] = {
    [COLUMN_KEY] = {"key", DTYPE_U8},
    [COLUMN_TEXT] = {"text", DTYPE_U8},
    [COLUMN_TOKENS] = {"tokens", DTYPE_I32},
    [COLUMN_WORDS] = {"tokens.word", DTYPE_I32},
    [COLUMN_RANKS] = {"tokens.priority", DTYPE_U8},
};

static enum status fill_columns(struct column columns[COLUMNS], size_t first, size_t batch,
                                struct error *error)
{
    enum status status = STATUS_OK;
    const int64_t zero = 0;
    for (int c = 0; c < COLUMNS && status == STATUS_OK; c++) {
        columns[c].data.size = columns[c].offsets.size = 0;
        status = buffer_append(&columns[c].offsets, &zero, sizeof zero, error);
    }
    for (size_t i = first; i < first + batch && status == STATUS_OK; i++) {
        char key[16];
        const int length = snprintf(key, sizeof key, "sample-%zu", i);
        status = buffer_append(&columns[COLUMN_KEY].data, key, (size_t)length, error);
        if (status == STATUS_OK)
            status = append_caption(&columns[COLUMN_TEXT], &columns[COLUMN_TOKENS],
                                    &columns[COLUMN_WORDS], &columns[COLUMN_RANKS], captions[i],
                                    error);
        for (int c = 0; c < COLUMNS && status == STATUS_OK; c++)
            status = end_sample(&columns[c], dtype_size(column_kinds[c].dtype), error);
    }
    return status;
}

static enum status put_columns(struct record *record, struct column columns[COLUMNS],
                               size_t batch, struct error *error)
{
    enum status status = STATUS_OK;
    for (int c = 0; c < COLUMNS && status == STATUS_OK; c++)
        status = record_put_ragged(record, column_kinds[c].name, column_kinds[c].dtype,
                                   columns[c].data.data,
                                   columns[c].data.size / dtype_size(column_kinds[c].dtype),
                                   (int64_t *)(void *)columns[c].offsets.data, batch, error);
    return status;
}

/* Every pixel is another colour than its neighbours, so that a mistake of place shows. */
static void fill_fixed(uint8_t *pixels, int64_t *labels, int64_t *positions, size_t first,
                       size_t batch)
{
    for (size_t i = 0; i < batch; i++) {
        for (size_t k = 0; k < PIXELS; k++)
            pixels[i * PIXELS + k] = (uint8_t)(k * 7 + (first + i) * 31);
        labels[i] = (int64_t)(first + i);
        positions[i * 3] = positions[i * 3 + 1] = 0;
        positions[i * 3 + 2] = (int64_t)(first + i);
    }
}

static enum status write_batch(struct writer *writer, struct column columns[COLUMNS],
                               size_t first, size_t batch, struct error *error)
{
    static uint8_t pixels[SAMPLES * PIXELS];
    int64_t labels[SAMPLES], positions[SAMPLES * 3];
    struct record record = {.count = 0};
    struct tensor tensor;
    enum status status = fill_columns(columns, first, batch, error);
    if (status == STATUS_OK)
        status = put_columns(&record, columns, batch, error);
    fill_fixed(pixels, labels, positions, first, batch);
    tensor_init(&tensor, "image", DTYPE_U8, 4, (const size_t[]){batch, SIDE, SIDE, 3}, pixels);
    if (status == STATUS_OK)
        status = record_put(&record, &tensor, error);
    tensor_init(&tensor, "label", DTYPE_I64, 1, &batch, labels);
    if (status == STATUS_OK)
        status = record_put(&record, &tensor, error);
    tensor_init(&tensor, "position", DTYPE_I64, 2, (const size_t[]){batch, 3}, positions);
    if (status == STATUS_OK)
        status = record_put(&record, &tensor, error);
    return status == STATUS_OK ? writer_put(writer, &record, error) : status;
}

static enum status write_sample(struct writer *writer, struct error *error)
{
    static const char *const facts[][2] = {
        {"image.size", "32"},         {"tokenizer.type", "clip"}, {"tokenizer.size", "514"},
        {"tokenizer.start", "512"},   {"tokenizer.end", "513"},   {"tokenizer.padding", "0"},
        {"tokenizer.clean", "lower"},
    };
    struct metadata map = {0};
    struct column columns[COLUMNS] = {0};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof facts / sizeof facts[0] && status == STATUS_OK; i++)
        status = metadata_set(&map, facts[i][0], facts[i][1], error);
    if (status == STATUS_OK)
        status = writer_set_metadata(writer, &map, error);
    if (status == STATUS_OK)
        status = write_batch(writer, columns, 0, FIRST_BATCH, error);
    if (status == STATUS_OK)
        status = write_batch(writer, columns, FIRST_BATCH, SAMPLES - FIRST_BATCH, error);
    if (status == STATUS_OK)
        status = writer_end(writer, 0, error);
    metadata_free(&map);
    for (int c = 0; c < COLUMNS; c++) {
        buffer_free(&columns[c].data);
        buffer_free(&columns[c].offsets);
    }
    return status;
}

enum status conform_input_sample(struct buffer *out, struct error *error)
{
    struct writer *writer = NULL;
    const int fd = memfd_create("sample", MFD_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, STATUS_SYSTEM, "cannot hold a stream");
    enum status status =
        writer_open(&writer, fd, "the built-in input", (struct writer_options){0}, error);
    if (status == STATUS_OK)
        status = write_sample(writer, error);
    writer_close(writer);
    if (status == STATUS_OK)
        status = conform_input_load(fd, out, error);
    close(fd);
    return status;
}
