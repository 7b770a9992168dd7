/* Text that was decoded in the wrong encoding: the heuristic, each step of the repair, and
 * captions as open_clip's own cleaning leaves them (tests/reference/text_clean_golden.tsv). */
#include <stdlib.h>
#include <time.h>

#include "base/utf8.h"
#include "formats/text_badness.h"
#include "formats/text_clean.h"
#include "formats/text_codes.h"
#include "formats/text_mojibake.h"
#include "tests/unit/check.h"

static struct text_cleaner cleaner;
static struct buffer out;
static struct error error;

/* The code points of a string. */
static void read_codes(const char *text, struct buffer *codes)
{
    const size_t size = strlen(text);
    codes->size = 0;
    for (size_t position = 0; position < size;) {
        const int32_t code = utf8_next((const uint8_t *)text, size, &position);
        CHECK(codes_append(codes, &code, 1, &error) == STATUS_OK, "%s", error.text);
    }
}

static void test_characters(void)
{
    size_t rows = 0;
    int32_t last = -1;
    for (int32_t code = 0; code <= 0x10FFFF; code++) {
        const struct mojibake_character *row = mojibake_character(code);
        if (row == NULL)
            continue;
        CHECK(row->code == code && code > last, "U+%04X: a row of U+%04X", code, row->code);
        last = code;
        rows++;
        CHECK(row->bytes[PAGE_LATIN_1] == (code < 0x100 ? code : 0), "U+%04X", code);
    }
    CHECK(rows == 484, "%zu characters", rows);
    CHECK(mojibake_character(0x20AC)->bytes[PAGE_WINDOWS_1252] == 0x80, "the euro");
    CHECK(mojibake_character(0x81)->bytes[PAGE_WINDOWS_1252] == 0x81, "sloppy");
    CHECK(mojibake_character(UTF8_REPLACEMENT)->bytes[PAGE_WINDOWS_1251] == 0x1A, "lost");
    CHECK(mojibake_character(0x448)->bytes[PAGE_WINDOWS_1251] == 0xF8, "sha");
    CHECK(mojibake_character(0x2592)->bytes[PAGE_437] == 0xB1, "a box");
    CHECK(mojibake_character(0x221A)->bytes[PAGE_MAC_ROMAN] == 0xC3, "a root");
}

static void test_badness(void)
{
    static const char *const fine[] = {
        "", "a", "plain text", "\u00e9", "\u00c2", "caf\u00e9 \u00c9t\u00e9 \u00e0 \u0152uvre",
        "\u00c0 la", "20 \u00b0C \u00b1 5 \u20ac", "\u201cquoted\u201d \u2014 it\u2019s",
        "\u041f\u0440\u0438\u0432\u0435\u0442", "\u00ab mot \u00bb", "\u4e2d\u6587 \u00e9",
        "\u0645\u0631\u062d\u0628\u0627", "A \u00c2 B", "\u250c\u2500\u2510",
    };
    static const char *const bad[] = {
        "\xc2\x85", "a\xc2\x80", "sch\u00c3\u00b6n", "\u00e2\u20ac\u2122", "\u00c2 ",
        "a\u00c3 b",
        "a \u00c2 b", "\u0153 ", "\u00c4\u00b0", "\u00d7\u00b2", "\u00d8\u00b5\u00d9\u2026",
        "\u00e0\u00b8", "\u221a\u00b1", "\u201a\u00c4\u00ee", "\u201a\u00e2\u00e0",
        "\u0432\u0402", "\u0412\u00b0\u0413", "\u03b2\u20ac\u2122", "\u0392\u00b0\u0393",
        "\u0101\u20ac", ".\u00c2 ", "\u2248\u00a2", "x\u0434\u00a8", "\u2592\u2022",
        "\u0413\u045e\u0412\u0402\u0412z ", "\u00e9\u2122b", " \u00c9\u20ac",
    };
    struct buffer codes = {0};
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++) {
        read_codes(fine[i], &codes);
        CHECK(!mojibake_is_likely(codes_of(&codes), codes_count(&codes)), "'%s'", fine[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        read_codes(bad[i], &codes);
        CHECK(mojibake_is_likely(codes_of(&codes), codes_count(&codes)), "'%s'", bad[i]);
        /* and not by what lies behind its end */
        const size_t size = codes_count(&codes);
        int32_t *alone = malloc(size * sizeof *alone);
        CHECK(alone != NULL, "memory");
        if (alone != NULL)
            memcpy(alone, codes.data, size * sizeof *alone);
        CHECK(alone != NULL && mojibake_is_likely(alone, size), "'%s' alone", bad[i]);
        free(alone);
    }
    buffer_free(&codes);
}

static void test_steps(void)
{
    static const struct {
        const char *input, *expected;
    } cases[] = {
        {"sch\u00c3\u00b6n", "sch\u00f6n"},                     /* Latin-1 */
        {"\u00e2\u0153\u201d ok", "\u2714 ok"},                 /* Windows-1252 */
        {"\u00c3\u0192\u00c2\u00b6", "\u00f6"},                 /* twice */
        {"\u0420\u00b5\u0421\u201a", "\u0435\u0442"},         /* Windows-1251 */
        {"\u0102\u00b6 \u0102\u017a", "\u00f6 \u00df"},         /* Windows-1250 */
        {"\u221a\u00b1o", "\u00f1o"},                           /* Mac Roman */
        {"\u221a\u00b1 \u2013 b", "\u221a\u00b1 \u2013 b"},   /* but not behind a dash */
        {"\u251c\u00e2", "\u00c3"},                             /* code page 437 */
        {"voil\u00c3 le travail", "voil\u00e0 le travail"},     /* A0 became a space */
        {"\u00c3 quele homem", "\u00e0quele homem"},
        {"\u00e2\u20ac\u0153 so \u00e2\u20ac\ufffd", "\u201c so \ufffd"}, /* lost bytes */
        {"\u00c3? \u00c3\u00b6", "\ufffd \u00f6"},
        {"\u00ed\u00a0?\u00ed\u00b0? \u00c3\u00b6", "\ufffd \u00f6"},
        {"\u00ed\u00a0\u00bd\u00ed\u00b8\xc2\x80", "\U0001f600"}, /* surrogates in UTF-8 */
        {"\u00c3\u00b6 \u4e2d", "\u00f6 \u4e2d"},               /* a stretch of the text */
        {"\u4e2d\xc2\x85", "\u4e2d\u2026"},                       /* a control of Latin-1 */
        {"a\xc2\x81", "a\xc2\x81"},
        {"", ""},
    };
    struct mojibake_fixer fixer = {0};
    struct buffer codes = {0}, expected = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        read_codes(cases[i].input, &codes);
        read_codes(cases[i].expected, &expected);
        fixer.effort = 1000;
        CHECK(mojibake_fix(&fixer, &codes, &error) == STATUS_OK, "%s", error.text);
        CHECK(codes.size == expected.size &&
                  (codes.size == 0 || memcmp(codes.data, expected.data, codes.size) == 0),
              "'%s': %zu code points, expected '%s'", cases[i].input, codes_count(&codes),
              cases[i].expected);
    }
    read_codes("\u00c0\xc2\x80\u00c3\u00b6", &codes); /* a null as Java writes it */
    fixer.effort = 1000;
    CHECK(mojibake_fix(&fixer, &codes, &error) == STATUS_OK && codes_count(&codes) == 2 &&
              codes_of(&codes)[0] == 0 && codes_of(&codes)[1] == 0xF6,
          "%zu code points", codes_count(&codes));
    read_codes("sch\u00c3\u00b6n", &codes);
    fixer.effort = -1;
    CHECK(mojibake_fix(&fixer, &codes, &error) == STATUS_OK && codes_count(&codes) == 6,
          "no effort, but %zu code points", codes_count(&codes));
    mojibake_fixer_free(&fixer);
    buffer_free(&codes);
    buffer_free(&expected);
}

