#include "formats/text_mojibake.h"

#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"
#include "formats/html_entity.h"
#include "formats/text_badness.h"
#include "formats/text_codes.h"

enum {
    LOST = 0x1A, /* the byte of U+FFFD in the sloppy encodings */
    LOSSY_LENGTH_MAX = 6,
};

/* ---- text to bytes ---- */

static bool is_sloppy(enum code_page page)
{
    return page >= PAGE_WINDOWS_1252 && page <= PAGE_WINDOWS_1257;
}

/* The byte of a code point in a code page, or -1. */
static int page_byte(int32_t code, enum code_page page)
{
    if (code < 0x80)
        return code == LOST && is_sloppy(page) ? -1 : (int)code;
    const struct mojibake_character *row = mojibake_character(code);
    return row == NULL || row->bytes[page] == 0 ? -1 : row->bytes[page];
}

/* The code pages that have all characters of the text, one bit each. */
static unsigned find_pages(const int32_t *text, size_t count)
{
    unsigned pages = (1u << PAGE_COUNT) - 1;
    for (size_t i = 0; i < count && pages != 0; i++) {
        if (text[i] < 0x80 && text[i] != LOST)
            continue;
        for (int page = 0; page < PAGE_COUNT; page++)
            if (page_byte(text[i], page) < 0)
                pages &= ~(1u << page);
    }
    return pages;
}

static enum status encode(const struct buffer *codes, enum code_page page, struct buffer *out,
                          struct error *error)
{
    const size_t count = codes_count(codes);
    enum status status = buffer_reserve(out, count, error);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        out->data[i] = (uint8_t)page_byte(codes_of(codes)[i], page);
    out->size = count;
    return STATUS_OK;
}

/* ---- bytes that were changed on the way ---- */

static bool begins_with(const uint8_t *bytes, size_t size, const char *word)
{
    const size_t length = strlen(word);
    return size >= length && memcmp(bytes, word, length) == 0;
}

/* C3 and a space: an "à" whose A0 became a space and was then merged with the space between
 * words. Portuguese has words that go on after it; there the space was A0 itself. */
static bool is_grave_word(const uint8_t *bytes, size_t size)
{
    static const char *const goes_on[] = {" ", "quele", "quela", "quilo", "s "};
    if (size < 2 || bytes[0] != 0xC3 || bytes[1] != ' ')
        return false;
    for (size_t i = 0; i < sizeof goes_on / sizeof goes_on[0]; i++)
        if (begins_with(bytes + 2, size - 2, goes_on[i]))
            return false;
    return true;
}

/* A continuation byte that is neither A0, which may be the space itself, nor 85, which other
 * programs change into three full stops. */
static bool is_likely_continuation(uint8_t byte)
{
    return byte >= 0x80 && byte <= 0xBF && byte != 0x85 && byte != 0xA0;
}

static bool is_continuation(uint8_t byte)
{
    return (byte & 0xC0) == 0x80;
}

/* The length of a sequence that would be UTF-8, and a likely character, were its one space A0;
 * or 0. */
static size_t match_spaced_utf8(const uint8_t *bytes, size_t size)
{
    const uint8_t first = bytes[0];
    if (size >= 2 && memchr("\xC2\xC3\xC5\xCE\xD0\xD9", first, 6) != NULL && bytes[1] == ' ')
        return 2;
    if (size >= 3 && first >= 0xE0 && first <= 0xE3) {
        if (first >= 0xE2 && bytes[1] == ' ' && is_likely_continuation(bytes[2]))
            return 3;
        if (is_likely_continuation(bytes[1]) && bytes[2] == ' ')
            return 3;
    }
    if (size >= 4 && first == 0xF0) {
        int spaces = 0, continuations = 0;
        for (int i = 1; i < 4; i++) {
            spaces += bytes[i] == ' ';
            continuations += is_continuation(bytes[i]);
        }
        if (spaces == 1 && continuations == 2)
            return 4;
    }
    return 0;
}

