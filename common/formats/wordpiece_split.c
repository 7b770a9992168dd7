#include "formats/wordpiece_split.h"

#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

enum {
    PARTS_MAX = 4, /* of a canonical decomposition, Unicode's stability policy */
};

enum char_class {
    CLASS_LETTER,      /* and all else that words are made of */
    CLASS_SPACE,
    CLASS_PUNCTUATION, /* a word of its own, as the next */
    CLASS_CJK,
    CLASS_CONTROL,     /* not there before decomposition */
    CLASS_MARK,        /* not there after it */
};

const char *const wordpiece_special_strings[WORDPIECE_SPECIALS] = {
    [WORDPIECE_PADDING] = "[PAD]", [WORDPIECE_UNKNOWN] = "[UNK]", [WORDPIECE_START] = "[CLS]",
    [WORDPIECE_END] = "[SEP]",     [WORDPIECE_MASK] = "[MASK]",
};

struct code_range {
    int32_t first, last;
};

static bool in_ranges(const struct code_range *ranges, size_t count, int32_t code)
{
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (code > ranges[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && code >= ranges[low].first;
}

static bool is_cjk(int32_t code)
{
    static const struct code_range ranges[] = {
        {0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},   {0x20000, 0x2A6DF},
        {0x2A700, 0x2B81F}, {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F},
    };
    return in_ranges(ranges, sizeof ranges / sizeof ranges[0], code);
}

/* Marks, formats and punctuation of Unicode 9 to 15; a range may have letters, too. */
static bool is_later_than_unicode_8(int32_t code)
{
    static const struct code_range ranges[] = {
        {0x061D, 0x061D},   {0x07FD, 0x07FD},   {0x0890, 0x08E2},   {0x09FD, 0x09FE},
        {0x0A76, 0x0A76},   {0x0AFA, 0x0AFF},   {0x0B55, 0x0B55},   {0x0C04, 0x0C3C},
        {0x0C77, 0x0C77},   {0x0C84, 0x0C84},   {0x0D00, 0x0D00},   {0x0D3B, 0x0D3C},
        {0x0D81, 0x0D81},   {0x0EBA, 0x0EBA},   {0x0ECE, 0x0ECE},   {0x180F, 0x1886},
        {0x1ABF, 0x1ACE},   {0x1B7D, 0x1B7E},   {0x1DF6, 0x1DFB},   {0x2E43, 0x2E5D},
        {0xA82C, 0xA82C},   {0xA8C5, 0xA8C5},   {0xA8FF, 0xA8FF},   {0xA9BD, 0xA9BD},
        {0x10D24, 0x10F89}, {0x11070, 0x11074}, {0x110C2, 0x110CD}, {0x111CF, 0x111CF},
        {0x1123E, 0x11241}, {0x1133B, 0x1133B}, {0x11438, 0x1145E}, {0x11660, 0x1166C},
        {0x116B9, 0x116B9}, {0x1182F, 0x11FFF}, {0x12FF1, 0x13455}, {0x16E97, 0x16F4F},
        {0x16FE2, 0x16FE4}, {0x1CF00, 0x1CF46}, {0x1E000, 0x1E4EF}, {0x1E944, 0x1E95F},
    };
    return in_ranges(ranges, sizeof ranges / sizeof ranges[0], code);
}

static enum char_class class_of_category(int32_t code)
{
    switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
        return CLASS_PUNCTUATION;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return CLASS_SPACE;
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO:
        return CLASS_CONTROL;
    case UTF8PROC_CATEGORY_MN:
        return CLASS_MARK;
    default:
        return CLASS_LETTER;
    }
}

static enum char_class class_of_code(int32_t code)
{
    switch (code) {
    case UTF8_REPLACEMENT:
        return CLASS_CONTROL;
    case 0x1734: /* a mark until Unicode 14 */
        return CLASS_MARK;
    case 0x166D:  /* punctuation until Unicode 12 */
    case 0x111C9: /* and until Unicode 11 */
    case 0x1FEF:  /* decomposes to a grave accent, which is ASCII */
    case 0x2260:  /* to = < > and a mark */
    case 0x226E:
    case 0x226F:
        return CLASS_PUNCTUATION;
    }
    if (is_cjk(code))
        return CLASS_CJK;
    const enum char_class class = class_of_category(code);
    if (class != CLASS_LETTER && class != CLASS_SPACE && is_later_than_unicode_8(code))
        return CLASS_LETTER;
    return class;
}

static enum char_class class_of_ascii(uint8_t byte)
{
    if (byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r')
        return CLASS_SPACE;
    if (byte < ' ' || byte == 0x7F)
        return CLASS_CONTROL;
    const uint8_t small = byte | 0x20;
    if ((small >= 'a' && small <= 'z') || (byte >= '0' && byte <= '9'))
        return CLASS_LETTER;
    return CLASS_PUNCTUATION;
}

/* The class of the character at text[*position]; moves past it. */
static enum char_class next_class(const uint8_t *text, size_t size, size_t *position)
{
    if (text[*position] < 0x80)
        return class_of_ascii(text[(*position)++]);
    return class_of_code(utf8_next(text, size, position));
}

/* ---- words ---- */

/* A word has the marks and controls that follow its letters, but none in front of them. */
bool wordpiece_next_plain_word(const uint8_t *text, size_t size, size_t *position,
                               struct wordpiece_word *word)
{
    enum char_class class = CLASS_SPACE;
    size_t at = *position, start = at;
    while (at < size && class != CLASS_LETTER && class != CLASS_PUNCTUATION &&
           class != CLASS_CJK) {
        start = at;
        class = next_class(text, size, &at);
    }
    *position = at;
    if (class != CLASS_LETTER && class != CLASS_PUNCTUATION && class != CLASS_CJK)
        return false;

    if (class == CLASS_LETTER) {
        for (size_t next = at; at < size; at = next) {
            class = next_class(text, size, &next);
            if (class != CLASS_LETTER && class != CLASS_MARK && class != CLASS_CONTROL)
                break;
        }
    }
    *word = (struct wordpiece_word){start, at - start, WORDPIECE_TEXT};
    *position = at;
    return true;
}

/* The size of the special entry's string at the start of text, whatever the case, or 0. */
static size_t match_special(const uint8_t *text, size_t size, enum wordpiece_special *special)
{
    for (int i = 0; i < WORDPIECE_SPECIALS; i++) {
        const char *string = wordpiece_special_strings[i];
        size_t at = 0;
        while (at < size && string[at] != '\0' &&
               (text[at] == (uint8_t)string[at] ||
                (string[at] >= 'A' && string[at] <= 'Z' && text[at] == (string[at] | 0x20))))
            at++;
        if (string[at] != '\0')
            continue;
        *special = memcmp(text, string, at) == 0 ? (enum wordpiece_special)i : WORDPIECE_TEXT;
        return at;
    }
    return 0;
}

bool wordpiece_next_word(const uint8_t *text, size_t size, size_t *position,
                         struct wordpiece_word *word)
{
    if (!wordpiece_next_plain_word(text, size, position, word))
        return false;
    if (text[word->start] == '[') {
        const size_t length =
            match_special(text + word->start, size - word->start, &word->special);
        if (length > 0) {
            word->size = length;
            *position = word->start + length;
        }
    }
    return true;
}

/* ---- folding ---- */

/* The characters of a word that stay. */
struct folded {
    int32_t codes[WORDPIECE_WORD_MAX];
    utf8proc_propval_t order[WORDPIECE_WORD_MAX]; /* canonical combining classes */
    size_t count;
    size_t movable; /* where the last character of class 0 is, or was */
};

/* Adds a part of a decomposition, marks included: though they go away, one of class 0 ends what
 * canonical ordering may move. false where there is no room. */
static bool fold_part(struct folded *folded, int32_t code)
{
    const utf8proc_propval_t order = utf8proc_get_property(code)->combining_class;
    const bool is_mark = class_of_code(code) == CLASS_MARK;
    if (!is_mark && folded->count == WORDPIECE_WORD_MAX)
        return false;
    if (order == 0)
        folded->movable = folded->count;
    if (is_mark)
        return true;
    size_t at = folded->count++;
    for (; at > folded->movable && folded->order[at - 1] > order; at--) {
        folded->codes[at] = folded->codes[at - 1];
        folded->order[at] = folded->order[at - 1];
    }
    folded->codes[at] = code;
    folded->order[at] = order;
    return true;
}

static bool fold_code(struct folded *folded, int32_t code)
{
    utf8proc_int32_t parts[PARTS_MAX];
    if (class_of_code(code) == CLASS_CONTROL)
        return true;
    const utf8proc_ssize_t count =
        utf8proc_decompose_char(code, parts, PARTS_MAX, UTF8PROC_DECOMPOSE, NULL);
    for (utf8proc_ssize_t i = 0; i < count && i < PARTS_MAX; i++)
        if (!fold_part(folded, parts[i]))
            return false;
    return true;
}

/* Most words: letters and digits of ASCII. Returns how many bytes at the start are such. */
static size_t fold_ascii(const uint8_t *word, size_t size, uint8_t *out)
{
    size_t at = 0;
    for (; at < size && word[at] < 0x80 && class_of_ascii(word[at]) != CLASS_CONTROL; at++)
        out[at] = word[at] >= 'A' && word[at] <= 'Z' ? word[at] | 0x20 : word[at];
    return at;
}

bool wordpiece_fold(const uint8_t *word, size_t size, uint8_t *out, size_t *out_size)
{
    struct folded folded = {.count = 0};
    if (size <= WORDPIECE_WORD_MAX && fold_ascii(word, size, out) == size) {
        *out_size = size;
        return true;
    }
    for (size_t at = 0; at < size;)
        if (!fold_code(&folded, utf8_next(word, size, &at)))
            return false;
    *out_size = 0;
    for (size_t i = 0; i < folded.count; i++)
        *out_size += utf8_write(utf8proc_tolower(folded.codes[i]), out + *out_size);
    return true;
}
