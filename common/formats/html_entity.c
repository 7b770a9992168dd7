#include "formats/html_entity.h"

#include <stdbool.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

enum {
    NAME_MAX_LENGTH = 31,
    BARE_NAME_MAX = 6,         /* the longest that needs no semicolon */
    STRICT_REFERENCE_MAX = 24, /* characters between "&" or "&#" and ";" that ftfy looks at */
    CODE_MAX = 0x10FFFF,
};

struct entity {
    char name[NAME_MAX_LENGTH + 1];
    int32_t code;
    uint16_t second; /* code point, or 0 */
    uint8_t bare;    /* HTML knows it without a semicolon, too */
};

static const struct entity entities[] = { /* sorted by name, in ASCII order */
#include "formats/html_entity_table.h"
};

static bool is_digit(int32_t code)
{
    return code >= '0' && code <= '9';
}

static bool is_upper(int32_t code)
{
    return code >= 'A' && code <= 'Z';
}

static bool is_alphanumeric(int32_t code)
{
    return is_digit(code) || is_upper(code) || (code >= 'a' && code <= 'z');
}

static int hex_digit(int32_t code)
{
    if (is_digit(code))
        return (int)(code - '0');
    if (code >= 'a' && code <= 'f')
        return (int)(code - 'a' + 10);
    if (code >= 'A' && code <= 'F')
        return (int)(code - 'A' + 10);
    return -1;
}

