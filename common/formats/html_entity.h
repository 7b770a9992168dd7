/* html_entity.h - character references of HTML, over code points.
 *
 * All of HTML 5: its 2,125 names, 106 of which need no semicolon, and numbers.
 * Source: WHATWG HTML, "named character references" and "numeric character reference end
 * state". No function allocates or fails; all are safe from any thread. */
#ifndef FORMATS_HTML_ENTITY_H
#define FORMATS_HTML_ENTITY_H

#include <stddef.h>
#include <stdint.h>

enum { HTML_ENTITY_OUT_MAX = 3 };

/* text[0] is '&'. Where a character reference starts there, its code points (possibly none,
 * for a character that HTML forbids) are written to out[0..*out_count) and the number of code
 * points that it takes is returned; otherwise 0. */

/* By the rule of browsers and Python's html.unescape: the semicolon is optional after numbers
 * and after the 106 oldest names, even with letters following ("&ampx"). */
size_t html_entity_match(const int32_t *text, size_t size, int32_t *out, size_t *out_count);

/* By ftfy's careful rule: the semicolon is required, a name has at most 24 characters, and one
 * in capitals that means nothing by itself is the capital of its character ("&EACUTE;"). */
size_t html_entity_match_strict(const int32_t *text, size_t size, int32_t *out,
                                size_t *out_count);

/* The Windows-1252 character that a C1 control (0x80 to 0x9F) was meant to be; five have none
 * and stay, as does every other code point. */
int32_t html_c1_meaning(int32_t code);

#endif
