#include "formats/tagger_words.h"

#include <stdbool.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

enum char_class { CLASS_SPACE, CLASS_LETTER, CLASS_DIGIT, CLASS_OTHER };

static enum char_class class_of_code(int32_t code)
{
    switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return CLASS_SPACE;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return CLASS_DIGIT;
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return CLASS_LETTER;
    default:
        return code == 0x85 ? CLASS_SPACE : CLASS_OTHER;
    }
}

/* The class of the character at text[*position]; moves past it. */
static enum char_class next_class(const uint8_t *text, size_t size, size_t *position)
{
    const uint8_t byte = text[*position];
    if (byte >= 0x80)
        return class_of_code(utf8_next(text, size, position));
    (*position)++;
    if ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z')
        return CLASS_LETTER;
    if (byte >= '0' && byte <= '9')
        return CLASS_DIGIT;
    return byte == ' ' || (byte >= '\t' && byte <= '\r') ? CLASS_SPACE : CLASS_OTHER;
}

/* CLASS_SPACE at the end of the text. */
static enum char_class class_at(const uint8_t *text, size_t size, size_t position)
{
    return position < size ? next_class(text, size, &position) : CLASS_SPACE;
}

static uint8_t lower(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte;
}

/* Whether text[0..size) begins with a lower-case pattern, whatever its case. */
static bool begins_with(const uint8_t *text, size_t size, const char *pattern)
{
    for (size_t i = 0; pattern[i] != '\0'; i++)
        if (i == size || lower(text[i]) != (uint8_t)pattern[i])
            return false;
    return true;
}

static bool equals(const uint8_t *text, size_t size, const char *pattern)
{
    return strlen(pattern) == size && begins_with(text, size, pattern);
}

/* The size of an apostrophe, straight or curly, at text[at], or 0. */
static size_t apostrophe_size(const uint8_t *text, size_t size, size_t at)
{
    if (at < size && text[at] == '\'')
        return 1;
    return at + 3 <= size && memcmp(text + at, "\xe2\x80\x99", 3) == 0 ? 3 : 0;
}

/* ---- words of letters and digits ---- */

/* The size of what joins letters or digits of class `before` to those behind it, or 0. */
static size_t joiner_size(const uint8_t *text, size_t size, size_t at, enum char_class before)
{
    const size_t joiner = apostrophe_size(text, size, at) > 0
                              ? apostrophe_size(text, size, at) : 1;
    const enum char_class after = class_at(text, size, at + joiner);
    if (after != CLASS_LETTER && after != CLASS_DIGIT)
        return 0;
    switch (joiner > 1 ? '\'' : text[at]) {
    case '-':
    case '.':
    case '_':
    case '@':
        return joiner;
    case '\'':
    case '&':
        return after == CLASS_LETTER ? joiner : 0;
    case ',':
    case ':':
    case '/':
        return before == CLASS_DIGIT && after == CLASS_DIGIT ? joiner : 0;
    default:
        return 0;
    }
}

/* Whether a dot behind the word belongs to it: letters with dots between, one capital letter,
 * or a title and the like. */
static bool is_abbreviation(const uint8_t *word, size_t size)
{
    static const char *const known[] = {"mr", "mrs", "ms",  "dr",  "st",  "jr",  "sr", "prof",
                                        "vs", "etc", "inc", "ltd", "co",  "corp", "mt", "ft",
                                        "no", "vol", "approx", "dept", "gen", "rev", "capt"};
    if (size == 1)
        return *word >= 'A' && *word <= 'Z' && *word != 'I';
    bool dotted = size % 2 == 1;
    for (size_t i = 0; i < size && dotted; i++)
        dotted = i % 2 == 0 ? lower(word[i]) >= 'a' && lower(word[i]) <= 'z' : word[i] == '.';
    for (size_t i = 0; i < sizeof known / sizeof known[0] && !dotted; i++)
        dotted = equals(word, size, known[i]);
    return dotted;
}

/* The end of the word that begins at `start` with a letter or a digit. "No." and "co." are
 * abbreviations only where something follows: more often they end a sentence. */
