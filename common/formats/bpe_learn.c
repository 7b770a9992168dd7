#include "formats/bpe_learn.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/number.h"
#include "formats/bpe.h"
#include "formats/bpe_table.h"
#include "base/utf8.h"

enum {
    FIRST_SLOTS = 1 << 12, /* of a hash table, a power of two */
    COUNT_MIN = 2,         /* a pair that occurs once teaches nothing */
};

static const uint32_t none = UINT32_MAX; /* no word, no node, no pair */

struct word {
    uint64_t count;
    uint64_t hash;
    uint64_t start; /* in learner.bytes; later in learner.symbols */
    uint32_t size;  /* bytes; later symbols */
};

/* A byte or what a merge made. No two merges make the same string: where no merge reached over
 * its ends, its inside was merged as in every other place, so its last pair is the same, too.
 * For the same reason a merged pair never comes back. */
struct symbol {
    uint64_t offset; /* in learner.strings */
    uint32_t size;
    bool ends_word;
};

struct pair {
    uint32_t left;
    uint32_t right;
    uint64_t count;      /* exact at all times */
    uint32_t first_node; /* the words it has been in, in learner.nodes */
    bool touched;        /* it stands in learner.touched */
};

struct node {
    uint32_t word;
    uint32_t next;
};

/* A claim that a pair has a count. Every pair has one that claims its count or more: counts
 * that fall leave the claim behind, to be corrected when it comes to the top.
 */
struct claim {
    uint64_t count;
    uint32_t pair;
};

/* An index of hashed things that are stored elsewhere: number + 1, 0 for an empty slot. */
struct slots {
    uint32_t *entries;
    size_t size; /* a power of two */
    size_t used;
};

struct bpe_learner {
    struct bpe_learner_stats stats;
    struct slots word_slots;
    struct buffer words;   /* struct word */
    struct buffer bytes;   /* of the words */
    struct buffer symbols; /* uint32_t, of the words */

    struct buffer table;   /* struct symbol */
    struct buffer strings; /* bytes of the symbols */

    struct slots pair_slots;
    struct buffer pairs;   /* struct pair */
    struct buffer nodes;   /* struct node */
    struct buffer touched; /* uint32_t pairs whose count rose during this merge */
    struct buffer heap;    /* struct claim */
};

static struct word *words_of(const struct bpe_learner *learner)
{
    return (void *)learner->words.data;
}

static uint32_t *symbols_of(const struct bpe_learner *learner)
{
    return (void *)learner->symbols.data;
}

static struct symbol *table_of(const struct bpe_learner *learner)
{
    return (void *)learner->table.data;
}

static struct pair *pairs_of(const struct bpe_learner *learner)
{
    return (void *)learner->pairs.data;
}

/* Appends one thing; *index is its number, which must stay below `none`. */
static enum status append(struct buffer *buffer, const void *thing, size_t size,
                          uint32_t *index, struct error *error)
{
    const size_t count = buffer->size / size;
    if (count >= none - 1)
        return error_set(error, STATUS_DATA, "learning a vocabulary: more than %u %s", none - 1,
                         "different words or pairs");
    *index = (uint32_t)count;
    return buffer_append(buffer, thing, size, error);
}

/* ---- hash tables ---- */

typedef uint64_t hash_of(const struct bpe_learner *learner, uint32_t index);

/* Makes room for one more entry, at most half full. */
static enum status slots_grow(const struct bpe_learner *learner, struct slots *slots,
                              hash_of *hash, struct error *error)
{
    if (2 * (slots->used + 1) <= slots->size)
        return STATUS_OK;
    const size_t size = slots->size == 0 ? FIRST_SLOTS : 2 * slots->size;
    uint32_t *entries = calloc(size, sizeof *entries);
    if (entries == NULL)
        return error_memory(error, size * sizeof *entries, "a hash table");
    for (size_t i = 0; i < slots->size; i++) {
        if (slots->entries[i] == 0)
            continue;
        size_t slot = hash(learner, slots->entries[i] - 1) & (size - 1);
        while (entries[slot] != 0)
            slot = (slot + 1) & (size - 1);
        entries[slot] = slots->entries[i];
    }
    free(slots->entries);
    slots->entries = entries;
    slots->size = size;
    return STATUS_OK;
}

