/* bpe_table.h - the inside of a BPE vocabulary, shared by its reader and the encoder. */
#ifndef FORMATS_BPE_TABLE_H
#define FORMATS_BPE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "formats/bpe.h"

enum { BPE_PAIR_SLOTS = 1 << 17 }; /* a power of two, over twice the number of merges */

#define BPE_NO_RANK UINT32_MAX
#define BPE_NO_PAIR UINT64_MAX

struct bpe_symbol {
    uint32_t offset; /* of its bytes in bpe.strings */
    uint32_t size;
    bool ends_word;
};

struct bpe_pair {
    uint64_t pair; /* left id << 32 | right id, or BPE_NO_PAIR */
    uint32_t rank; /* BPE_NO_RANK in an empty slot */
    uint32_t merged; /* id */
};

struct bpe {
    struct bpe_pair *pairs;     /* [BPE_PAIR_SLOTS], open addressing */
    struct bpe_symbol *symbols; /* [symbol_count] */
    size_t symbol_count;        /* without start and end */
    struct buffer strings;
    uint32_t byte_ids[256];
};

static inline uint64_t bpe_scramble(uint64_t key)
{
    key *= 0x9e3779b97f4a7c15u;
    return key ^ key >> 32;
}

static inline uint64_t bpe_hash(const uint8_t *bytes, size_t size)
{
    uint64_t hash = size;
    for (; size >= 8; bytes += 8, size -= 8) {
        uint64_t part;
        memcpy(&part, bytes, 8);
        hash = bpe_scramble(hash ^ part);
    }
    uint64_t rest = 0;
    for (size_t i = 0; i < size; i++)
        rest |= (uint64_t)bytes[i] << 8 * i;
    return bpe_scramble(hash ^ rest);
}

/* The slot of a pair, or the empty one where it would stand. */
static inline struct bpe_pair *bpe_find_pair(const struct bpe *bpe, uint32_t left,
                                             uint32_t right)
{
    const uint64_t pair = (uint64_t)left << 32 | right;
    size_t slot = bpe_scramble(pair) & (BPE_PAIR_SLOTS - 1);
    while (bpe->pairs[slot].pair != pair && bpe->pairs[slot].pair != BPE_NO_PAIR)
        slot = (slot + 1) & (BPE_PAIR_SLOTS - 1);
    return &bpe->pairs[slot];
}

#endif
