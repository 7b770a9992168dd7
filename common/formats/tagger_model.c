/* tagger_model.c - model files: bytes to flat tables, and arrays to bytes. */
#include "formats/tagger_model.h"

#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/number.h"

static const char magic[8] = {'c', 'l', 'p', 't', 'a', 'g', '1', '\n'};

enum {
    CRC_AT = 8,
    COUNTS_AT = 12,
    HEADER_SIZE = 28,
    WORD_SIZE = 4 + 8 + 1, /* bytes in the file for one of each */
    ROW_SIZE = 4 + 1,
    WEIGHT_SIZE = 2,
};

/* ---- reading ---- */

static uint64_t read_number(const uint8_t *bytes, int size)
{
    uint64_t value = 0;
    for (int i = 0; i < size; i++)
        value |= (uint64_t)bytes[i] << 8 * i;
    return value;
}

/* Where the arrays of a file begin. */
struct layout {
    size_t tag_count, word_count, row_count, weight_count;
    const uint8_t *names, *word_hashes, *word_tags, *word_sure, *row_keys, *row_sizes, *weights;
};

/* The counts are below 2^32, so that the sum of these products is below 2^37. */
static enum status check_size(const struct layout *layout, size_t size, struct error *error)
{
    const uint64_t wanted = HEADER_SIZE + (uint64_t)layout->tag_count * TAGGER_NAME_SIZE +
                            (uint64_t)layout->word_count * WORD_SIZE +
                            (uint64_t)layout->row_count * ROW_SIZE +
                            (uint64_t)layout->weight_count * WEIGHT_SIZE;
    if (size != wanted)
        return error_set(error, STATUS_DATA,
                         "tagger model has %zu bytes, expected %llu by its header", size,
                         (unsigned long long)wanted);
    if (layout->tag_count < 1 || layout->tag_count > TAGGER_TAGS_MAX)
        return error_set(error, STATUS_DATA, "tagger model has %zu tags, expected 1 to %d",
                         layout->tag_count, TAGGER_TAGS_MAX);
    if (layout->weight_count > TAGGER_WEIGHTS_MAX)
        return error_set(error, STATUS_DATA,
                         "tagger model has %zu weights, expected at most %d",
                         layout->weight_count, TAGGER_WEIGHTS_MAX);
    return STATUS_OK;
}

static enum status read_layout(const uint8_t *data, size_t size, struct layout *layout,
                               struct error *error)
{
    if (size < HEADER_SIZE || memcmp(data, magic, sizeof magic) != 0) {
        error_set(error, STATUS_DATA, "no tagger model: %zu bytes without its first 8", size);
        return error_hint(error, "models come from `pos-tag --learn < words.tsv > MODEL`");
    }
    *layout = (struct layout){
        .tag_count = (size_t)read_number(data + COUNTS_AT, 4),
        .word_count = (size_t)read_number(data + COUNTS_AT + 4, 4),
        .row_count = (size_t)read_number(data + COUNTS_AT + 8, 4),
        .weight_count = (size_t)read_number(data + COUNTS_AT + 12, 4),
        .names = data + HEADER_SIZE,
    };
    enum status status = check_size(layout, size, error);
    if (status != STATUS_OK)
        return status;
    const uint32_t found = crc32c(0, data + COUNTS_AT, size - COUNTS_AT);
    const uint32_t wanted = (uint32_t)read_number(data + CRC_AT, 4);
    if (found != wanted)
        return error_set(error, STATUS_DATA, "tagger model has checksum %08x, expected %08x",
                         found, wanted);
    layout->word_hashes = layout->names + layout->tag_count * TAGGER_NAME_SIZE;
    layout->word_tags = layout->word_hashes + layout->word_count * 4;
    layout->word_sure = layout->word_tags + layout->word_count * 8;
    layout->row_keys = layout->word_sure + layout->word_count;
    layout->row_sizes = layout->row_keys + layout->row_count * 4;
    layout->weights = layout->row_sizes + layout->row_count;
    return STATUS_OK;
}

