/* checkpoint_weights.h - the weights of a model, in a file that we, open_clip or the hub wrote.
 *
 * A directory of open_clip's has them in the first of open_clip_model.safetensors,
 * open_clip_pytorch_model.safetensors and model.safetensors that is there. In the file, tensors
 * stand in any order, as F32, F16 or BF16, with the names of parameters.h or those that
 * open_clip's CustomTextCLIP has, where "text." comes before all of the text tower. The logit
 * scale and bias are [] or [1]. Buffers that follow from the configuration are passed over:
 *
 *   attn_mask, text.attn_mask                        the causal mask
 *   [text.]transformer.embeddings.position_ids       0, 1, 2, ...
 *   visual.*.num_batches_tracked                     of batch norms
 *   input_resolution, context_length, vocab_size     of OpenAI's archives
 *
 * Source: open_clip 3.3, factory.py (local-dir:, load_checkpoint) and model.py. */
#ifndef MODEL_CHECKPOINT_WEIGHTS_H
#define MODEL_CHECKPOINT_WEIGHTS_H

#include <stdbool.h>

#include "base/error.h"
#include "model/parameters.h"
#include "stream/safetensors.h"

/* *name (static) = the file of the directory that holds the weights. Where there is none,
 * STATUS_DATA if they are in pieces or in a pickle, which convert-checkpoint.py reads, and
 * STATUS_NO_INPUT otherwise. */
enum status checkpoint_weights_find(const char *directory, const char **name,
                                    struct error *error);

/* block[table->floats] (host memory) = the weights; what stands between tensors is left alone.
 * With `resize`, positional embeddings of another length are interpolated (positional.h).
 * STATUS_DATA names a tensor that is missing, that comes by both of its names, that is not the
 * model's, or whose type or shape is not what it should be. */
enum status checkpoint_weights_read(const struct safetensors *file,
                                    const struct parameters *table, bool resize, float *block,
                                    struct error *error);

/* The same from tensors that are called by the flat name + suffix, each of which must be there;
 * the file may have others. For the optimiser's moments. */
enum status checkpoint_weights_read_suffixed(const struct safetensors *file,
                                             const struct parameters *table,
                                             const char *suffix, float *block,
                                             struct error *error);

#endif
