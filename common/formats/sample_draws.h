/* sample_draws.h - the random numbers of each sample of a record: functions of the seed, the
 * sample's epoch and its place in the data, never of threads or batches. */
#ifndef FORMATS_SAMPLE_DRAWS_H
#define FORMATS_SAMPLE_DRAWS_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "stream/position.h"

struct sample_draws {
    uint64_t seed;
    const int64_t *position; /* of the record (stream/position.h), or NULL */
    uint64_t samples_before; /* of the stream, before the record */
};

/* The generator of sample i of the record. */
static inline struct rng sample_draws_rng(const struct sample_draws *draws, size_t i,
                                          enum rng_purpose purpose)
{
    const struct sample_identity id =
        position_identity(draws->position, i, draws->samples_before);
    struct rng rng;
    rng_init(&rng, draws->seed, id.epoch, id.sample, purpose);
    return rng;
}

#endif