uint8_t tagger_name_priority(const char *name)
{
    static const char *const classes[] = {"NN", "JJ", "VB"};
    for (uint8_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
        if (strncmp(name, classes[i], 2) == 0)
            return PRIORITY_NOUN + i;
    return PRIORITY_OTHER;
}

/* A name is printable ASCII, one to seven characters, then zeros. */
static bool is_name(const uint8_t *name)
{
    size_t length = 0;
    while (length < TAGGER_NAME_SIZE && name[length] > ' ' && name[length] < 0x7F)
        length++;
    if (length == 0 || length == TAGGER_NAME_SIZE)
        return false;
    for (size_t i = length; i < TAGGER_NAME_SIZE; i++)
        if (name[i] != 0)
            return false;
    return true;
}

static enum status read_names(struct tagger *tagger, const struct layout *layout,
                              struct error *error)
{
    tagger->tag_count = (int)layout->tag_count;
    for (size_t i = 0; i < layout->tag_count; i++) {
        const uint8_t *name = layout->names + i * TAGGER_NAME_SIZE;
        if (!is_name(name))
            return error_set(error, STATUS_DATA, "tagger model: tag %zu has no name", i);
        memcpy(tagger->names[i], name, TAGGER_NAME_SIZE);
        tagger->priorities[i] = tagger_name_priority(tagger->names[i]);
    }
    return STATUS_OK;
}

/* A table of at least twice `count` slots, all empty. */
static void *open_table(size_t count, size_t slot_size, size_t *mask, struct error *error)
{
    size_t slots = 8;
    while (slots < 2 * count)
        slots *= 2;
    *mask = slots - 1;
    void *table = calloc(slots, slot_size);
    if (table == NULL)
        error_memory(error, (unsigned long long)slots * slot_size, "a tagger");
    return table;
}

static enum status read_words(struct tagger *tagger, const struct layout *layout,
                              struct error *error)
{
    uint32_t previous = 0;
    tagger->entries =
        open_table(layout->word_count, sizeof *tagger->entries, &tagger->entry_mask, error);
    if (tagger->entries == NULL)
        return STATUS_SYSTEM;
    for (size_t i = 0; i < layout->word_count; i++) {
        const struct tagger_entry entry = {
            .hash = (uint32_t)read_number(layout->word_hashes + i * 4, 4),
            .tags = read_number(layout->word_tags + i * 8, 8),
            .sure = layout->word_sure[i],
        };
        if (entry.hash <= previous || entry.tags == 0 ||
            entry.tags >> layout->tag_count != 0 ||
            (entry.sure != TAGGER_UNSURE && entry.sure >= layout->tag_count))
            return error_set(error, STATUS_DATA,
                             "tagger model: word %zu is out of order or has no tag", i);
        previous = entry.hash;
        size_t slot = entry.hash & tagger->entry_mask;
        while (tagger->entries[slot].hash != 0)
            slot = (slot + 1) & tagger->entry_mask;
        tagger->entries[slot] = entry;
    }
    return STATUS_OK;
}

/* Checks one row's weights as well. */
static bool is_row(const struct tagger *tagger, size_t first, size_t count)
{
    int previous = -1;
    for (size_t i = first; i < first + count; i++) {
        const int tag = tagger->weights[i] & TAGGER_TAGS_MAX;
        if (tag <= previous || tag >= tagger->tag_count ||
            tagger->weights[i] >> TAGGER_TAG_BITS == 0)
            return false;
        previous = tag;
    }
    return count > 0;
}

static enum status read_rows(struct tagger *tagger, const struct layout *layout,
                             struct error *error)
{
    uint32_t previous = 0;
    size_t first = 0;
    tagger->rows =
        open_table(layout->row_count, sizeof *tagger->rows, &tagger->row_mask, error);
    if (tagger->rows == NULL)
        return STATUS_SYSTEM;
    for (size_t i = 0; i < layout->row_count; i++) {
        const uint32_t key = (uint32_t)read_number(layout->row_keys + i * 4, 4);
        const size_t count = layout->row_sizes[i];
        if (key <= previous || count > layout->weight_count - first ||
            !is_row(tagger, first, count))
            return error_set(error, STATUS_DATA,
                             "tagger model: row %zu is out of order or has wrong weights", i);
        previous = key;
        size_t slot = key & tagger->row_mask;
        while (tagger->rows[slot].key != 0)
            slot = (slot + 1) & tagger->row_mask;
        tagger->rows[slot].key = key;
        tagger->rows[slot].weights = (uint32_t)(first << TAGGER_TAG_BITS | count);
        first += count;
    }
    if (first != layout->weight_count)
        return error_set(error, STATUS_DATA, "tagger model has %zu weights, but rows for %zu",
                         layout->weight_count, first);
    return STATUS_OK;
}

static enum status read_weights(struct tagger *tagger, const struct layout *layout,
                                struct error *error)
{
    const size_t size = layout->weight_count * sizeof *tagger->weights;
    tagger->weights = malloc(size > 0 ? size : 1);
    if (tagger->weights == NULL)
        return error_memory(error, size, "a tagger");
    for (size_t i = 0; i < layout->weight_count; i++)
        tagger->weights[i] = (uint16_t)read_number(layout->weights + i * WEIGHT_SIZE, 2);
    return STATUS_OK;
}

enum status tagger_open(struct tagger **out, const uint8_t *data, size_t size,
                        struct error *error)
{
    struct layout layout = {.tag_count = 0};
    enum status status = read_layout(data, size, &layout, error);
    if (status != STATUS_OK)
        return status;
    struct tagger *tagger = calloc(1, sizeof *tagger);
    if (tagger == NULL)
        return error_memory(error, sizeof *tagger, "a tagger");
    status = read_names(tagger, &layout, error);
    if (status == STATUS_OK)
        status = read_words(tagger, &layout, error);
    if (status == STATUS_OK)
        status = read_weights(tagger, &layout, error);
    if (status == STATUS_OK)
        status = read_rows(tagger, &layout, error);
    if (status != STATUS_OK) {
        tagger_close(tagger);
        return status;
    }
    *out = tagger;
    return STATUS_OK;
}

void tagger_close(struct tagger *tagger)
{
    if (tagger == NULL)
        return;
    free(tagger->entries);
    free(tagger->rows);
    free(tagger->weights);
    free(tagger);
}

/* ---- writing ---- */

static enum status write_numbers(struct buffer *out, const void *numbers, size_t count,
                                 int size, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        uint64_t value;
        uint8_t bytes[8];
        if (size == 1)
            value = ((const uint8_t *)numbers)[i];
        else if (size == 2)
            value = ((const uint16_t *)numbers)[i];
        else if (size == 4)
            value = ((const uint32_t *)numbers)[i];
        else
            value = ((const uint64_t *)numbers)[i];
        for (int j = 0; j < size; j++)
            bytes[j] = (uint8_t)(value >> 8 * j);
        status = buffer_append(out, bytes, (size_t)size, error);
    }
    return status;
}

