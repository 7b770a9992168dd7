/* kept_tokens.h - which tokens of a caption a reduction kept, found by comparing the two lists.
 *
 * The stream does not say which occurrence of a repeated token was kept. A run of neighbours is
 * preferred, then the leftmost occurrences: right for truncation, blocks and syntax masks, a
 * guess for random ones. */
#ifndef FORMATS_KEPT_TOKENS_H
#define FORMATS_KEPT_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct token_list {
    const int32_t *ids; /* the caller's */
    size_t count;
};

enum kept_order {
    KEPT_IN_ORDER, /* the kept tokens stand as they do in the caption */
    KEPT_SHUFFLED, /* all of them are in the caption, in another order */
    KEPT_FOREIGN,  /* some are not in the caption: is_kept is all false */
};

/* The content of tokens[0..length): without a start token before it and the padding and end
 * token after it, where they are. */
struct token_list kept_tokens_content(const int32_t *tokens, size_t length, int32_t start,
                                      int32_t end, int32_t padding);

/* is_kept[all.count] says which tokens of `all` are those of `kept`. Time is O(all * kept). */
enum kept_order kept_tokens_find(struct token_list all, struct token_list kept, bool *is_kept);

#endif