static uint64_t word_hash(const struct bpe_learner *learner, uint32_t index)
{
    return words_of(learner)[index].hash;
}

static uint64_t pair_hash(const struct bpe_learner *learner, uint32_t index)
{
    const struct pair *pair = &pairs_of(learner)[index];
    return bpe_scramble((uint64_t)pair->left << 32 | pair->right);
}

/* ---- counting words ---- */

static enum status count_word(struct bpe_learner *learner, const uint8_t *bytes, size_t size,
                              struct error *error)
{
    struct slots *slots = &learner->word_slots;
    enum status status = slots_grow(learner, slots, word_hash, error);
    if (status != STATUS_OK)
        return status;
    const uint64_t hash = bpe_hash(bytes, size);
    size_t slot = hash & (slots->size - 1);
    for (; slots->entries[slot] != 0; slot = (slot + 1) & (slots->size - 1)) {
        struct word *word = &words_of(learner)[slots->entries[slot] - 1];
        if (word->hash == hash && word->size == size &&
            memcmp(learner->bytes.data + word->start, bytes, size) == 0) {
            word->count++;
            return STATUS_OK;
        }
    }
    const struct word word = {1, hash, learner->bytes.size, (uint32_t)size};
    uint32_t index = none;
    status = append(&learner->words, &word, sizeof word, &index, error);
    if (status == STATUS_OK)
        status = buffer_append(&learner->bytes, bytes, size, error);
    if (status != STATUS_OK)
        return status;
    slots->entries[slot] = index + 1;
    slots->used++;
    learner->stats.words_distinct++;
    return STATUS_OK;
}

enum status bpe_learner_open(struct bpe_learner **learner, struct error *error)
{
    *learner = calloc(1, sizeof **learner);
    if (*learner == NULL)
        return error_memory(error, sizeof **learner, "learning a vocabulary");
    return STATUS_OK;
}

