/* index_set.h - sets of indices below some count, as bits, and random ones. */
#ifndef FORMATS_INDEX_SET_H
#define FORMATS_INDEX_SET_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"

/* The words of a set of indices below `count`; the caller owns them. */
static inline size_t index_set_words(size_t count)
{
    return count / 64 + (count % 64 != 0);
}

static inline void index_set_add(uint64_t *set, size_t index)
{
    set[index / 64] |= UINT64_C(1) << index % 64;
}

/* Makes the set empty. */
void index_set_clear(uint64_t *set, size_t count);

/* Makes it a set of `size` <= count indices, all such sets equally likely. Takes as many draws
 * as it has, or lacks, indices, whichever is less. */
void index_set_draw(uint64_t *set, size_t count, size_t size, struct rng *rng);

/* Writes the indices in ascending order, below 2^31; returns how many there are. */
size_t index_set_list(const uint64_t *set, size_t count, int32_t *out);

#endif
