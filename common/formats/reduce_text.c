#include "formats/reduce_text.h"

#include <string.h>

#include "formats/strategy.h"

enum status text_reduction_parse(struct text_reduction *out, const char *text,
                                 struct error *error)
{
    static const struct strategy_name names[] = {{"truncate", TEXT_TRUNCATE}};
    static const struct strategy_list list = {"--text", names, sizeof names / sizeof names[0],
                                              TEXT_LENGTH_MIN, TEXT_LENGTH_MAX};
    int strategy;
    enum status status = strategy_parse(&list, text, &strategy, &out->length, error);
    out->strategy = (enum text_strategy)strategy;
    return status;
}

void text_reduce(const struct text_reduction *reduction, const struct text_specials *specials,
                 const int32_t *tokens, size_t count, int32_t *out)
{
    size_t room = reduction->length - 2;
    size_t kept = count < room ? count : room;
    out[0] = specials->start;
    if (kept > 0)
        memcpy(out + 1, tokens, kept * sizeof out[0]);
    out[1 + kept] = specials->end;
    for (size_t i = kept + 2; i < reduction->length; i++)
        out[i] = specials->padding;
}
