/* run_directory.h - the directory that a run saves into, and no other run at the same time. */
#ifndef MODEL_RUN_DIRECTORY_H
#define MODEL_RUN_DIRECTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Creates `path` where it is not there and removes what an interrupted save left in it. *lock
 * is a descriptor that keeps others out until it is closed or the process ends, however it
 * does. STATUS_RETRY where another process has it, STATUS_USAGE where it holds checkpoints and
 * the run does not resume. */
enum status run_directory_claim(const char *path, bool resume, int *lock, struct error *error);

/* Whether the newest checkpoint in it is of this step or a later one. */
bool run_directory_has_step(const char *path, int64_t step);

#endif
