#include "formats/kept_tokens.h"

#include <string.h>

struct token_list kept_tokens_content(const int32_t *tokens, size_t length, int32_t start,
                                      int32_t end, int32_t padding)
{
    struct token_list content = {tokens, length};
    if (content.count > 0 && content.ids[0] == start) {
        content.ids++;
        content.count--;
    }
    while (content.count > 0 && content.ids[content.count - 1] == padding)
        content.count--;
    if (content.count > 0 && content.ids[content.count - 1] == end)
        content.count--;
    return content;
}

static bool find_run(struct token_list all, struct token_list kept, bool *is_kept)
{
    for (size_t i = 0; i + kept.count <= all.count; i++) {
        if (memcmp(all.ids + i, kept.ids, kept.count * sizeof kept.ids[0]) != 0)
            continue;
        memset(is_kept + i, true, kept.count);
        return true;
    }
    return false;
}

static bool find_in_order(struct token_list all, struct token_list kept, bool *is_kept)
{
    size_t found = 0;
    for (size_t i = 0; i < all.count && found < kept.count; i++) {
        is_kept[i] = all.ids[i] == kept.ids[found];
        found += is_kept[i];
    }
    return found == kept.count;
}

static bool find_in_any_order(struct token_list all, struct token_list kept, bool *is_kept)
{
    for (size_t k = 0; k < kept.count; k++) {
        size_t i = 0;
        while (i < all.count && (is_kept[i] || all.ids[i] != kept.ids[k]))
            i++;
        if (i == all.count)
            return false;
        is_kept[i] = true;
    }
    return true;
}

enum kept_order kept_tokens_find(struct token_list all, struct token_list kept, bool *is_kept)
{
    memset(is_kept, false, all.count);
    if (kept.count == 0 || find_run(all, kept, is_kept) || find_in_order(all, kept, is_kept))
        return KEPT_IN_ORDER;
    memset(is_kept, false, all.count);
    if (find_in_any_order(all, kept, is_kept))
        return KEPT_SHUFFLED;
    memset(is_kept, false, all.count);
    return KEPT_FOREIGN;
}
