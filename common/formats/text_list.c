#include "formats/text_list.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* The length of the line break at text[0..size), 0 where there is none. */
static size_t line_break(const uint8_t *text, size_t size)
{
    if (text[0] == '\r')
        return size > 1 && text[1] == '\n' ? 2 : 1;
    if (text[0] == '\n' || text[0] == 0x0b || text[0] == 0x0c ||
        (text[0] >= 0x1c && text[0] <= 0x1e))
        return 1;
    if (size > 1 && text[0] == 0xc2 && text[1] == 0x85)
        return 2;
    if (size > 2 && text[0] == 0xe2 && text[1] == 0x80 && (text[2] == 0xa8 || text[2] == 0xa9))
        return 3;
    return 0;
}

static enum status append_line(struct text_list *list, const uint8_t *text, size_t size,
                               struct error *error)
{
    while (size > 0 && isspace(text[0]))
        text++, size--;
    while (size > 0 && isspace(text[size - 1]))
        size--;
    char **lines = realloc(list->lines, (list->count + 1) * sizeof lines[0]);
    if (lines == NULL)
        return error_memory(error, (list->count + 1) * sizeof lines[0], "a list of lines");
    list->lines = lines;
    char *line = malloc(size + 1);
    if (line == NULL)
        return error_memory(error, size + 1, "a line");
    memcpy(line, text, size);
    line[size] = '\0';
    lines[list->count++] = line;
    return STATUS_OK;
}

enum status text_list_parse(struct text_list *list, const uint8_t *text, size_t size,
                            struct error *error)
{
    *list = (struct text_list){NULL, 0};
    enum status status = STATUS_OK;
    if (size > 0 && memchr(text, '\0', size) != NULL)
        status = error_set(error, STATUS_DATA, "NUL byte in a list of lines");
    size_t start = 0;
    for (size_t at = 0; status == STATUS_OK && at < size;) {
        size_t length = line_break(text + at, size - at);
        if (length > 0) {
            status = append_line(list, text + start, at - start, error);
            start = at + length;
        }
        at += length > 0 ? length : 1;
    }
    if (status == STATUS_OK && start < size)
        status = append_line(list, text + start, size - start, error);
    while (list->count > 0 && list->lines[list->count - 1][0] == '\0')
        free(list->lines[--list->count]);
    if (status == STATUS_OK && list->count == 0)
        status = error_set(error, STATUS_DATA, "no lines");
    if (status != STATUS_OK)
        text_list_free(list);
    return status;
}

void text_list_free(struct text_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->lines[i]);
    free(list->lines);
    *list = (struct text_list){NULL, 0};
}

size_t text_list_find(const struct text_list *list, const char *line)
{
    size_t i = 0;
    while (i < list->count && strcmp(list->lines[i], line) != 0)
        i++;
    return i;
}

enum status template_fill(const char *template, const char *class_name, struct buffer *out,
                          struct error *error)
{
    out->size = 0;
    for (const char *at = template; *at != '\0';) {
        const char *piece = at;
        size_t length = 1, step = 1;
        if (strncmp(at, "{c}", 3) == 0) {
            piece = class_name;
            length = strlen(class_name);
            step = 3;
        } else if (strncmp(at, "{{", 2) == 0 || strncmp(at, "}}", 2) == 0) {
            step = 2;
        } else if (*at == '{' || *at == '}') {
            return error_set(error, STATUS_DATA, "template '%.60s': '%c' is neither {c} nor "
                                                 "doubled",
                             template, *at);
        }
        enum status status = buffer_append(out, piece, length, error);
        if (status != STATUS_OK)
            return status;
        at += step;
    }
    return STATUS_OK;
}
