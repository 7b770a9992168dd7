/* piece_priority.h - a priority for each entry of a vocabulary, whatever the caption: what
 * CLIPA's JAX code masks by (`noun_tokenize`), where the PyTorch code tags the caption. */
#ifndef FORMATS_PIECE_PRIORITY_H
#define FORMATS_PIECE_PRIORITY_H

#include <stdint.h>

#include "base/error.h"
#include "formats/tagger.h"
#include "formats/tokenizer.h"

/* Tags each entry alone, as the text it stands for ("##ing" with its marks); the tag of its
 * last word counts, and PRIORITY_OTHER where it has none. Sets priority[0..tokenizer_size).
 * Fails only for want of memory. */
enum status piece_priorities(const struct tagger *tagger, const struct tokenizer *tokenizer,
                             uint8_t *priority, struct error *error);

#endif
