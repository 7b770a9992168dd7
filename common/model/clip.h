/* clip.h - the whole model: both towers, the contrastive loss, and exact gradients.
 *
 * All memory is laid out by clip_open for a fixed number of kept patches and a largest
 * batch; nothing is allocated afterwards. Inputs and results are host memory, the blocks of
 * parameters and gradients are the backend's. One caller at a time. */
#ifndef MODEL_CLIP_H
#define MODEL_CLIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "model/image_tower.h"
#include "model/parameters.h"
#include "model/text_tower.h"
#include "model/weights.h"

struct clip_shape {
    size_t batch;  /* samples that pass through the towers at once */
    size_t most;   /* samples of one loss: batch * accumulation frequency; 0: batch */
    size_t kept;   /* K patches by image, in [1, grid*grid] */
    bool training; /* gradients are wanted */
    bool image_frozen, text_frozen; /* but not of this tower: its gradients stay zero */
    enum recompute recompute;       /* in training: less memory for more time (transformer.h) */
};

/* Sample by sample; every sample is checked before it is used. */
struct clip_batch {
    size_t count;            /* samples, in [1, most] */
    const uint8_t *patches;  /* [count,K,P*P*3]: y, x, channel */
    const int32_t *position; /* [count,K] row-major in the grid; NULL: all patches in order */
    const int32_t *tokens;   /* [count,L] */
};

struct clip {
    struct kernels *kernels;          /* not owned */
    const struct clip_config *config; /* not owned */
    struct clip_shape shape;
    struct parameters table;
    float *parameters; /* [table.floats], backend memory */
    float *gradients;  /* the same; NULL unless training */
    uint16_t *rounded; /* the same in bfloat16, of what decays; NULL in fp32 */
    struct weights weights; /* these as the towers read them */

    struct image_tower image;
    struct text_tower text;
    void *activations; /* backend memory: everything below and inside the towers */

    uint8_t *patches;                 /* the batch that is in the towers: [B,K,P*P*3] */
    int32_t *position, *tokens, *row; /* [B,K] [B,L] [B] */
    float *image_unit, *text_unit;    /* [most,E] */
    float *dimage_unit, *dtext_unit;  /* [most,E] training only */
    float *loss;                      /* [1] */

    int32_t *host_position; /* [B,K], owned: all patches in order */
    int32_t *host_row;      /* [B], owned: where each caption is pooled */
    uint8_t *host_seen;     /* [grid*grid], owned: to find positions that repeat */
};

/* k and config must outlive the model. The parameters are zero; load or initialise them. */
enum status clip_open(struct clip **clip, struct kernels *k, const struct clip_config *config,
                      const struct clip_shape *shape, struct error *error);

/* The memory that clip_open takes beside the parameters and their gradients, on a backend of
 * this precision. */
enum status clip_activation_bytes(const struct clip_config *config,
                                  const struct clip_shape *shape, enum precision precision,
                                  size_t *bytes, struct error *error);

/* Accepts NULL. */
void clip_close(struct clip *clip);

/* Copy the parameter block from or to host memory, [table.floats]. */
void clip_set_parameters(struct clip *clip, const float *host);
void clip_get_parameters(struct clip *clip, float *host);

/* The values that open_clip starts from, chosen by the seed. */
enum status clip_initialize(struct clip *clip, uint64_t seed, struct error *error);

/* out[count,E] = unit embeddings; any count, batch by batch. STATUS_DATA for a token or
 * position that does not exist. */
enum status clip_encode_image(struct clip *clip, const uint8_t *patches,
                              const int32_t *position, size_t count, float *out,
                              struct error *error);
enum status clip_encode_text(struct clip *clip, const int32_t *tokens, size_t count, float *out,
                             struct error *error);

/* clip->gradients = the gradient of the loss over all of the batch, *loss = its value, which
 * may be infinite or NaN.
 *
 * A batch of more than shape.batch samples is encoded piece by piece; the loss is then taken
 * over all of them, and each piece goes forward once more and backward with its share of the
 * embeddings' gradient. The result is the gradient of the large batch, logit scale included,
 * not an average of small ones (Gao et al., "Scaling Deep Contrastive Learning Batch Size",
 * 2021). */
enum status clip_step_gradients(struct clip *clip, const struct clip_batch *batch, float *loss,
                                struct error *error);

/* The same in two halves: the first leaves the work to the backend as far as that works on its
 * own, and is done with the batch's memory when it returns; the second waits. Between them
 * nothing else may be asked of the model. */
enum status clip_step_begin(struct clip *clip, const struct clip_batch *batch,
                            struct error *error);
enum status clip_step_end(struct clip *clip, float *loss, struct error *error);

/* The loss alone. */
enum status clip_loss(struct clip *clip, const struct clip_batch *batch, float *loss,
                      struct error *error);

/* exp of the parameter: the factor of the logits. */
float clip_logit_scale(struct clip *clip);

/* patches[count,grid*grid,P*P*3] from images[count,S,S,3]; pixels beyond the last whole patch
 * are left out, as a convolution with stride P leaves them. */
void clip_cut_patches(const struct clip_config *config, uint8_t *patches, const uint8_t *images,
                      size_t count);

#endif
