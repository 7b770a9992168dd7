#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* vsnprintf for one line: names and data that stand in it may neither break it nor steer a
 * terminal. */
static int format_line(char *text, size_t size, const char *format, va_list args)
{
    int used = vsnprintf(text, size, format, args);
    for (char *at = text; *at != '\0'; at++)
        if ((*at >= 0 && *at < ' ') || *at == 0x7f)
            *at = '?';
    return used;
}

enum status error_set(struct error *error, enum status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    format_line(error->text, sizeof error->text, format, args);
    va_end(args);
    error->status = status;
    error->hint[0] = '\0';
    return status;
}

enum status error_set_errno(struct error *error, enum status status, const char *format, ...)
{
    const char *reason = strerror(errno);
    va_list args;
    va_start(args, format);
    int used = format_line(error->text, sizeof error->text, format, args);
    va_end(args);
    if (used >= 0 && (size_t)used < sizeof error->text)
        snprintf(error->text + used, sizeof error->text - (size_t)used, ": %s", reason);
    error->status = status;
    error->hint[0] = '\0';
    return status;
}

enum status error_prefix(struct error *error, const char *format, ...)
{
    struct error inner = *error;
    va_list args;
    va_start(args, format);
    int used = format_line(error->text, sizeof error->text, format, args);
    va_end(args);
    if (used >= 0 && (size_t)used + 2 < sizeof error->text) {
        memcpy(error->text + used, ": ", 2);
        size_t room = sizeof error->text - (size_t)used - 3, length = strlen(inner.text);
        memcpy(error->text + used + 2, inner.text, length < room ? length : room);
        error->text[(size_t)used + 2 + (length < room ? length : room)] = '\0';
    }
    return error->status;
}

enum status error_hint(struct error *error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    format_line(error->hint, sizeof error->hint, format, args);
    va_end(args);
    return error->status;
}

enum status error_memory(struct error *error, unsigned long long bytes, const char *what)
{
    return error_set(error, STATUS_SYSTEM, "cannot allocate %llu bytes for %s", bytes, what);
}
