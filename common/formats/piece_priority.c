#include "formats/piece_priority.h"

#include "formats/tagger_words.h"

/* What is used for one entry after the other. */
struct work {
    struct buffer text;
    struct buffer words; /* struct tagger_word */
    struct buffer tags;
    struct tagger_scratch scratch;
};

static enum status tag_piece(const struct tagger *tagger, struct work *work, uint8_t *priority,
                             struct error *error)
{
    work->words.size = 0;
    *priority = PRIORITY_OTHER;
    enum status status = tagger_split(work->text.data, work->text.size, &work->words, error);
    const size_t count = work->words.size / sizeof(struct tagger_word);
    if (status == STATUS_OK)
        status = buffer_reserve(&work->tags, count, error);
    if (status == STATUS_OK)
        status = tagger_tag(tagger, &work->scratch, work->text.data,
                            (const void *)work->words.data, count, work->tags.data, error);
    if (status == STATUS_OK && count > 0)
        *priority = tagger_priority(tagger, work->tags.data[count - 1]);
    return status;
}

enum status piece_priorities(const struct tagger *tagger, const struct tokenizer *tokenizer,
                             uint8_t *priority, struct error *error)
{
    struct work work = {.text = {0}};
    enum status status = STATUS_OK;
    for (int32_t id = 0; id < tokenizer_size(tokenizer) && status == STATUS_OK; id++) {
        work.text.size = 0;
        status = tokenizer_piece(tokenizer, id, &work.text, error);
        if (status == STATUS_OK)
            status = tag_piece(tagger, &work, &priority[id], error);
    }
    buffer_free(&work.text);
    buffer_free(&work.words);
    buffer_free(&work.tags);
    tagger_scratch_free(&work.scratch);
    return status;
}