enum status tagger_model_write(const struct tagger_parts *parts, struct buffer *out,
                               struct error *error)
{
    const uint32_t counts[] = {0, (uint32_t)parts->tag_count, (uint32_t)parts->word_count,
                               (uint32_t)parts->row_count, (uint32_t)parts->weight_count};
    const struct {
        const void *numbers;
        size_t count;
        int size;
    } arrays[] = {
        {magic, sizeof magic, 1},
        {counts, sizeof counts / sizeof counts[0], 4},
        {parts->names, parts->tag_count * TAGGER_NAME_SIZE, 1},
        {parts->word_hashes, parts->word_count, 4},
        {parts->word_tags, parts->word_count, 8},
        {parts->word_sure, parts->word_count, 1},
        {parts->row_keys, parts->row_count, 4},
        {parts->row_sizes, parts->row_count, 1},
        {parts->weights, parts->weight_count, 2},
    };
    const size_t start = out->size;
    if (parts->weight_count > TAGGER_WEIGHTS_MAX || parts->word_count > UINT32_MAX)
        return error_set(error, STATUS_DATA, "a tagger model holds at most %d weights, not %zu",
                         TAGGER_WEIGHTS_MAX, parts->weight_count);
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        enum status status =
            write_numbers(out, arrays[i].numbers, arrays[i].count, arrays[i].size, error);
        if (status != STATUS_OK)
            return status;
    }
    uint8_t *file = out->data + start;
    const uint32_t crc = crc32c(0, file + COUNTS_AT, out->size - start - COUNTS_AT);
    for (int i = 0; i < 4; i++)
        file[CRC_AT + i] = (uint8_t)(crc >> 8 * i);
    return STATUS_OK;
}
