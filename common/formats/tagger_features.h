/* tagger_features.h - what a tagger sees of a word and of the words around it.
 *
 * The features are those that taggers from left to right commonly have (Ratnaparkhi 1996;
 * Toutanova et al. 2003): word, suffixes, prefixes, shape, neighbours, previous tags. To these
 * come the tags that the dictionary knows for the word and the two after it, which stand in
 * for the tags that are not decided yet. */
#ifndef FORMATS_TAGGER_FEATURES_H
#define FORMATS_TAGGER_FEATURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/tagger.h"

enum {
    TAGGER_FEATURES = 48,
    TAGGER_SUFFIX_MAX = 5, /* bytes */
    TAGGER_PREFIX_MAX = 3,
    TAGGER_BOUNDARY = 64,  /* stands for the tags before a sentence */
    TAGGER_UNSURE = 255,   /* a dictionary's word of more than one tag, or not in it */
};

enum tagger_capital { CAPITAL_NONE, CAPITAL_SOME, CAPITAL_ALL };

/* A word in its normal form: letters small, each digit 0. */
struct tagger_facts {
    uint64_t hash;                         /* of the normal form */
    uint64_t suffix[TAGGER_SUFFIX_MAX];    /* its last 1.. bytes */
    uint64_t prefix[TAGGER_PREFIX_MAX];    /* its first 1.. bytes */
    uint64_t shape;                        /* kinds of its first six and last two letters */
    uint64_t outline;                      /* kinds of its letters, repetitions left out */
    uint64_t tags;                         /* bits of the dictionary, or TAGGER_UNKNOWN */
    uint8_t sure;                          /* its only tag, or TAGGER_UNSURE */
    uint8_t capital;                       /* enum tagger_capital */
    bool has_digit, has_hyphen, has_other; /* other: punctuation */
};

#define TAGGER_UNKNOWN UINT64_MAX

/* A word that is not in the dictionary: everything but tags and sure. With `lower`, as if the
 * word had no capitals. */
void tagger_describe(const uint8_t *word, size_t size, bool lower, struct tagger_facts *facts);

/* What is known of the sentence as a whole: 0 no capitals, 1 some, 2 most words have one. */
int tagger_sentence_case(const struct tagger_facts *words, size_t count);

/* The number of words in the sentence that begins at words[0]: up to the first "." "!" "?" (or
 * a run of one of them) that a word with a letter or a digit follows. */
size_t tagger_sentence_size(const uint8_t *text, const struct tagger_word *words, size_t count);

/* The keys of the features of words[at] in a sentence; none is 0. `before` and `before2` are
 * the tags of the two words before, or TAGGER_BOUNDARY. */
void tagger_features(const struct tagger_facts *words, size_t count, size_t at,
                     int sentence_case, int before, int before2,
                     uint32_t keys[TAGGER_FEATURES]);

/* Spreads the bits of a number. */
static inline uint64_t tagger_mix(uint64_t value)
{
    value ^= value >> 32;
    value *= 0x9e3779b97f4a7c15u;
    value ^= value >> 29;
    value *= 0xbf58476d1ce4e5b9u;
    return value ^ value >> 32;
}

#endif
