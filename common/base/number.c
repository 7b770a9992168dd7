#include "base/number.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool number_parse_integer(const char *text, int64_t *out)
{
    if (text[0] == '\0' || isspace((unsigned char)text[0]))
        return false;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || end == text)
        return false;
    *out = value;
    return true;
}

bool number_parse_real(const char *text, double *out)
{
    if (text[0] == '\0' || isspace((unsigned char)text[0]))
        return false;
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (errno != 0 || *end != '\0' || end == text || !isfinite(value))
        return false;
    *out = value;
    return true;
}

bool number_parse_list(const char *text, double *out, int count)
{
    for (int i = 0; i < count; i++) {
        char part[64];
        size_t length = strcspn(text, ",");
        bool last = text[length] == '\0';
        if (length >= sizeof part || last != (i == count - 1))
            return false;
        memcpy(part, text, length);
        part[length] = '\0';
        if (!number_parse_real(part, &out[i]))
            return false;
        text += length + 1;
    }
    return true;
}
