/* bpe.c - text to ids and back. */
#include "formats/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "formats/bpe_table.h"

enum {
    CACHE_SLOTS = 1 << 14, /* a power of two; one MiB for each thread */
    CACHED_BYTES = 30,     /* longest word kept, in bytes */
    CACHED_TOKENS = 16,

    SHORT_WORD = 48, /* up to here, scanning for the best pair beats keeping a heap */
};

static const uint32_t no_place = UINT32_MAX;
static const uint32_t dead_symbol = UINT32_MAX;

struct cached_word { /* one cache line */
    uint8_t size;    /* 0: empty */
    uint8_t count;
    uint8_t bytes[CACHED_BYTES];
    uint16_t tokens[CACHED_TOKENS];
};
_Static_assert(sizeof(struct cached_word) == 64, "a cached word fills a cache line");
_Static_assert(BPE_VOCAB_MAX <= UINT16_MAX, "cached ids have 16 bits");

struct bpe_scratch {
    struct cached_word *cache; /* [CACHE_SLOTS], each word has one place */
    struct buffer symbols;     /* uint32_t, of the word being merged */
    struct buffer links;       /* struct link, as many; long words only */
    struct buffer heap;        /* uint64_t, rank << 32 | place */
    struct buffer fresh;       /* uint32_t places whose pair is new in this round */
};

enum status bpe_scratch_open(struct bpe_scratch **out, struct error *error)
{
    const size_t size = CACHE_SLOTS * sizeof(struct cached_word);
    struct bpe_scratch *scratch = calloc(1, sizeof *scratch);
    if (scratch == NULL || (scratch->cache = aligned_alloc(64, size)) == NULL) {
        free(scratch);
        return error_memory(error, size, "a cache of words");
    }
    memset(scratch->cache, 0, size);
    *out = scratch;
    return STATUS_OK;
}

void bpe_scratch_close(struct bpe_scratch *scratch)
{
    if (scratch == NULL)
        return;
    free(scratch->cache);
    buffer_free(&scratch->symbols);
    buffer_free(&scratch->links);
    buffer_free(&scratch->heap);
    buffer_free(&scratch->fresh);
    free(scratch);
}

/* Merges the pairs of a short word in place, the best in each round; returns the new count. */
static size_t merge_short(const struct bpe *bpe, uint32_t *symbols, size_t count)
{
    struct bpe_pair pairs[SHORT_WORD];
    for (size_t i = 0; i + 1 < count; i++)
        pairs[i] = *bpe_find_pair(bpe, symbols[i], symbols[i + 1]);
    for (;;) {
        struct bpe_pair best = {.rank = BPE_NO_RANK};
        for (size_t i = 0; i + 1 < count; i++)
            if (pairs[i].rank < best.rank)
                best = pairs[i];
        if (best.rank == BPE_NO_RANK)
            return count;

        size_t to = 0;
        for (size_t from = 0; from < count; to++) {
            bool merges = from + 1 < count && pairs[from].rank == best.rank;
            symbols[to] = merges ? best.merged : symbols[from];
            from += merges ? 2 : 1;
        }
        count = to;
        for (size_t i = 0; i + 1 < count; i++)
            pairs[i] = *bpe_find_pair(bpe, symbols[i], symbols[i + 1]);
    }
}

/* ---- long words: a heap of pairs over a linked list of symbols ---- */

struct link {
    uint32_t before; /* places in the word, or no_place */
    uint32_t after;
};

struct long_word {
    const struct bpe *bpe;
    uint32_t *symbols;
    struct link *links;
    uint64_t *heap;
    size_t heap_size;
};

static void heap_push(struct long_word *word, uint64_t entry)
{
    size_t at = word->heap_size++;
    for (; at > 0 && word->heap[(at - 1) / 2] > entry; at = (at - 1) / 2)
        word->heap[at] = word->heap[(at - 1) / 2];
    word->heap[at] = entry;
}

