#include "formats/html_entity.h"

#include <stdbool.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

enum {
    NAME_MAX_LENGTH = 8,       /* of the names below */
    STRICT_REFERENCE_MAX = 24, /* characters between "&" or "&#" and ";" that ftfy looks at */
    CODE_MAX = 0x10FFFF,
};

struct entity {
    char name[NAME_MAX_LENGTH + 1];
    uint16_t code;
    uint8_t bare; /* HTML knows it without a semicolon, too */
};

/* Sorted by name, in ASCII order. */
static const struct entity entities[] = {
    {"AElig", 0xC6, 1}, {"AMP", 0x26, 1}, {"Aacute", 0xC1, 1}, {"Acirc", 0xC2, 1},
    {"Agrave", 0xC0, 1}, {"Alpha", 0x391, 0}, {"Aring", 0xC5, 1}, {"Atilde", 0xC3, 1},
    {"Auml", 0xC4, 1}, {"Beta", 0x392, 0}, {"COPY", 0xA9, 1}, {"Ccedil", 0xC7, 1},
    {"Chi", 0x3A7, 0}, {"Dagger", 0x2021, 0}, {"Delta", 0x394, 0}, {"ETH", 0xD0, 1},
    {"Eacute", 0xC9, 1}, {"Ecirc", 0xCA, 1}, {"Egrave", 0xC8, 1}, {"Epsilon", 0x395, 0},
    {"Eta", 0x397, 0}, {"Euml", 0xCB, 1}, {"GT", 0x3E, 1}, {"Gamma", 0x393, 0},
    {"Iacute", 0xCD, 1}, {"Icirc", 0xCE, 1}, {"Igrave", 0xCC, 1}, {"Iota", 0x399, 0},
    {"Iuml", 0xCF, 1}, {"Kappa", 0x39A, 0}, {"LT", 0x3C, 1}, {"Lambda", 0x39B, 0},
    {"Mu", 0x39C, 0}, {"Ntilde", 0xD1, 1}, {"Nu", 0x39D, 0}, {"OElig", 0x152, 0},
    {"Oacute", 0xD3, 1}, {"Ocirc", 0xD4, 1}, {"Ograve", 0xD2, 1}, {"Omega", 0x3A9, 0},
    {"Omicron", 0x39F, 0}, {"Oslash", 0xD8, 1}, {"Otilde", 0xD5, 1}, {"Ouml", 0xD6, 1},
    {"Phi", 0x3A6, 0}, {"Pi", 0x3A0, 0}, {"Prime", 0x2033, 0}, {"Psi", 0x3A8, 0},
    {"QUOT", 0x22, 1}, {"REG", 0xAE, 1}, {"Rho", 0x3A1, 0}, {"Scaron", 0x160, 0},
    {"Sigma", 0x3A3, 0}, {"THORN", 0xDE, 1}, {"Tau", 0x3A4, 0}, {"Theta", 0x398, 0},
    {"Uacute", 0xDA, 1}, {"Ucirc", 0xDB, 1}, {"Ugrave", 0xD9, 1}, {"Upsilon", 0x3A5, 0},
    {"Uuml", 0xDC, 1}, {"Xi", 0x39E, 0}, {"Yacute", 0xDD, 1}, {"Yuml", 0x178, 0},
    {"Zeta", 0x396, 0}, {"aacute", 0xE1, 1}, {"acirc", 0xE2, 1}, {"acute", 0xB4, 1},
    {"aelig", 0xE6, 1}, {"agrave", 0xE0, 1}, {"alefsym", 0x2135, 0}, {"alpha", 0x3B1, 0},
    {"amp", 0x26, 1}, {"and", 0x2227, 0}, {"ang", 0x2220, 0}, {"apos", 0x27, 0},
    {"aring", 0xE5, 1}, {"asymp", 0x2248, 0}, {"atilde", 0xE3, 1}, {"auml", 0xE4, 1},
    {"bdquo", 0x201E, 0}, {"beta", 0x3B2, 0}, {"brvbar", 0xA6, 1}, {"bull", 0x2022, 0},
    {"cap", 0x2229, 0}, {"ccedil", 0xE7, 1}, {"cedil", 0xB8, 1}, {"cent", 0xA2, 1},
    {"chi", 0x3C7, 0}, {"circ", 0x2C6, 0}, {"clubs", 0x2663, 0}, {"cong", 0x2245, 0},
    {"copy", 0xA9, 1}, {"crarr", 0x21B5, 0}, {"cup", 0x222A, 0}, {"curren", 0xA4, 1},
    {"dArr", 0x21D3, 0}, {"dagger", 0x2020, 0}, {"darr", 0x2193, 0}, {"deg", 0xB0, 1},
    {"delta", 0x3B4, 0}, {"diams", 0x2666, 0}, {"divide", 0xF7, 1}, {"eacute", 0xE9, 1},
    {"ecirc", 0xEA, 1}, {"egrave", 0xE8, 1}, {"empty", 0x2205, 0}, {"emsp", 0x2003, 0},
    {"ensp", 0x2002, 0}, {"epsilon", 0x3B5, 0}, {"equiv", 0x2261, 0}, {"eta", 0x3B7, 0},
    {"eth", 0xF0, 1}, {"euml", 0xEB, 1}, {"euro", 0x20AC, 0}, {"exist", 0x2203, 0},
    {"fnof", 0x192, 0}, {"forall", 0x2200, 0}, {"frac12", 0xBD, 1}, {"frac14", 0xBC, 1},
    {"frac34", 0xBE, 1}, {"frasl", 0x2044, 0}, {"gamma", 0x3B3, 0}, {"ge", 0x2265, 0},
    {"gt", 0x3E, 1}, {"hArr", 0x21D4, 0}, {"harr", 0x2194, 0}, {"hearts", 0x2665, 0},
    {"hellip", 0x2026, 0}, {"iacute", 0xED, 1}, {"icirc", 0xEE, 1}, {"iexcl", 0xA1, 1},
    {"igrave", 0xEC, 1}, {"image", 0x2111, 0}, {"infin", 0x221E, 0}, {"int", 0x222B, 0},
    {"iota", 0x3B9, 0}, {"iquest", 0xBF, 1}, {"isin", 0x2208, 0}, {"iuml", 0xEF, 1},
    {"kappa", 0x3BA, 0}, {"lArr", 0x21D0, 0}, {"lambda", 0x3BB, 0}, {"lang", 0x27E8, 0},
    {"laquo", 0xAB, 1}, {"larr", 0x2190, 0}, {"lceil", 0x2308, 0}, {"ldquo", 0x201C, 0},
    {"le", 0x2264, 0}, {"lfloor", 0x230A, 0}, {"lowast", 0x2217, 0}, {"loz", 0x25CA, 0},
    {"lrm", 0x200E, 0}, {"lsaquo", 0x2039, 0}, {"lsquo", 0x2018, 0}, {"lt", 0x3C, 1},
    {"macr", 0xAF, 1}, {"mdash", 0x2014, 0}, {"micro", 0xB5, 1}, {"middot", 0xB7, 1},
    {"minus", 0x2212, 0}, {"mu", 0x3BC, 0}, {"nabla", 0x2207, 0}, {"nbsp", 0xA0, 1},
    {"ndash", 0x2013, 0}, {"ne", 0x2260, 0}, {"ni", 0x220B, 0}, {"not", 0xAC, 1},
    {"notin", 0x2209, 0}, {"nsub", 0x2284, 0}, {"ntilde", 0xF1, 1}, {"nu", 0x3BD, 0},
    {"oacute", 0xF3, 1}, {"ocirc", 0xF4, 1}, {"oelig", 0x153, 0}, {"ograve", 0xF2, 1},
    {"oline", 0x203E, 0}, {"omega", 0x3C9, 0}, {"omicron", 0x3BF, 0}, {"oplus", 0x2295, 0},
    {"or", 0x2228, 0}, {"ordf", 0xAA, 1}, {"ordm", 0xBA, 1}, {"oslash", 0xF8, 1},
    {"otilde", 0xF5, 1}, {"otimes", 0x2297, 0}, {"ouml", 0xF6, 1}, {"para", 0xB6, 1},
    {"part", 0x2202, 0}, {"permil", 0x2030, 0}, {"perp", 0x22A5, 0}, {"phi", 0x3C6, 0},
    {"pi", 0x3C0, 0}, {"piv", 0x3D6, 0}, {"plusmn", 0xB1, 1}, {"pound", 0xA3, 1},
    {"prime", 0x2032, 0}, {"prod", 0x220F, 0}, {"prop", 0x221D, 0}, {"psi", 0x3C8, 0},
    {"quot", 0x22, 1}, {"rArr", 0x21D2, 0}, {"radic", 0x221A, 0}, {"rang", 0x27E9, 0},
    {"raquo", 0xBB, 1}, {"rarr", 0x2192, 0}, {"rceil", 0x2309, 0}, {"rdquo", 0x201D, 0},
    {"real", 0x211C, 0}, {"reg", 0xAE, 1}, {"rfloor", 0x230B, 0}, {"rho", 0x3C1, 0},
    {"rlm", 0x200F, 0}, {"rsaquo", 0x203A, 0}, {"rsquo", 0x2019, 0}, {"sbquo", 0x201A, 0},
    {"scaron", 0x161, 0}, {"sdot", 0x22C5, 0}, {"sect", 0xA7, 1}, {"shy", 0xAD, 1},
    {"sigma", 0x3C3, 0}, {"sigmaf", 0x3C2, 0}, {"sim", 0x223C, 0}, {"spades", 0x2660, 0},
    {"sub", 0x2282, 0}, {"sube", 0x2286, 0}, {"sum", 0x2211, 0}, {"sup", 0x2283, 0},
    {"sup1", 0xB9, 1}, {"sup2", 0xB2, 1}, {"sup3", 0xB3, 1}, {"supe", 0x2287, 0},
    {"szlig", 0xDF, 1}, {"tau", 0x3C4, 0}, {"there4", 0x2234, 0}, {"theta", 0x3B8, 0},
    {"thetasym", 0x3D1, 0}, {"thinsp", 0x2009, 0}, {"thorn", 0xFE, 1}, {"tilde", 0x2DC, 0},
    {"times", 0xD7, 1}, {"trade", 0x2122, 0}, {"uArr", 0x21D1, 0}, {"uacute", 0xFA, 1},
    {"uarr", 0x2191, 0}, {"ucirc", 0xFB, 1}, {"ugrave", 0xF9, 1}, {"uml", 0xA8, 1},
    {"upsih", 0x3D2, 0}, {"upsilon", 0x3C5, 0}, {"uuml", 0xFC, 1}, {"weierp", 0x2118, 0},
    {"xi", 0x3BE, 0}, {"yacute", 0xFD, 1}, {"yen", 0xA5, 1}, {"yuml", 0xFF, 1},
    {"zeta", 0x3B6, 0}, {"zwj", 0x200D, 0}, {"zwnj", 0x200C, 0},
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
    const struct entity *entity = find_name(text + 1, length);
    if (entity != NULL && 1 + length < size && text[1 + length] == ';') {
        out[0] = entity->code;
        *out_count = 1;
        return length + 2;
    }
    for (; length >= 2; length--) {
        entity = find_name(text + 1, length);
        if (entity != NULL && entity->bare) {
            out[0] = entity->code;
            *out_count = 1;
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
    int32_t lower[NAME_MAX_LENGTH];
    for (size_t i = 0; i < length; i++) {
        if (!is_upper(name[i]) && !is_digit(name[i]))
            return NULL;
        lower[i] = is_upper(name[i]) ? name[i] - 'A' + 'a' : name[i];
    }
    return find_name(lower, length);
}

static size_t capital(int32_t code, int32_t *out)
{
    if (code == 0xDF) { /* sharp s: its capital in running text is SS */
        out[0] = out[1] = 'S';
        return 2;
    }
    out[0] = utf8proc_toupper(code);
    return 1;
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

    if (start == 2) {
        uint32_t number;
        if (match_number(text, size, &number) != end)
            return 0;
        *out_count = resolve_number(number, out);
        return end + 1;
    }
    const struct entity *entity = find_name(text + 1, end - 1);
    if (entity != NULL) {
        out[0] = entity->code;
        *out_count = 1;
        return end + 1;
    }
    entity = find_capitals(text + 1, end - 1);
    if (entity == NULL)
        return 0;
    *out_count = capital(entity->code, out);
    return end + 1;
}
