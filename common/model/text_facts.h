/* text_facts.h - what a stream's metadata say about its tokens. */
#ifndef MODEL_TEXT_FACTS_H
#define MODEL_TEXT_FACTS_H

#include "base/buffer.h"
#include "base/error.h"
#include "formats/reduce_text.h"
#include "model/vocabulary.h"
#include "stream/metadata.h"

/* The ids around a caption, from tokenizer.start, .end and .padding; from tokenizer.size where
 * these are absent, as in older streams, whose vocabularies are CLIP's. STATUS_DATA, with a
 * hint, where there is neither. */
enum status text_specials_find(const struct metadata *facts, struct text_specials *out,
                               struct error *error);

/* The layout that goes with tokenizer.type: bert for "wordpiece", else clip. */
enum text_layout text_layout_for(const struct metadata *facts);

/* The priority of each vocabulary entry (formats/piece_priority.h). Zeroed, it is empty. */
struct vocabulary_ranking {
    struct buffer priorities;      /* uint8_t [vocabulary] */
    char crc[VOCABULARY_CRC_SIZE]; /* of the vocabulary */
};

/* Ranks the vocabulary that tokenizer.path and tokenizer.crc32c name, by the built-in English
 * tagger; does nothing where that is done. STATUS_DATA or STATUS_NO_INPUT where it cannot be
 * had, or is another one. */
enum status vocabulary_rank(struct vocabulary_ranking *ranking, const struct metadata *facts,
                            struct error *error);

/* priority[count] of tokens[count]. STATUS_DATA for an id outside the vocabulary. */
enum status vocabulary_ranking_look_up(const struct vocabulary_ranking *ranking,
                                       const int32_t *tokens, size_t count, uint8_t *priority,
                                       struct error *error);

void vocabulary_ranking_free(struct vocabulary_ranking *ranking);

#endif
