/* Caption cleaning: each case is input and what open_clip's cleaning makes of it. */
#include <stdlib.h>
#include <time.h>

#include "base/rng.h"
#include "formats/text_clean.h"
#include "base/utf8.h"
#include "tests/unit/check.h"

struct pair {
    const char *input;
    const char *expected;
};

static struct text_cleaner cleaner;
static struct buffer out;

static void check_clean(const char *input, size_t size, const char *expected)
{
    struct error error;
    enum status status = text_clean(&cleaner, (const uint8_t *)input, size, &out, &error);
    CHECK(status == STATUS_OK, "'%s': status %d", input, status);
    CHECK(out.size == strlen(expected) && memcmp(out.data, expected, out.size) == 0,
          "'%s': expected '%s', found '%.*s'", input, expected, (int)out.size,
          (const char *)out.data);
}

static void check_table(const struct pair *pairs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        check_clean(pairs[i].input, strlen(pairs[i].input), pairs[i].expected);
}
#define CHECK_TABLE(table) check_table(table, sizeof(table) / sizeof(table)[0])

static void test_space_and_case(void)
{
    static const struct pair table[] = {
        {"a photo of a cat", "a photo of a cat"},
        {"  A  Photo\tof\r\na CAT \n", "a photo of a cat"},
        {"@[`{ Az", "@[`{ az"},
        {" \t\n ", ""},
        {"a\u00a0b\u2003c\u3000d\u2028e\u1680f", "a b c d e f"},
        {"a\u200bb", "a\u200bb"}, /* of no width, but no space */
        {"a\x0b" "b\x1c" "c\x07" "d\x7f", "abcd"},
        {"\u00c9t\u00c9 \u0410\u042f \U00010400", "\u00e9t\u00e9 \u0430\u044f \U00010428"},
        {"\u0130stanbul", "i\u0307stanbul"},
        {"STRASSE stra\u00dfe \u1e9e", "strasse stra\u00dfe \u00df"},
    };
    CHECK_TABLE(table);
    check_clean("", 0, "");
    check_clean("a\0b\xc3\x89", 5, "ab\u00e9");
}

static void test_final_sigma(void)
{
    static const struct pair table[] = {
        {"\u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03bf\u03c2"},
        {"\u03a3", "\u03c3"},
        {"\u03a3\u0391\u03a3.", "\u03c3\u03b1\u03c2."},
        {"\u0391\u03a3.\u0391", "\u03b1\u03c3.\u03b1"}, /* a full stop may be inside a word */
        {"\u0391\u03a3 \u0391", "\u03b1\u03c2 \u03b1"},
        {"\u0391\u0301\u03a3!", "\u03ac\u03c2!"},
        {"1\u03a3", "1\u03c3"},
        {"\u24b6\u03a3", "\u24d0\u03c2"}, /* a circled letter is cased */
        {"\u2164\u03a3\u2164", "\u2174\u03c3\u2174"},
    };
    CHECK_TABLE(table);
}

static void test_entities(void)
{
    static const struct pair table[] = {
        {"R&amp;D", "r&d"},
        {"&lt;b&gt;", "<b>"},
        {"&amp;amp;amp;lt;", "<"}, /* until nothing changes */
        {"<b> &amp;amp;amp;lt;", "<b> &amp;lt;"}, /* markup: only html.unescape, twice */
        {"&amp;amp;amp;lt;\n<b>", "< <b>"},
        {"<b>\n&amp;amp;amp;lt;", "<b> &amp;lt;"}, /* and all lines behind it */
        {"&#39;&#x27;&#X27;&#8217;", "''''"},
        {"&#65;&#65&#x41g", "aaag"},
        {"&#0;&#xD800;&#x110000;&#99999999999999999999999;", "\ufffd\ufffd\ufffd\ufffd"},
        {"&#128;&#150;&#133;", "\u20ac\u2013\u2026"},
        {"a&#11;&#1;&#xFDD0;&#x1FFFF;b", "ab"},
        {"&#; &#x; &; &", "&#; &#x; &; &"},
        {"&copy 2020 &copy2 &notit; &ampx", "\u00a9 2020 \u00a92 \u00acit; &x"},
        {"&hearts &hearts; &thetasym;", "&hearts \u2665 \u03d1"},
        {"&eacute;&EACUTE;&Eacute;&eAcute;", "\u00e9\u00e9\u00e9&eacute;"},
        {"&SZLIG; &MICRO;", "ss \u03bc"},
        {"&nbsp;a&NBSP;b&ensp;", "a b"},
        {"&nosuchname; &averyveryverylongnamethatisnone;",
         "&nosuchname; &averyveryverylongnamethatisnone;"},
        {"\uff06amp; &\uff41mp;", "& &"}, /* wide forms make an entity */
        {"a &amp", "a &"},
        {"<&#65;&#x42;&#67>&eacute;&eacute", "<abc>\u00e9\u00e9"},
    };
    CHECK_TABLE(table);
}

