#include "model/patch_dropout.h"

#include <string.h>

/* The same double operations as open_clip's, so that the same number comes out where the
 * product is a hair below a whole one: 256 * (1 - 0.3) is 179.2, 10 * (1 - 0.9) below 1. */
size_t patch_dropout_kept(double dropout, size_t patches)
{
    double keep = 1 - dropout;
    size_t kept = (size_t)((double)patches * keep);
    return kept == 0 ? 1 : kept;
}

/* Knuth's algorithm S: a place is taken with the probability of places still wanted among
 * places left (The Art of Computer Programming, volume 2, 3.4.2). */
void patch_dropout_choose(struct rng *rng, size_t patches, size_t kept, uint32_t *chosen)
{
    size_t taken = 0;
    for (size_t i = 0; taken < kept; i++)
        if (rng_below(rng, patches - i) < kept - taken)
            chosen[taken++] = (uint32_t)i;
}

/* Ascending order makes it safe in place: what is written was read before. */
void patch_dropout_gather(uint8_t *out, int32_t *out_position, const uint8_t *patches,
                          const int32_t *position, const uint32_t *chosen, size_t kept,
                          size_t patch_bytes)
{
    for (size_t i = 0; i < kept; i++) {
        size_t from = chosen[i];
        memmove(out + i * patch_bytes, patches + from * patch_bytes, patch_bytes);
        out_position[i] = position == NULL ? (int32_t)from : position[from];
    }
}
