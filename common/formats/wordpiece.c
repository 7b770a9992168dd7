/* wordpiece.c - text to ids. */
#include "formats/wordpiece.h"

#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "formats/bpe_table.h"
#include "formats/wordpiece_split.h"
#include "formats/wordpiece_table.h"

enum {
    CACHE_SLOTS = 1 << 14, /* a power of two; one MiB for each thread */
    CACHED_BYTES = 30,     /* longest word kept, in bytes */
    CACHED_TOKENS = 8,
    TOKENS_PER_BYTE = 2,   /* at most: a character of two bytes decomposes to four at most */
};

struct cached_word { /* one cache line */
    uint8_t size;    /* 0: empty */
    uint8_t count;
    uint8_t bytes[CACHED_BYTES]; /* as in the text */
    int32_t tokens[CACHED_TOKENS];
};
_Static_assert(sizeof(struct cached_word) == 64, "a cached word fills a cache line");

struct wordpiece_scratch {
    struct cached_word *cache; /* [CACHE_SLOTS], each word has one place */
};

enum status wordpiece_scratch_open(struct wordpiece_scratch **out, struct error *error)
{
    const size_t size = CACHE_SLOTS * sizeof(struct cached_word);
    struct wordpiece_scratch *scratch = calloc(1, sizeof *scratch);
    if (scratch == NULL || (scratch->cache = aligned_alloc(64, size)) == NULL) {
        free(scratch);
        return error_memory(error, size, "a cache of words");
    }
    memset(scratch->cache, 0, size);
    *out = scratch;
    return STATUS_OK;
}

void wordpiece_scratch_close(struct wordpiece_scratch *scratch)
{
    if (scratch == NULL)
        return;
    free(scratch->cache);
    free(scratch);
}

/* ---- one word ---- */

/* The longest entry at the start of bytes; its id is -1 where there is none. */
static int32_t longest_entry(const struct wordpiece *wordpiece, uint32_t root,
                             const uint8_t *bytes, size_t size, size_t *entry_size)
{
    int32_t id = -1;
    uint32_t node = root;
    for (size_t at = 0; at < size; at++) {
        const struct wordpiece_edge *edge = wordpiece_find_edge(wordpiece, node, bytes[at]);
        if (edge->key == WORDPIECE_NO_EDGE)
            break;
        node = edge->to;
        if (edge->id >= 0) {
            id = edge->id;
            *entry_size = at + 1;
        }
    }
    return id;
}

/* Writes the entries of a folded word, at most one for each of its characters; returns their
 * number. */
static size_t match_entries(const struct wordpiece *wordpiece, const uint8_t *folded,
                            size_t size, int32_t *tokens)
{
    size_t count = 0, entry_size = 0;
    for (size_t at = 0; at < size; at += entry_size) {
        const uint32_t root = at == 0 ? WORDPIECE_ROOT : WORDPIECE_CONTINUATION_ROOT;
        tokens[count] =
            longest_entry(wordpiece, root, folded + at, size - at, &entry_size);
        if (tokens[count++] < 0) {
            tokens[0] = wordpiece->specials[WORDPIECE_UNKNOWN];
            return 1;
        }
    }
    return count;
}

/* As match_entries, for a word as it stands in the text. */
static size_t match_word(const struct wordpiece *wordpiece, const uint8_t *word, size_t size,
                         int32_t *tokens)
{
    uint8_t folded[WORDPIECE_BYTES_MAX];
    size_t folded_size;
    if (wordpiece_fold(word, size, folded, &folded_size))
        return match_entries(wordpiece, folded, folded_size, tokens);
    tokens[0] = wordpiece->specials[WORDPIECE_UNKNOWN];
    return 1;
}

static size_t encode_word(const struct wordpiece *wordpiece, struct cached_word *cache,
                          const uint8_t *word, size_t size, int32_t *tokens)
{
    if (size > CACHED_BYTES)
        return match_word(wordpiece, word, size, tokens);
    struct cached_word *cached = &cache[bpe_hash(word, size) & (CACHE_SLOTS - 1)];
    if (cached->size == size && memcmp(cached->bytes, word, size) == 0) {
        memcpy(tokens, cached->tokens, cached->count * sizeof *tokens);
        return cached->count;
    }
    const size_t count = match_word(wordpiece, word, size, tokens);
    if (count <= CACHED_TOKENS) {
        cached->size = (uint8_t)size;
        cached->count = (uint8_t)count;
        memcpy(cached->bytes, word, size);
        memcpy(cached->tokens, tokens, count * sizeof *tokens);
    }
    return count;
}

/* ---- texts ---- */

/* Words that wordpiece_next_word takes for one: strings of special entries that are none. */
static size_t encode_plain(const struct wordpiece *wordpiece, struct cached_word *cache,
                           const uint8_t *text, size_t size, int32_t *tokens)
{
    struct wordpiece_word word;
    size_t position = 0, count = 0;
    while (wordpiece_next_plain_word(text, size, &position, &word))
        count += encode_word(wordpiece, cache, text + word.start, word.size, tokens + count);
    return count;
}

/* Makes room for `count` more int32_t. */
static enum status reserve_more(struct buffer *buffer, size_t count, struct error *error)
{
    size_t bytes, total;
    if (!size_multiply(count, sizeof(int32_t), &bytes) ||
        !size_add(buffer->size, bytes, &total))
        return error_memory(error, SIZE_MAX, "tokens");
    return buffer_reserve(buffer, total, error);
}

enum status wordpiece_encode(const struct wordpiece *wordpiece,
                             struct wordpiece_scratch *scratch, const uint8_t *text,
                             size_t size, struct buffer *tokens, struct buffer *words,
                             struct error *error)
{
    if (size > INT32_MAX)
        return error_set(error, STATUS_DATA, "a text of %zu bytes, more than %d", size,
                         INT32_MAX);
    enum status status = reserve_more(tokens, TOKENS_PER_BYTE * size, error);
    if (status == STATUS_OK)
        status = reserve_more(words, TOKENS_PER_BYTE * size, error);
    if (status != STATUS_OK || size == 0)
        return status;

    int32_t *ids = (void *)(tokens->data + tokens->size);
    int32_t *numbers = (void *)(words->data + words->size);
    size_t count = 0, position = 0;
    struct wordpiece_word word;
    for (int32_t number = 0; wordpiece_next_word(text, size, &position, &word); number++) {
        const uint8_t *bytes = text + word.start;
        const size_t before = count;
        if (word.special != WORDPIECE_TEXT && wordpiece->specials[word.special] >= 0)
            ids[count++] = wordpiece->specials[word.special];
        else if (bytes[0] == '[' && word.size > 1)
            count += encode_plain(wordpiece, scratch->cache, bytes, word.size, ids + count);
        else
            count += encode_word(wordpiece, scratch->cache, bytes, word.size, ids + count);
        for (size_t i = before; i < count; i++)
            numbers[i] = number;
    }
    tokens->size += count * sizeof(int32_t);
    words->size += count * sizeof(int32_t);
    return STATUS_OK;
}
