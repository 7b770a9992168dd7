/* bpe_learn.h - learns a BPE vocabulary from captions (Sennrich, Haddow, Birch: "Neural Machine
 * Translation of Rare Words with Subword Units", ACL 2016, algorithm 1).
 *
 * The most frequent pair of adjacent symbols becomes a merge, until the vocabulary is full or
 * no pair occurs twice. Equal counts are decided by the bytes of the left part, then of the
 * right, then inside of words before their end, so that the result depends on the words and
 * their counts alone. */
#ifndef FORMATS_BPE_LEARN_H
#define FORMATS_BPE_LEARN_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum { BPE_LEARN_WORD_MAX = 256 }; /* bytes; longer words are counted, but not learned from */

struct bpe_learner; /* one thread at a time */

struct bpe_learner_stats {
    uint64_t words; /* in all */
    uint64_t words_too_long;
    uint64_t words_distinct;
};

enum status bpe_learner_open(struct bpe_learner **learner, struct error *error);
void bpe_learner_close(struct bpe_learner *learner); /* accepts NULL */

/* Counts the words of a text that text_clean() made. */
enum status bpe_learner_add(struct bpe_learner *learner, const uint8_t *text, size_t size,
                            struct error *error);

struct bpe_learner_stats bpe_learner_stats(const struct bpe_learner *learner);

/* Learns at most vocab_size - 514 merges (vocab_size in [BPE_VOCAB_MIN, BPE_VOCAB_MAX]) and
 * appends them to *out as text, header first, without an end of line at the end: open_clip
 * would take the empty line behind it for one more merge. *merges is their number. The learner
 * can only be closed afterwards. */
enum status bpe_learner_finish(struct bpe_learner *learner, int vocab_size, struct buffer *out,
                               size_t *merges, struct error *error);

/* Appends `size` bytes as a gzip file; equal input gives equal bytes. */
enum status bpe_pack(const uint8_t *data, size_t size, struct buffer *out, struct error *error);

#endif