/* ---- the golden file ---- */

/* Undoes the escapes in place; returns the length. */
static size_t unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        if (*from != '\\') {
            *to++ = *from;
            continue;
        }
        from++;
        *to++ = *from == 'n' ? '\n' : *from == 't' ? '\t' : *from == 'r' ? '\r' : '\\';
    }
    return (size_t)(to - text);
}

static void check_golden_line(char *line, int number)
{
    static const enum text_cleaning modes[] = {TEXT_CLEAN_LOWER, TEXT_CLEAN_WHITESPACE,
                                               TEXT_CLEAN_CANONICALIZE};
    char *columns[4];
    line[strcspn(line, "\n")] = '\0';
    for (int i = 0; i < 4; i++) {
        columns[i] = strsep(&line, "\t");
        CHECK(columns[i] != NULL, "line %d: %d columns", number, i);
        if (columns[i] == NULL)
            return;
    }
    const size_t size = unescape(columns[0]);
    for (int i = 0; i < 3; i++) {
        const size_t expected = unescape(columns[i + 1]);
        cleaner.mode = modes[i];
        CHECK(text_clean(&cleaner, (const uint8_t *)columns[0], size, &out, &error) ==
                  STATUS_OK, "line %d", number);
        CHECK(out.size == expected && memcmp(out.data, columns[i + 1], expected) == 0,
              "line %d, %s: expected '%s', found '%.*s'", number,
              text_cleaning_name(modes[i]), columns[i + 1], (int)out.size,
              (const char *)out.data);
    }
}

static void test_golden(void)
{
    static char line[1 << 16];
    FILE *file = fopen("tests/reference/text_clean_golden.tsv", "r");
    int number = 0;
    CHECK(file != NULL, "tests/reference/text_clean_golden.tsv");
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL)
        check_golden_line(line, ++number);
    CHECK(number > 500, "%d lines", number);
    fclose(file);
}

/* A megabyte of what is read in the wrong encoding again and again: all together in 20 s. */
static void test_hostile(void)
{
    static const char *const units[] = {
        "\u00c3\u00b6", "\u00c3\u0192\u00c6\u2019", "\u00c2", "\u00c3 ", "\u00e2\u20ac\ufffd",
        "\u00c3\u00b6\u4e2d", "\u00c3\u0192\u00c2\u00b6\u4e2d", "\xc2\x85", "\u00f0\u0178",
        "\u00d0\u00b0\n", "\u00c3\u0192\u00c3\u201a\u00ef\u00bf\u00bd\u4e2d",
    };
    const clock_t start = clock();
    cleaner.mode = TEXT_CLEAN_LOWER;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        struct buffer text = {0};
        enum status status = buffer_append(&text, "\u00c3", 2, &error);
        while (status == STATUS_OK && text.size < 1000000)
            status = buffer_append(&text, units[i], strlen(units[i]), &error);
        if (status == STATUS_OK)
            status = text_clean(&cleaner, text.data, text.size, &out, &error);
        CHECK(status == STATUS_OK, "unit %zu: status %d", i, status);
        buffer_free(&text);
    }
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    CHECK(seconds < 20, "%.1f s", seconds);
}

int main(void)
{
    test_characters();
    test_badness();
    test_steps();
    test_golden();
    test_hostile();
    text_cleaner_free(&cleaner);
    buffer_free(&out);
    return check_report("text_mojibake");
}
