/* wordpiece_table.h - the inside of a WordPiece vocabulary: two tries over bytes, one for what
 * begins a word and one for what continues it. */
#ifndef FORMATS_WORDPIECE_TABLE_H
#define FORMATS_WORDPIECE_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "formats/wordpiece.h"

enum {
    WORDPIECE_ROOT = 0,          /* the nodes where an entry that begins a word starts */
    WORDPIECE_CONTINUATION_ROOT, /* and one that continues it, behind its "##" */
    WORDPIECE_ROOTS,
    WORDPIECE_BYTES_MAX = 4 * WORDPIECE_WORD_MAX, /* of a word; longer entries match nothing */
};

#define WORDPIECE_NO_EDGE UINT64_MAX

/* From a node by a byte to another node. */
struct wordpiece_edge {
    uint64_t key; /* node << 8 | byte, or WORDPIECE_NO_EDGE */
    uint32_t to;
    int32_t id; /* of the entry that ends at `to`, or -1 */
};

struct wordpiece_entry {
    uint32_t offset; /* in wordpiece.strings */
    uint32_t size;
};

struct wordpiece {
    struct wordpiece_edge *edges; /* [edge_slots], open addressing */
    size_t edge_slots;            /* a power of two, over twice the number of edges */
    size_t edge_count;
    struct buffer entries; /* struct wordpiece_entry [entry_count] */
    size_t entry_count;
    struct buffer strings;
    int32_t specials[WORDPIECE_SPECIALS]; /* ids, or -1 */
};

/* The slot of an edge, or the empty one where it would stand. */
static inline struct wordpiece_edge *wordpiece_find_edge(const struct wordpiece *wordpiece,
                                                         uint32_t node, uint8_t byte)
{
    const uint64_t key = (uint64_t)node << 8 | byte;
    const uint64_t scrambled = key * 0x9e3779b97f4a7c15u;
    size_t slot = (scrambled ^ scrambled >> 32) & (wordpiece->edge_slots - 1);
    while (wordpiece->edges[slot].key != key && wordpiece->edges[slot].key != WORDPIECE_NO_EDGE)
        slot = (slot + 1) & (wordpiece->edge_slots - 1);
    return &wordpiece->edges[slot];
}

#endif
