/* training_cost.h - what a run costs, from its configuration alone. */
#ifndef MODEL_TRAINING_COST_H
#define MODEL_TRAINING_COST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/clip.h"
#include "model/config.h"
#include "model/freeze.h"

struct training_cost {
    /* Parameters. */
    size_t image_parameters, text_parameters, parameters;
    size_t trained_parameters; /* neither frozen nor fixed */

    /* Floating-point operations for one sample, two for a multiply-add; attention is counted in
     * full. Training has a backward pass, which costs twice the forward one, through each tower
     * that is not wholly frozen; what --accum-freq and --grad-checkpointing compute twice
     * counts once. */
    double image_flops, text_flops; /* forward */
    double training_flops;

    /* Bytes on the device. */
    size_t parameter_bytes; /* and as much for the gradients, */
    size_t moment_bytes;    /* both moments, */
    size_t average_bytes;   /* the averaged weights, */
    size_t rounded_bytes;   /* the matrices in bfloat16, */
    size_t activation_bytes[RECOMPUTE_BLOCK + 1]; /* and one of these, by enum recompute */
    /* The batch that is being collected, in host memory. */
    size_t batch_bytes;
};

/* Of training on one sample with `kept` patches. */
double training_cost_sample_flops(const struct clip_config *config, size_t kept,
                                  const struct freeze *freeze);

/* STATUS_SYSTEM where no memory could hold a batch. */
enum status training_cost_find(struct training_cost *cost, const struct clip_config *config,
                               const struct clip_shape *shape, const struct freeze *freeze,
                               bool average, enum precision precision, struct error *error);

#endif