static const struct entity *find_name(const int32_t *name, size_t length)
{
    if (length > NAME_MAX_LENGTH)
        return NULL;
    char key[NAME_MAX_LENGTH + 1] = {0};
    for (size_t i = 0; i < length; i++) {
        if (!is_alphanumeric(name[i]))
            return NULL;
        key[i] = (char)name[i];
    }
    size_t low = 0, high = sizeof entities / sizeof entities[0];
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(key, entities[middle].name);
        if (order == 0)
            return &entities[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* Characters that may not be written as a number; Python's html.unescape drops them. */
static bool is_forbidden(uint32_t code)
{
    return (code >= 0x1 && code <= 0x8) || code == 0xB || (code >= 0xE && code <= 0x1F) ||
           code == 0x7F || (code >= 0xFDD0 && code <= 0xFDEF) || (code & 0xFFFE) == 0xFFFE;
}

int32_t html_c1_meaning(int32_t code)
{
    static const uint16_t windows_1252[32] = {
        0x20AC, 0x81,   0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021, 0x2C6,  0x2030, 0x160,
        0x2039, 0x152,  0x8D,   0x17D,  0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
        0x2013, 0x2014, 0x2DC,  0x2122, 0x161,  0x203A, 0x153,  0x9D,   0x17E,  0x178,
    };
    return code >= 0x80 && code <= 0x9F ? windows_1252[code - 0x80] : code;
}

static size_t resolve_number(uint32_t number, int32_t *out)
{
    if (number == 0 || (number >= 0xD800 && number <= 0xDFFF) || number > CODE_MAX) {
        out[0] = UTF8_REPLACEMENT;
        return 1;
    }
    if (is_forbidden(number))
        return 0;
    out[0] = html_c1_meaning((int32_t)number);
    return 1;
}

/* "&#" and digits; the length up to and without a semicolon, 0 if there is no digit. */
static size_t match_number(const int32_t *text, size_t size, uint32_t *number)
{
    size_t at = 2;
    int base = 10;
    if (at < size && (text[at] == 'x' || text[at] == 'X')) {
        base = 16;
        at++;
    }
    const size_t first = at;
    uint32_t value = 0;
    for (; at < size; at++) {
        int digit = hex_digit(text[at]);
        if (digit < 0 || digit >= base)
            break;
        if (value <= CODE_MAX)
            value = value * (uint32_t)base + (uint32_t)digit;
    }
    *number = value;
    return at == first ? 0 : at;
}

static size_t resolve_name(const struct entity *entity, int32_t *out)
{
    out[0] = entity->code;
    out[1] = entity->second;
    return entity->second == 0 ? 1 : 2;
}

size_t html_entity_match(const int32_t *text, size_t size, int32_t *out, size_t *out_count)
{
    if (size >= 2 && text[1] == '#') {
        uint32_t number;
        size_t length = match_number(text, size, &number);
        if (length == 0)
            return 0;
        *out_count = resolve_number(number, out);
        return length + (length < size && text[length] == ';');
    }

    size_t length = 0;
    while (length < NAME_MAX_LENGTH && 1 + length < size && is_alphanumeric(text[1 + length]))
        length++;
    if (1 + length < size && text[1 + length] == ';') {
        const struct entity *entity = find_name(text + 1, length);
        if (entity != NULL) {
            *out_count = resolve_name(entity, out);
            return length + 2;
        }
    }
    for (length = length < BARE_NAME_MAX ? length : BARE_NAME_MAX; length >= 2; length--) {
        const struct entity *entity = find_name(text + 1, length);
        if (entity != NULL && entity->bare) {
            *out_count = resolve_name(entity, out);
            return length + 1;
        }
    }
    return 0;
}

/* The entity that a name all in capitals stands for, in ftfy's reading. */
static const struct entity *find_capitals(const int32_t *name, size_t length)
{
    if (length > NAME_MAX_LENGTH)
        return NULL;
    int32_t small[NAME_MAX_LENGTH];
    for (size_t i = 0; i < length; i++) {
        if (!is_upper(name[i]) && !is_digit(name[i]))
            return NULL;
        small[i] = is_upper(name[i]) ? name[i] - 'A' + 'a' : name[i];
    }
    return find_name(small, length);
}

/* The full capital of an entity's character, where it is of two or more letters. */
static const char *long_capital(int32_t code)
{
    switch (code) {
    case 0xDF:
        return "SS";
    case 0xFB00:
        return "FF";
    case 0xFB01:
        return "FI";
    case 0xFB02:
        return "FL";
    case 0xFB03:
        return "FFI";
    case 0xFB04:
        return "FFL";
    default:
        return NULL;
    }
}

static size_t resolve_capitals(const struct entity *entity, int32_t *out)
{
    const char *letters = long_capital(entity->code);
    if (letters != NULL) {
        const size_t count = strlen(letters);
        for (size_t i = 0; i < count; i++)
            out[i] = letters[i];
        return count;
    }
    if (entity->code == 0x149) { /* an apostrophe and n */
        out[0] = 0x2BC;
        out[1] = 'N';
        return 2;
    }
    const size_t count = resolve_name(entity, out);
    for (size_t i = 0; i < count; i++)
        out[i] = utf8proc_toupper(out[i]);
    return count;
}

static size_t match_strict_number(const int32_t *text, size_t end, int32_t *out,
                                  size_t *out_count)
{
    uint32_t number;
    if (match_number(text, end, &number) != end || number == ';')
        return 0; /* ftfy takes a semicolon in the result for one left over */
    *out_count = resolve_number(number, out);
    return end + 1;
}

size_t html_entity_match_strict(const int32_t *text, size_t size, int32_t *out,
                                size_t *out_count)
{
    size_t start = size >= 2 && text[1] == '#' ? 2 : 1;
    size_t end = start;
    while (end < size && end - start < STRICT_REFERENCE_MAX && is_alphanumeric(text[end]))
        end++;
    if (end == start || end == size || text[end] != ';')
        return 0;
    if (start == 2)
        return match_strict_number(text, end, out, out_count);

    const struct entity *entity = find_name(text + 1, end - 1);
    if (entity != NULL) {
        *out_count = resolve_name(entity, out);
        return end + 1;
    }
    if (html_entity_match(text, end + 1, out, out_count) != 0)
        return 0; /* a shorter name begins it, as GT does GTCC */
    entity = find_capitals(text + 1, end - 1);
    if (entity == NULL)
        return 0;
    *out_count = resolve_capitals(entity, out);
    return end + 1;
}
