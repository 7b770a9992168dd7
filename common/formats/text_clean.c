#include "formats/text_clean.h"

#include <stdbool.h>
#include <string.h>
#include <utf8proc.h>

#include "formats/html_entity.h"
#include "base/utf8.h"

enum {
    FIX_ROUNDS_MAX = 16,
    EXPANSION_MAX = 18, /* code points in the longest decomposition of one (U+FDFA) */
};

/* ---- plain ASCII: most captions of the web ---- */

static uint8_t lower_ascii(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte;
}

/* Cleans into out, which has room for `size` bytes; false where it meets a control character,
 * '&' or anything beyond ASCII, on which the other steps may act. */
static bool clean_ascii(const uint8_t *text, size_t size, uint8_t *out, size_t *out_size)
{
    size_t length = 0;
    bool space = false;
    for (size_t i = 0; i < size; i++) {
        const uint8_t byte = text[i];
        if (byte > ' ' && byte < 0x7F && byte != '&') {
            if (space)
                out[length++] = ' ';
            space = false;
            out[length++] = lower_ascii(byte);
        } else if (byte == ' ' || (byte >= '\t' && byte <= '\r' && byte != '\v')) {
            space = length > 0;
        } else {
            return false;
        }
    }
    *out_size = length;
    return true;
}

/* ---- arrays of code points ---- */

static int32_t *codes_of(const struct buffer *buffer)
{
    return (int32_t *)(void *)buffer->data;
}

static size_t codes_count(const struct buffer *buffer)
{
    return buffer->size / sizeof(int32_t);
}

static enum status codes_append(struct buffer *buffer, const int32_t *codes, size_t count,
                                struct error *error)
{
    return buffer_append(buffer, codes, count * sizeof *codes, error);
}

static void swap(struct buffer *a, struct buffer *b)
{
    struct buffer keep = *a;
    *a = *b;
    *b = keep;
}

static enum status decode(struct buffer *codes, const uint8_t *text, size_t size,
                          struct error *error)
{
    size_t bytes;
    if (__builtin_mul_overflow(size, sizeof(int32_t), &bytes))
        return error_memory(error, SIZE_MAX, "a caption");
    codes->size = 0;
    enum status status = buffer_reserve(codes, bytes, error);
    if (status != STATUS_OK)
        return status;
    size_t position = 0, count = 0;
    while (position < size)
        codes_of(codes)[count++] = utf8_next(text, size, &position);
    codes->size = count * sizeof(int32_t);
    return STATUS_OK;
}

/* ---- ftfy ---- */

typedef size_t entity_match(const int32_t *text, size_t size, int32_t *out, size_t *out_count);

/* One pass over the whole text; what it writes is not looked at again. The result is never
 * longer than the input, so it is written in place. Returns whether anything changed. */
static bool unescape(struct buffer *text, entity_match *match)
{
    int32_t *codes = codes_of(text);
    const size_t count = codes_count(text);
    size_t to = 0;
    for (size_t from = 0; from < count;) {
        int32_t out[HTML_ENTITY_OUT_MAX];
        size_t out_count = 0, taken = 0;
        if (codes[from] == '&')
            taken = match(codes + from, count - from, out, &out_count);
        if (taken == 0) {
            codes[to++] = codes[from++];
            continue;
        }
        memcpy(codes + to, out, out_count * sizeof *out);
        to += out_count;
        from += taken;
    }
    text->size = to * sizeof *codes;
    return to != count;
}

static int32_t fix_quote_or_break(int32_t code)
{
    if (code == 0x2BC || (code >= 0x2018 && code <= 0x201B))
        return '\'';
    if (code >= 0x201C && code <= 0x201F)
        return '"';
    if (code == '\r' || code == 0x2028 || code == 0x2029)
        return '\n';
    return code;
}

/* Ligatures and digraphs of Latin letters, and the full and half width forms. What they become
 * is their compatibility decomposition; normalize() puts a caron back on its letter. */
static bool has_plain_form(int32_t code)
{
    return (code >= 0xFF01 && code <= 0xFFEF) || (code >= 0xFB00 && code <= 0xFB06) ||
           (code >= 0x1C4 && code <= 0x1CC) || (code >= 0x1F1 && code <= 0x1F3) ||
           code == 0x132 || code == 0x133 || code == 0x149 || code == 0x3000;
}

