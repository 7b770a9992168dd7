#include "formats/shard_list.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longer than any path the kernel takes. */
#define PATTERN_LENGTH_MAX 4096

/* Each set is one level of recursion, with one pattern of stack. */
#define PATTERN_SETS_MAX 64

/* One pattern during its expansion. */
struct expansion {
    struct shard_list *list;
    const char *pattern; /* the whole of it, for messages */
    struct error *error;
    int depth;
};

struct range {
    int64_t first;
    int64_t step; /* negative where the range counts down */
    uint64_t count;
    int width;
};

static enum status expand(struct expansion *expansion, const char *text);

static enum status too_many(const struct expansion *expansion)
{
    return error_set(expansion->error, STATUS_USAGE, "shard list '%.200s': more than %u names",
                     expansion->pattern, SHARD_LIST_NAMES_MAX);
}

/* `text` has no set left, only escapes. */
static enum status add_name(const struct expansion *expansion, const char *text)
{
    struct shard_list *list = expansion->list;
    if (list->count >= SHARD_LIST_NAMES_MAX)
        return too_many(expansion);

    char name[PATTERN_LENGTH_MAX + 1];
    size_t length = 0;
    for (; *text != '\0'; text++) {
        if (*text == '\\' && text[1] != '\0')
            text++;
        name[length++] = *text;
    }
    name[length] = '\0';
    if (length == 0)
        return error_set(expansion->error, STATUS_USAGE, "shard list '%.200s': a name is empty",
                         expansion->pattern);

    size_t offset = list->text.size;
    enum status status = buffer_append(&list->text, name, length + 1, expansion->error);
    if (status == STATUS_OK)
        status = buffer_append(&list->offsets, &offset, sizeof offset, expansion->error);
    if (status == STATUS_OK)
        list->count++;
    return status;
}

/* Reads at most 18 digits, so that nothing overflows; a 19th is then an error to the caller. */
static bool parse_digits(const char **text, const char *end, int64_t *value, int *length)
{
    const char *start = *text;
    *value = 0;
    while (*text < end && isdigit((unsigned char)**text) && *text - start < 18)
        *value = *value * 10 + (*(*text)++ - '0');
    *length = (int)(*text - start);
    return *length > 0;
}

static bool skip_dots(const char **text, const char *end)
{
    if (end - *text < 2 || (*text)[0] != '.' || (*text)[1] != '.')
        return false;
    *text += 2;
    return true;
}

/* "A..B" or "A..B..STEP" between text and end. */
static bool parse_range(const char *text, const char *end, struct range *range)
{
    const char *first_text = text;
    int64_t first, last, step = 1;
    int first_length, last_length, step_length;
    if (!parse_digits(&text, end, &first, &first_length) || !skip_dots(&text, end))
        return false;
    const char *last_text = text;
    if (!parse_digits(&text, end, &last, &last_length))
        return false;
    if (text < end &&
        (!skip_dots(&text, end) || !parse_digits(&text, end, &step, &step_length) || step == 0))
        return false;
    if (text != end)
        return false;

    bool padded = (first_length > 1 && *first_text == '0') ||
                  (last_length > 1 && *last_text == '0');
    range->width = !padded ? 1 : first_length > last_length ? first_length : last_length;
    range->first = first;
    range->step = first <= last ? step : -step;
    range->count = (uint64_t)((first <= last ? last - first : first - last) / step) + 1;
    return true;
}

/* Continues with `head` + `middle` + `tail`, the pattern after one choice. */
static enum status expand_choice(struct expansion *expansion, const char *head,
                                 size_t head_length, const char *middle, size_t middle_length,
                                 const char *tail)
{
    char text[PATTERN_LENGTH_MAX + 1];
    int length = snprintf(text, sizeof text, "%.*s%.*s%s", (int)head_length, head,
                          (int)middle_length, middle, tail);
    if (length < 0 || (size_t)length >= sizeof text)
        return error_set(expansion->error, STATUS_USAGE,
                         "shard list '%.60s': a name is longer than %d bytes",
                         expansion->pattern, PATTERN_LENGTH_MAX);
    if (expansion->depth == PATTERN_SETS_MAX)
        return error_set(expansion->error, STATUS_USAGE,
                         "shard list '%.60s': more than %d sets", expansion->pattern,
                         PATTERN_SETS_MAX);
    expansion->depth++;
    enum status status = expand(expansion, text);
    expansion->depth--;
    return status;
}