static size_t word_end(const uint8_t *text, size_t size, size_t start)
{
    size_t at = start;
    enum char_class class = next_class(text, size, &at);
    while (at < size) {
        size_t next = at;
        const enum char_class found = next_class(text, size, &next);
        if (found == CLASS_OTHER) {
            const size_t joiner = joiner_size(text, size, at, class);
            if (joiner == 0)
                break;
            at += joiner;
            continue;
        }
        if (found == CLASS_SPACE)
            break;
        class = found;
        at = next;
    }
    if (at + 1 < size && text[at] == '.' && text[at + 1] != '.' &&
        is_abbreviation(text + start, at - start))
        at++;
    return at;
}

static bool is_address(const uint8_t *text, size_t size)
{
    return begins_with(text, size, "http://") || begins_with(text, size, "https://") ||
           begins_with(text, size, "www.");
}

/* The end of a web address: the next blank, without punctuation before it. */
static size_t address_end(const uint8_t *text, size_t size, size_t start)
{
    size_t at = start, end = start;
    while (at < size) {
        const bool closing = strchr(".,;:!?)]}>\"'", text[at]) != NULL && text[at] != '\0';
        if (next_class(text, size, &at) == CLASS_SPACE)
            break;
        if (!closing)
            end = at;
    }
    return end;
}

/* ---- contractions ---- */

/* Where a word falls into two, or its size. */
static size_t contraction_at(const uint8_t *word, size_t size)
{
    static const struct {
        const char *word;
        size_t first;
    } known[] = {{"cannot", 3}, {"gonna", 3}, {"gotta", 3}, {"wanna", 3},
                 {"gimme", 3},  {"lemme", 3}};
    static const char *const endings[] = {"s", "m", "d", "re", "ve", "ll"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (equals(word, size, known[i].word))
            return known[i].first;
    for (size_t letters = 1; letters <= 2; letters++) {
        for (size_t mark = 1; mark <= 3; mark += 2) {
            if (size <= letters + mark)
                continue;
            const size_t at = size - letters - mark;
            if (apostrophe_size(word, size, at) != mark)
                continue;
            if (letters == 1 && lower(word[size - 1]) == 't' && at > 1 &&
                lower(word[at - 1]) == 'n')
                return at - 1;
            for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
                if (equals(word + size - letters, letters, endings[i]))
                    return at;
        }
    }
    return size;
}

/* ---- all else ---- */

/* "'s", "'90s" or "'em" alone: an apostrophe and what follows; or a run of one character. */
static size_t other_end(const uint8_t *text, size_t size, size_t start)
{
    const size_t apostrophe = apostrophe_size(text, size, start);
    size_t at = start;
    next_class(text, size, &at);
    if (apostrophe > 0) {
        const size_t letters = start + apostrophe;
        size_t end = letters;
        while (end < size && end - letters < 4 &&
               (class_at(text, size, end) == CLASS_LETTER ||
                class_at(text, size, end) == CLASS_DIGIT) && text[end] < 0x80)
            end++;
        static const char *const known[] = {"s", "m", "d", "t", "re", "ve", "ll", "em", "n"};
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            if (equals(text + letters, end - letters, known[i]))
                return end;
        if (end - letters == 3 && begins_with(text + letters + 2, 1, "s") &&
            class_at(text, size, letters) == CLASS_DIGIT)
            return end;
    }
    const size_t length = at - start;
    while (at + length <= size && memcmp(text + at, text + start, length) == 0)
        at += length;
    return at;
}

enum status tagger_split(const uint8_t *text, size_t size, struct buffer *words,
                         struct error *error)
{
    for (size_t at = 0, start; at < size;) {
        start = at;
        const enum char_class class = next_class(text, size, &at);
        if (class == CLASS_SPACE)
            continue;
        struct tagger_word parts[2] = {{start, 0}};
        size_t first = 0;
        if (class == CLASS_OTHER) {
            at = other_end(text, size, start);
            first = at - start;
        } else if (is_address(text + start, size - start)) {
            at = address_end(text, size, start);
            first = at - start;
        } else {
            at = word_end(text, size, start);
            first = contraction_at(text + start, at - start);
        }
        parts[0].size = first;
        parts[1] = (struct tagger_word){start + first, at - start - first};
        const size_t count = parts[1].size > 0 ? 2 : 1;
        enum status status = buffer_append(words, parts, count * sizeof parts[0], error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}
