#include "formats/tagger_treebank.h"

#include <stdbool.h>
#include <string.h>

enum { NAME_SIZE = 8 };

/* ---- reading ---- */

/* The number of a tag, which is added where it is new. */
static enum status find_tag(struct treebank *treebank, const uint8_t *tag, size_t size,
                            uint8_t *number, struct error *error)
{
    char name[NAME_SIZE] = {0};
    bool good = size > 0 && size < NAME_SIZE;
    for (size_t i = 0; i < size && good; i++)
        good = tag[i] > ' ' && tag[i] < 0x7F;
    if (!good)
        return error_set(error, STATUS_DATA,
                         "tag of %zu bytes, expected 1 to %d printable characters", size,
                         NAME_SIZE - 1);
    memcpy(name, tag, size);
    for (size_t i = 0; i < treebank->tag_count; i++) {
        if (memcmp(treebank->names.data + i * NAME_SIZE, name, NAME_SIZE) == 0) {
            *number = (uint8_t)i;
            return STATUS_OK;
        }
    }
    if (treebank->tag_count == TAGGER_TAGS_MAX)
        return error_set(error, STATUS_DATA, "tag '%s' is one more than %d", name,
                         TAGGER_TAGS_MAX);
    *number = (uint8_t)treebank->tag_count++;
    return buffer_append(&treebank->names, name, NAME_SIZE, error);
}

static enum status add_word(struct treebank *treebank, const uint8_t *line, size_t size,
                            struct error *error)
{
    const uint8_t *tab = memchr(line, '\t', size);
    if (tab == NULL || tab == line)
        return error_set(error, STATUS_DATA, "%s, expected a word, a tab and a tag",
                         tab == NULL ? "no tab" : "no word");
    const struct tagger_word word = {(size_t)(line - treebank->text), (size_t)(tab - line)};
    uint8_t tag;
    enum status status = find_tag(treebank, tab + 1, size - word.size - 1, &tag, error);
    if (status == STATUS_OK)
        status = buffer_append(&treebank->words, &word, sizeof word, error);
    if (status == STATUS_OK)
        status = buffer_append(&treebank->tags, &tag, 1, error);
    return status;
}

static enum status end_sentence(struct treebank *treebank, struct error *error)
{
    const size_t end = treebank->tags.size, count = treebank->sentences.size / sizeof end;
    const size_t *ends = (const void *)treebank->sentences.data;
    if (end == (count > 0 ? ends[count - 1] : 0))
        return STATUS_OK;
    return buffer_append(&treebank->sentences, &end, sizeof end, error);
}

enum status treebank_open(struct treebank *treebank, const uint8_t *text, size_t size,
                          struct error *error)
{
    enum status status = STATUS_OK;
    size_t number = 1;
    *treebank = (struct treebank){.text = text};
    for (size_t at = 0; at < size && status == STATUS_OK; number++) {
        const uint8_t *end = memchr(text + at, '\n', size - at);
        const size_t next = end == NULL ? size : (size_t)(end - text) + 1;
        size_t length = (end == NULL ? size : (size_t)(end - text)) - at;
        if (length > 0 && text[at + length - 1] == '\r')
            length--;
        status = length == 0 ? end_sentence(treebank, error)
                             : add_word(treebank, text + at, length, error);
        at = next;
    }
    if (status == STATUS_OK)
        status = end_sentence(treebank, error);
    if (status == STATUS_DATA)
        error_prefix(error, "line %zu", number - 1);
    if (status == STATUS_OK && treebank->tags.size == 0)
        status = error_set(error, STATUS_DATA, "the treebank has no word");
    if (status != STATUS_OK)
        treebank_close(treebank);
    return status;
}

void treebank_close(struct treebank *treebank)
{
    buffer_free(&treebank->words);
    buffer_free(&treebank->tags);
    buffer_free(&treebank->sentences);
    buffer_free(&treebank->names);
    treebank->tag_count = 0;
}

/* ---- testing ---- */

/* Counts what is right among the words first..end, tagged so. The tagger's tags may have other
 * numbers than the treebank's, so names are compared. */
static void count_right(const struct tagger *tagger, const struct treebank *treebank,
                        size_t first, size_t end, const uint8_t *tags,
                        struct tagger_score *score)
{
    for (size_t i = first; i < end; i++) {
        const char *wanted =
            (const char *)treebank->names.data + (size_t)treebank->tags.data[i] * NAME_SIZE;
        const int tag = tags[i - first];
        score->words++;
        score->tags_right += strcmp(tagger_tag_name(tagger, tag), wanted) == 0;
        score->priorities_right +=
            tagger_priority(tagger, tag) == tagger_name_priority(wanted);
    }
}

enum status tagger_test(const struct tagger *tagger, const struct treebank *treebank,
                        struct tagger_score *score, struct error *error)
{
    struct tagger_scratch scratch = {{0}};
    struct buffer tags = {0};
    const struct tagger_word *words = (const void *)treebank->words.data;
    const size_t *ends = (const void *)treebank->sentences.data;
    const size_t count = treebank->sentences.size / sizeof *ends;
    size_t first = 0;
    *score = (struct tagger_score){0};
    enum status status = buffer_reserve(&tags, treebank->tags.size, error);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = tagger_tag(tagger, &scratch, treebank->text, words + first, ends[i] - first,
                            tags.data, error);
        if (status == STATUS_OK)
            count_right(tagger, treebank, first, ends[i], tags.data, score);
        first = ends[i];
    }
    tagger_scratch_free(&scratch);
    buffer_free(&tags);
    return status;
}