static enum status restore_a0(const struct buffer *bytes, struct buffer *out,
                              struct error *error)
{
    enum status status = buffer_reserve(out, bytes->size + bytes->size / 2, error);
    if (status != STATUS_OK)
        return status;
    out->size = 0;
    for (size_t i = 0; i < bytes->size; i++) {
        out->data[out->size++] = bytes->data[i];
        if (is_grave_word(bytes->data + i, bytes->size - i))
            out->data[out->size++] = 0xA0;
    }
    for (size_t i = 0; i < out->size;) {
        const size_t length = match_spaced_utf8(out->data + i, out->size - i);
        for (size_t k = 0; k < length; k++)
            if (out->data[i + k] == ' ')
                out->data[i + k] = 0xA0;
        i += length > 0 ? length : 1;
    }
    return STATUS_OK;
}

/* UTF-8 and surrogates in pairs of which bytes were lost, in the order in which they are tried.
 * Each begins with a byte in [low, high]; of the others stand
 *   s  for a lost byte              c  for a continuation byte or a lost one
 *   q  for a lost byte or '?'       x  for any of these
 *   h, E, l  for what goes on a high surrogate, begins a low one and goes on it. */
static const struct lossy {
    uint8_t low, high;
    char rest[LOSSY_LENGTH_MAX];
} lossy_sequences[] = {
    {0xC2, 0xDF, "s"},     {0xC2, 0xC3, "?"},   {0xED, 0xED, "hqElx"}, {0xED, 0xED, "hxElq"},
    {0xE0, 0xEF, "qc"},    {0xE0, 0xEF, "cq"},  {0xF0, 0xF4, "qcc"},   {0xF0, 0xF4, "cqc"},
    {0xF0, 0xF4, "ccq"},   {LOST, LOST, ""},
};

static bool is_lossy_byte(uint8_t byte, char kind)
{
    switch (kind) {
    case 's':
        return byte == LOST;
    case '?':
        return byte == '?';
    case 'q':
        return byte == LOST || byte == '?';
    case 'c':
        return byte == LOST || is_continuation(byte);
    case 'x':
        return byte == LOST || byte == '?' || is_continuation(byte);
    case 'h':
        return byte >= 0xA0 && byte <= 0xAF;
    case 'E':
        return byte == 0xED;
    default:
        return byte >= 0xB0 && byte <= 0xBF;
    }
}

static size_t match_lossy(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < sizeof lossy_sequences / sizeof lossy_sequences[0]; i++) {
        const struct lossy *lossy = &lossy_sequences[i];
        const size_t length = 1 + strlen(lossy->rest);
        if (bytes[0] < lossy->low || bytes[0] > lossy->high || length > size)
            continue;
        size_t at = 1;
        while (at < length && is_lossy_byte(bytes[at], lossy->rest[at - 1]))
            at++;
        if (at == length)
            return length;
    }
    return 0;
}

/* Each sequence that lost bytes becomes the UTF-8 of U+FFFD. */
static enum status replace_lossy(const struct buffer *bytes, struct buffer *out,
                                 struct error *error)
{
    enum status status = buffer_reserve(out, 3 * bytes->size, error);
    if (status != STATUS_OK)
        return status;
    out->size = 0;
    for (size_t i = 0; i < bytes->size;) {
        const size_t length = match_lossy(bytes->data + i, bytes->size - i);
        if (length > 0) {
            out->size += utf8_write(UTF8_REPLACEMENT, out->data + out->size);
            i += length;
        } else {
            out->data[out->size++] = bytes->data[i++];
        }
    }
    return STATUS_OK;
}

/* ---- bytes to text ---- */

/* The code point of two surrogates in UTF-8, or -1. ftfy's expression takes a line feed that
 * ends the text for the last byte, which is followed here. */
static int32_t surrogate_pair(const uint8_t *bytes, size_t size)
{
    if (size < 6 || bytes[0] != 0xED || (bytes[1] & 0xF0) != 0xA0 ||
        !is_continuation(bytes[2]) || bytes[3] != 0xED || (bytes[4] & 0xF0) != 0xB0 ||
        !(is_continuation(bytes[5]) || (bytes[5] == '\n' && size == 6)))
        return -1;
    return 0x10000 + ((bytes[1] & 0x0F) << 16) + ((bytes[2] & 0x3F) << 10) +
           ((bytes[4] & 0x0F) << 6) + (bytes[5] & 0x3F);
}

