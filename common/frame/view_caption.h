/* view_caption.h - the captions of a record as view.h shows them; private to it. */
#ifndef FRAME_VIEW_CAPTION_H
#define FRAME_VIEW_CAPTION_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"
#include "formats/kept_tokens.h"
#include "formats/text_clean.h"
#include "formats/tokenizer.h"
#include "stream/metadata.h"
#include "stream/record.h"

/* A zeroed struct is empty. */
struct view_caption {
    struct tokenizer *tokenizer; /* of the stream; NULL: none, or it cannot be opened */
    struct tokenizer_scratch *scratch;
    struct text_cleaner cleaner;
    char warning[sizeof(((struct error *)0)->text)]; /* why there is no tokenizer, or "" */

    /* Of the record; data NULL or a NULL tensor: absent. */
    struct ragged text, tokens, words;
    const struct tensor *text_tokens;

    /* Of one sample. */
    struct buffer cleaned;
    struct buffer ids, word;    /* int32_t, the whole caption's tokens and their words */
    struct buffer gap;          /* bool for each word: white space before it */
    struct buffer is_kept;      /* bool for each of ids */
    struct buffer shown, marks; /* the result: text and the sheet_mark of each byte */
    bool counted;               /* whether kept and all are known */
    size_t kept, all;           /* tokens */
};

/* Opens the vocabulary that the facts name. Where that fails there is a warning instead. */
enum status view_caption_set_facts(struct view_caption *view, const struct metadata *facts,
                                   struct error *error);

/* Finds the captions of a record; there may be none. STATUS_DATA where they are not as they
 * should be. */
enum status view_caption_begin(struct view_caption *view, struct record *record,
                               struct error *error);

/* Makes view->shown and view->marks from sample i, and counts its tokens. */
enum status view_caption_make(struct view_caption *view, size_t i, struct error *error);

void view_caption_free(struct view_caption *view);

#endif
