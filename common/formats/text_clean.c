#include "formats/text_clean.h"

#include <string.h>

#include "base/utf8.h"
#include "formats/text_codes.h"

static bool is_lower_mode(enum text_cleaning mode)
{
    return mode == TEXT_CLEAN_LOWER || mode == TEXT_CLEAN_CANONICALIZE;
}

static bool is_ascii_punctuation(int32_t code)
{
    return code > ' ' && code < 0x7F && !(code >= '0' && code <= '9') &&
           !((code | 0x20) >= 'a' && (code | 0x20) <= 'z');
}

/* ---- plain ASCII: most captions of the web ---- */

enum { BLOCK = 8 }; /* bytes that go through one word */

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

static uint8_t lower_ascii(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte;
}

/* The top bit of each byte that is a space; all bytes are below 0x80, so that nothing is
 * carried from one to the next. */
static uint64_t find_spaces(uint64_t word)
{
    return ~((word ^ EACH(' ')) + EACH(0x7F)) & EACH(0x80);
}

/* Copies BLOCK bytes, `case_bit` 0x20 for lower case or 0. False where they are not all
 * printable ASCII without '&', or where two spaces follow each other; reads one byte more. */
static bool copy_block(const uint8_t *text, uint8_t case_bit, uint8_t *out)
{
    uint64_t word, behind;
    memcpy(&word, text, sizeof word);
    memcpy(&behind, text + 1, sizeof behind);
    if (((word | behind) & EACH(0x80)) != 0)
        return false;
    const uint64_t printable = (word + EACH(0x80 - ' ')) & ~(word + EACH(1)) &
                               ((word ^ EACH('&')) + EACH(0x7F)) & EACH(0x80);
    if (printable != EACH(0x80) || (find_spaces(word) & find_spaces(behind)) != 0)
        return false;
    const uint64_t capitals =
        (word + EACH(0x80 - 'A')) & ~(word + EACH(0x80 - 'Z' - 1)) & EACH(0x80);
    word |= (capitals >> 7) * case_bit;
    memcpy(out, &word, sizeof word);
    return true;
}

/* Cleans into out, which has room for `size` bytes; false where it meets a control character,
 * '&' or anything beyond ASCII, on which the other steps may act. */
static bool clean_ascii(enum text_cleaning mode, const uint8_t *text, size_t size, uint8_t *out,
                        size_t *out_size)
{
    const uint8_t case_bit = is_lower_mode(mode) ? 0x20 : 0;
    const bool blocks = mode != TEXT_CLEAN_CANONICALIZE;
    size_t length = 0, single = 0; /* bytes before `single` are not in a block to be copied */
    for (size_t i = 0; i < size;) {
        if (blocks && i >= single && size - i > BLOCK && text[i] != ' ') {
            if (copy_block(text + i, case_bit, out + length)) {
                i += BLOCK;
                length += BLOCK;
                continue;
            }
            single = i + BLOCK;
        }
        uint8_t byte = text[i++];
        if (mode == TEXT_CLEAN_CANONICALIZE && byte == '_')
            byte = ' ';
        if (byte == ' ' || (byte >= '\t' && byte <= '\r' && byte != '\v')) {
            if (length > 0 && out[length - 1] != ' ')
                out[length++] = ' ';
        } else if (byte < ' ' || byte >= 0x7F || byte == '&') {
            return false;
        } else if (!(mode == TEXT_CLEAN_CANONICALIZE && is_ascii_punctuation(byte))) {
            out[length++] = case_bit != 0 ? lower_ascii(byte) : byte;
        }
    }
    *out_size = length > 0 && out[length - 1] == ' ' ? length - 1 : length;
    return true;
}

/* ---- any text ---- */

static enum status decode(struct buffer *codes, const uint8_t *text, size_t size,
                          struct error *error)
{
    codes->size = 0;
    enum status status = codes_reserve(codes, size, error);
    if (status != STATUS_OK)
        return status;
    size_t position = 0, count = 0;
    while (position < size)
        codes_of(codes)[count++] = utf8_next(text, size, &position);
    codes->size = count * sizeof(int32_t);
    return STATUS_OK;
}

