/* rng.h - random numbers that depend on what they are for, never on the order of work.
 *
 * A generator is keyed by (seed, epoch, sample, purpose). Two stages, threads or restarts
 * that ask for the same key get the same numbers. The generator is SplitMix64 run from a
 * key (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014). */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

enum rng_purpose {
    RNG_SHARD_ORDER = 1,
    RNG_SAMPLE_ORDER,
    RNG_CROP,
    RNG_IMAGE_TOKENS,
    RNG_TEXT_TOKENS,
    RNG_PARAMETERS,
    RNG_SCENE,
    RNG_TEST,
    RNG_COLOR,
    RNG_PATCH_DROPOUT,
};

struct rng {
    uint64_t state;
};

void rng_init(struct rng *rng, uint64_t seed, uint64_t epoch, uint64_t sample,
              enum rng_purpose purpose);

uint64_t rng_next(struct rng *rng);                  /* uniform over all 64-bit values */
uint64_t rng_below(struct rng *rng, uint64_t bound); /* uniform in [0, bound), bound > 0 */
double rng_uniform(struct rng *rng);                 /* uniform in [0, 1), 53 bits */
double rng_normal(struct rng *rng);                  /* mean 0, variance 1 */

/* Makes order[0..count) a uniformly random permutation of 0..count-1. */
void rng_permutation(struct rng *rng, uint32_t *order, size_t count);

/* The `sample` part of a key, from the place where a sample is stored. */
uint64_t rng_sample_key(int64_t shard, int64_t index);

#endif
