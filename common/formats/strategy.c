#include "formats/strategy.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"

static enum status unknown(const struct strategy_list *list, const char *text,
                           struct error *error)
{
    char names[200] = "none";
    for (size_t i = 0; i < list->count; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, ", %s:N", list->names[i].name);
    }
    return error_set(error, STATUS_USAGE, "%s: '%.40s' is not one of %s", list->option, text,
                     names);
}

enum status strategy_parse(const struct strategy_list *list, const char *text, int *value,
                           size_t *amount, struct error *error)
{
    *value = 0;
    *amount = 0;
    if (strcmp(text, "none") == 0)
        return STATUS_OK;
    size_t length = strcspn(text, ":");
    for (size_t i = 0; i < list->count; i++) {
        const struct strategy_name *name = &list->names[i];
        if (strlen(name->name) != length || memcmp(name->name, text, length) != 0)
            continue;
        int64_t number;
        if (text[length] == '\0' || !number_parse_integer(text + length + 1, &number) ||
            number < list->least || number > list->most)
            return error_set(error, STATUS_USAGE,
                             "%s: '%.40s': expected %s:N, N from %" PRId64 " to %" PRId64,
                             list->option, text, name->name, list->least, list->most);
        *value = name->value;
        *amount = (size_t)number;
        return STATUS_OK;
    }
    return unknown(list, text, error);
}
