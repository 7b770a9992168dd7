/* step_directory.h - the names step-00001000 below a run's output directory: finding them,
 * publishing one, and removing old ones.
 *
 * A checkpoint is written to step-N.tmp and renamed when all of it is on disk, so whatever
 * has a final name is whole. step-N.old exists for a moment while step-N is replaced. */
#ifndef MODEL_STEP_DIRECTORY_H
#define MODEL_STEP_DIRECTORY_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* The files that a checkpoint consists of (checkpoint.h), beside its MANIFEST. */
#define CHECKPOINT_CONFIG_NAME "open_clip_config.json"
#define CHECKPOINT_MODEL_NAME "open_clip_model.safetensors"
#define CHECKPOINT_AVERAGE_NAME "open_clip_model_ema.safetensors"
#define CHECKPOINT_STATE_NAME "train_state.safetensors"
#define CHECKPOINT_ABOUT_NAME "clipipe.json"
#define CHECKPOINT_VOCAB_NAME "vocab.txt.gz"

/* Room for the longest name below an output directory whose path was checked. */
enum { STEP_PATH_MAX = PATH_MAX, STEP_NAMES_MAX = 128 };

/* "OUT/step-00001000" + suffix. STATUS_USAGE where OUT is too long. */
enum status step_path(char path[STEP_PATH_MAX], const char *out, int64_t step,
                      const char *suffix, struct error *error);

/* *steps = the steps that have a directory, newest first, owned by the caller. An output
 * directory that does not exist has none. */
enum status step_list(const char *out, int64_t **steps, size_t *count, struct error *error);

/* Makes OUT/step-N.tmp the checkpoint OUT/step-N, in the place of an earlier one of that
 * name, durably. */
enum status step_publish(const char *out, int64_t step, struct error *error);

/* Removes the files that checkpoints consist of, MANIFEST first so that what is left after
 * an interruption is no checkpoint, and then the directory, unless someone keeps other files
 * in it. STATUS_IO where a file cannot be removed. */
enum status step_remove(const char *directory, struct error *error);

/* Removes all but the newest `keep`. */
enum status step_prune(const char *out, int keep, struct error *error);

/* Removes step-N.tmp and step-N.old, which an interrupted run left behind. */
enum status step_remove_leftovers(const char *out, struct error *error);

#endif
