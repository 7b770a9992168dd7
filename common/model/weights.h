/* weights.h - a model's parameters as its layers read them.
 *
 * Biases, norms and embeddings are read in fp32. Matrix products take activations on both
 * sides, so that where those are bfloat16 they read a rounded copy of the block, at the same
 * offsets; the optimiser keeps to the fp32 values (Micikevicius et al., "Mixed precision
 * training", 2018). */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

struct weights {
    const float *value;      /* the parameter block, backend memory */
    const uint16_t *rounded; /* its tensors of two or more dimensions; NULL: in fp32 */
};

/* A tensor as an operand of matmul. */
static inline const void *weights_matrix(const struct weights *w, size_t offset)
{
    return w->rounded != NULL ? (const void *)(w->rounded + offset)
                              : (const void *)(w->value + offset);
}

#endif
