#include "formats/index_set.h"

#include <string.h>

void index_set_clear(uint64_t *set, size_t count)
{
    memset(set, 0, index_set_words(count) * sizeof set[0]);
}

/* Floyd's way to draw without a table of all indices: before the turn of `last`, the set is a
 * uniform one of indices below it; the new index is uniform in [0, last] and, where it is taken
 * already, `last` itself, which cannot be (Bentley and Floyd, "A sample of brilliance",
 * Communications of the ACM 30(9), 1987). The choice between the two is a coin's toss for the
 * branch predictor, so there is no branch. */
static void draw(uint64_t *set, size_t count, size_t size, struct rng *rng)
{
    index_set_clear(set, count);
    for (size_t last = count - size; last < count; last++) {
        const size_t drawn = (size_t)rng_below(rng, last + 1);
        const size_t taken = set[drawn / 64] >> drawn % 64 & 1;
        index_set_add(set, drawn ^ ((drawn ^ last) & -taken));
    }
}

static void complement(uint64_t *set, size_t count)
{
    const size_t words = index_set_words(count);
    for (size_t i = 0; i < words; i++)
        set[i] = ~set[i];
    if (count % 64 != 0)
        set[words - 1] &= (UINT64_C(1) << count % 64) - 1;
}

void index_set_draw(uint64_t *set, size_t count, size_t size, struct rng *rng)
{
    if (size <= count / 2) {
        draw(set, count, size, rng);
    } else {
        draw(set, count, count - size, rng);
        complement(set, count);
    }
}

size_t index_set_list(const uint64_t *set, size_t count, int32_t *out)
{
    size_t found = 0;
    for (size_t i = 0; i < index_set_words(count); i++)
        for (uint64_t rest = set[i]; rest != 0; rest &= rest - 1)
            out[found++] = (int32_t)(64 * i + (size_t)__builtin_ctzll(rest));
    return found;
}
