/* run_facts.h - what a stream says about itself and a checkpoint keeps, and whether it agrees
 * with the model that is to be trained on it. */
#ifndef FRAME_RUN_FACTS_H
#define FRAME_RUN_FACTS_H

#include <stdbool.h>

#include "base/buffer.h"
#include "base/error.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "stream/metadata.h"

/* Where the mean and the standard deviation of a configuration come from. */
enum color_source {
    COLOR_DEFAULT, /* open_clip's default: the stream's facts replace them */
    COLOR_CONFIG,  /* the model's file */
    COLOR_OPTION   /* --image-mean, --image-std */
};

struct run_facts_colors {
    enum color_source mean, std;
};

/* Of a configuration that was read: a file that gives the default's values gives nothing. */
struct run_facts_colors run_facts_color_sources(const struct preprocess_config *preprocess);

/* At a run's start, from the facts of the stream and the program's own line of provenance:
 *
 *   about, which is empty, becomes what checkpoints say of the run: those facts and that line.
 *   vocabulary, which is empty, becomes the bytes of the vocabulary that made the tokens, so
 *     that a checkpoint can be evaluated alone: of the file vocabulary_path, or where that is
 *     NULL of the file that the stream names, if it does. Its checksum must be the stream's.
 *   config->preprocess becomes what the stream's image.mean, image.std and image.interpolation
 *     say. STATUS_DATA where the first two are not what an option or the model's file gave.
 *
 * STATUS_DATA also where the tokenizer has more ids than the model. */
enum status run_facts_collect(const struct metadata *facts, const char *provenance,
                              const char *vocabulary_path,
                              const struct run_facts_colors *colors, struct clip_config *config,
                              struct metadata *about, struct buffer *vocabulary,
                              struct error *error);

/* Whether a run may go on from a checkpoint: its settings are the same (else STATUS_USAGE) and,
 * where the stream has positions, its fact `start` is the place where the checkpoint ends (else
 * STATUS_DATA): resuming on other data would train twice on some samples and never on others.
 * `out` is the directory that the hint names. */
enum status run_facts_compare(const struct checkpoint *checkpoint,
                              const struct metadata *settings, const struct metadata *about,
                              const struct preprocess_config *preprocess, bool has_position,
                              const char *out, struct error *error);

#endif
