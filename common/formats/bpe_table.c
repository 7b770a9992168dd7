/* bpe_table.c - reads vocabulary files. */
#include "formats/bpe_table.h"

#include <stdlib.h>

#include "base/utf8.h"
#include "formats/vocabulary_text.h"

enum {
    BYTE_CODES = 256 + 68, /* code points of the byte alphabet are below this */
};

/* ---- the byte alphabet ---- */

static bool is_printable(unsigned byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

/* Printable bytes come first and stand for themselves; the others follow, from U+0100 on. */
uint8_t bpe_byte_id(uint8_t byte)
{
    unsigned printable_before = 0;
    for (unsigned other = 0; other < byte; other++)
        printable_before += is_printable(other);
    return (uint8_t)(is_printable(byte) ? printable_before : 188 + byte - printable_before);
}

int32_t bpe_byte_code(uint8_t byte)
{
    return is_printable(byte) ? byte : 256 + bpe_byte_id(byte) - 188;
}

/* ---- reading a vocabulary ---- */

/* What a vocabulary is read with: the text and where strings are found again. */
struct loading {
    struct bpe *bpe;
    struct vocabulary_text text;
    int16_t bytes_by_code[BYTE_CODES]; /* -1: no byte */
    uint32_t *by_string;               /* [BPE_PAIR_SLOTS], id + 1, open addressing */
};

/* The slot of a string of bytes that does or does not end a word. */
static uint32_t *string_slot(const struct loading *loading, const uint8_t *bytes, size_t size,
                             bool ends_word)
{
    size_t slot = (bpe_hash(bytes, size) + ends_word) & (BPE_PAIR_SLOTS - 1);
    for (; loading->by_string[slot] != 0; slot = (slot + 1) & (BPE_PAIR_SLOTS - 1)) {
        const struct bpe_symbol *symbol = &loading->bpe->symbols[loading->by_string[slot] - 1];
        if (symbol->size == size && symbol->ends_word == ends_word &&
            memcmp(loading->bpe->strings.data + symbol->offset, bytes, size) == 0)
            break;
    }
    return &loading->by_string[slot];
}

/* The newest symbol owns its string: where two merges make the same one, open_clip's table
 * maps it to the later. */
static enum status add_symbol(struct loading *loading, const uint8_t *bytes, size_t size,
                              bool ends_word, struct error *error)
{
    struct bpe *bpe = loading->bpe;
    if (bpe->strings.size + size > UINT32_MAX)
        return error_set(error, STATUS_DATA, "vocabulary: line %zu: strings of over 4 GiB",
                         loading->text.line);
    *string_slot(loading, bytes, size, ends_word) = (uint32_t)bpe->symbol_count + 1;
    bpe->symbols[bpe->symbol_count++] =
        (struct bpe_symbol){(uint32_t)bpe->strings.size, (uint32_t)size, ends_word};
    return buffer_append(&bpe->strings, bytes, size, error);
}

static enum status add_byte_symbols(struct loading *loading, struct error *error)
{
    uint8_t byte_of_id[256];
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t id = bpe_byte_id((uint8_t)byte);
        loading->bpe->byte_ids[byte] = id;
        byte_of_id[id] = (uint8_t)byte;
        loading->bytes_by_code[bpe_byte_code((uint8_t)byte)] = (int16_t)byte;
    }
    for (unsigned id = 0; id < BPE_BYTE_SYMBOLS; id++) {
        enum status status = add_symbol(loading, &byte_of_id[id % 256], 1, id >= 256, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

/* Reads a part of a merge into bytes, which is as long as the part; false on a character that
 * is not of the byte alphabet or where nothing is left. */
static bool read_part(const struct loading *loading, const uint8_t *part, size_t size,
                      uint8_t *bytes, size_t *count, bool *ends_word)
{
    static const char mark[] = "</w>";
    const size_t mark_size = sizeof mark - 1;
    *ends_word = size > mark_size && memcmp(part + size - mark_size, mark, mark_size) == 0;
    if (*ends_word)
        size -= mark_size;
    *count = 0;
    for (size_t at = 0; at < size;) {
        int32_t code = utf8_next(part, size, &at);
        if (code >= BYTE_CODES || loading->bytes_by_code[code] < 0)
            return false;
        bytes[(*count)++] = (uint8_t)loading->bytes_by_code[code];
    }
    return *count > 0;
}

/* A merge as read: the bytes of both parts, side by side. */
struct merge {
    uint8_t *bytes; /* as long as its line */
    size_t left_size;
    size_t size;
    bool ends_word;
};

static enum status read_merge(const struct loading *loading, const uint8_t *line, size_t size,
                              struct merge *merge, struct error *error)
{
    const uint8_t *space = memchr(line, ' ', size);
    size_t left_size = 0, right_size = 0;
    bool left_ends = false;
    if (space != NULL) {
        const uint8_t *right = space + 1;
        const size_t left_length = (size_t)(space - line);
        if (read_part(loading, line, left_length, merge->bytes, &left_size, &left_ends) &&
            !left_ends &&
            read_part(loading, right, size - left_length - 1, merge->bytes + left_size,
                      &right_size, &merge->ends_word)) {
            merge->left_size = left_size;
            merge->size = left_size + right_size;
            return STATUS_OK;
        }
    }
    return error_set(error, STATUS_DATA,
                     "vocabulary: line %zu: expected two symbols, found '%.*s'",
                     loading->text.line, size < 60 ? (int)size : 60, (const char *)line);
}

static enum status find_symbol(const struct loading *loading, const uint8_t *bytes, size_t size,
                               bool ends_word, uint32_t *id, struct error *error)
{
    *id = *string_slot(loading, bytes, size, ends_word) - 1;
    if (*id != UINT32_MAX)
        return STATUS_OK;
    return error_set(error, STATUS_DATA,
                     "vocabulary: line %zu: no line makes its symbol of %zu bytes",
                     loading->text.line, size);
}

/* Makes the merge of the current line known, by the ids of its symbols. */
static enum status add_pair(const struct loading *loading, const struct merge *merge,
                            uint32_t rank, struct error *error)
{
    const uint8_t *bytes = merge->bytes;
    const size_t left_size = merge->left_size;
    uint32_t left, right, merged;
    enum status status = find_symbol(loading, bytes, left_size, false, &left, error);
    if (status == STATUS_OK)
        status = find_symbol(loading, bytes + left_size, merge->size - left_size,
                             merge->ends_word, &right, error);
    if (status == STATUS_OK)
        status = find_symbol(loading, bytes, merge->size, merge->ends_word, &merged, error);
    if (status != STATUS_OK)
        return status;
    struct bpe_pair *slot = bpe_find_pair(loading->bpe, left, right);
    if (slot->pair != BPE_NO_PAIR)
        return error_set(error, STATUS_DATA,
                         "vocabulary: line %zu: repeats the merge of line %u",
                         loading->text.line, slot->rank + 2);
    *slot = (struct bpe_pair){(uint64_t)left << 32 | right, rank, merged};
    return STATUS_OK;
}

/* Goes over the merges, the first time to make their symbols, the second time to look up their
 * parts: a string may be made by a later line, too. */
static enum status read_merges(struct loading *loading, struct merge *merge, bool make_symbols,
                               struct error *error)
{
    const uint8_t *line;
    size_t size;
    vocabulary_text_rewind(&loading->text);
    if (!vocabulary_text_has_version(&loading->text))
        return error_set(error, STATUS_DATA,
                         "vocabulary: line 1: expected a header with '#version'");
    vocabulary_text_next_line(&loading->text, &line, &size);
    for (uint32_t rank = 0;
         rank < BPE_MERGES_MAX && vocabulary_text_next_line(&loading->text, &line, &size);
         rank++) {
        enum status status = read_merge(loading, line, size, merge, error);
        if (status == STATUS_OK && make_symbols)
            status = add_symbol(loading, merge->bytes, merge->size, merge->ends_word, error);
        else if (status == STATUS_OK)
            status = add_pair(loading, merge, rank, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status load(struct loading *loading, struct error *error)
{
    memset(loading->bytes_by_code, -1, sizeof loading->bytes_by_code);
    struct merge merge = {.bytes = malloc(loading->text.size + 1)};
    loading->by_string = calloc(BPE_PAIR_SLOTS, sizeof *loading->by_string);
    enum status status;
    if (merge.bytes == NULL || loading->by_string == NULL)
        status = error_memory(error,
                              loading->text.size + BPE_PAIR_SLOTS * sizeof(uint32_t),
                              "a vocabulary");
    else
        status = add_byte_symbols(loading, error);
    if (status == STATUS_OK)
        status = read_merges(loading, &merge, true, error);
    if (status == STATUS_OK)
        status = read_merges(loading, &merge, false, error);
    free(merge.bytes);
    free(loading->by_string);
    return status;
}

enum status bpe_open(struct bpe **out, const uint8_t *data, size_t size, struct error *error)
{
    const size_t pairs_size = BPE_PAIR_SLOTS * sizeof(struct bpe_pair);
    struct bpe *bpe = calloc(1, sizeof *bpe);
    if (bpe == NULL || (bpe->pairs = malloc(pairs_size)) == NULL ||
        (bpe->symbols = malloc(BPE_VOCAB_MAX * sizeof *bpe->symbols)) == NULL) {
        bpe_close(bpe);
        return error_memory(error, pairs_size, "a vocabulary");
    }
    for (size_t i = 0; i < BPE_PAIR_SLOTS; i++)
        bpe->pairs[i] = (struct bpe_pair){BPE_NO_PAIR, BPE_NO_RANK, 0};

    struct loading loading = {.bpe = bpe};
    enum status status = vocabulary_text_open(&loading.text, data, size, error);
    if (status == STATUS_OK)
        status = load(&loading, error);
    vocabulary_text_close(&loading.text);
    if (status != STATUS_OK) {
        bpe_close(bpe);
        return status;
    }
    *out = bpe;
    return STATUS_OK;
}

void bpe_close(struct bpe *bpe)
{
    if (bpe == NULL)
        return;
    free(bpe->pairs);
    free(bpe->symbols);
    buffer_free(&bpe->strings);
    free(bpe);
}

int32_t bpe_vocab_size(const struct bpe *bpe)
{
    return (int32_t)bpe->symbol_count + 2;
}

int32_t bpe_start(const struct bpe *bpe)
{
    return bpe_vocab_size(bpe) - 2;
}

int32_t bpe_end(const struct bpe *bpe)
{
    return bpe_vocab_size(bpe) - 1;
}
