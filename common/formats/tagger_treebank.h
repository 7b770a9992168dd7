/* tagger_treebank.h - sentences of tagged words, and how well a tagger does on them.
 *
 * A treebank is text: a line "word TAB tag" for each word, an empty line between sentences. */
#ifndef FORMATS_TAGGER_TREEBANK_H
#define FORMATS_TAGGER_TREEBANK_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "formats/tagger.h"

/* A zeroed struct is empty. */
struct treebank {
    const uint8_t *text;     /* the file; words are spans of it */
    struct buffer words;     /* struct tagger_word */
    struct buffer tags;      /* uint8_t */
    struct buffer sentences; /* size_t: where each ends, in words */
    struct buffer names;     /* char [tag_count][8], filled up with zeros */
    size_t tag_count;
};

/* `text` must outlive the treebank. STATUS_DATA, with the line, where it is none: a line
 * without a tab, no word, a tag that is not 1 to 7 printable ASCII characters, more than
 * TAGGER_TAGS_MAX tags. */
enum status treebank_open(struct treebank *treebank, const uint8_t *text, size_t size,
                          struct error *error);
void treebank_close(struct treebank *treebank);

struct tagger_score {
    uint64_t words;
    uint64_t tags_right;       /* the very tag */
    uint64_t priorities_right; /* its class, noun, adjective, verb or other */
};

/* Tags each sentence of the treebank and counts. */
enum status tagger_test(const struct tagger *tagger, const struct treebank *treebank,
                        struct tagger_score *score, struct error *error);

#endif
