/* trainer.h - a training run: model, optimiser, learning rate, averaged weights, and where in
 * the data it stands; one step, a checkpoint, and going on from one.
 *
 * The averaged weights follow the parameters after every step,
 *
 *   average += (1 - d) (parameters - average)
 *   d = min(decay, (1 + s) / (10 + s)) after step s = 1, 2, ...
 *
 * from the weights at the start. The second term of d lets go of these quickly; it is that of
 * TensorFlow's tf.train.ExponentialMovingAverage with num_updates. All is a function of the
 * weights and the number of steps, so that a run that stops and resumes has the same bits.
 *
 * The steady state allocates nothing. One caller at a time. */
#ifndef MODEL_TRAINER_H
#define MODEL_TRAINER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/batch.h"
#include "model/checkpoint.h"
#include "model/clip.h"
#include "model/freeze.h"
#include "model/optimizer.h"
#include "model/schedule.h"

struct trainer_settings {
    struct optimizer_settings optimizer;
    struct schedule schedule;
    struct freeze freeze;
    double average_decay; /* in [0,1); 0: no average */
};

/* A zeroed struct is empty. */
struct trainer {
    struct kernels *kernels; /* not owned */
    struct trainer_settings settings;
    struct clip *clip; /* owned; shape.training */
    struct optimizer optimizer;
    float *average; /* [clip->table.floats] in backend memory, owned; NULL: none */
    struct checkpoint_progress progress;
    int64_t saved_step; /* of the newest checkpoint */
    bool at_work;       /* between trainer_begin and trainer_end: on a batch that */
    struct checkpoint_progress after; /* leaves the run here */
};

/* Takes all memory of the run. Parameters are zero; trainer_initialize, trainer_start_from or
 * trainer_resume must follow. k and config must outlive the trainer. */
enum status trainer_open(struct trainer *trainer, struct kernels *k,
                         const struct clip_config *config, const struct clip_shape *shape,
                         const struct trainer_settings *settings, struct error *error);
void trainer_close(struct trainer *trainer);

/* The values that open_clip starts from, chosen by the seed. */
enum status trainer_initialize(struct trainer *trainer, uint64_t seed, struct error *error);

/* The weights of a checkpoint, its positional embeddings resized where they have to be; a
 * fine-tuning: moments, steps and the place in the data are not taken over. */
enum status trainer_start_from(struct trainer *trainer, const struct checkpoint *checkpoint,
                               struct error *error);

/* All of a checkpoint's run. An average that it lacks begins with its weights. */
enum status trainer_resume(struct trainer *trainer, const struct checkpoint *checkpoint,
                           struct error *error);

/* Whether all steps of the schedule are done, or begun. */
bool trainer_done(const struct trainer *trainer);
bool trainer_has_begun_all(const struct trainer *trainer);

struct trainer_step {
    float loss;
    double norm; /* of the gradient, before clipping */
    double lr;   /* of this step; unset where it was not taken */
    bool taken;  /* false: loss or norm is not finite, and nothing has changed */
};

/* One step on a batch, whose last sample stands at position[3] of the data. STATUS_DATA where
 * the batch does not fit the model. */
enum status trainer_step(struct trainer *trainer, const struct clip_batch *batch,
                         const int64_t position[3], struct trainer_step *result,
                         struct error *error);

/* The same in two halves, between which the backend may work while the caller collects the next
 * batch; the first is done with the batch's memory when it returns. */
enum status trainer_begin(struct trainer *trainer, const struct clip_batch *batch,
                          const int64_t position[3], struct error *error);
enum status trainer_end(struct trainer *trainer, struct trainer_step *result,
                        struct error *error);

/* What there is to say where a step was not taken: STATUS_DATA with the step, loss and norm,
 * and the first of the keys of the builder's batch before; all of them go into a file in the
 * directory `out`. */
enum status trainer_name_samples(const struct trainer *trainer,
                                 const struct batch_builder *batch,
                                 const struct trainer_step *result, const char *out,
                                 struct error *error);

/* What a checkpoint holds beside the run; see struct checkpoint_source. Nothing is owned. */
struct trainer_notes {
    const struct metadata *settings, *about;
    const void *vocab;
    size_t vocab_size;
};

/* checkpoint_save, unless the newest checkpoint is of this very step. */
enum status trainer_save(struct trainer *trainer, const char *out,
                         const struct trainer_notes *notes, int keep, struct error *error);

#endif