static size_t decompose_code(int32_t code, utf8proc_option_t options,
                             int32_t out[EXPANSION_MAX])
{
    int boundary_class = 0;
    utf8proc_ssize_t length = utf8proc_decompose_char(
        code, out, EXPANSION_MAX, options | UTF8PROC_DECOMPOSE, &boundary_class);
    if (length >= 1 && length <= EXPANSION_MAX)
        return (size_t)length;
    out[0] = code;
    return 1;
}

static size_t fix_character(int32_t code, int32_t out[EXPANSION_MAX])
{
    size_t count = 1;
    out[0] = html_c1_meaning(code);
    if (code == 0xFB05) { /* its long s stays */
        out[0] = 0x17F;
        out[1] = 't';
        count = 2;
    } else if (has_plain_form(code)) {
        count = decompose_code(code, UTF8PROC_COMPAT, out);
    }
    for (size_t i = 0; i < count; i++)
        out[i] = fix_quote_or_break(out[i]);
    return count;
}

static enum status fix_characters(struct text_cleaner *cleaner, bool *changed,
                                  struct error *error)
{
    const int32_t *codes = codes_of(&cleaner->codes);
    const size_t count = codes_count(&cleaner->codes);
    bool any = false;
    cleaner->spare.size = 0;
    for (size_t i = 0; i < count; i++) {
        int32_t fixed[EXPANSION_MAX];
        size_t length = fix_character(codes[i], fixed);
        any = any || length != 1 || fixed[0] != codes[i];
        enum status status = codes_append(&cleaner->spare, fixed, length, error);
        if (status != STATUS_OK)
            return status;
    }
    if (any)
        swap(&cleaner->codes, &cleaner->spare);
    *changed = *changed || any;
    return STATUS_OK;
}

static bool is_terminal_parameter(int32_t code)
{
    return code == ';' || utf8proc_category(code) == UTF8PROC_CATEGORY_ND;
}

/* "ESC [ digits and semicolons, a letter": its length, or 0. */
static size_t match_terminal_escape(const int32_t *text, size_t size)
{
    if (size < 3 || text[0] != 0x1B || text[1] != '[')
        return 0;
    size_t at = 2;
    while (at < size && is_terminal_parameter(text[at]))
        at++;
    if (at == size || (text[at] | 0x20) < 'a' || (text[at] | 0x20) > 'z')
        return 0;
    return at + 1;
}

static bool is_removed_control(int32_t code)
{
    return code < 0x9 || code == 0xB || (code >= 0xE && code < 0x20) || code == 0x7F ||
           (code >= 0x206A && code <= 0x206F) || code == 0xFEFF ||
           (code >= 0xFFF9 && code <= 0xFFFC);
}

/* Returns whether anything was removed. */
static bool remove_controls(struct buffer *text)
{
    int32_t *codes = codes_of(text);
    const size_t count = codes_count(text);
    size_t to = 0;
    for (size_t from = 0; from < count;) {
        size_t escape = match_terminal_escape(codes + from, count - from);
        if (escape > 0) {
            from += escape;
            continue;
        }
        if (!is_removed_control(codes[from]))
            codes[to++] = codes[from];
        from++;
    }
    text->size = to * sizeof *codes;
    return to != count;
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

    enum status status = buffer_reserve(sorted, count * sizeof *marks, error);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        codes_of(sorted)[starts[combining_class(marks[i])]++] = marks[i];
    memcpy(marks, sorted->data, count * sizeof *marks);
    return STATUS_OK;
}

static enum status decompose(const struct buffer *from, struct buffer *to, struct error *error)
{
    to->size = 0;
    for (size_t i = 0; i < codes_count(from); i++) {
        int32_t parts[EXPANSION_MAX];
        size_t length = decompose_code(codes_of(from)[i], 0, parts);
        enum status status = codes_append(to, parts, length, error);
        if (status != STATUS_OK)
            return status;
    }
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

/* Normalization form C. Nothing below U+0300 takes part in it. */
static enum status normalize(struct text_cleaner *cleaner, bool *changed, struct error *error)
{
    const size_t count = codes_count(&cleaner->codes);
    size_t plain = 0;
    while (plain < count && codes_of(&cleaner->codes)[plain] < 0x300)
        plain++;
    if (plain == count)
        return STATUS_OK;

