/* checkpoint.h - a model and all that a run needs to go on, as a directory.
 *
 *   OUT/step-00001000/
 *     open_clip_config.json        the model's configuration and the preprocessing
 *     open_clip_model.safetensors  parameters, F32, open_clip's names
 *     open_clip_model_ema.safetensors  the same tensors averaged over the steps, if the run
 *                                  keeps an average: under the former's name, in a directory
 *                                  of its own, open_clip opens it
 *     train_state.safetensors      NAME.exp_avg, NAME.exp_avg_sq by parameter; step I64 [1],
 *                                  samples I64 [1], position I64 [3]; settings as metadata
 *     clipipe.json                 facts about the run: tokenizer, reductions, provenance
 *     vocab.txt.gz                 the tokenizer's vocabulary, if it has one
 *     MANIFEST                     sizes and checksums of the above (manifest.h)
 *
 * open_clip opens the directory as local-dir:PATH. A directory without the last four is taken
 * for one that another program wrote: it gives weights and no training state. What its weights
 * may be called and how their tensors may be named is in checkpoint_weights.h. */
#ifndef MODEL_CHECKPOINT_H
#define MODEL_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/clip.h"
#include "model/config.h"
#include "model/optimizer.h"
#include "model/step_directory.h"
#include "stream/metadata.h"
#include "stream/safetensors.h"

enum { CHECKPOINT_KEEP_MIN = 2 };

/* Where in the data a run stands. */
struct checkpoint_progress {
    int64_t samples;     /* trained on so far */
    int64_t position[3]; /* of the last of them: epoch, shard, index */
};

/* What is written. Nothing is owned. */
struct checkpoint_source {
    struct clip *clip;
    const struct optimizer *optimizer; /* its step names the directory */
    const float *average;              /* backend memory [clip->table.floats], or NULL */
    struct checkpoint_progress progress;
    const struct metadata *settings; /* seed, learning rate, ...: a resumed run shares them */
    const struct metadata *about;    /* tokenizer, reductions, provenance lines, versions */
    const void *vocab;               /* bytes of vocab.txt.gz, or NULL */
    size_t vocab_size;
};

/* Writes OUT/step-N, creating OUT, and then removes all but the newest `keep` (at least 2).
 * It is on disk, durably, when this returns STATUS_OK. On failure (STATUS_IO, or STATUS_SYSTEM
 * for memory: twice the parameters are needed) nothing of it is left and earlier checkpoints
 * are as they were; only where an old one cannot be removed does the new one stay. */
enum status checkpoint_save(const char *out, const struct checkpoint_source *source, int keep,
                            struct error *error);

/* Removes what an interrupted checkpoint_save left below OUT. For a run's start: never while
 * another process may be saving there. */
enum status checkpoint_remove_leftovers(const char *out, struct error *error);

/* An opened checkpoint. A zeroed struct is empty. */
struct checkpoint {
    char *path;
    struct clip_config config;
    struct metadata about; /* as it was saved; empty in a foreign directory */
    const char *model_name; /* of the file that `model` is, in the directory */
    struct safetensors model;
    bool has_average;
    bool uses_average; /* checkpoint_use_average was called */
    struct safetensors average;
    bool has_state;
    struct safetensors state; /* state.header.metadata holds the settings */
    int64_t step;             /* 0 without state */
    struct checkpoint_progress progress;
};

/* Opens one checkpoint directory and verifies every file against the manifest.
 * STATUS_NO_INPUT where there is no such directory, STATUS_DATA where it is damaged. */
enum status checkpoint_open(struct checkpoint *checkpoint, const char *directory,
                            struct error *error);

/* Opens `path` if it is itself a checkpoint, else the newest good one of the output directory
 * `path`. warning->text says which newer ones were passed over, and why; it is empty where
 * there were none. STATUS_NO_INPUT where there is no checkpoint at all; where all are damaged,
 * STATUS_DATA and what is wrong with the newest. */
enum status checkpoint_open_latest(struct checkpoint *checkpoint, const char *path,
                                   struct error *warning, struct error *error);

void checkpoint_close(struct checkpoint *checkpoint);

/* From here on, checkpoint_load_parameters and checkpoint_load_resized give the averaged
 * weights. STATUS_NO_INPUT where the checkpoint has none. */
enum status checkpoint_use_average(struct checkpoint *checkpoint, struct error *error);

/* Copy into a model that was opened with this configuration, or one with the same tensors.
 * STATUS_DATA names a tensor that is missing, has another shape or type than it should, comes
 * twice or is not the model's. */
enum status checkpoint_load_parameters(const struct checkpoint *checkpoint, struct clip *clip,
                                       struct error *error);

/* The same into a model with another image size or context length: its positional embeddings
 * are interpolated (positional.h). For a fine-tuning that starts from the weights alone. */
enum status checkpoint_load_resized(const struct checkpoint *checkpoint, struct clip *clip,
                                    struct error *error);

/* average[clip->table.floats] (memory of clip's backend) = the averaged weights, for a run that
 * goes on. STATUS_NO_INPUT where the checkpoint has none; else as checkpoint_load_parameters,
 * uses_average or not. */
enum status checkpoint_load_average(const struct checkpoint *checkpoint, struct clip *clip,
                                    float *average, struct error *error);

/* As checkpoint_load_parameters, for the moments and the step. STATUS_DATA without state. */
enum status checkpoint_load_optimizer(const struct checkpoint *checkpoint,
                                      struct optimizer *optimizer, struct error *error);

#endif