/* The next code point of UTF-8 and its variants, or -1 where it is neither. C0 before a last
 * line feed is another of ftfy's. */
static int32_t next_code(const uint8_t *bytes, size_t size, size_t *position)
{
    const uint8_t *at = bytes + *position;
    const size_t left = size - *position;
    if (left >= 2 && at[0] == 0xC0 && (at[1] == 0x80 || (at[1] == '\n' && left == 2))) {
        *position += 2;
        return 0;
    }
    const int32_t pair = surrogate_pair(at, left);
    if (pair >= 0) {
        *position += 6;
        return pair;
    }
    const size_t start = *position;
    const int32_t code = utf8_next(bytes, size, position);
    const bool meant = bytes[start] == 0xEF && *position - start == 3;
    return code == UTF8_REPLACEMENT && !meant ? -1 : code;
}

static enum status decode(const struct buffer *bytes, struct buffer *codes, bool *decoded,
                          struct error *error)
{
    *decoded = false;
    codes->size = 0;
    enum status status = codes_reserve(codes, bytes->size, error);
    if (status != STATUS_OK)
        return status;
    size_t count = 0;
    for (size_t position = 0; position < bytes->size;) {
        const int32_t code = next_code(bytes->data, bytes->size, &position);
        if (code < 0)
            return STATUS_OK;
        codes_of(codes)[count++] = code;
    }
    codes->size = count * sizeof(int32_t);
    *decoded = true;
    return STATUS_OK;
}

/* ---- the steps ---- */

/* Reads the text as UTF-8 that was decoded by a code page; *decoded: it is that. */
static enum status reinterpret(struct mojibake_fixer *fixer, const struct buffer *codes,
                               enum code_page page, struct buffer *out, bool *decoded,
                               struct error *error)
{
    struct buffer *bytes = &fixer->bytes;
    enum status status = encode(codes, page, bytes, error);
    /* in Mac Roman the byte before the space would be a dash */
    if (status == STATUS_OK && page != PAGE_MAC_ROMAN) {
        status = restore_a0(bytes, &fixer->mended, error);
        codes_swap(bytes, &fixer->mended);
    }
    if (status == STATUS_OK && is_sloppy(page)) {
        status = replace_lossy(bytes, &fixer->mended, error);
        codes_swap(bytes, &fixer->mended);
    }
    return status == STATUS_OK ? decode(bytes, out, decoded, error) : status;
}

static uint32_t classes_of(int32_t code)
{
    if (code == ' ')
        return CLASS_CONTINUATION;
    const struct mojibake_character *row = mojibake_character(code);
    return row == NULL ? 0 : row->classes;
}

/* The length of one character that looks like the bytes of UTF-8, or 0. */
static size_t match_sequence(const int32_t *text, size_t count)
{
    const uint32_t first = classes_of(text[0]);
    size_t continuations = 0;
    while (continuations < 3 && 1 + continuations < count &&
           (classes_of(text[1 + continuations]) & CLASS_CONTINUATION) != 0)
        continuations++;
    if (continuations >= 1 && (first & CLASS_FIRST_OF_2) != 0)
        return 2;
    if (continuations >= 2 && (first & CLASS_FIRST_OF_3) != 0)
        return 3;
    if (continuations >= 3 && (first & CLASS_FIRST_OF_4) != 0)
        return 4;
    return 0;
}

/* The length of a stretch of such characters that begins at `at`, or 0. Not behind what would
 * be a continuation: a few characters of a huge garble are better left alone. */
static size_t match_stretch(const int32_t *text, size_t count, size_t at)
{
    if (at > 0 && (classes_of(text[at - 1]) & CLASS_CONTINUATION_STRICT) != 0)
        return 0;
    size_t end = at, length = 1;
    while (length > 0 && end < count) {
        length = match_sequence(text + end, count - end);
        end += length;
    }
    return end - at;
}

