/* tagger_english.c - the model that is built in, as its file, which the assembler takes from
 * the directory of this source.
 *
 * tagger_english.model was learned by `pos-tag --learn` from the training part of the Universal
 * Dependencies English Web Treebank (Silveira et al. 2014, "A gold standard dependency corpus
 * for English"), which is licensed under CC BY-SA 4.0; so is the model. It is made again by
 *
 *     pos-tag --learn train.tsv > common/formats/tagger_english.model
 *
 * from the columns FORM and XPOS of that part, and must be whenever the features change. */
#include "formats/tagger.h"

/* The makefile compiles at the root of the tree. */
__asm__(".pushsection .rodata\n"
        ".balign 64\n"
        ".globl clipipe_tagger_english\n"
        "clipipe_tagger_english:\n"
        ".incbin \"common/formats/tagger_english.model\"\n"
        ".globl clipipe_tagger_english_end\n"
        "clipipe_tagger_english_end:\n"
        ".byte 0\n"
        ".popsection\n");

extern const uint8_t clipipe_tagger_english[], clipipe_tagger_english_end[];

enum status tagger_open_english(struct tagger **tagger, struct error *error)
{
    const uintptr_t size =
        (uintptr_t)clipipe_tagger_english_end - (uintptr_t)clipipe_tagger_english;
    return tagger_open(tagger, clipipe_tagger_english, size, error);
}
