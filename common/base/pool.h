/* pool.h - worker threads that share the items of one batch. */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stddef.h>

#include "base/error.h"

struct pool;

/* Called once for each item, from any worker; `worker` in [0, threads) selects scratch
 * memory. Items must be independent: the result may not depend on the order. */
typedef void pool_work(void *context, size_t item, int worker);

/* Starts threads - 1 workers (the caller is the last). threads = 0: one per processor. */
enum status pool_open(struct pool **pool, int threads, struct error *error);

int pool_threads(const struct pool *pool);

/* Runs `work` on items 0..count-1 and returns when all are done. */
void pool_run(struct pool *pool, size_t count, pool_work *work, void *context);

/* Accepts NULL. */
void pool_close(struct pool *pool);

#endif