/* As big_vision canonicalizes: underscores become spaces, other ASCII punctuation goes. */
static void remove_punctuation(struct buffer *text)
{
    int32_t *codes = codes_of(text);
    const size_t count = codes_count(text);
    size_t to = 0;
    for (size_t from = 0; from < count; from++) {
        const int32_t code = codes[from] == '_' ? ' ' : codes[from];
        if (!is_ascii_punctuation(code))
            codes[to++] = code;
    }
    text->size = to * sizeof *codes;
}

static void collapse_spaces(struct buffer *text)
{
    int32_t *codes = codes_of(text);
    const size_t count = codes_count(text);
    size_t to = 0;
    bool space = false;
    for (size_t from = 0; from < count; from++) {
        if (unicode_is_space(codes[from])) {
            space = to > 0;
            continue;
        }
        if (space)
            codes[to++] = ' ';
        space = false;
        codes[to++] = codes[from];
    }
    text->size = to * sizeof *codes;
}

static enum status encode(const struct buffer *text, bool lower, struct buffer *out,
                          struct error *error)
{
    const int32_t *codes = codes_of(text);
    const size_t count = codes_count(text);
    enum status status = buffer_reserve(out, count * UTF8_LENGTH_MAX, error);
    if (status != STATUS_OK)
        return status;
    uint8_t *end = out->data;
    for (size_t i = 0; i < count; i++) {
        if (!lower)
            end += utf8_write(codes[i], end);
        else if (codes[i] < 0x80)
            *end++ = lower_ascii((uint8_t)codes[i]);
        else
            end += unicode_write_lower(codes, count, i, end);
    }
    out->size = (size_t)(end - out->data);
    return STATUS_OK;
}

/* open_clip's basic_clean, and the punctuation and white space of the mode. */
static enum status clean_codes(struct text_cleaner *cleaner, struct error *error)
{
    struct buffer *fixed = &cleaner->fixed;
    fixed->size = 0;
    enum status status = text_fix(&cleaner->fixer, codes_of(&cleaner->codes),
                                  codes_count(&cleaner->codes), fixed, error);
    if (status != STATUS_OK)
        return status;
    text_unescape_html(fixed);
    text_unescape_html(fixed);
    if (cleaner->mode == TEXT_CLEAN_CANONICALIZE)
        remove_punctuation(fixed);
    collapse_spaces(fixed);
    return STATUS_OK;
}

enum status text_clean(struct text_cleaner *cleaner, const uint8_t *text, size_t size,
                       struct buffer *out, struct error *error)
{
    const enum text_cleaning mode = cleaner->mode;
    out->size = 0;
    if (size == 0)
        return STATUS_OK;
    enum status status = buffer_reserve(out, size, error);
    if (status != STATUS_OK)
        return status;
    if (mode != TEXT_CLEAN_NONE && clean_ascii(mode, text, size, out->data, &out->size))
        return STATUS_OK;

    status = decode(&cleaner->codes, text, size, error);
    if (status != STATUS_OK)
        return status;
    if (mode == TEXT_CLEAN_NONE)
        return encode(&cleaner->codes, false, out, error);
    status = clean_codes(cleaner, error);
    return status == STATUS_OK ? encode(&cleaner->fixed, is_lower_mode(mode), out, error)
                               : status;
}

void text_cleaner_free(struct text_cleaner *cleaner)
{
    text_fixer_free(&cleaner->fixer);
    buffer_free(&cleaner->codes);
    buffer_free(&cleaner->fixed);
}

/* ---- names ---- */

static const char *const names[] = {
    [TEXT_CLEAN_LOWER] = "lower",
    [TEXT_CLEAN_WHITESPACE] = "whitespace",
    [TEXT_CLEAN_CANONICALIZE] = "canonicalize",
    [TEXT_CLEAN_NONE] = "none",
};

const char *text_cleaning_name(enum text_cleaning mode)
{
    return names[mode];
}

bool text_cleaning_from_name(const char *name, enum text_cleaning *mode)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0) {
            *mode = (enum text_cleaning)i;
            return true;
        }
    }
    return false;
}
