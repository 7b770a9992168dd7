#include "frame/view_caption.h"

#include <stdio.h>
#include <string.h>

#include "formats/contact_sheet.h"
#include "model/vocabulary.h"

/* ---- the vocabulary ---- */

static void close_tokenizer(struct view_caption *view)
{
    tokenizer_scratch_close(view->scratch);
    tokenizer_close(view->tokenizer);
    view->scratch = NULL;
    view->tokenizer = NULL;
}

static enum status open_tokenizer(struct view_caption *view, const char *path,
                                  const char *expected, struct error *error)
{
    struct buffer bytes = {0};
    char crc[VOCABULARY_CRC_SIZE];
    enum status status = vocabulary_load(path, expected, &bytes, crc, error);
    if (status == STATUS_OK)
        status = tokenizer_open(&view->tokenizer, bytes.data, bytes.size, error);
    if (status == STATUS_OK)
        status = tokenizer_scratch_open(&view->scratch, view->tokenizer, error);
    buffer_free(&bytes);
    return status;
}

enum status view_caption_set_facts(struct view_caption *view, const struct metadata *facts,
                                   struct error *error)
{
    close_tokenizer(view);
    const char *path = metadata_get(facts, "tokenizer.path");
    if (path == NULL)
        return STATUS_OK;
    enum status status =
        open_tokenizer(view, path, metadata_get(facts, "tokenizer.crc32c"), error);
    if (status != STATUS_OK) {
        close_tokenizer(view);
        if (status == STATUS_SYSTEM)
            return status;
        snprintf(view->warning, sizeof view->warning, "%s", error->text);
        return STATUS_OK;
    }
    const char *clean = metadata_get(facts, "tokenizer.clean");
    view->cleaner.mode = tokenizer_default_cleaning(view->tokenizer);
    if (clean != NULL && !text_cleaning_from_name(clean, &view->cleaner.mode))
        return error_set(error, STATUS_DATA, "fact tokenizer.clean is '%.40s'", clean);
    return STATUS_OK;
}

/* ---- the record ---- */

static enum status find_ragged(struct record *record, const char *name, enum dtype dtype,
                               struct ragged *out, struct error *error)
{
    *out = (struct ragged){.offsets = NULL};
    if (record_find(record, name) == NULL)
        return STATUS_OK;
    return record_require_ragged(record, name, dtype, out, error);
}

static size_t ragged_range(const struct ragged *ragged, size_t i, size_t *first)
{
    *first = (size_t)ragged->offsets[i];
    return (size_t)(ragged->offsets[i + 1] - ragged->offsets[i]);
}

enum status view_caption_begin(struct view_caption *view, struct record *record,
                               struct error *error)
{
    view->text_tokens = NULL;
    enum status status = find_ragged(record, "text", DTYPE_U8, &view->text, error);
    if (status == STATUS_OK)
        status = find_ragged(record, "tokens", DTYPE_I32, &view->tokens, error);
    if (status == STATUS_OK)
        status = find_ragged(record, "tokens.word", DTYPE_I32, &view->words, error);
    if (status == STATUS_OK && record_find(record, "text_tokens") != NULL)
        status =
            record_require(record, "text_tokens", DTYPE_I32, 2, &view->text_tokens, error);
    return status;
}

/* ---- the whole caption's tokens ---- */

static enum status encode_text(struct view_caption *view, size_t i, struct error *error)
{
    size_t first;
    const size_t size = ragged_range(&view->text, i, &first);
    view->ids.size = view->word.size = view->gap.size = 0;
    enum status status = text_clean(&view->cleaner, (const uint8_t *)view->text.data + first,
                                    size, &view->cleaned, error);
    if (status == STATUS_OK)
        status = tokenizer_encode(view->tokenizer, view->scratch, view->cleaned.data,
                                  view->cleaned.size, &view->ids, &view->word, error);
    size_t at = 0, start, length, end = 0;
    const enum tokenizer_type type = tokenizer_type(view->tokenizer);
    while (status == STATUS_OK &&
           tokenizer_next_word(type, view->cleaned.data, view->cleaned.size, &at, &start,
                               &length)) {
        const bool gap = start > end;
        status = buffer_append(&view->gap, &gap, sizeof gap, error);
        end = start + length;
    }
    return status;
}

