/* parameters.h - where every parameter of a CLIP model stands in one block of floats.
 *
 * Gradients and the optimiser's moments have the same layout in blocks of their own, so that
 * one offset serves all four. The order is by weight decay, so that an optimiser runs over few
 * ranges: tensors that decay, then positional embeddings, which decay in open_clip 3 and not
 * in 4, then those that never do. Each tensor begins on a multiple of 16 floats; the floats
 * between tensors are zero in all four blocks and stay so.
 *
 * Names, shapes and order are those of open_clip's native CLIP (its named_parameters()). */
#ifndef MODEL_PARAMETERS_H
#define MODEL_PARAMETERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/config.h"

enum { PARAMETER_NAME_MAX = 95, PARAMETER_RANK_MAX = 4 };

enum distribution {
    DISTRIBUTION_CONSTANT, /* scale itself */
    DISTRIBUTION_NORMAL,   /* mean 0, standard deviation scale */
    DISTRIBUTION_UNIFORM,  /* in [-scale, scale) */
    DISTRIBUTION_SIN_COS   /* positional_sin_cos */
};

/* By weight decay, in the order of the block; optimizer.h says which policy takes which. */
enum decay_group {
    DECAY_ALWAYS,   /* two or more dimensions */
    DECAY_POSITION, /* the same, and a positional embedding */
    DECAY_NEVER     /* biases, norms, scales, class embedding; what is fixed */
};

struct parameter {
    char name[PARAMETER_NAME_MAX + 1];
    int rank; /* 0: a single value */
    size_t shape[PARAMETER_RANK_MAX];
    size_t count;  /* floats: the product of shape */
    size_t offset; /* floats, in the block */
    size_t span;   /* floats from here to the next tensor: count and the gap */
    enum decay_group decay;
    bool lookup; /* a table of which rows are read: no factor of a matrix product */
    bool fixed;  /* never trained: its gradient is always zero */
    bool frozen; /* not trained in this run (freeze.h); false at first */
    enum distribution distribution;
    double scale;
};

/* Offsets of one residual block. Weights are [out,in]. */
struct block_offsets {
    size_t norm_1_weight, norm_1_bias; /* [C] */
    size_t qkv_weight, qkv_bias;       /* [3C,C] [3C] */
    size_t out_weight, out_bias;       /* [C,C] [C] */
    size_t out_scale;                  /* [C]; unused without layer scale */
    size_t norm_2_weight, norm_2_bias; /* [C] */
    size_t fc_weight, fc_bias;         /* [F,C] [F] */
    size_t proj_weight, proj_bias;     /* [C,F] [C] */
    size_t proj_scale;                 /* as out_scale */
};

/* Offsets of what stands after the blocks. */
struct head_offsets {
    size_t norm_weight, norm_bias; /* [C] */
    size_t projection;             /* by enum projection */
    size_t projection_bias;        /* [E]; PROJECTION_LINEAR only */
};

struct vision_offsets {
    size_t class_embedding;                /* [C] */
    size_t positional_embedding;           /* [1+grid*grid,C] */
    size_t conv1;                          /* [C,3,P,P] */
    size_t norm_pre_weight, norm_pre_bias; /* [C]; unused without norm_pre */
    struct block_offsets *blocks;
    struct head_offsets head;
};

struct text_offsets {
    size_t positional_embedding; /* [L,C] */
    size_t token_embedding;      /* [V,C] */
    struct block_offsets *blocks;
    struct head_offsets head;
};

/* A zeroed struct is empty. */
struct parameters {
    struct parameter *list; /* owned; in open_clip's order */
    size_t count;
    size_t floats;        /* of the block, with the gaps */
    size_t decay_floats;  /* the first of them decay by open_clip 3's rule */
    size_t matrix_floats; /* and the first of these by open_clip 4's: no positions */
    size_t total;         /* parameters, without the gaps */
    size_t logit_scale;   /* offset */
    size_t logit_bias;    /* offset; unused where there is none */
    struct vision_offsets vision;
    struct text_offsets text;
};

enum status parameters_init(struct parameters *parameters, const struct clip_config *config,
                            struct error *error);

void parameters_free(struct parameters *parameters);

/* The tensor of this name, or NULL. */
const struct parameter *parameters_find(const struct parameters *parameters, const char *name);

/* Fills block[floats] (host memory) with the values that open_clip starts from; the random
 * ones depend on the seed and the tensor's place in the list alone. */
void parameters_initialize(const struct parameters *parameters, float *block, uint64_t seed);

#endif