static enum status fix(struct mojibake_fixer *fixer, int depth, struct buffer *codes,
                       struct error *error);

/* Appends a stretch of a longer text to `out`, mended by itself where it needs that. */
static enum status fix_stretch(struct mojibake_fixer *fixer, int depth, const int32_t *text,
                               size_t count, struct buffer *out, struct error *error)
{
    if (depth + 1 == MOJIBAKE_DEPTH_MAX || !mojibake_is_likely(text, count))
        return codes_append(out, text, count, error);
    struct buffer *stretch = &fixer->stretch[depth];
    stretch->size = 0;
    enum status status = codes_append(stretch, text, count, error);
    if (status == STATUS_OK)
        status = fix(fixer, depth + 1, stretch, error);
    if (status == STATUS_OK)
        status = codes_append(out, codes_of(stretch), codes_count(stretch), error);
    return status;
}

/* The text with its stretches mended, into `out`. */
static enum status fix_stretches(struct mojibake_fixer *fixer, int depth,
                                 const struct buffer *codes, struct buffer *out,
                                 struct error *error)
{
    const int32_t *text = codes_of(codes);
    const size_t count = codes_count(codes);
    enum status status = STATUS_OK;
    out->size = 0;
    for (size_t i = 0; i < count && status == STATUS_OK;) {
        const size_t length = match_stretch(text, count, i);
        if (length > 0 && length < count)
            status = fix_stretch(fixer, depth, text + i, length, out, error);
        else
            status = codes_append(out, text + i, length > 0 ? length : 1, error);
        i += length > 0 ? length : 1;
    }
    return status;
}

static bool differ(const struct buffer *a, const struct buffer *b)
{
    return a->size != b->size || (a->size > 0 && memcmp(a->data, b->data, a->size) != 0);
}

/* One way of mending that applies, the result into `out`; which is `codes` where none does. */
static enum status fix_once(struct mojibake_fixer *fixer, int depth, const struct buffer *codes,
                            struct buffer *out, struct error *error)
{
    const unsigned pages = find_pages(codes_of(codes), codes_count(codes));
    for (int page = 0; page < PAGE_COUNT; page++) {
        if ((pages >> page & 1) == 0)
            continue;
        bool decoded;
        fixer->effort -= (int64_t)codes_count(codes);
        enum status status = reinterpret(fixer, codes, page, out, &decoded, error);
        if (status != STATUS_OK || decoded)
            return status;
    }
    enum status status = fix_stretches(fixer, depth, codes, out, error);
    if (status == STATUS_OK && !differ(codes, out))
        mojibake_fix_c1(out);
    return status;
}

static enum status fix(struct mojibake_fixer *fixer, int depth, struct buffer *codes,
                       struct error *error)
{
    struct buffer *fixed = &fixer->fixed[depth];
    while (fixer->effort >= 0 && mojibake_is_likely(codes_of(codes), codes_count(codes))) {
        fixer->effort -= (int64_t)codes_count(codes);
        enum status status = fix_once(fixer, depth, codes, fixed, error);
        if (status != STATUS_OK)
            return status;
        if (!differ(codes, fixed))
            break;
        codes_swap(codes, fixed);
    }
    return STATUS_OK;
}

enum status mojibake_fix(struct mojibake_fixer *fixer, struct buffer *codes,
                         struct error *error)
{
    return fix(fixer, 0, codes, error);
}

void mojibake_fix_c1(struct buffer *codes)
{
    const size_t count = codes_count(codes);
    for (size_t i = 0; i < count; i++)
        codes_of(codes)[i] = html_c1_meaning(codes_of(codes)[i]);
}

void mojibake_fixer_free(struct mojibake_fixer *fixer)
{
    buffer_free(&fixer->bytes);
    buffer_free(&fixer->mended);
    for (int i = 0; i < MOJIBAKE_DEPTH_MAX; i++) {
        buffer_free(&fixer->fixed[i]);
        buffer_free(&fixer->stretch[i]);
    }
}
