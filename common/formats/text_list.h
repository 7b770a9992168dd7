/* text_list.h - files of one entry a line: class names and prompt templates, in the layout of
 * CLIP_benchmark's data sets. */
#ifndef FORMATS_TEXT_LIST_H
#define FORMATS_TEXT_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

/* A zeroed struct is empty. */
struct text_list {
    char **lines; /* each ended by NUL, without blanks at its ends; owned */
    size_t count;
};

/* Splits text[0..size) where Python's str.splitlines does (also at VT, FF, FS, GS, RS, NEL,
 * U+2028 and U+2029), strips blanks, and leaves out empty lines at the end. STATUS_DATA for
 * NUL bytes or an empty list. */
enum status text_list_parse(struct text_list *list, const uint8_t *text, size_t size,
                            struct error *error);
void text_list_free(struct text_list *list);

/* The index of an entry, or list->count. */
size_t text_list_find(const struct text_list *list, const char *line);

/* Replaces *out by the template with {c} filled in; {{ and }} are braces. STATUS_DATA for any
 * other brace. */
enum status template_fill(const char *template, const char *class_name, struct buffer *out,
                          struct error *error);

#endif
