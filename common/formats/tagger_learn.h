/* tagger_learn.h - learning a tagger from a treebank (tagger_treebank.h).
 *
 * Learning runs the averaged perceptron several times over shuffled sentences; a feature counts
 * only from its fourth update on (Goldberg and Elhadad 2011, "Learning sparser perceptron
 * models"). The weights of independent runs are averaged, which for a linear model is an
 * ensemble at the price of one. In each pass, part of the sentences are read as if they were
 * lower-cased, and words with hyphens between as one, both as captions have them; and rare
 * words are at times read as unknown ones. */
#ifndef FORMATS_TAGGER_LEARN_H
#define FORMATS_TAGGER_LEARN_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "formats/tagger_treebank.h"

enum {
    TAGGER_PASSES = 6, /* defaults */
    TAGGER_RUNS = 6,
};

/* How to learn. */
struct tagger_learning {
    int passes;
    int runs;
    uint64_t seed;
};

/* Appends a model file. The same treebank and numbers give the same bytes. */
enum status tagger_learn(const struct treebank *treebank,
                         const struct tagger_learning *learning, struct buffer *model,
                         struct error *error);

#endif
