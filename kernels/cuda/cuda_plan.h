/* cuda_plan.h - which way of doing a matrix product was the fastest, kept between runs.
 *
 * One text file holds what was found on one kind of GPU with one version of the libraries. It
 * is looked for in $XDG_CACHE_HOME/clipipe, or ~/.cache/clipipe; CLIPIPE_CUDA_PLANS=FILE names
 * another, CLIPIPE_CUDA_PLANS=off none. What is damaged or about another GPU is passed over,
 * line by line, and what is no file of plans at all is never written to.
 *
 * Runs that must give the same bits need the same plans. Where nothing can be kept, nothing
 * may be timed either: the caller then takes its first way. Host code only. */
#ifndef KERNELS_CUDA_PLAN_H
#define KERNELS_CUDA_PLAN_H

#ifdef __cplusplus
extern "C" {
#endif

#include <stdbool.h>

struct cuda_plans;

/* identity: one line, of the GPU and the libraries. NULL where memory is refused. */
struct cuda_plans *cuda_plans_open(const char *identity);
void cuda_plans_close(struct cuda_plans *plans); /* accepts NULL */

/* Whether what is found now can be found again by the next run. */
bool cuda_plans_can_keep(const struct cuda_plans *plans);

/* The way kept for a product, or NULL; valid until the next call. */
const char *cuda_plans_find(const struct cuda_plans *plans, const char *product);

/* Keeps a way, in the file too, whose other entries stay: the new file replaces the old one at
 * once. Gives the way that now holds, which another process may have written meanwhile; NULL
 * where memory is refused. A file that cannot be written is passed over. Both are lines without
 * " = ". */
const char *cuda_plans_keep(struct cuda_plans *plans, const char *product, const char *way);

/* Takes one out of memory, whose way turned out not to work here. */
void cuda_plans_drop(struct cuda_plans *plans, const char *product);

#ifdef __cplusplus
}
#endif

#endif
