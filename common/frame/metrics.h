/* metrics.h - train-step's lines of JSON: how a run goes, and how long its device waits. */
#ifndef FRAME_METRICS_H
#define FRAME_METRICS_H

#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "model/trainer.h"

struct metrics {
    double sample_flops; /* of training on one sample */
    int64_t samples;     /* of the run, at the last line */
    int64_t line_ns;     /* when that was */
    int64_t idle_ns;     /* since when the device has had nothing to do; 0: it has */
    int64_t wait_ns;     /* how long it had nothing to do since that line */
};

/* The device has nothing to do yet; `samples` were trained on before. */
void metrics_begin(struct metrics *metrics, int64_t samples, double sample_flops);

/* The device was seen with nothing to do; the first time counts. */
void metrics_see_idle(struct metrics *metrics);

/* The batch is there that the device waited for. */
void metrics_end_wait(struct metrics *metrics);

/* The line of a step that was taken: step, samples, loss, logit_scale, lr, grad_norm, flops of
 * the run, samples_per_second and data_wait since the line before. STATUS_IO. */
enum status metrics_print(struct metrics *metrics, const struct trainer *trainer,
                          const struct trainer_step *step, FILE *out, struct error *error);

#endif