static void test_entity_names(void)
{
    static const struct pair table[] = {
        {"&CounterClockwiseContourIntegral;", "\u2233"}, /* the longest, beyond ftfy's 24 */
        {"<&CounterClockwiseContourIntegral;&nvlt;", "<\u2233<\u20d2"},
        {"&checkmark;&Jscr;&fjlig;&FJLIG;", "\u2713\U0001d4a5fjfj"},
        {"&FFILIG;&FFLIG;&FLLIG;&NAPOS;&YUML;", "ffifffl'n\u00ff"},
        {"&GTCC; &gtcc;", ">cc; \u2aa7"}, /* a known name begins it */
        {"&#59;&#x3b", ";;"},
        {"&amp&#59;lt;", "&;lt;"}, /* ftfy leaves the number of a semicolon */
        {"&notin;&notinx;&notin", "\u2209\u00acinx;\u00acin"},
        {"&ampamp;amp;", "&amp;"},
        {"&z;&zz;&;&&gt", "&z;&zz;&;&>"},
    };
    CHECK_TABLE(table);
}

static void test_modes(void)
{
    static const struct {
        enum text_cleaning mode;
        const char *name, *input, *expected;
    } cases[] = {
        {TEXT_CLEAN_LOWER, "lower", "A_B,  C\u00c9&amp;!", "a_b, c\u00e9&!"},
        {TEXT_CLEAN_WHITESPACE, "whitespace", "A_B,  C\u00c9&amp;!", "A_B, C\u00c9&!"},
        {TEXT_CLEAN_WHITESPACE, "whitespace", " A photo of A Dog,\tin Paris\n",
         "A photo of A Dog, in Paris"},
        {TEXT_CLEAN_CANONICALIZE, "canonicalize", "A_B,  C\u00c9&amp;\u2014 !",
         "a b c\u00e9\u2014"},
        {TEXT_CLEAN_CANONICALIZE, "canonicalize", "A_B, \"c\" (D-e) __ !", "a b c de"},
        {TEXT_CLEAN_CANONICALIZE, "canonicalize", "!#$%'()*+,-./:;<=>?@[\\]^`{|}~\"_", ""},
        {TEXT_CLEAN_NONE, "none", " A_B,  C\u00c9&amp;\u201c\xff\n",
         " A_B,  C\u00c9&amp;\u201c\ufffd\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cleaner.mode = cases[i].mode;
        check_clean(cases[i].input, strlen(cases[i].input), cases[i].expected);
        enum text_cleaning mode = TEXT_CLEAN_LOWER;
        CHECK(text_cleaning_from_name(cases[i].name, &mode) && mode == cases[i].mode &&
                  strcmp(text_cleaning_name(mode), cases[i].name) == 0,
              "%s", cases[i].name);
    }
    enum text_cleaning mode = TEXT_CLEAN_NONE;
    CHECK(!text_cleaning_from_name("Lower", &mode) && !text_cleaning_from_name("", &mode) &&
              mode == TEXT_CLEAN_NONE, "a name that is none");
    cleaner.mode = TEXT_CLEAN_LOWER;
}

/* Printable ASCII goes through words of several bytes: against a byte at a time, at every
 * length and with every character at every place. */
static void test_blocks(void)
{
    struct rng rng;
    rng_init(&rng, 2, 0, 0, RNG_TEST);
    for (int trial = 0; trial < 20000; trial++) {
        char text[64], expected[64];
        const size_t size = rng_below(&rng, 60);
        size_t length = 0;
        cleaner.mode = rng_below(&rng, 2) == 0 ? TEXT_CLEAN_LOWER : TEXT_CLEAN_WHITESPACE;
        for (size_t i = 0; i < size; i++) {
            text[i] = (char)(rng_below(&rng, 8) == 0 ? ' ' : '!' + rng_below(&rng, 94));
            if (text[i] == '&')
                text[i] = '\t';
            char kept = text[i] == '\t' ? ' ' : text[i];
            if (kept >= 'A' && kept <= 'Z' && cleaner.mode == TEXT_CLEAN_LOWER)
                kept = (char)(kept - 'A' + 'a');
            if (kept != ' ' || (length > 0 && expected[length - 1] != ' '))
                expected[length++] = kept;
        }
        length -= length > 0 && expected[length - 1] == ' ';
        text[size] = expected[length] = '\0';
        check_clean(text, size, expected);
    }
    cleaner.mode = TEXT_CLEAN_LOWER;
}

static void test_characters(void)
{
    static const struct pair table[] = {
        {"\u201cone\u201d \u2018two\u2019", "\"one\" 'two'"},
        {"\u201ethree\u201f \u02bc \u201a", "\"three\" ' '"},
        {"\ufb01 \ufb04 \ufb05 \u0132 \u0149 \u01c4 \u01f2", "fi ffl \u017ft ij 'n d\u017e dz"},
        {"\ufb13 \u00e6 \u0153", "\ufb13 \u00e6 \u0153"}, /* other ligatures stay */
        {"\uff26\uff35\uff2c\uff2c \uff71 \uff76\uff9e \uffe5", "full \u30a2 \u30ac \u00a5"},
        {"a\r\nb\rc", "a b c"},
        {"\xc2\x80 \xc2\x85 \xc2\x99", "\u20ac \u2026 \u2122"},
        {"\x1b[31mred\x1b[0;1m \x1b[1;32", "red [1;32"},
        {"\ufeffa\ufffcb\u206ac\ufff9", "abc"},
        {"cafe\u0301 A\u030a \u212b \u1e9b\u0323", "caf\u00e9 \u00e5 \u00e5 \u1e9b\u0323"},
        {"a\u0301\u0323 q\u0307\u0323", "\u1ea1\u0301 q\u0323\u0307"},
        {"\u1112\u1161\u11ab", "\ud55c"},
        {"\u1112\u1161\u11ab \u0958 \u037e", "\ud55c \u0915\u093c ;"},
        {"10\u00b3 \u2460 \u00bd", "10\u00b3 \u2460 \u00bd"}, /* NFC, not NFKC */
    };
    CHECK_TABLE(table);
}

static void test_ill_formed(void)
{
    static const struct pair table[] = {
        {"a\xff" "b", "a\ufffd" "b"},
        {"\xc3", "\ufffd"},
        {"\xc0\xaf", "\ufffd\ufffd"},
        {"\xe2\x82", "\ufffd"},
        {"\xe2\x82z", "\ufffdz"},
        {"\xe0\x80\x80", "\ufffd\ufffd\ufffd"},
        {"\xed\xa0\x80", "\ufffd\ufffd\ufffd"}, /* a surrogate */
        {"\xf0\x9f\x98", "\ufffd"},
        {"\xf0\x8f\xbf\xbf", "\ufffd\ufffd\ufffd\ufffd"},
        {"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
        {"\x80\x80", "\ufffd\ufffd"},
    };
    CHECK_TABLE(table);
}

/* Whatever goes in, well-formed UTF-8 without spaces to collapse comes out. */
static void test_random_bytes(void)
{
    struct rng rng;
    rng_init(&rng, 1, 0, 0, RNG_TEST);
    for (int trial = 0; trial < 20000; trial++) {
        static const char *const pieces[] = {"&#", "&", ";", "\x1b[", "amp", "x", " ", "\u0301",
                                             "\u03a3", "\uff06", "<", "\n", "\u0323", "9"};
        uint8_t text[64];
        size_t size = 0;
        while (size < 40 && rng_below(&rng, 20) > 0) {
            if (rng_below(&rng, 4) == 0) {
                text[size++] = (uint8_t)rng_next(&rng);
                continue;
            }
            const char *piece = pieces[rng_below(&rng, sizeof pieces / sizeof pieces[0])];
            memcpy(text + size, piece, strlen(piece));
            size += strlen(piece);
        }
        struct error error;
        CHECK(text_clean(&cleaner, text, size, &out, &error) == STATUS_OK, "trial %d", trial);
        int bad = 0;
        for (size_t at = 0; at < out.size;) {
            const size_t start = at;
            uint8_t again[UTF8_LENGTH_MAX];
            size_t length = utf8_write(utf8_next(out.data, out.size, &at), again);
            bad += length != at - start || memcmp(again, out.data + start, length) != 0;
            bad += out.data[start] == ' ' && (start == 0 || out.data[start - 1] == ' ');
        }
        CHECK(bad == 0, "trial %d: %d places are wrong in '%.*s'", trial, bad, (int)out.size,
              (const char *)out.data);
    }
}

/* A megabyte of what would be quadratic in a careless program: all together in 10 seconds. */
static void test_hostile(void)
{
    static const char *const units[] = {"amp;", "&amp;", "\u0301\u0316", "\x1b[1;", "\u03a3'",
                                        "&#1", "\xff", "<\n", "&#x26;", "\u03a3\u0301",
                                        "\n&amp;amp;amp;amp;amp;amp;amp;amp;amp;"};
    const clock_t start = clock();
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        struct buffer text = {0};
        struct error error;
        enum status status = buffer_append(&text, "&", 1, &error);
        while (status == STATUS_OK && text.size < 1000000)
            status = buffer_append(&text, units[i], strlen(units[i]), &error);
        if (status == STATUS_OK)
            status = text_clean(&cleaner, text.data, text.size, &out, &error);
        CHECK(status == STATUS_OK, "unit %zu: status %d", i, status);
        buffer_free(&text);
    }
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    CHECK(seconds < 10, "%.1f s", seconds);
}

int main(void)
{
    test_space_and_case();
    test_final_sigma();
    test_entities();
    test_entity_names();
    test_modes();
    test_blocks();
    test_characters();
    test_ill_formed();
    test_random_bytes();
    test_hostile();
    text_cleaner_free(&cleaner);
    buffer_free(&out);
    return check_report("text_clean");
}