static enum status expand_range(struct expansion *expansion, const struct range *range,
                                const char *head, size_t head_length, const char *tail)
{
    if (range->count > SHARD_LIST_NAMES_MAX - expansion->list->count)
        return too_many(expansion);
    enum status status = STATUS_OK;
    for (uint64_t i = 0; i < range->count && status == STATUS_OK; i++) {
        char number[32];
        int length = snprintf(number, sizeof number, "%0*lld", range->width,
                              (long long)(range->first + (int64_t)i * range->step));
        status = expand_choice(expansion, head, head_length, number, (size_t)length, tail);
    }
    return status;
}

/* The end of the choice that starts at `text`: the comma or brace that belongs to the
 * set around it, or the end of the pattern. */
static const char *choice_end(const char *text)
{
    int depth = 0;
    for (; *text != '\0'; text++) {
        if (*text == '\\' && text[1] != '\0')
            text++;
        else if (*text == '{')
            depth++;
        else if (depth == 0 && (*text == ',' || *text == '}'))
            break;
        else if (*text == '}')
            depth--;
    }
    return text;
}

/* Takes every choice of the first set and expands what follows. */
static enum status expand(struct expansion *expansion, const char *text)
{
    const char *open = text;
    while (*open != '\0' && *open != '{' && *open != '}')
        open += *open == '\\' && open[1] != '\0' ? 2 : 1;
    if (*open == '\0')
        return add_name(expansion, text);
    if (*open == '}')
        return error_set(expansion->error, STATUS_USAGE,
                         "shard list '%.200s': a '}' without its '{'", expansion->pattern);

    const char *close = choice_end(open + 1);
    bool alternatives = *close == ',';
    while (*close == ',')
        close = choice_end(close + 1);
    if (*close == '\0')
        return error_set(expansion->error, STATUS_USAGE,
                         "shard list '%.200s': a '{' without its '}'", expansion->pattern);

    size_t head_length = (size_t)(open - text);
    struct range range;
    if (!alternatives) {
        if (!parse_range(open + 1, close, &range))
            return error_set(expansion->error, STATUS_USAGE,
                             "shard list '%.200s': '%.*s' is neither {FIRST..LAST} nor {A,B}",
                             expansion->pattern, (int)(close - open + 1), open);
        return expand_range(expansion, &range, text, head_length, close + 1);
    }
    enum status status = STATUS_OK;
    for (const char *choice = open + 1; choice <= close && status == STATUS_OK;) {
        const char *end = choice_end(choice);
        status = expand_choice(expansion, text, head_length, choice, (size_t)(end - choice),
                               close + 1);
        choice = end + 1;
    }
    return status;
}

enum status shard_list_add(struct shard_list *list, const char *pattern, struct error *error)
{
    for (;;) {
        const char *join = strstr(pattern, "::");
        size_t length = join != NULL ? (size_t)(join - pattern) : strlen(pattern);
        if (length > PATTERN_LENGTH_MAX)
            return error_set(error, STATUS_USAGE, "shard list '%.60s': longer than %d bytes",
                             pattern, PATTERN_LENGTH_MAX);
        char text[PATTERN_LENGTH_MAX + 1];
        memcpy(text, pattern, length);
        text[length] = '\0';

        struct expansion expansion = {list, text, error, 0};
        enum status status = expand(&expansion, text);
        if (status != STATUS_OK || join == NULL)
            return status;
        pattern = join + 2;
    }
}

const char *shard_list_name(const struct shard_list *list, size_t index)
{
    size_t offset;
    memcpy(&offset, list->offsets.data + index * sizeof offset, sizeof offset);
    return (const char *)list->text.data + offset;
}

void shard_list_free(struct shard_list *list)
{
    buffer_free(&list->text);
    buffer_free(&list->offsets);
    *list = (struct shard_list){0};
}
