/* tagger.h - parts of speech by an averaged perceptron (Collins 2002, "Discriminative training
 * methods for hidden Markov models"), from left to right, best tag first.
 *
 * A word that the model's dictionary calls unambiguous gets its tag from there. Any other is
 * described by TAGGER_FEATURES features: itself, its ends and shape, its neighbours, the tags
 * that its neighbours to the right may have, the two tags before it (tagger_features.h). Each
 * feature names a row of weights, and the tag with the largest sum wins.
 *
 * A model file (tagger_model.h) is learned by tagger_learn.h; one for English is built in. */
#ifndef FORMATS_TAGGER_H
#define FORMATS_TAGGER_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

/* What syntax masking keeps first (CLIPA): by the first two letters of the Penn tag. */
enum {
    PRIORITY_NOUN = 1,  /* NN* */
    PRIORITY_ADJECTIVE, /* JJ* */
    PRIORITY_VERB,      /* VB* */
    PRIORITY_OTHER
};

enum { TAGGER_TAGS_MAX = 63 };

/* A word of a text, in bytes. */
struct tagger_word {
    size_t start;
    size_t size;
};

/* Working memory of one thread; a zeroed struct is ready, and grows to the longest caption. */
struct tagger_scratch {
    struct buffer facts;
};

struct tagger; /* constant once open: any number of threads */

/* `data` holds a model file and may go away afterwards. STATUS_DATA where it is damaged or no
 * model. */
enum status tagger_open(struct tagger **tagger, const uint8_t *data, size_t size,
                        struct error *error);

/* The built-in model, learned from UD English EWT. */
enum status tagger_open_english(struct tagger **tagger, struct error *error);

void tagger_close(struct tagger *tagger); /* accepts NULL */

/* Sets tags[0..count) for the words of one text, which lie in order in `text`; see
 * tagger_words.h for how to find them. Sentences are told by their punctuation. Bytes need not
 * be UTF-8. Time is linear; nothing is allocated once the scratch has grown. Fails only for
 * want of memory. */
enum status tagger_tag(const struct tagger *tagger, struct tagger_scratch *scratch,
                       const uint8_t *text, const struct tagger_word *words, size_t count,
                       uint8_t *tags, struct error *error);

void tagger_scratch_free(struct tagger_scratch *scratch);

/* Tags are numbered from 0; their names are the treebank's, as "NNS". */
int tagger_tag_count(const struct tagger *tagger);
const char *tagger_tag_name(const struct tagger *tagger, int tag);
uint8_t tagger_priority(const struct tagger *tagger, int tag); /* PRIORITY_NOUN.. */

/* The priority of a tag of that name. */
uint8_t tagger_name_priority(const char *name);

#endif
