/* wordpiece_table.c - reads vocabulary files. */
#include "formats/wordpiece_table.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "formats/vocabulary_text.h"
#include "formats/wordpiece_split.h"

enum {
    FIRST_SLOTS = 1 << 12,
    SHOWN_MAX = 60, /* bytes of a line in a message */
};

/* ---- the tries ---- */

static enum status set_slots(struct wordpiece *wordpiece, size_t slots, struct error *error)
{
    struct wordpiece_edge *old = wordpiece->edges;
    const size_t old_slots = wordpiece->edge_slots, size = slots * sizeof *old;
    struct wordpiece_edge *edges = malloc(size);
    if (edges == NULL)
        return error_memory(error, size, "a vocabulary");
    for (size_t i = 0; i < slots; i++)
        edges[i] = (struct wordpiece_edge){.key = WORDPIECE_NO_EDGE, .id = -1};
    wordpiece->edges = edges;
    wordpiece->edge_slots = slots;
    for (size_t i = 0; i < old_slots; i++)
        if (old[i].key != WORDPIECE_NO_EDGE)
            *wordpiece_find_edge(wordpiece, (uint32_t)(old[i].key >> 8),
                                 (uint8_t)old[i].key) = old[i];
    free(old);
    return STATUS_OK;
}

/* Every edge leads to a node of its own, so nodes are numbered as edges are made. */
static enum status add_edge(struct wordpiece *wordpiece, uint32_t node, uint8_t byte,
                            struct wordpiece_edge **out, struct error *error)
{
    if (2 * (wordpiece->edge_count + 1) > wordpiece->edge_slots) {
        enum status status = set_slots(wordpiece, 2 * wordpiece->edge_slots, error);
        if (status != STATUS_OK)
            return status;
    }
    *out = wordpiece_find_edge(wordpiece, node, byte);
    if ((*out)->key == WORDPIECE_NO_EDGE)
        **out = (struct wordpiece_edge){
            .key = (uint64_t)node << 8 | byte,
            .to = WORDPIECE_ROOTS + (uint32_t)wordpiece->edge_count++,
            .id = -1,
        };
    return STATUS_OK;
}

static enum status add_path(struct wordpiece *wordpiece, const uint8_t *bytes, size_t size,
                            int32_t id, struct error *error)
{
    struct wordpiece_edge *edge = NULL;
    uint32_t node = WORDPIECE_ROOT;
    if (size >= 2 && memcmp(bytes, "##", 2) == 0) {
        node = WORDPIECE_CONTINUATION_ROOT;
        bytes += 2;
        size -= 2;
    }
    if (size > WORDPIECE_BYTES_MAX)
        return STATUS_OK;
    for (size_t i = 0; i < size; i++) {
        enum status status = add_edge(wordpiece, node, bytes[i], &edge, error);
        if (status != STATUS_OK)
            return status;
        node = edge->to;
    }
    if (edge != NULL)
        edge->id = id;
    return STATUS_OK;
}

/* ---- the lines ---- */

static bool is_utf8(const uint8_t *text, size_t size)
{
    uint8_t again[UTF8_LENGTH_MAX];
    for (size_t at = 0; at < size;) {
        const size_t start = at;
        const size_t length = utf8_write(utf8_next(text, size, &at), again);
        if (length != at - start || memcmp(again, text + start, length) != 0)
            return false;
    }
    return true;
}

/* The size of a line without the white space at its end. */
static size_t trim(const uint8_t *line, size_t size)
{
    while (size > 0 && (line[size - 1] == ' ' || (line[size - 1] >= '\t' &&
                                                  line[size - 1] <= '\r')))
        size--;
    return size;
}

static enum status check_entry(const uint8_t *entry, size_t size, size_t line,
                               struct error *error)
{
    if (size == 0)
        return error_set(error, STATUS_DATA,
                         "vocabulary: line %zu: expected an entry, found nothing", line);
    if (!is_utf8(entry, size))
        return error_set(error, STATUS_DATA, "vocabulary: line %zu: '%.*s' is not UTF-8", line,
                         size < SHOWN_MAX ? (int)size : SHOWN_MAX, (const char *)entry);
    if (size == 1 && entry[0] == 'A')
        return error_set(error, STATUS_DATA,
                         "vocabulary: line %zu: 'A' is for cased text, expected lower case "
                         "alone",
                         line);
    if (line > WORDPIECE_SIZE_MAX)
        return error_set(error, STATUS_DATA, "vocabulary: more than %d lines",
                         WORDPIECE_SIZE_MAX);
    return STATUS_OK;
}

