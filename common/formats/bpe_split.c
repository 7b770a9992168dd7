/* bpe_split.c - where words begin and end: CLIP's pattern, written out. */
#include <string.h>
#include <utf8proc.h>

#include "formats/bpe.h"
#include "base/utf8.h"

enum char_class {
    CLASS_SPACE,
    CLASS_LETTER,
    CLASS_NUMERAL,
    CLASS_OTHER,
};

static enum char_class class_of_ascii(uint8_t byte)
{
    if ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z')
        return CLASS_LETTER;
    if (byte >= '0' && byte <= '9')
        return CLASS_NUMERAL;
    if (byte == ' ' || (byte >= '\t' && byte <= '\r'))
        return CLASS_SPACE;
    return CLASS_OTHER;
}

/* U+0345 is a mark, so no letter, but its capital is one; the pattern's negated class, which
 * ignores case, rejects it and no other alternative takes it: it is skipped, as a space is. */
static enum char_class class_of_code(int32_t code)
{
    switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return CLASS_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return CLASS_NUMERAL;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return CLASS_SPACE;
    default:
        return code == 0x85 || code == 0x345 ? CLASS_SPACE : CLASS_OTHER;
    }
}

/* The class of the character at text[*position]; moves past it. */
static enum char_class next_class(const uint8_t *text, size_t size, size_t *position)
{
    if (text[*position] < 0x80)
        return class_of_ascii(text[(*position)++]);
    return class_of_code(utf8_next(text, size, position));
}

/* The size of `pattern` (lower-case ASCII) at the start of text, whatever the case, or 0. The
 * long s is a form of s. */
static size_t match_folded(const uint8_t *text, size_t size, const char *pattern)
{
    size_t at = 0;
    for (; *pattern != '\0'; pattern++) {
        if (*pattern == 's' && size - at >= 2 && text[at] == 0xC5 && text[at + 1] == 0xBF) {
            at += 2;
            continue;
        }
        if (at == size)
            return 0;
        uint8_t byte = text[at++];
        if (byte >= 'A' && byte <= 'Z')
            byte |= 0x20;
        if (byte != (uint8_t)*pattern)
            return 0;
    }
    return at;
}

static size_t match_contraction(const uint8_t *text, size_t size)
{
    static const char *const contractions[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof contractions / sizeof contractions[0]; i++) {
        size_t length = match_folded(text, size, contractions[i]);
        if (length > 0)
            return length;
    }
    return 0;
}

/* Only the exact strings are the tokens; in other cases they are one word of plain text. */
static size_t match_special(const uint8_t *text, size_t size, enum bpe_special *special)
{
    static const char start[] = "<start_of_text>", end[] = "<end_of_text>";
    size_t length = match_folded(text, size, start);
    if (length > 0) {
        *special = length == sizeof start - 1 && memcmp(text, start, length) == 0
                       ? BPE_START_STRING : BPE_TEXT;
        return length;
    }
    length = match_folded(text, size, end);
    if (length > 0)
        *special = length == sizeof end - 1 && memcmp(text, end, length) == 0
                       ? BPE_END_STRING : BPE_TEXT;
    return length;
}

bool bpe_next_word(const uint8_t *text, size_t size, size_t *position, struct bpe_word *word)
{
    enum char_class class = CLASS_SPACE;
    size_t at = *position;
    size_t start = at;
    while (at < size && class == CLASS_SPACE) {
        start = at;
        class = next_class(text, size, &at);
    }
    *position = at;
    if (class == CLASS_SPACE)
        return false;

    *word = (struct bpe_word){.start = start, .special = BPE_TEXT};
    size_t fixed = 0;
    if (text[start] == '<')
        fixed = match_special(text + start, size - start, &word->special);
    else if (text[start] == '\'')
        fixed = match_contraction(text + start, size - start);
    if (fixed > 0) {
        at = start + fixed;
    } else if (class != CLASS_NUMERAL) {
        for (size_t next = at; at < size && next_class(text, size, &next) == class;)
            at = next;
    }
    word->size = at - start;
    *position = at;
    return true;
}
