#include "formats/strategy.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"

static enum status unknown(const struct strategy_list *list, const char *text,
                           struct error *error)
{
    char names[200] = "none";
    for (size_t i = 0; i < list->count; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, ", %s:N", list->kinds[i].name);
    }
    return error_set(error, STATUS_USAGE, "%s: '%.40s' is not one of %s", list->option, text,
                     names);
}

/* Hundredths of a percent are whole numbers, so that a share of a count is exact: 0.29 * 100 is
 * less than 29 in binary fractions. */
static bool parse_share(const char *text, size_t *share_bp)
{
    char number[16];
    const size_t length = strcspn(text, "%");
    double percent;
    if (strcmp(text + length, "%") != 0 || length >= sizeof number)
        return false;
    memcpy(number, text, length);
    number[length] = '\0';
    if (!number_parse_real(number, &percent) || !(percent > 0 && percent <= 100))
        return false;
    *share_bp = (size_t)lround(100 * percent);
    return *share_bp > 0 && fabs(100 * percent - (double)*share_bp) < 1e-6;
}

static bool parse_amount(const struct strategy_kind *kind, const char *text,
                         struct strategy *out)
{
    int64_t number;
    if (kind->share && parse_share(text, &out->share_bp))
        return true;
    if (!number_parse_integer(text, &number) || number < kind->least || number > kind->most)
        return false;
    out->amount = (size_t)number;
    return true;
}

enum status strategy_parse(const struct strategy_list *list, const char *text,
                           struct strategy *out, struct error *error)
{
    *out = (struct strategy){0};
    if (strcmp(text, "none") == 0)
        return STATUS_OK;
    const size_t length = strcspn(text, ":");
    for (size_t i = 0; i < list->count; i++) {
        const struct strategy_kind *kind = &list->kinds[i];
        if (strlen(kind->name) != length || memcmp(kind->name, text, length) != 0)
            continue;
        out->value = kind->value;
        if (text[length] == ':' && parse_amount(kind, text + length + 1, out))
            return STATUS_OK;
        return error_set(error, STATUS_USAGE,
                         "%s: '%.40s': expected %s:N, N from %" PRId64 " to %" PRId64 "%s",
                         list->option, text, kind->name, kind->least, kind->most,
                         kind->share ? ", or N%" : "");
    }
    return unknown(list, text, error);
}
