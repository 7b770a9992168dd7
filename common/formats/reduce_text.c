#include "formats/reduce_text.h"

#include <string.h>

#include "formats/index_set.h"
#include "formats/strategy.h"

enum { PRIORITIES = UINT8_MAX + 1 };

enum status text_reduction_parse(struct text_reduction *out, const char *text,
                                 struct error *error)
{
    static const struct strategy_kind kinds[] = {
        {"truncate", TEXT_TRUNCATE, TEXT_LENGTH_MIN, TEXT_LENGTH_MAX, false},
        {"random", TEXT_RANDOM, TEXT_LENGTH_MIN, TEXT_LENGTH_MAX, false},
        {"shuffle", TEXT_SHUFFLE, TEXT_LENGTH_MIN, TEXT_LENGTH_MAX, false},
        {"block", TEXT_BLOCK, TEXT_LENGTH_MIN, TEXT_LENGTH_MAX, false},
        {"syntax", TEXT_SYNTAX, TEXT_LENGTH_MIN, TEXT_LENGTH_MAX, false},
    };
    static const struct strategy_list list = {"--text", kinds, sizeof kinds / sizeof kinds[0]};
    struct strategy strategy;
    enum status status = strategy_parse(&list, text, &strategy, error);
    if (status == STATUS_OK) {
        out->strategy = (enum text_strategy)strategy.value;
        out->length = strategy.amount;
    }
    return status;
}

/* ---- layouts ---- */

static const struct {
    const char *name;
    size_t specials; /* places that content cannot have */
    bool end;        /* an end token follows the content */
} layouts[] = {
    [TEXT_LAYOUT_CLIP] = {"clip", 2, true},
    [TEXT_LAYOUT_BERT] = {"bert", 2, false},
    [TEXT_LAYOUT_CLIPA_JAX] = {"clipa-jax", 1, false},
    [TEXT_LAYOUT_BERT_SEP] = {"bert-sep", 2, true},
};

bool text_layout_from_name(const char *name, enum text_layout *layout)
{
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        if (strcmp(layouts[i].name, name) == 0) {
            *layout = (enum text_layout)i;
            return true;
        }
    }
    return false;
}

const char *text_layout_name(enum text_layout layout)
{
    return layouts[layout].name;
}

size_t text_reduction_room(const struct text_reduction *reduction)
{
    return reduction->length - layouts[reduction->layout].specials;
}

/* ---- the choice of content, of more tokens than there is room for ---- */

/* out[room]: first the indices, then, each in its place, the tokens. */
static enum status choose_random(const struct text_input *input, size_t room, struct rng *rng,
                                 struct buffer *scratch, int32_t *out, struct error *error)
{
    enum status status =
        buffer_reserve(scratch, index_set_words(input->count) * sizeof(uint64_t), error);
    if (status != STATUS_OK)
        return status;
    uint64_t *set = (void *)scratch->data;
    index_set_draw(set, input->count, room, rng);
    index_set_list(set, input->count, out);
    for (size_t i = 0; i < room; i++)
        out[i] = input->tokens[out[i]];
    return STATUS_OK;
}

static void shuffle(int32_t *values, size_t count, struct rng *rng)
{
    for (size_t i = count; i > 1; i--) {
        const size_t j = (size_t)rng_below(rng, i);
        const int32_t last = values[i - 1];
        values[i - 1] = values[j];
        values[j] = last;
    }
}

static bool begins_word(const struct text_input *input, size_t i)
{
    return i == 0 || input->word[i] != input->word[i - 1];
}

/* Words of a priority below `limit` are kept, and the first `quota` of that priority. */
struct word_choice {
    uint8_t limit;
    size_t quota;
};

/* The first `room` words of a stable sort by priority, found by counting. */
static struct word_choice rank_words(const struct text_input *input, size_t room)
{
    size_t words[PRIORITIES] = {0};
    for (size_t i = 0; i < input->count; i++)
        if (begins_word(input, i))
            words[input->priority[i]]++;
    size_t limit = 0;
    while (limit < PRIORITIES - 1 && words[limit] <= room)
        room -= words[limit++];
    return (struct word_choice){(uint8_t)limit, room};
}

static size_t choose_syntax(const struct text_input *input, size_t room, int32_t *out)
{
    struct word_choice choice = rank_words(input, room);
    size_t kept = 0;
    bool keep = false;
    for (size_t i = 0; i < input->count && kept < room; i++) {
        if (begins_word(input, i)) {
            const bool contested = input->priority[i] == choice.limit && choice.quota > 0;
            choice.quota -= contested;
            keep = contested || input->priority[i] < choice.limit;
        }
        if (keep)
            out[kept++] = input->tokens[i];
    }
    return kept;
}

static void copy_tokens(int32_t *out, const int32_t *tokens, size_t count)
{
    if (count > 0)
        memcpy(out, tokens, count * sizeof out[0]);
}

/* Fills out[0..room) as far as *kept says. */
static enum status choose_content(enum text_strategy strategy, const struct text_input *input,
                                  size_t room, struct rng *rng, struct buffer *scratch,
                                  int32_t *out, size_t *kept, struct error *error)
{
    enum status status = STATUS_OK;
    *kept = room;
    switch (strategy) {
    case TEXT_RANDOM:
        status = choose_random(input, room, rng, scratch, out, error);
        break;
    case TEXT_SHUFFLE:
        status = choose_random(input, room, rng, scratch, out, error);
        if (status == STATUS_OK)
            shuffle(out, room, rng);
        break;
    case TEXT_BLOCK:
        copy_tokens(out, input->tokens + rng_below(rng, input->count - room + 1), room);
        break;
    case TEXT_SYNTAX:
        *kept = choose_syntax(input, room, out);
        break;
    case TEXT_NONE:
    case TEXT_TRUNCATE:
        copy_tokens(out, input->tokens, room);
        break;
    }
    return status;
}

enum status text_reduce(const struct text_reduction *reduction,
                        const struct text_specials *specials, const struct text_input *input,
                        struct rng *rng, struct buffer *scratch, int32_t *out,
                        struct error *error)
{
    const size_t room = text_reduction_room(reduction);
    size_t kept = input->count;
    out[0] = specials->start;
    if (input->count <= room) {
        copy_tokens(out + 1, input->tokens, input->count);
    } else {
        enum status status = choose_content(reduction->strategy, input, room, rng, scratch,
                                            out + 1, &kept, error);
        if (status != STATUS_OK)
            return status;
    }
    size_t filled = 1 + kept;
    if (layouts[reduction->layout].end)
        out[filled++] = specials->end;
    while (filled < reduction->length)
        out[filled++] = specials->padding;
    return STATUS_OK;
}
