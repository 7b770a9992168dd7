#include "formats/text_fix.h"

#include <string.h>
#include <utf8proc.h>

#include "formats/html_entity.h"
#include "formats/text_codes.h"

enum { LINE_MAX_CODES = 1000000 }; /* ftfy's max_decode_length */

/* ---- entities ---- */

typedef size_t entity_match(const int32_t *text, size_t size, int32_t *out, size_t *out_count);

/* One pass over the whole text; what it writes is not looked at again. The result is never
 * longer than the input, so it is written in place. */
static void unescape(struct buffer *text, entity_match *match)
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
}

void text_unescape_html(struct buffer *codes)
{
    unescape(codes, html_entity_match);
}

/* ---- single characters ---- */

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
 * is their compatibility decomposition; normalization puts a caron back on its letter. */
static bool has_plain_form(int32_t code)
{
    return (code >= 0xFF01 && code <= 0xFFEF) || (code >= 0xFB00 && code <= 0xFB06) ||
           (code >= 0x1C4 && code <= 0x1CC) || (code >= 0x1F1 && code <= 0x1F3) ||
           code == 0x132 || code == 0x133 || code == 0x149 || code == 0x3000;
}

static size_t fix_character(int32_t code, int32_t out[UNICODE_EXPANSION_MAX])
{
    size_t count = 1;
    out[0] = html_c1_meaning(code);
    if (code == 0xFB05) { /* its long s stays */
        out[0] = 0x17F;
        out[1] = 't';
        count = 2;
    } else if (has_plain_form(code)) {
        count = unicode_decompose(code, true, out);
    }
    for (size_t i = 0; i < count; i++)
        out[i] = fix_quote_or_break(out[i]);
    return count;
}

static bool is_fixed_character(int32_t code)
{
    return code < 0x80 ? code != '\r'
                       : html_c1_meaning(code) == code && !has_plain_form(code) &&
                             fix_quote_or_break(code) == code;
}

static enum status fix_characters(struct buffer *text, struct buffer *spare,
                                  struct error *error)
{
    const int32_t *codes = codes_of(text);
    const size_t count = codes_count(text);
    size_t fine = 0;
    while (fine < count && is_fixed_character(codes[fine]))
        fine++;
    if (fine == count)
        return STATUS_OK;

    spare->size = 0;
    enum status status = codes_append(spare, codes, fine, error);
    for (size_t i = fine; i < count && status == STATUS_OK; i++) {
        if (codes[i] == '\r' && i + 1 < count && codes[i + 1] == '\n')
            continue;
        int32_t fixed[UNICODE_EXPANSION_MAX];
        const size_t length = fix_character(codes[i], fixed);
        status = codes_append(spare, fixed, length, error);
    }
    codes_swap(text, spare);
    return status;
}

/* ---- controls ---- */

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
    return (code >= 0 && code < 0x9) || code == 0xB || (code >= 0xE && code < 0x20) ||
           code == 0x7F || (code >= 0x206A && code <= 0x206F) || code == 0xFEFF ||
           (code >= 0xFFF9 && code <= 0xFFFC);
}

static void remove_controls(struct buffer *text)
{
    int32_t *codes = codes_of(text);
    const size_t count = codes_count(text);
    size_t to = 0;
    for (size_t from = 0; from < count;) {
        const size_t escape = match_terminal_escape(codes + from, count - from);
        if (escape > 0) {
            from += escape;
            continue;
        }
        if (!is_removed_control(codes[from]))
            codes[to++] = codes[from];
        from++;
    }
    text->size = to * sizeof *codes;
}

/* ---- lines ---- */

static enum status fix_round(struct text_fixer *fixer, bool entities, struct error *error)
{
    struct buffer *line = &fixer->line;
    if (entities)
        unescape(line, html_entity_match_strict);
    enum status status = mojibake_fix(&fixer->mojibake, line, error);
    if (status == STATUS_OK)
        status = fix_characters(line, &fixer->spare, error);
    if (status != STATUS_OK)
        return status;
    remove_controls(line);
    return unicode_normalize(&fixer->normalizer, line, error);
}

static bool is_like(const struct buffer *a, const struct buffer *b)
{
    return a->size == b->size && (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

static enum status fix_line(struct text_fixer *fixer, const int32_t *text, size_t count,
                            bool entities, struct buffer *out, struct error *error)
{
    struct buffer *line = &fixer->line;
    fixer->mojibake.effort = TEXT_FIX_EFFORT_LEAST + TEXT_FIX_EFFORT * (int64_t)count;
    line->size = fixer->before.size = 0;
    enum status status = codes_append(line, text, count, error);
    if (status == STATUS_OK)
        status = codes_append(&fixer->before, text, count, error);
    while (status == STATUS_OK && fixer->mojibake.effort >= 0) {
        fixer->mojibake.effort -= (int64_t)codes_count(line);
        status = fix_round(fixer, entities, error);
        if (status != STATUS_OK || is_like(line, &fixer->before))
            break;
        fixer->before.size = 0;
        status = codes_append(&fixer->before, codes_of(line), codes_count(line), error);
    }
    if (status != STATUS_OK)
        return status;
    return codes_append(out, codes_of(line), codes_count(line), error);
}

/* The length of the line that begins a text, with its line feed. *markup: it has a '<'. */
static size_t measure_line(const int32_t *text, size_t count, bool *markup)
{
    size_t length = 0;
    *markup = false;
    while (length < count && length < LINE_MAX_CODES) {
        const int32_t code = text[length++];
        *markup = *markup || code == '<';
        if (code == '\n')
            break;
    }
    return length;
}

enum status text_fix(struct text_fixer *fixer, const int32_t *text, size_t count,
                     struct buffer *out, struct error *error)
{
    bool entities = true; /* up to the first line with a '<': "&lt;" may be meant */
    for (size_t at = 0; at < count;) {
        bool markup;
        const size_t length = measure_line(text + at, count - at, &markup);
        entities = entities && !markup;
        enum status status = fix_line(fixer, text + at, length, entities, out, error);
        if (status != STATUS_OK)
            return status;
        at += length;
    }
    return STATUS_OK;
}

void text_fixer_free(struct text_fixer *fixer)
{
    mojibake_fixer_free(&fixer->mojibake);
    unicode_normalizer_free(&fixer->normalizer);
    buffer_free(&fixer->line);
    buffer_free(&fixer->before);
    buffer_free(&fixer->spare);
}
