#include "base/rng.h"

#include <math.h>

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static const uint64_t golden_gamma = 0x9e3779b97f4a7c15u;

/* Each part of the key goes through the mixer before the next is added, so that keys that
 * differ in one bit of one part lead to unrelated states. */
void rng_init(struct rng *rng, uint64_t seed, uint64_t epoch, uint64_t sample,
              enum rng_purpose purpose)
{
    uint64_t state = mix(seed + golden_gamma);
    state = mix(state ^ (epoch + 2 * golden_gamma));
    state = mix(state ^ (sample + 3 * golden_gamma));
    rng->state = mix(state ^ ((uint64_t)purpose + 4 * golden_gamma));
}

uint64_t rng_next(struct rng *rng)
{
    rng->state += golden_gamma;
    return mix(rng->state);
}

/* Multiply-shift with rejection of the part that would make the result uneven
 * (Lemire, "Fast random integer generation in an interval", 2019). */
uint64_t rng_below(struct rng *rng, uint64_t bound)
{
    uint64_t uneven = -bound % bound;
    for (;;) {
        unsigned __int128 product = (unsigned __int128)rng_next(rng) * bound;
        if ((uint64_t)product >= uneven)
            return (uint64_t)(product >> 64);
    }
}

double rng_uniform(struct rng *rng)
{
    return (double)(rng_next(rng) >> 11) * 0x1p-53;
}

/* Box and Muller's transform; 1 - u keeps the logarithm away from zero. */
double rng_normal(struct rng *rng)
{
    double radius = sqrt(-2.0 * log(1.0 - rng_uniform(rng)));
    return radius * cos(6.283185307179586 * rng_uniform(rng));
}

void rng_permutation(struct rng *rng, uint32_t *order, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t j = (size_t)rng_below(rng, i + 1);
        order[i] = order[j];
        order[j] = (uint32_t)i;
    }
}

uint64_t rng_sample_key(int64_t shard, int64_t index)
{
    return (uint64_t)shard << 40 ^ (uint64_t)index;
}
