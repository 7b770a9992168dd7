/* dry_run.h - what a run would be: its options, its model and what it costs, as lines
 * "name: value unit" for people and for grep. */
#ifndef FRAME_DRY_RUN_H
#define FRAME_DRY_RUN_H

#include <stddef.h>
#include <stdio.h>

#include "base/error.h"
#include "frame/options.h"
#include "frame/train_plan.h"

/* Units: M is 10^6 parameters, GFLOP 10^9 and EFLOP 10^18 operations, GB 10^9 bytes. Patches
 * that the model's dropout leaves out are taken off, those of token-reduce are not known.
 * Errors: training_cost_find's, and STATUS_IO. */
enum status dry_run_print(const struct train_plan *plan, const struct option_spec *options,
                          size_t option_count, FILE *out, struct error *error);

#endif
