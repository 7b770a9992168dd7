#include "formats/tagger_caption.h"

#include <inttypes.h>
#include <stdbool.h>

#include "formats/tagger_words.h"

static bool is_ascii(const struct buffer *text)
{
    uint8_t any = 0;
    for (size_t i = 0; i < text->size; i++)
        any |= text->data[i];
    return any < 0x80;
}

static size_t count_blanks(const uint8_t *text, size_t from, size_t to)
{
    size_t count = 0;
    for (size_t i = from; i < to; i++)
        count += text[i] == ' ';
    return count;
}

/* Whether the words that the tokenizer sees are the same in both texts: as many between any
 * two blanks. */
static bool same_words(enum tokenizer_type type, const struct buffer *a, const struct buffer *b)
{
    size_t at_a = 0, at_b = 0, seen_a = 0, seen_b = 0;
    for (;;) {
        size_t start_a, start_b, size;
        const bool more = tokenizer_next_word(type, a->data, a->size, &at_a, &start_a, &size);
        if (tokenizer_next_word(type, b->data, b->size, &at_b, &start_b, &size) != more)
            return false;
        if (!more)
            return true;
        if (count_blanks(a->data, seen_a, start_a) != count_blanks(b->data, seen_b, start_b))
            return false;
        seen_a = start_a;
        seen_b = start_b;
    }
}

/* Capitals tell names, so the words are found and tagged in text that has them. Small letters
 * may be more code points, and so other words for the tokenizer: such text is tagged without
 * its capitals. In ASCII they are never. */
static enum status choose_text(const struct caption_source *source,
                               struct caption_tagger *tools, const uint8_t *bytes, size_t size,
                               const struct buffer **text, struct error *error)
{
    const bool lower = source->cleaning == TEXT_CLEAN_LOWER;
    *text = &tools->text;
    tools->cleaner.mode = lower ? TEXT_CLEAN_WHITESPACE : source->cleaning;
    enum status status = text_clean(&tools->cleaner, bytes, size, &tools->text, error);
    if (status != STATUS_OK || !lower || is_ascii(&tools->text))
        return status;
    tools->lower_cleaner.mode = TEXT_CLEAN_LOWER;
    status = text_clean(&tools->lower_cleaner, bytes, size, &tools->lower_text, error);
    if (status == STATUS_OK && !same_words(source->type, &tools->text, &tools->lower_text))
        *text = &tools->lower_text;
    return status;
}

static enum status tag_words(const struct tagger *tagger, struct caption_tagger *tools,
                             const struct buffer *text, struct error *error)
{
    tools->words.size = 0;
    enum status status = tagger_split(text->data, text->size, &tools->words, error);
    const size_t count = tools->words.size / sizeof(struct tagger_word);
    if (status == STATUS_OK)
        status = buffer_reserve(&tools->tags, count, error);
    if (status == STATUS_OK)
        status = tagger_tag(tagger, &tools->scratch, text->data,
                            (const void *)tools->words.data, count, tools->tags.data, error);
    return status;
}

/* The tokenizer's words of a text, one after the other. */
struct word_walk {
    enum tokenizer_type type;
    const struct buffer *text;
    size_t position;
    size_t start; /* of the last word */
    size_t seen;  /* words so far */
};

static bool walk_on(struct word_walk *walk)
{
    size_t size;
    if (!tokenizer_next_word(walk->type, walk->text->data, walk->text->size, &walk->position,
                             &walk->start, &size))
        return false;
    walk->seen++;
    return true;
}

/* Goes to the tokenizer's word `word`, which is the last one or comes after it. CLIP has a
 * token for every word; BERT has none for a word of nothing but marks. */
static bool walk_to(struct word_walk *walk, int32_t word)
{
    const size_t wanted = word >= 0 ? (size_t)word + 1 : 0;
    if (wanted == 0 || wanted < walk->seen ||
        (walk->type == TOKENIZER_CLIP && wanted > walk->seen + 1))
        return false;
    while (walk->seen < wanted)
        if (!walk_on(walk))
            return false;
    return true;
}

enum status caption_tag(const struct caption_source *source, struct caption_tagger *tools,
                        const uint8_t *bytes, size_t size, const int32_t *words, size_t count,
                        int32_t *new_words, uint8_t *priorities, struct error *error)
{
    struct word_walk walk = {.type = source->type};
    enum status status = choose_text(source, tools, bytes, size, &walk.text, error);
    if (status == STATUS_OK)
        status = tag_words(source->tagger, tools, walk.text, error);
    if (status != STATUS_OK)
        return status;
    const struct tagger_word *tagged = (const void *)tools->words.data;
    const size_t tagged_count = tools->words.size / sizeof *tagged;
    size_t at = 0, last_at = SIZE_MAX;
    int32_t number = -1;
    for (size_t i = 0; i < count; i++) {
        if (!walk_to(&walk, words[i]))
            return error_set(error, STATUS_DATA,
                             "'tokens.word' has word %" PRId32 " at token %zu, which does not "
                             "fit the text after %zu words", words[i], i, walk.seen);
        while (at + 1 < tagged_count && tagged[at].start + tagged[at].size <= walk.start)
            at++;
        number += at != last_at;
        last_at = at;
        new_words[i] = number;
        priorities[i] = tagged_count > 0 ? tagger_priority(source->tagger, tools->tags.data[at])
                                         : PRIORITY_OTHER;
    }
    const size_t seen = walk.seen;
    if (source->type == TOKENIZER_CLIP && walk_on(&walk))
        return error_set(error, STATUS_DATA,
                         "'tokens.word' has %zu words, and the text has more", seen);
    return STATUS_OK;
}

void caption_tagger_free(struct caption_tagger *tools)
{
    text_cleaner_free(&tools->cleaner);
    text_cleaner_free(&tools->lower_cleaner);
    tagger_scratch_free(&tools->scratch);
    buffer_free(&tools->text);
    buffer_free(&tools->lower_text);
    buffer_free(&tools->words);
    buffer_free(&tools->tags);
}