/* The tokens of the stream stand for the caption, where they are: a stage may have changed
 * them. Where white space was is then known only if they are those of the text. */
static enum status take_tokens(struct view_caption *view, size_t i, struct error *error)
{
    size_t first, first_word;
    const size_t count = ragged_range(&view->tokens, i, &first);
    const size_t size = count * sizeof(int32_t);
    const int32_t *ids = (const int32_t *)view->tokens.data + first;
    if (view->ids.size == size && memcmp(view->ids.data, ids, size) == 0)
        return STATUS_OK;
    view->ids.size = view->word.size = view->gap.size = 0;
    enum status status = buffer_append(&view->ids, ids, size, error);
    if (status == STATUS_OK && view->words.offsets != NULL &&
        ragged_range(&view->words, i, &first_word) == count)
        status = buffer_append(&view->word, (const int32_t *)view->words.data + first_word,
                               size, error);
    return status;
}

static enum status find_tokens(struct view_caption *view, size_t i, struct error *error)
{
    enum status status = STATUS_OK;
    view->ids.size = view->word.size = view->gap.size = 0;
    if (view->text.offsets != NULL)
        status = encode_text(view, i, error);
    if (status == STATUS_OK && view->tokens.offsets != NULL)
        status = take_tokens(view, i, error);
    return status;
}

/* ---- what is shown ---- */

static enum status show(struct view_caption *view, const void *bytes, size_t size,
                        enum sheet_mark mark, struct error *error)
{
    enum status status = buffer_append(&view->shown, bytes, size, error);
    if (status == STATUS_OK)
        status = buffer_reserve(&view->marks, view->marks.size + size, error);
    if (status != STATUS_OK)
        return status;
    if (size > 0)
        memset(view->marks.data + view->marks.size, mark, size);
    view->marks.size += size;
    return STATUS_OK;
}

/* Without its "##" a WordPiece joins the piece before; an id of no vocabulary is shown as a
 * number. */
static enum status show_piece(struct view_caption *view, int32_t id, bool whole,
                              enum sheet_mark mark, struct error *error)
{
    const size_t before = view->shown.size;
    enum status status;
    if (id >= 0 && id < tokenizer_size(view->tokenizer)) {
        status = tokenizer_piece(view->tokenizer, id, &view->shown, error);
    } else {
        char number[24];
        const int length = snprintf(number, sizeof number, "<%d>", id);
        status = buffer_append(&view->shown, number, (size_t)length, error);
    }
    if (status != STATUS_OK)
        return status;
    uint8_t *piece = view->shown.data + before;
    size_t size = view->shown.size - before;
    if (!whole && size > 2 && tokenizer_type(view->tokenizer) == TOKENIZER_WORDPIECE &&
        memcmp(piece, "##", 2) == 0) {
        memmove(piece, piece + 2, size - 2);
        size -= 2;
    }
    view->shown.size = before;
    return show(view, view->shown.data + before, size, mark, error);
}

/* Whether white space stands before token k of the caption. */
static bool has_gap(const struct view_caption *view, size_t k)
{
    const int32_t *word = (const int32_t *)view->word.data;
    const bool *gap = (const bool *)view->gap.data;
    if (k == 0)
        return false;
    if (view->word.size == 0)
        return true;
    if (word[k] == word[k - 1])
        return false;
    return view->gap.size == 0 || word[k] < 0 || (size_t)word[k] >= view->gap.size ||
           gap[word[k]];
}

/* The caption token by token; is_kept NULL keeps all. White space between two dropped tokens
 * is struck out, too. */
