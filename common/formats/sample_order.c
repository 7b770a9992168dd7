#include "formats/sample_order.h"

#include "base/rng.h"

static void keep_order(uint32_t *order, size_t count)
{
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
}

void sample_order_shards(const struct sample_order *order, int64_t epoch, uint32_t *shards,
                         size_t count)
{
    if (!order->shuffle) {
        keep_order(shards, count);
        return;
    }
    struct rng rng;
    rng_init(&rng, order->seed, (uint64_t)epoch, 0, RNG_SHARD_ORDER);
    rng_permutation(&rng, shards, count);
}

/* Key 0 of RNG_SAMPLE_ORDER draws the length of the first window, key n + 1 orders window n. */
uint32_t sample_order_window_length(const struct sample_order *order, int64_t epoch,
                                    uint64_t window)
{
    if (!order->shuffle)
        return 1;
    if (window > 0)
        return order->window;
    struct rng rng;
    rng_init(&rng, order->seed, (uint64_t)epoch, 0, RNG_SAMPLE_ORDER);
    return 1 + (uint32_t)rng_below(&rng, order->window);
}

void sample_order_window(const struct sample_order *order, int64_t epoch, uint64_t window,
                         uint32_t *places, size_t count)
{
    if (!order->shuffle) {
        keep_order(places, count);
        return;
    }
    struct rng rng;
    rng_init(&rng, order->seed, (uint64_t)epoch, window + 1, RNG_SAMPLE_ORDER);
    rng_permutation(&rng, places, count);
}

struct sample_window sample_order_find(const struct sample_order *order, int64_t epoch,
                                       uint64_t sample)
{
    if (!order->shuffle)
        return (struct sample_window){sample, sample};
    uint64_t first = sample_order_window_length(order, epoch, 0);
    if (sample < first)
        return (struct sample_window){0, 0};
    uint64_t later = (sample - first) / order->window;
    return (struct sample_window){1 + later, first + later * order->window};
}
