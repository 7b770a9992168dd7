/* tagger_model.h - the inside of a tagger and its file, shared by reader, tagger and learner.
 *
 * A model file, all numbers little-endian:
 *   8 bytes   "clptag1\n"
 *   u32       CRC-32C of everything behind it
 *   u32 x 4   numbers of tags T, dictionary words D, rows R and weights W
 *   T x 8     names of tags, filled up with zeros
 *   D x u32   words by hash, ascending, none 0
 *   D x u64   the tags each may have, as bits
 *   D x u8    the only tag of an unambiguous word, or 255
 *   R x u32   features with weights by key, ascending, none 0
 *   R x u8    how many weights each has, at least one
 *   W x u16   weights, row by row: bits 0..5 the tag, ascending in a row, bits 6..15 the
 *             weight, signed, not 0
 * and nothing behind that. */
#ifndef FORMATS_TAGGER_MODEL_H
#define FORMATS_TAGGER_MODEL_H

#include "formats/tagger.h"
#include "formats/tagger_features.h"

enum {
    TAGGER_NAME_SIZE = 8,       /* with at least one 0 */
    TAGGER_TAG_BITS = 6,
    TAGGER_WEIGHT_MAX = 511,    /* and at least -511 */
    TAGGER_WEIGHTS_MAX = 1 << 26,
};

struct tagger_entry { /* of the dictionary; hash 0: an empty slot */
    uint64_t tags;
    uint32_t hash;
    uint8_t sure;
};

struct tagger_row { /* key 0: an empty slot */
    uint32_t key;
    uint32_t weights; /* index of the first << TAGGER_TAG_BITS | their number */
};

struct tagger {
    char names[TAGGER_TAGS_MAX][TAGGER_NAME_SIZE];
    uint8_t priorities[TAGGER_TAGS_MAX];
    int tag_count;
    struct tagger_entry *entries; /* [entry_mask + 1], open addressing, as the rows */
    size_t entry_mask;
    struct tagger_row *rows; /* [row_mask + 1] */
    size_t row_mask;
    uint16_t *weights;
};

/* The arrays of a file. */
struct tagger_parts {
    const char (*names)[TAGGER_NAME_SIZE];
    size_t tag_count;
    const uint32_t *word_hashes;
    const uint64_t *word_tags;
    const uint8_t *word_sure;
    size_t word_count;
    const uint32_t *row_keys;
    const uint8_t *row_sizes;
    size_t row_count;
    const uint16_t *weights;
    size_t weight_count;
};

/* Appends a model file. */
enum status tagger_model_write(const struct tagger_parts *parts, struct buffer *out,
                               struct error *error);

/* The part of a word's hash that the dictionary goes by, never 0. */
static inline uint32_t tagger_word_key(uint64_t hash)
{
    return hash >> 32 != 0 ? (uint32_t)(hash >> 32) : 1;
}

/* tagger_describe, and what the dictionary says. */
void tagger_look_up(const struct tagger *tagger, const uint8_t *word, size_t size, bool lower,
                    struct tagger_facts *facts);

#endif
