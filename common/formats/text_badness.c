#include "formats/text_badness.h"

#include <uchar.h>

#include "formats/text_unicode.h"

static const struct mojibake_character characters[] = { /* sorted by code point */
#include "formats/text_mojibake_table.h"
};

const struct mojibake_character *mojibake_character(int32_t code)
{
    if (code < 0x80)
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

/* ---- the rules ---- */

/* Classes that need no table, in the bits that enum mojibake_class leaves. */
enum {
    ASCII_LOWER = 1 << 19,
    ASCII_UPPER = 1 << 20,
    NO_ASCII_LETTER = 1 << 21,
    NO_NEWLINE = 1 << 22,
    SPACE = 1 << 23,
    WORD = 1 << 24,

    ACCENTED = CLASS_LOWER_ACCENTED | CLASS_UPPER_ACCENTED,
    SIGN = CLASS_START | CLASS_END | CLASS_CURRENCY | CLASS_NUMERIC | CLASS_LAW,
};

static uint32_t classes_of(int32_t code)
{
    if (code < 0x80) {
        if (code >= 'a' && code <= 'z')
            return ASCII_LOWER | NO_NEWLINE | WORD;
        if (code >= 'A' && code <= 'Z')
            return ASCII_UPPER | NO_NEWLINE | WORD;
    }
    const struct mojibake_character *row = mojibake_character(code);
    return (row == NULL ? 0 : row->classes) | NO_ASCII_LETTER |
           (code == '\n' ? 0 : NO_NEWLINE) | (unicode_is_space(code) ? SPACE : 0) |
           (unicode_is_word(code) ? WORD : 0);
}

/* One character of a rule: of any of the classes, or one of the list. */
struct element {
    uint32_t classes;
    const char16_t *list;
};

enum { RULE_LENGTH = 7 };

struct rule {
    struct element at[RULE_LENGTH]; /* ends where neither is given */
};

/* Beside the classes go the characters that a list names: what the commonest letters of Latin,
 * Greek and Cyrillic texts become in the encodings at hand. */
static const struct rule rules[] = {
    {{{CLASS_C1, NULL}}},
    {{{CLASS_BAD | ACCENTED | CLASS_BOX | SIGN, NULL}, {CLASS_BAD, NULL}}},
    {{{ASCII_LOWER | ASCII_UPPER, NULL},
      {CLASS_LOWER_COMMON | CLASS_UPPER_COMMON, NULL},
      {CLASS_BAD, NULL}}},
    {{{CLASS_BAD, NULL}, {ACCENTED | CLASS_BOX | SIGN, NULL}}},
    {{{CLASS_LOWER_ACCENTED | CLASS_LOWER_COMMON | CLASS_BOX | CLASS_END | CLASS_CURRENCY |
           CLASS_NUMERIC, NULL},
      {CLASS_UPPER_ACCENTED, NULL}}},
    {{{CLASS_BOX | CLASS_END | CLASS_CURRENCY | CLASS_NUMERIC, NULL},
      {CLASS_LOWER_ACCENTED, NULL}}},
    {{{CLASS_LOWER_ACCENTED | CLASS_BOX | CLASS_END, NULL}, {CLASS_CURRENCY, NULL}}},
    {{{SPACE, NULL}, {CLASS_UPPER_ACCENTED, NULL}, {CLASS_CURRENCY, NULL}}},
    {{{CLASS_UPPER_ACCENTED | CLASS_BOX, NULL}, {CLASS_NUMERIC | CLASS_LAW, NULL}}},
    {{{ACCENTED | CLASS_BOX | CLASS_CURRENCY | CLASS_END, NULL},
      {CLASS_START, NULL},
      {CLASS_NUMERIC, NULL}}},
    {{{ACCENTED | CLASS_CURRENCY | CLASS_NUMERIC | CLASS_BOX | CLASS_LAW, NULL},
      {CLASS_END, NULL},
      {CLASS_START, NULL}}},
    {{{CLASS_CURRENCY | CLASS_NUMERIC | CLASS_BOX, NULL}, {CLASS_START, NULL}}},
    {{{ASCII_LOWER, NULL}, {CLASS_UPPER_ACCENTED, NULL}, {CLASS_START | CLASS_CURRENCY, NULL}}},
    {{{CLASS_BOX, NULL}, {CLASS_KAOMOJI, NULL}}},
    {{{ACCENTED | SIGN, NULL}, {CLASS_BOX, NULL}}},
    {{{CLASS_BOX, NULL}, {CLASS_END, NULL}}},
    {{{ACCENTED, NULL}, {CLASS_START | CLASS_END, NULL}, {WORD, NULL}}},
    {{{0, u"Œœ"}, {NO_ASCII_LETTER, NULL}}},
    {{{CLASS_UPPER_ACCENTED, NULL}, {0, u"°"}}},

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
    {{{ASCII_LOWER, NULL}, {0, u"ÃÂ"}, {0, u" "}}},
    {{{ASCII_LOWER, NULL}, {SPACE, NULL}, {0, u"ÃÂ"}, {0, u" "}}},
    {{{ASCII_LOWER | CLASS_END, u".,?!"}, {0, u"Â"}, {CLASS_START | CLASS_END, u" "}}},

    /* read as Mac Roman */
    {{{0, u"√"}, {0, u"±∂†≠®™´≤≥¥µø"}}},
    {{{0, u"≈"}, {0, u"°¢"}}},
    {{{0, u"‚"}, {0, u"Ä"}, {0, u"ìîïòôúùû†°¢π"}}},
    {{{0, u"‚"}, {0, u"âó"}, {0, u"àä°ê"}}},

    /* read as Windows-1251 */
    {{{0, u"в"}, {0, u"Ђ"}}},
    {{{0, u"ВГРС"},
      {CLASS_C1 | CLASS_BAD | CLASS_START | CLASS_END | CLASS_CURRENCY, u"°µ"},
      {0, u"ВГРС"}}},
    {{{0, u"Г"}, /* Windows-1252 read as Latin-1 before */
      {0, u"ў"},
      {0, u"В"},
      {0, u"Ђ"},
      {0, u"В"},
      {NO_NEWLINE, NULL},
      {ASCII_LOWER | ASCII_UPPER, u" "}}},

    /* read as Windows-1253 */
    {{{0, u"β"}, {0, u"€"}, {0, u"™\u00a0Ά\u00ad®°"}}},
    {{{0, u"ΒΓΞΟ"},
      {CLASS_C1 | CLASS_BAD | CLASS_START | CLASS_END | CLASS_CURRENCY, u"°"},
      {0, u"ΒΓΞΟ"}}},

    /* read as Windows-1257 */
    {{{0, u"ā"}, {0, u"€"}}},
};

static bool is_listed(int32_t code, const char16_t *list)
{
    for (; list != NULL && *list != 0; list++)
        if (*list == code)
            return true;
    return false;
}

static bool element_matches(const struct element *element, int32_t code, uint32_t classes)
{
    return (element->classes & classes) != 0 || is_listed(code, element->list);
}

static bool rule_matches(const struct rule *rule, const int32_t *text, size_t count)
{
    for (size_t i = 1; i < RULE_LENGTH; i++) {
        const struct element *element = &rule->at[i];
        if (element->classes == 0 && element->list == NULL)
            break;
        if (i == count || !element_matches(element, text[i], classes_of(text[i])))
            return false;
    }
    return true;
}

static bool begins_badly(const int32_t *text, size_t count)
{
    const uint32_t classes = classes_of(text[0]);
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (element_matches(&rules[i].at[0], text[0], classes) &&
            rule_matches(&rules[i], text, count))
            return true;
    return false;
}

bool mojibake_is_likely(const int32_t *text, size_t count)
{
    if (count >= 2 && is_listed(text[0], u"ÃÂ") && text[1] == ' ')
        return true;
    int32_t next = count > 0 ? text[0] : 0, after_next = count > 1 ? text[1] : 0;
    for (size_t i = 0; i < count; i++) {
        const int32_t code = next;
        next = after_next;
        after_next = i + 2 < count ? text[i + 2] : 0;
        /* every rule has a character beyond ASCII among its first three */
        if ((code | next | after_next) >= 0x80 && begins_badly(text + i, count - i))
            return true;
    }
    return false;
}