enum status bpe_learner_add(struct bpe_learner *learner, const uint8_t *text, size_t size,
                            struct error *error)
{
    struct bpe_word word;
    size_t position = 0;
    while (bpe_next_word(text, size, &position, &word)) {
        if (word.special != BPE_TEXT)
            continue;
        learner->stats.words++;
        if (word.size > BPE_LEARN_WORD_MAX) {
            learner->stats.words_too_long++;
            continue;
        }
        enum status status = count_word(learner, text + word.start, word.size, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

struct bpe_learner_stats bpe_learner_stats(const struct bpe_learner *learner)
{
    return learner->stats;
}

/* ---- symbols ---- */

static enum status add_symbol(struct bpe_learner *learner, const uint8_t *bytes, size_t size,
                              bool ends_word, uint32_t *index, struct error *error)
{
    const struct symbol symbol = {learner->strings.size, (uint32_t)size, ends_word};
    enum status status = append(&learner->table, &symbol, sizeof symbol, index, error);
    if (status != STATUS_OK)
        return status;
    return buffer_append(&learner->strings, bytes, size, error);
}

/* A byte inside a word is symbol `byte`, at the end of a word `256 + byte`. */
static enum status add_byte_symbols(struct bpe_learner *learner, struct error *error)
{
    for (unsigned i = 0; i < BPE_BYTE_SYMBOLS; i++) {
        const uint8_t byte = (uint8_t)i;
        uint32_t index;
        enum status status = add_symbol(learner, &byte, 1, i >= 256, &index, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status add_merged_symbol(struct bpe_learner *learner, uint32_t left,
                                     uint32_t right, uint32_t *merged, struct error *error)
{
    const struct symbol a = table_of(learner)[left], b = table_of(learner)[right];
    uint8_t bytes[BPE_LEARN_WORD_MAX];
    memcpy(bytes, learner->strings.data + a.offset, a.size);
    memcpy(bytes + a.size, learner->strings.data + b.offset, b.size);
    return add_symbol(learner, bytes, a.size + b.size, b.ends_word, merged, error);
}

static int compare_symbols(const struct bpe_learner *learner, uint32_t a, uint32_t b)
{
    const struct symbol *first = &table_of(learner)[a], *second = &table_of(learner)[b];
    const size_t common = first->size < second->size ? first->size : second->size;
    int order = memcmp(learner->strings.data + first->offset,
                       learner->strings.data + second->offset, common);
    if (order != 0)
        return order;
    if (first->size != second->size)
        return first->size < second->size ? -1 : 1;
    return (int)first->ends_word - (int)second->ends_word;
}

/* ---- the best pair ---- */

/* Whether claim a comes before b: the larger count, then the smaller pair. */
static bool claim_before(const struct bpe_learner *learner, struct claim a, struct claim b)
{
    if (a.count != b.count)
        return a.count > b.count;
    const struct pair *first = &pairs_of(learner)[a.pair], *second = &pairs_of(learner)[b.pair];
    int order = compare_symbols(learner, first->left, second->left);
    if (order == 0)
        order = compare_symbols(learner, first->right, second->right);
    return order < 0;
}

static enum status push_claim(struct bpe_learner *learner, struct claim claim,
                              struct error *error)
{
    enum status status = buffer_append(&learner->heap, &claim, sizeof claim, error);
    if (status != STATUS_OK)
        return status;
    struct claim *heap = (void *)learner->heap.data;
    size_t at = learner->heap.size / sizeof claim - 1;
    for (; at > 0 && claim_before(learner, claim, heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = claim;
    return STATUS_OK;
}

static struct claim pop_claim(struct bpe_learner *learner)
{
    struct claim *heap = (void *)learner->heap.data;
    learner->heap.size -= sizeof *heap;
    const size_t size = learner->heap.size / sizeof *heap;
    const struct claim top = heap[0], last = heap[size];
    size_t at = 0;
    for (size_t child = 1; child < size; child = 2 * at + 1) {
        if (child + 1 < size && claim_before(learner, heap[child + 1], heap[child]))
            child++;
        if (!claim_before(learner, heap[child], last))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

/* The pair to merge next, or `none` where no pair occurs often enough. */
static enum status best_pair(struct bpe_learner *learner, uint32_t *best, struct error *error)
{
    *best = none;
    while (learner->heap.size > 0) {
        struct claim claim = pop_claim(learner);
        const uint64_t count = pairs_of(learner)[claim.pair].count;
        if (claim.count == count) {
            *best = claim.pair;
            return STATUS_OK;
        }
        if (claim.count < count || count < COUNT_MIN)
            continue; /* a newer claim is in the heap, or none is needed */
        claim.count = count;
        enum status status = push_claim(learner, claim, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

/* ---- counting pairs ---- */

/* The number of a pair, which is added where it is new. */
static enum status find_pair(struct bpe_learner *learner, uint32_t left, uint32_t right,
                             uint32_t *index, struct error *error)
{
    struct slots *slots = &learner->pair_slots;
    enum status status = slots_grow(learner, slots, pair_hash, error);
    if (status != STATUS_OK)
        return status;
    size_t slot = bpe_scramble((uint64_t)left << 32 | right) & (slots->size - 1);
    for (; slots->entries[slot] != 0; slot = (slot + 1) & (slots->size - 1)) {
        *index = slots->entries[slot] - 1;
        const struct pair *pair = &pairs_of(learner)[*index];
        if (pair->left == left && pair->right == right)
            return STATUS_OK;
    }
    const struct pair pair = {.left = left, .right = right, .first_node = none};
    status = append(&learner->pairs, &pair, sizeof pair, index, error);
    if (status != STATUS_OK)
        return status;
    slots->entries[slot] = *index + 1;
    slots->used++;
    return STATUS_OK;
}

/* A word has the pair at one more place. */
static enum status gain_pair(struct bpe_learner *learner, uint32_t left, uint32_t right,
                             uint32_t word, struct error *error)
{
    uint32_t index;
    enum status status = find_pair(learner, left, right, &index, error);
    if (status != STATUS_OK)
        return status;
    struct pair *pair = &pairs_of(learner)[index];
    const struct node *nodes = (const void *)learner->nodes.data;
    pair->count += words_of(learner)[word].count;
    if (!pair->touched) {
        pair->touched = true;
        status = buffer_append(&learner->touched, &index, sizeof index, error);
    }
    if (status == STATUS_OK &&
        (pair->first_node == none || nodes[pair->first_node].word != word)) {
        const struct node node = {word, pair->first_node};
        status = append(&learner->nodes, &node, sizeof node, &pair->first_node, error);
    }
    return status;
}

static enum status lose_pair(struct bpe_learner *learner, uint32_t left, uint32_t right,
                             uint32_t word, struct error *error)
{
    uint32_t index;
    enum status status = find_pair(learner, left, right, &index, error);
    if (status == STATUS_OK)
        pairs_of(learner)[index].count -= words_of(learner)[word].count;
    return status;
}

/* Puts a claim into the heap for each pair whose count rose. */
static enum status claim_touched(struct bpe_learner *learner, struct error *error)
{
    const uint32_t *touched = (const void *)learner->touched.data;
    for (size_t i = 0; i < learner->touched.size / sizeof *touched; i++) {
        struct pair *pair = &pairs_of(learner)[touched[i]];
        pair->touched = false;
        if (pair->count < COUNT_MIN)
            continue;
        enum status status =
            push_claim(learner, (struct claim){pair->count, touched[i]}, error);
        if (status != STATUS_OK)
            return status;
    }
    learner->touched.size = 0;
    return STATUS_OK;
}

/* Turns the words from bytes into symbols and counts their pairs. */
static enum status count_pairs(struct bpe_learner *learner, struct error *error)
{
    const size_t count = learner->words.size / sizeof(struct word);
    for (uint32_t i = 0; i < count; i++) {
        struct word *word = &words_of(learner)[i];
        const uint8_t *bytes = learner->bytes.data + word->start;
        word->start = learner->symbols.size / sizeof(uint32_t);
        for (uint32_t at = 0; at < word->size; at++) {
            const uint32_t symbol = bytes[at] + (at + 1 == word->size ? 256 : 0);
            enum status status =
                buffer_append(&learner->symbols, &symbol, sizeof symbol, error);
            if (status != STATUS_OK)
                return status;
        }
        const uint32_t *symbols = symbols_of(learner) + word->start;
        for (uint32_t at = 0; at + 1 < word->size; at++) {
            enum status status = gain_pair(learner, symbols[at], symbols[at + 1], i, error);
            if (status != STATUS_OK)
                return status;
        }
    }
    buffer_free(&learner->bytes);
    return claim_touched(learner, error);
}

/* ---- merging ---- */

/* Merges (left, right) at symbols[at] of a word that has been rewritten up to `done`: the pairs
 * with both neighbours change. */
static enum status recount_around(struct bpe_learner *learner, uint32_t index, uint32_t done,
                                  uint32_t at, uint32_t merged, struct error *error)
{
    const struct word *word = &words_of(learner)[index];
    const uint32_t *symbols = symbols_of(learner) + word->start;
    const uint32_t left = symbols[at], right = symbols[at + 1];
    enum status status = lose_pair(learner, left, right, index, error);
    if (status == STATUS_OK && done > 0) {
        status = lose_pair(learner, symbols[done - 1], left, index, error);
        if (status == STATUS_OK)
            status = gain_pair(learner, symbols[done - 1], merged, index, error);
    }
    if (status == STATUS_OK && at + 2 < word->size) {
        status = lose_pair(learner, right, symbols[at + 2], index, error);
        if (status == STATUS_OK)
            status = gain_pair(learner, merged, symbols[at + 2], index, error);
    }
    return status;
}

static enum status merge_in_word(struct bpe_learner *learner, uint32_t index, uint32_t left,
                                 uint32_t right, uint32_t merged, struct error *error)
{
    struct word *word = &words_of(learner)[index];
    uint32_t *symbols = symbols_of(learner) + word->start;
    uint32_t done = 0;
    for (uint32_t at = 0; at < word->size; done++) {
        if (at + 1 == word->size || symbols[at] != left || symbols[at + 1] != right) {
            symbols[done] = symbols[at++];
            continue;
        }
        enum status status = recount_around(learner, index, done, at, merged, error);
        if (status != STATUS_OK)
            return status;
        symbols[done] = merged;
        at += 2;
    }
    word->size = done;
    return STATUS_OK;
}

/* Merges a pair in every word that has it. */
static enum status merge_pair(struct bpe_learner *learner, uint32_t best, struct error *error)
{
    const struct pair pair = pairs_of(learner)[best];
    uint32_t merged;
    enum status status = add_merged_symbol(learner, pair.left, pair.right, &merged, error);
    if (status != STATUS_OK)
        return status;
    for (uint32_t at = pair.first_node; at != none;) {
        const struct node node = ((const struct node *)(const void *)learner->nodes.data)[at];
        status = merge_in_word(learner, node.word, pair.left, pair.right, merged, error);
        if (status != STATUS_OK)
            return status;
        at = node.next;
    }
    pairs_of(learner)[best].first_node = none;
    return claim_touched(learner, error);
}

/* ---- the file ---- */

static enum status write_symbol(struct bpe_learner *learner, uint32_t index, struct buffer *out,
                                struct error *error)
{
    const struct symbol *symbol = &table_of(learner)[index];
    const uint8_t *bytes = learner->strings.data + symbol->offset;
    for (uint32_t i = 0; i < symbol->size; i++) {
        uint8_t code[UTF8_LENGTH_MAX];
        size_t length = utf8_write(bpe_byte_code(bytes[i]), code);
        enum status status = buffer_append(out, code, length, error);
        if (status != STATUS_OK)
            return status;
    }
    return symbol->ends_word ? buffer_append(out, "</w>", 4, error) : STATUS_OK;
}

static enum status write_merge(struct bpe_learner *learner, uint32_t index, struct buffer *out,
                               struct error *error)
{
    const struct pair *pair = &pairs_of(learner)[index];
    enum status status = buffer_append(out, "\n", 1, error);
    if (status == STATUS_OK)
        status = write_symbol(learner, pair->left, out, error);
    if (status == STATUS_OK)
        status = buffer_append(out, " ", 1, error);
    if (status == STATUS_OK)
        status = write_symbol(learner, pair->right, out, error);
    return status;
}

enum status bpe_learner_finish(struct bpe_learner *learner, int vocab_size, struct buffer *out,
                               size_t *merges, struct error *error)
{
    static const char header[] = "#version: 0.2 clipipe";
    *merges = 0;
    if (vocab_size < BPE_VOCAB_MIN || vocab_size > BPE_VOCAB_MAX)
        return error_set(error, STATUS_USAGE, "a vocabulary of %d tokens is not in %d..%d",
                         vocab_size, BPE_VOCAB_MIN, BPE_VOCAB_MAX);
    const size_t wanted = (size_t)(vocab_size - BPE_VOCAB_MIN);
    enum status status = buffer_append(out, header, sizeof header - 1, error);
    if (status == STATUS_OK)
        status = add_byte_symbols(learner, error);
    if (status == STATUS_OK)
        status = count_pairs(learner, error);
    while (status == STATUS_OK && *merges < wanted) {
        uint32_t best;
        status = best_pair(learner, &best, error);
        if (status != STATUS_OK || best == none)
            break;
        status = write_merge(learner, best, out, error);
        if (status == STATUS_OK)
            status = merge_pair(learner, best, error);
        (*merges)++;
    }
    return status;
}

void bpe_learner_close(struct bpe_learner *learner)
{
    if (learner == NULL)
        return;
    free(learner->word_slots.entries);
    free(learner->pair_slots.entries);
    struct buffer *const buffers[] = {
        &learner->words, &learner->bytes, &learner->symbols, &learner->table,
        &learner->strings, &learner->pairs, &learner->nodes, &learner->touched, &learner->heap,
    };
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
        buffer_free(buffers[i]);
    free(learner);
}

/* zlib writes a header without a time or a name. */
enum status bpe_pack(const uint8_t *data, size_t size, struct buffer *out, struct error *error)
{
    z_stream stream = {0};
    if (size > INT32_MAX || deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, 15 + 16, 8,
                                         Z_DEFAULT_STRATEGY) != Z_OK)
        return error_memory(error, size, "packing a vocabulary");
    const size_t bound = deflateBound(&stream, (uLong)size);
    enum status status = buffer_reserve(out, out->size + bound, error);
    if (status == STATUS_OK) {
        stream.next_in = (Bytef *)(uintptr_t)data;
        stream.avail_in = (uInt)size;
        stream.next_out = out->data + out->size;
        stream.avail_out = (uInt)bound;
        if (deflate(&stream, Z_FINISH) == Z_STREAM_END)
            out->size += stream.total_out;
        else
            status = error_set(error, STATUS_BUG, "packing %zu bytes takes more than %zu", size,
                               bound);
    }
    deflateEnd(&stream);
    return status;
}