static uint64_t heap_pop(struct long_word *word)
{
    uint64_t *heap = word->heap;
    const uint64_t top = heap[0];
    const uint64_t last = heap[--word->heap_size];
    size_t at = 0;
    for (size_t child = 1; child < word->heap_size; child = 2 * at + 1) {
        if (child + 1 < word->heap_size && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= last)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

/* The pair that starts at a place; rank is BPE_NO_RANK where there is none. */
static const struct bpe_pair *pair_at(const struct long_word *word, uint32_t place)
{
    static const struct bpe_pair none = {.rank = BPE_NO_RANK};
    const uint32_t after = word->links[place].after;
    if (word->symbols[place] == dead_symbol || after == no_place)
        return &none;
    return bpe_find_pair(word->bpe, word->symbols[place], word->symbols[after]);
}

static void push_pair(struct long_word *word, uint32_t place)
{
    uint32_t rank = pair_at(word, place)->rank;
    if (rank != BPE_NO_RANK)
        heap_push(word, (uint64_t)rank << 32 | place);
}

/* Joins the symbol after `place` to it. Its own place is dead from then on. */
static void merge_at(struct long_word *word, uint32_t place, uint32_t merged)
{
    const uint32_t gone = word->links[place].after;
    const uint32_t after = word->links[gone].after;
    word->symbols[place] = merged;
    word->symbols[gone] = dead_symbol;
    word->links[place].after = after;
    if (after != no_place)
        word->links[after].before = place;
}

/* One round: all places of the best rank, in order. Pairs that it makes wait for the next
 * round even where they rank better, as in the definition. */
static size_t merge_round(struct long_word *word, uint32_t *fresh)
{
    const uint32_t rank = (uint32_t)(word->heap[0] >> 32);
    size_t fresh_count = 0;
    while (word->heap_size > 0 && word->heap[0] >> 32 == rank) {
        const uint32_t place = (uint32_t)heap_pop(word);
        const struct bpe_pair *pair = pair_at(word, place);
        if (pair->rank != rank)
            continue; /* a neighbour took one of the two */
        merge_at(word, place, pair->merged);
        if (word->links[place].before != no_place)
            fresh[fresh_count++] = word->links[place].before;
        fresh[fresh_count++] = place;
    }
    return fresh_count;
}

/* Room for one entry of each pair at the start and two of each of the count - 1 merges. */
static enum status reserve_long(struct bpe_scratch *scratch, size_t count, struct error *error)
{
    enum status status = buffer_reserve(&scratch->links, count * sizeof(struct link), error);
    if (status == STATUS_OK)
        status = buffer_reserve(&scratch->heap, 3 * count * sizeof(uint64_t), error);
    if (status == STATUS_OK)
        status = buffer_reserve(&scratch->fresh, 2 * count * sizeof(uint32_t), error);
    return status;
}

static enum status merge_long(const struct bpe *bpe, struct bpe_scratch *scratch,
                              uint32_t *symbols, size_t *count, struct error *error)
{
    enum status status = reserve_long(scratch, *count, error);
    if (status != STATUS_OK)
        return status;
    struct long_word word = {
        .bpe = bpe,
        .symbols = symbols,
        .links = (void *)scratch->links.data,
        .heap = (void *)scratch->heap.data,
    };
    const uint32_t last = (uint32_t)*count - 1;
    for (uint32_t i = 0; i <= last; i++)
        word.links[i] = (struct link){i == 0 ? no_place : i - 1, i == last ? no_place : i + 1};
    for (uint32_t i = 0; i < last; i++)
        push_pair(&word, i);

    uint32_t *fresh = (void *)scratch->fresh.data;
    while (word.heap_size > 0) {
        size_t fresh_count = merge_round(&word, fresh);
        for (size_t i = 0; i < fresh_count; i++)
            push_pair(&word, fresh[i]);
    }
    *count = 0;
    for (uint32_t i = 0; i != no_place; i = word.links[i].after)
        symbols[(*count)++] = symbols[i];
    return STATUS_OK;
}

/* Splits a word into byte symbols and merges them; *symbols belongs to the scratch. */
static enum status merge_word(const struct bpe *bpe, struct bpe_scratch *scratch,
                              const uint8_t *bytes, size_t size, const uint32_t **out,
                              size_t *out_count, struct error *error)
{
    enum status status = buffer_reserve(&scratch->symbols, size * sizeof(uint32_t), error);
    if (status != STATUS_OK)
        return status;
    uint32_t *symbols = (void *)scratch->symbols.data;
    for (size_t i = 0; i < size; i++)
        symbols[i] = bpe->byte_ids[bytes[i]];
    symbols[size - 1] += 256;
    *out = symbols;
    *out_count = size;
    if (size > SHORT_WORD)
        return merge_long(bpe, scratch, symbols, out_count, error);
    *out_count = merge_short(bpe, symbols, size);
    return STATUS_OK;
}

/* Where tokens and their words go; both have room. */
struct output {
    int32_t *tokens;
    int32_t *words;
    size_t count;
};

static void output_add(struct output *output, uint32_t token, int32_t word)
{
    output->tokens[output->count] = (int32_t)token;
    output->words[output->count++] = word;
}

static struct cached_word *cache_place(const struct bpe_scratch *scratch, const uint8_t *bytes,
                                       size_t size)
{
    return &scratch->cache[bpe_hash(bytes, size) & (CACHE_SLOTS - 1)];
}

static void cache_store(struct cached_word *cached, const uint8_t *bytes, size_t size,
                        const uint32_t *symbols, size_t count)
{
    cached->size = (uint8_t)size;
    cached->count = (uint8_t)count;
    memcpy(cached->bytes, bytes, size);
    for (size_t i = 0; i < count; i++)
        cached->tokens[i] = (uint16_t)symbols[i];
}

static enum status encode_word(const struct bpe *bpe, struct bpe_scratch *scratch,
                               const uint8_t *bytes, size_t size, int32_t word,
                               struct output *output, struct error *error)
{
    struct cached_word *cached = NULL;
    if (size <= CACHED_BYTES) {
        cached = cache_place(scratch, bytes, size);
        if (cached->size == size && memcmp(cached->bytes, bytes, size) == 0) {
            for (size_t i = 0; i < cached->count; i++)
                output_add(output, cached->tokens[i], word);
            return STATUS_OK;
        }
    }
    const uint32_t *symbols;
    size_t count;
    enum status status = merge_word(bpe, scratch, bytes, size, &symbols, &count, error);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        output_add(output, symbols[i], word);
    if (cached != NULL && count <= CACHED_TOKENS)
        cache_store(cached, bytes, size, symbols, count);
    return STATUS_OK;
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

enum status bpe_encode(const struct bpe *bpe, struct bpe_scratch *scratch, const uint8_t *text,
                       size_t size, struct buffer *tokens, struct buffer *words,
                       struct error *error)
{
    if (size > INT32_MAX)
        return error_set(error, STATUS_DATA, "a text of %zu bytes, more than %d", size,
                         INT32_MAX);
    enum status status = reserve_more(tokens, size, error);
    if (status == STATUS_OK)
        status = reserve_more(words, size, error);
    if (status != STATUS_OK || size == 0)
        return status;

    struct output output = {
        .tokens = (void *)(tokens->data + tokens->size),
        .words = (void *)(words->data + words->size),
    };
    struct bpe_word word;
    size_t position = 0;
    for (int32_t number = 0; bpe_next_word(text, size, &position, &word); number++) {
        if (word.special != BPE_TEXT) {
            int32_t token = word.special == BPE_START_STRING ? bpe_start(bpe) : bpe_end(bpe);
            output_add(&output, (uint32_t)token, number);
            continue;
        }
        status = encode_word(bpe, scratch, text + word.start, word.size, number, &output,
                             error);
        if (status != STATUS_OK)
            return status;
    }
    tokens->size += output.count * sizeof(int32_t);
    words->size += output.count * sizeof(int32_t);
    return STATUS_OK;
}

/* ---- decoding ---- */

/* Appends the text of an id; *ends_word says whether it is the last of a word. */
static enum status append_piece(const struct bpe *bpe, int32_t id, struct buffer *out,
                                bool *ends_word, struct error *error)
{
    static const char start[] = "<start_of_text>", end[] = "<end_of_text>";
    *ends_word = false;
    if (id < 0 || id >= bpe_vocab_size(bpe))
        return error_set(error, STATUS_DATA, "id %d, expected 0 to %d", id,
                         bpe_vocab_size(bpe) - 1);
    if (id == bpe_start(bpe))
        return buffer_append(out, start, sizeof start - 1, error);
    if (id == bpe_end(bpe))
        return buffer_append(out, end, sizeof end - 1, error);
    const struct bpe_symbol *symbol = &bpe->symbols[id];
    *ends_word = symbol->ends_word;
    return buffer_append(out, bpe->strings.data + symbol->offset, symbol->size, error);
}

enum status bpe_piece(const struct bpe *bpe, int32_t id, struct buffer *out,
                      struct error *error)
{
    bool ends_word;
    return append_piece(bpe, id, out, &ends_word, error);
}

enum status bpe_decode(const struct bpe *bpe, const int32_t *tokens, size_t count,
                       struct buffer *out, struct error *error)
{
    for (size_t i = 0; i < count; i++) {
        bool ends_word;
        enum status status = append_piece(bpe, tokens[i], out, &ends_word, error);
        if (status == STATUS_OK && ends_word)
            status = buffer_append(out, " ", 1, error);
        if (status != STATUS_OK)
            return error_prefix(error, "token %zu", i);
    }
    return STATUS_OK;
}