static enum status show_tokens(struct view_caption *view, const bool *is_kept,
                               struct error *error)
{
    const int32_t *ids = (const int32_t *)view->ids.data;
    const size_t count = view->ids.size / sizeof ids[0];
    enum status status = STATUS_OK;
    bool before = true;
    for (size_t k = 0; k < count && status == STATUS_OK; k++) {
        const bool kept = is_kept == NULL || is_kept[k];
        if (has_gap(view, k))
            status = show(view, " ", 1, kept || before ? SHEET_PLAIN : SHEET_DROPPED, error);
        if (status == STATUS_OK)
            status = show_piece(view, ids[k], false, kept ? SHEET_PLAIN : SHEET_DROPPED, error);
        before = kept;
    }
    return status;
}

/* Tokens by themselves, as the model gets them: whole vocabulary entries. */
static enum status show_list(struct view_caption *view, struct token_list list,
                             enum sheet_mark mark, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t k = 0; k < list.count && status == STATUS_OK; k++) {
        if (k > 0)
            status = show(view, " ", 1, mark, error);
        if (status == STATUS_OK)
            status = show_piece(view, list.ids[k], true, mark, error);
    }
    return status;
}

static enum status show_reduced(struct view_caption *view, struct token_list kept,
                                struct error *error)
{
    static const char arrow[] = "\n\u2192 ";
    const struct token_list all = {(const int32_t *)view->ids.data,
                                   view->ids.size / sizeof(int32_t)};
    enum status status = buffer_reserve(&view->is_kept, all.count, error);
    if (status != STATUS_OK)
        return status;
    bool *is_kept = (bool *)view->is_kept.data;
    const enum kept_order order = kept_tokens_find(all, kept, is_kept);
    view->counted = true;
    view->kept += kept.count;
    view->all += all.count;
    status = show_tokens(view, order == KEPT_FOREIGN ? NULL : is_kept, error);
    if (status == STATUS_OK && order != KEPT_IN_ORDER)
        status = show(view, arrow, sizeof arrow - 1, SHEET_ORDER, error);
    if (status == STATUS_OK && order != KEPT_IN_ORDER)
        status = show_list(view, kept, SHEET_ORDER, error);
    return status;
}

static struct token_list reduced_tokens(const struct view_caption *view, size_t i)
{
    const size_t length = view->text_tokens->shape[1];
    return kept_tokens_content((const int32_t *)view->text_tokens->data + i * length, length,
                               tokenizer_start(view->tokenizer),
                               tokenizer_end(view->tokenizer),
                               tokenizer_padding(view->tokenizer));
}

enum status view_caption_make(struct view_caption *view, size_t i, struct error *error)
{
    const bool has_text = view->text.offsets != NULL, has_tokens = view->tokens.offsets != NULL;
    view->shown.size = view->marks.size = 0;
    view->counted = false;
    view->kept = view->all = 0;
    if (view->tokenizer != NULL && view->text_tokens != NULL) {
        const struct token_list kept = reduced_tokens(view, i);
        if (!has_text && !has_tokens)
            return show_list(view, kept, SHEET_PLAIN, error);
        enum status status = find_tokens(view, i, error);
        return status == STATUS_OK ? show_reduced(view, kept, error) : status;
    }
    if (has_text) {
        size_t first;
        const size_t size = ragged_range(&view->text, i, &first);
        return show(view, (const uint8_t *)view->text.data + first, size, SHEET_PLAIN, error);
    }
    if (view->tokenizer == NULL || !has_tokens)
        return STATUS_OK;
    enum status status = find_tokens(view, i, error);
    return status == STATUS_OK ? show_tokens(view, NULL, error) : status;
}

void view_caption_free(struct view_caption *view)
{
    close_tokenizer(view);
    text_cleaner_free(&view->cleaner);
    struct buffer *const buffers[] = {&view->cleaned, &view->ids,     &view->word,
                                      &view->gap,     &view->is_kept, &view->shown,
                                      &view->marks};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
        buffer_free(buffers[i]);
    *view = (struct view_caption){.tokenizer = NULL};
}