    struct buffer *text = &cleaner->spare;
    enum status status = decompose(&cleaner->codes, text, error);
    if (status == STATUS_OK)
        status = order_all_marks(text, &cleaner->sorted, error);
    if (status != STATUS_OK)
        return status;
    utf8proc_ssize_t length =
        utf8proc_normalize_utf32(codes_of(text), (utf8proc_ssize_t)codes_count(text),
                                 UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    if (length < 0)
        return error_set(error, STATUS_BUG, "composing %zu code points: %s", codes_count(text),
                         utf8proc_errmsg(length));
    text->size = (size_t)length * sizeof(int32_t);
    if (text->size != cleaner->codes.size ||
        memcmp(text->data, cleaner->codes.data, text->size) != 0) {
        swap(&cleaner->codes, text);
        *changed = true;
    }
    return STATUS_OK;
}

/* ftfy.fix_text without its guess at encodings; the result is added to cleaner->fixed. */
static enum status fix_text(struct text_cleaner *cleaner, const uint8_t *text, size_t size,
                            bool entities, struct error *error)
{
    enum status status = decode(&cleaner->codes, text, size, error);
    bool changed = true;
    for (int round = 0; status == STATUS_OK && changed && round < FIX_ROUNDS_MAX; round++) {
        changed = entities && unescape(&cleaner->codes, html_entity_match_strict);
        status = fix_characters(cleaner, &changed, error);
        if (status != STATUS_OK)
            break;
        changed = remove_controls(&cleaner->codes) || changed;
        status = normalize(cleaner, &changed, error);
    }
    if (status != STATUS_OK)
        return status;
    return buffer_append(&cleaner->fixed, cleaner->codes.data, cleaner->codes.size, error);
}

/* The size of the lines before the first that has a '<': beyond, "&lt;" may be meant. */
static size_t lines_without_markup(const uint8_t *text, size_t size)
{
    const uint8_t *markup = memchr(text, '<', size);
    if (markup == NULL)
        return size;
    const uint8_t *line = memrchr(text, '\n', (size_t)(markup - text));
    return line == NULL ? 0 : (size_t)(line + 1 - text);
}

/* ---- white space and case ---- */

/* What Python's str.split takes for white space. */
static bool is_space(int32_t code)
{
    return (code >= 0x9 && code <= 0xD) || (code >= 0x1C && code <= 0x20) || code == 0x85 ||
           code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) ||
           code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
           code == 0x3000;
}

static void collapse_spaces(struct buffer *text)
{
    int32_t *codes = codes_of(text);
    const size_t count = codes_count(text);
    size_t to = 0;
    bool space = false;
    for (size_t from = 0; from < count; from++) {
        if (is_space(codes[from])) {
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

static enum status encode_lower(const struct buffer *text, struct buffer *out,
                                struct error *error)
{
    const int32_t *codes = codes_of(text);
    const size_t count = codes_count(text);
    enum status status = buffer_reserve(out, count * UTF8_LENGTH_MAX, error);
    if (status != STATUS_OK)
        return status;
    uint8_t *end = out->data;
    for (size_t i = 0; i < count; i++) {
        int32_t code = codes[i];
        if (code < 0x80) {
            *end++ = lower_ascii((uint8_t)code);
        } else if (code == 0x130) { /* I with a dot: the one letter that becomes two */
            end += utf8_write('i', end);
            end += utf8_write(0x307, end);
        } else if (code == 0x3A3) {
            end += utf8_write(is_final_sigma(codes, count, i) ? 0x3C2 : 0x3C3, end);
        } else {
            end += utf8_write(utf8proc_tolower(code), end);
        }
    }
    out->size = (size_t)(end - out->data);
    return STATUS_OK;
}

enum status text_clean(struct text_cleaner *cleaner, const uint8_t *text, size_t size,
                       struct buffer *out, struct error *error)
{
    out->size = 0;
    if (size == 0)
        return STATUS_OK;
    enum status status = buffer_reserve(out, size, error);
    if (status != STATUS_OK)
        return status;
    if (clean_ascii(text, size, out->data, &out->size))
        return STATUS_OK;

    const size_t head = lines_without_markup(text, size);
    cleaner->fixed.size = 0;
    status = fix_text(cleaner, text, head, true, error);
    if (status == STATUS_OK)
        status = fix_text(cleaner, text + head, size - head, false, error);
    if (status != STATUS_OK)
        return status;
    unescape(&cleaner->fixed, html_entity_match);
    unescape(&cleaner->fixed, html_entity_match);
    collapse_spaces(&cleaner->fixed);
    return encode_lower(&cleaner->fixed, out, error);
}

void text_cleaner_free(struct text_cleaner *cleaner)
{
    buffer_free(&cleaner->codes);
    buffer_free(&cleaner->spare);
    buffer_free(&cleaner->sorted);
    buffer_free(&cleaner->fixed);
}
