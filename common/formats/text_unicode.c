#include "formats/text_unicode.h"

#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "formats/text_codes.h"

bool unicode_is_space(int32_t code)
{
    return (code >= 0x9 && code <= 0xD) || (code >= 0x1C && code <= 0x20) || code == 0x85 ||
           code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) ||
           code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
           code == 0x3000;
}

bool unicode_is_word(int32_t code)
{
    const utf8proc_category_t category = utf8proc_category(code);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) ||
           (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) ||
           code == '_';
}

/* ---- normalization ---- */

size_t unicode_decompose(int32_t code, bool compatibility, int32_t out[UNICODE_EXPANSION_MAX])
{
    const utf8proc_option_t options =
        UTF8PROC_DECOMPOSE | (compatibility ? UTF8PROC_COMPAT : 0);
    int boundary_class = 0;
    const utf8proc_ssize_t length =
        utf8proc_decompose_char(code, out, UNICODE_EXPANSION_MAX, options, &boundary_class);
    if (length >= 1 && length <= UNICODE_EXPANSION_MAX)
        return (size_t)length;
    out[0] = code;
    return 1;
}

static uint8_t combining_class(int32_t code)
{
    return (uint8_t)utf8proc_get_property(code)->combining_class;
}

/* Orders a run of combining marks by class, keeping equals in place. The library does this by
 * insertion, which takes the square of the run's length; a counting sort does not. */
static enum status order_marks(int32_t *marks, size_t count, struct buffer *sorted,
                               struct error *error)
{
    size_t starts[257] = {0};
    for (size_t i = 0; i < count; i++)
        starts[combining_class(marks[i]) + 1]++;
    for (size_t class = 0; class < 256; class++)
        starts[class + 1] += starts[class];

    enum status status = codes_reserve(sorted, count, error);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        codes_of(sorted)[starts[combining_class(marks[i])]++] = marks[i];
    memcpy(marks, sorted->data, count * sizeof *marks);
    return STATUS_OK;
}

static enum status order_all_marks(struct buffer *text, struct buffer *sorted,
                                   struct error *error)
{
    int32_t *codes = codes_of(text);
    const size_t count = codes_count(text);
    for (size_t i = 0, run = 0; i <= count; i++) {
        if (i < count && combining_class(codes[i]) != 0)
            continue;
        if (i - run > 1) {
            enum status status = order_marks(codes + run, i - run, sorted, error);
            if (status != STATUS_OK)
                return status;
        }
        run = i + 1;
    }
    return STATUS_OK;
}

static enum status decompose(const struct buffer *from, struct buffer *to, struct error *error)
{
    const size_t count = codes_count(from);
    size_t length = 0;
    to->size = 0;
    for (size_t i = 0; i < count; i++) {
        enum status status = codes_reserve(to, length + UNICODE_EXPANSION_MAX, error);
        if (status != STATUS_OK)
            return status;
        length += unicode_decompose(codes_of(from)[i], false, codes_of(to) + length);
        to->size = length * sizeof(int32_t);
    }
    return STATUS_OK;
}

/* Whether a code point is as it is in any normalized text, whatever stands beside it: it does
 * not decompose, and does not compose with one before it, as marks, and vowels and finals of
 * Hangul, may. Some for which it is false are normalized as well. */
static bool is_settled(int32_t code)
{
    if (code < 0x300 || (code >= 0xAC00 && code <= 0xD7A3))
        return true;
    if (code >= 0x1160 && code <= 0x11FF)
        return false;
    const utf8proc_property_t *property = utf8proc_get_property(code);
    return property->combining_class == 0 && property->category != UTF8PROC_CATEGORY_MN &&
           property->category != UTF8PROC_CATEGORY_MC &&
           property->category != UTF8PROC_CATEGORY_ME &&
           (property->decomp_seqindex == UINT16_MAX || property->decomp_type != 0);
}

static bool is_normalized(const struct buffer *codes)
{
    const size_t count = codes_count(codes);
    for (size_t i = 0; i < count; i++)
        if (!is_settled(codes_of(codes)[i]))
            return false;
    return true;
}

enum status unicode_normalize(struct normalizer *normalizer, struct buffer *codes,
                              struct error *error)
{
    if (is_normalized(codes))
        return STATUS_OK;
    struct buffer *parts = &normalizer->parts;
    enum status status = decompose(codes, parts, error);
    if (status == STATUS_OK)
        status = order_all_marks(parts, &normalizer->sorted, error);
    if (status != STATUS_OK)
        return status;
    const utf8proc_ssize_t length =
        utf8proc_normalize_utf32(codes_of(parts), (utf8proc_ssize_t)codes_count(parts),
                                 UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    if (length < 0)
        return error_set(error, STATUS_BUG, "composing %zu code points: %s", codes_count(parts),
                         utf8proc_errmsg(length));
    parts->size = (size_t)length * sizeof(int32_t);
    codes_swap(codes, parts);
    return STATUS_OK;
}

void unicode_normalizer_free(struct normalizer *normalizer)
{
    buffer_free(&normalizer->parts);
    buffer_free(&normalizer->sorted);
}

/* ---- case ---- */

/* The derived properties Case_Ignorable and Cased (The Unicode Standard, 3.13), from general
 * categories and the characters that they do not tell. */
static bool is_case_ignorable(int32_t code)
{
    switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
        return true;
    default:
        break;
    }
    static const uint16_t inside_words[] = {'\'',   '.',    ':',    0xB7,   0x387,  0x55F,
                                            0x5F4,  0x2018, 0x2019, 0x2024, 0x2027, 0xFE13,
                                            0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A};
    for (size_t i = 0; i < sizeof inside_words / sizeof inside_words[0]; i++)
        if (code == inside_words[i])
            return true;
    return false;
}

static bool is_cased(int32_t code)
{
    switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
        return true;
    default:
        break;
    }
    return code == 0xAA || code == 0xBA || (code >= 0x2160 && code <= 0x217F) ||
           (code >= 0x24B6 && code <= 0x24E9) || (code >= 0x1F130 && code <= 0x1F149) ||
           (code >= 0x1F150 && code <= 0x1F169) || (code >= 0x1F170 && code <= 0x1F189);
}

/* A capital sigma ends a word where a cased letter stands before it and none behind, in both
 * directions past the characters that case ignores (The Unicode Standard, table 3-17). */
static bool is_final_sigma(const int32_t *codes, size_t count, size_t at)
{
    size_t before = at;
    while (before > 0 && is_case_ignorable(codes[before - 1]))
        before--;
    if (before == 0 || !is_cased(codes[before - 1]))
        return false;
    size_t after = at + 1;
    while (after < count && is_case_ignorable(codes[after]))
        after++;
    return after == count || !is_cased(codes[after]);
}

size_t unicode_write_lower(const int32_t *codes, size_t count, size_t at, uint8_t *out)
{
    const int32_t code = codes[at];
    if (code == 0x130) { /* I with a dot: the one letter that becomes two */
        out[0] = 'i';
        return 1 + utf8_write(0x307, out + 1);
    }
    if (code == 0x3A3)
        return utf8_write(is_final_sigma(codes, count, at) ? 0x3C2 : 0x3C3, out);
    return utf8_write(utf8proc_tolower(code), out);
}
