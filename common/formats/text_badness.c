#include "formats/text_badness.h"

#include <uchar.h>

#include "formats/text_unicode.h"

static const struct mojibake_character characters[] = { /* sorted by code point */
#include "formats/text_mojibake_table.h"
};

/* Between these are scripts that no single-byte encoding at hand has. */
enum {
    CYRILLIC_LAST = 0x491,
    PUNCTUATION_FIRST = 0x2013,
    BOX_LAST = 0x25CA,
    PRIVATE_FIRST = 0xF8FF
};

const struct mojibake_character *mojibake_character(int32_t code)
{
    if (code < 0x80 || (code > CYRILLIC_LAST && code < PUNCTUATION_FIRST) ||
        (code > BOX_LAST && code < PRIVATE_FIRST))
        return NULL;
    if (code < 0x100) /* all of Latin-1 is there */
        return &characters[code - 0x80];
    size_t low = 0x80, high = sizeof characters / sizeof characters[0];
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (characters[middle].code == code)
            return &characters[middle];
        if (characters[middle].code < code)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* Classes that need no table, in the bits that enum mojibake_class leaves. */
enum {
    ASCII_LOWER = 1 << 20,
    ASCII_UPPER = 1 << 21,
    SPACE = 1 << 22,

    ACCENTED = CLASS_LOWER_ACCENTED | CLASS_UPPER_ACCENTED,
    SIGN = CLASS_START | CLASS_END | CLASS_CURRENCY | CLASS_NUMERIC | CLASS_LAW,
};

static uint32_t classes_of(int32_t code)
{
    if (code >= 'a' && code <= 'z')
        return ASCII_LOWER;
    if (code >= 'A' && code <= 'Z')
        return ASCII_UPPER;
    const struct mojibake_character *row = mojibake_character(code);
    return (row == NULL ? 0 : row->classes) | (unicode_is_space(code) ? SPACE : 0);
}

/* ---- sequences of classes ---- */

struct class_rule {
    uint32_t first, second;
    uint32_t third; /* 0: any or none */
};

static const struct class_rule class_rules[] = {
    {CLASS_BAD | ACCENTED | CLASS_BOX | SIGN, CLASS_BAD, 0},
    {CLASS_BAD, ACCENTED | CLASS_BOX | SIGN, 0},
    {ASCII_LOWER | ASCII_UPPER, CLASS_LOWER_COMMON | CLASS_UPPER_COMMON, CLASS_BAD},
    {CLASS_LOWER_ACCENTED | CLASS_LOWER_COMMON | CLASS_BOX | CLASS_END | CLASS_CURRENCY |
         CLASS_NUMERIC, CLASS_UPPER_ACCENTED, 0},
    {CLASS_BOX | CLASS_END | CLASS_CURRENCY | CLASS_NUMERIC, CLASS_LOWER_ACCENTED, 0},
    {CLASS_LOWER_ACCENTED | CLASS_BOX | CLASS_END, CLASS_CURRENCY, 0},
    {SPACE, CLASS_UPPER_ACCENTED, CLASS_CURRENCY},
    {CLASS_UPPER_ACCENTED | CLASS_BOX, CLASS_NUMERIC | CLASS_LAW, 0},
    {ACCENTED | CLASS_BOX | CLASS_CURRENCY | CLASS_END, CLASS_START, CLASS_NUMERIC},
    {ACCENTED | CLASS_CURRENCY | CLASS_NUMERIC | CLASS_BOX | CLASS_LAW, CLASS_END, CLASS_START},
    {CLASS_CURRENCY | CLASS_NUMERIC | CLASS_BOX, CLASS_START, 0},
    {ASCII_LOWER, CLASS_UPPER_ACCENTED, CLASS_START | CLASS_CURRENCY},
    {CLASS_BOX, CLASS_KAOMOJI, 0},
    {ACCENTED | SIGN, CLASS_BOX, 0},
    {CLASS_BOX, CLASS_END, 0},
};

static bool follows_class_rule(const int32_t *text, size_t count, uint32_t first,
                               uint32_t second)
{
    for (size_t i = 0; i < sizeof class_rules / sizeof class_rules[0]; i++) {
        const struct class_rule *rule = &class_rules[i];
        if ((rule->first & first) == 0 || (rule->second & second) == 0)
            continue;
        if (rule->third == 0 || (count > 2 && (rule->third & classes_of(text[2])) != 0))
            return true;
    }
    if ((first & ACCENTED) != 0 && (second & (CLASS_START | CLASS_END)) != 0)
        return count > 2 && unicode_is_word(text[2]);
    return (first & CLASS_UPPER_ACCENTED) != 0 && text[1] == u'°';
}

/* ---- sequences of named characters ---- */

/* Of any of the classes, or one of the list. */
struct element {
    uint32_t classes;
    const char16_t *list;
};

enum { NAMED_RULE_LENGTH = 5 };

struct named_rule {
    struct element at[NAMED_RULE_LENGTH]; /* ends where neither is given */
};

/* What the commonest letters and signs become; the first character is CLASS_NAMED, or the
 * second is Â. */
static const struct named_rule named_rules[] = {
    /* UTF-8 read as Windows-1252 */
    {{{0, u"ÂÃÎÐ"},
      {CLASS_START | CLASS_END, u"€œŠš¢£Ÿž\u00a0\u00ad®©°·»–—´"}}},
    {{{0, u"×"}, {0, u"²³"}}},
    {{{0, u"ØÙ"}, /* Arabic */
      {CLASS_COMMON | CLASS_CURRENCY | CLASS_BAD | CLASS_NUMERIC | CLASS_START, u"ŸŠ®°µ»"},
      {0, u"ØÙ"},
      {CLASS_COMMON | CLASS_CURRENCY | CLASS_BAD | CLASS_NUMERIC | CLASS_START, u"ŸŠ®°µ»"}}},
    {{{0, u"à"}, {0, u"²µ¹¼½¾"}}}, /* scripts of South Asia */
    {{{0, u"Ã"}, {0, u"\u00a0¡"}}},
    {{{ASCII_LOWER | CLASS_END, u".,?!"}, {0, u"Â"}, {CLASS_START | CLASS_END, u" "}}},

    /* read as Mac Roman */
    {{{0, u"√"}, {0, u"±∂†≠®™´≤≥¥µø"}}},
    {{{0, u"≈"}, {0, u"°¢"}}},
    {{{0, u"‚"}, {0, u"Ä"}, {0, u"ìîïòôúùû†°¢π"}}},
    {{{0, u"‚"}, {0, u"âó"}, {0, u"àä°ê"}}},

    /* read as Windows-1251, Windows-1253, Windows-1257 */
    {{{0, u"в"}, {0, u"Ђ"}}},
    {{{0, u"ВГРС"},
      {CLASS_C1 | CLASS_BAD | CLASS_START | CLASS_END | CLASS_CURRENCY, u"°µ"},
      {0, u"ВГРС"}}},
    {{{0, u"β"}, {0, u"€"}, {0, u"™\u00a0Ά\u00ad®°"}}},
    {{{0, u"ΒΓΞΟ"},
      {CLASS_C1 | CLASS_BAD | CLASS_START | CLASS_END | CLASS_CURRENCY, u"°"},
      {0, u"ΒΓΞΟ"}}},
    {{{0, u"ā"}, {0, u"€"}}},
};

static bool is_listed(int32_t code, const char16_t *list)
{
    for (; list != NULL && *list != 0; list++)
        if (*list == code)
            return true;
    return false;
}

static bool named_rule_matches(const struct named_rule *rule, const int32_t *text, size_t count)
{
    for (size_t i = 0; i < NAMED_RULE_LENGTH; i++) {
        const struct element *element = &rule->at[i];
        if (element->classes == 0 && element->list == NULL)
            break;
        if (i == count || !(is_listed(text[i], element->list) ||
                            (element->classes & classes_of(text[i])) != 0))
            return false;
    }
    return true;
}

/* Windows-1251 on Latin-1 on Windows-1252, beside a Latin letter. */
static bool is_misread_thrice(const int32_t *text, size_t count)
{
    static const char16_t start[] = u"ГўВЂВ";
    const size_t length = sizeof start / sizeof start[0] - 1;
    if (count < length + 2)
        return false;
    for (size_t i = 0; i < length; i++)
        if (text[i] != start[i])
            return false;
    const uint32_t last = classes_of(text[length + 1]);
    return text[length] != '\n' &&
           ((last & (ASCII_LOWER | ASCII_UPPER)) != 0 || text[length + 1] == ' ');
}

static bool follows_named_rule(const int32_t *text, size_t count)
{
    if (is_listed(text[0], u"Œœ")) /* but in French */
        return (classes_of(text[1]) & (ASCII_LOWER | ASCII_UPPER)) == 0;
    for (size_t i = 0; i < sizeof named_rules / sizeof named_rules[0]; i++)
        if (named_rule_matches(&named_rules[i], text, count))
            return true;
    return is_misread_thrice(text, count);
}

/* ---- the heuristic ---- */

/* Ã or Â for the first byte of a sequence whose second, A0, has become a space: at the start of
 * the text, or behind a small letter and perhaps a space. */
static bool is_cut_sequence(const int32_t *text, size_t count, size_t at)
{
    if (at + 1 == count || !is_listed(text[at], u"ÃÂ") || text[at + 1] != ' ')
        return false;
    if (at == 0)
        return true;
    if (at >= 2 && unicode_is_space(text[at - 1]))
        at--;
    return (classes_of(text[at - 1]) & ASCII_LOWER) != 0;
}

bool mojibake_is_likely(const int32_t *text, size_t count)
{
    uint32_t next = count > 0 ? classes_of(text[0]) : 0;
    for (size_t i = 0; i < count; i++) {
        if (text[i] < 0x80 && (i + 1 == count || text[i + 1] < 0x80)) {
            next = 0; /* not looked at: only a character beyond ASCII, or one before, matters */
            continue;
        }
        const uint32_t classes = next != 0 ? next : classes_of(text[i]);
        if ((classes & CLASS_C1) != 0 || is_cut_sequence(text, count, i))
            return true;
        if (i + 1 == count)
            return false;
        next = classes_of(text[i + 1]);
        if (classes != 0 && next != 0 &&
            follows_class_rule(text + i, count - i, classes, next))
            return true;
        if (((classes & CLASS_NAMED) != 0 || text[i + 1] == u'Â') &&
            follows_named_rule(text + i, count - i))
            return true;
    }
    return false;
}