static enum status add_entry(struct wordpiece *wordpiece, const uint8_t *bytes, size_t size,
                             struct error *error)
{
    const int32_t id = (int32_t)wordpiece->entry_count++;
    const struct wordpiece_entry entry = {(uint32_t)wordpiece->strings.size, (uint32_t)size};
    enum status status = buffer_append(&wordpiece->entries, &entry, sizeof entry, error);
    if (status == STATUS_OK)
        status = buffer_append(&wordpiece->strings, bytes, size, error);
    if (status != STATUS_OK)
        return status;
    for (int i = 0; i < WORDPIECE_SPECIALS; i++) {
        const char *special = wordpiece_special_strings[i];
        if (size == strlen(special) && memcmp(bytes, special, size) == 0)
            wordpiece->specials[i] = id;
    }
    return add_path(wordpiece, bytes, size, id, error);
}

static enum status load(struct wordpiece *wordpiece, struct vocabulary_text *text,
                        struct error *error)
{
    const uint8_t *line;
    size_t size;
    while (vocabulary_text_next_line(text, &line, &size)) {
        size = trim(line, size);
        enum status status = check_entry(line, size, text->line, error);
        if (status == STATUS_OK)
            status = add_entry(wordpiece, line, size, error);
        if (status != STATUS_OK)
            return status;
    }
    for (int i = 0; i < WORDPIECE_SPECIALS; i++)
        if (wordpiece->specials[i] < 0 && i != WORDPIECE_MASK)
            return error_set(error, STATUS_DATA, "vocabulary: no line %s among %zu",
                             wordpiece_special_strings[i], wordpiece->entry_count);
    return STATUS_OK;
}

enum status wordpiece_open(struct wordpiece **out, const uint8_t *data, size_t size,
                           struct error *error)
{
    struct vocabulary_text text = {.data = NULL};
    struct wordpiece *wordpiece = calloc(1, sizeof *wordpiece);
    if (wordpiece == NULL)
        return error_memory(error, sizeof *wordpiece, "a vocabulary");
    for (int i = 0; i < WORDPIECE_SPECIALS; i++)
        wordpiece->specials[i] = -1;
    enum status status = set_slots(wordpiece, FIRST_SLOTS, error);
    if (status == STATUS_OK)
        status = vocabulary_text_open(&text, data, size, error);
    if (status == STATUS_OK)
        status = load(wordpiece, &text, error);
    vocabulary_text_close(&text);
    if (status != STATUS_OK) {
        wordpiece_close(wordpiece);
        return status;
    }
    *out = wordpiece;
    return STATUS_OK;
}

void wordpiece_close(struct wordpiece *wordpiece)
{
    if (wordpiece == NULL)
        return;
    free(wordpiece->edges);
    buffer_free(&wordpiece->entries);
    buffer_free(&wordpiece->strings);
    free(wordpiece);
}

int32_t wordpiece_size(const struct wordpiece *wordpiece)
{
    return (int32_t)wordpiece->entry_count;
}

int32_t wordpiece_special_id(const struct wordpiece *wordpiece, enum wordpiece_special special)
{
    return wordpiece->specials[special];
}

enum status wordpiece_piece(const struct wordpiece *wordpiece, int32_t id, struct buffer *out,
                            struct error *error)
{
    if (id < 0 || id >= wordpiece_size(wordpiece))
        return error_set(error, STATUS_DATA, "id %d, expected 0 to %d", id,
                         wordpiece_size(wordpiece) - 1);
    const struct wordpiece_entry *entry =
        (const struct wordpiece_entry *)(const void *)wordpiece->entries.data + id;
    return buffer_append(out, wordpiece->strings.data + entry->offset, entry->size, error);
}
