/* WordPiece against Hugging Face's ids (wordpiece_golden.tsv), against its definition spelled
 * out on strings, and against canonical equivalence. */
#include <jansson.h>
#include <stdlib.h>
#include <time.h>
#include <utf8proc.h>

#include "base/rng.h"
#include "base/utf8.h"
#include "formats/bpe_learn.h"
#include "formats/wordpiece.h"
#include "tests/unit/check.h"

#define SPECIALS "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"

static struct error error;
static struct buffer tokens, words;

static struct wordpiece *open_text(const char *text, size_t size)
{
    struct wordpiece *wordpiece = NULL;
    enum status status = wordpiece_open(&wordpiece, (const uint8_t *)text, size, &error);
    CHECK(status == STATUS_OK, "status %d: %s", status, status == STATUS_OK ? "" : error.text);
    return wordpiece;
}

static struct wordpiece_scratch *open_scratch(void)
{
    struct wordpiece_scratch *scratch = NULL;
    CHECK(wordpiece_scratch_open(&scratch, &error) == STATUS_OK, "scratch");
    return scratch;
}

static size_t encode(const struct wordpiece *wordpiece, struct wordpiece_scratch *scratch,
                     const void *text, size_t size)
{
    /* In memory of exactly that size, so that a sanitizer sees what is read beyond. */
    uint8_t *exact = malloc(size + 1);
    if (size > 0)
        memcpy(exact + 1, text, size);
    tokens.size = words.size = 0;
    enum status status =
        wordpiece_encode(wordpiece, scratch, exact + 1, size, &tokens, &words, &error);
    free(exact);
    CHECK(status == STATUS_OK, "status %d", status);
    CHECK(tokens.size == words.size, "%zu, %zu", tokens.size, words.size);
    return tokens.size / sizeof(int32_t);
}

static size_t count_words(const void *text, size_t size)
{
    struct wordpiece_word word;
    size_t position = 0, count = 0;
    while (wordpiece_next_word(text, size, &position, &word))
        count++;
    return count;
}

/* ---- golden ids ---- */

static json_t *read_string(const char *line)
{
    json_t *string = json_loads(line, JSON_DECODE_ANY | JSON_ALLOW_NUL |
                                          JSON_DISABLE_EOF_CHECK, NULL);
    CHECK(json_is_string(string), "no string: %s", line);
    return string;
}

static void check_golden_line(const struct wordpiece *wordpiece,
                              struct wordpiece_scratch *scratch, const char *line)
{
    json_t *text = read_string(line);
    const char *ids = strrchr(line, '\t');
    CHECK(ids != NULL, "a line without ids");
    if (ids == NULL)
        return;
    const size_t count =
        encode(wordpiece, scratch, json_string_value(text), json_string_length(text));
    const int32_t *got = (const void *)tokens.data;
    size_t expected = 0;
    bool equal = true;
    char *end;
    for (ids++; *ids != '\0' && *ids != '\n'; ids = end, expected++) {
        const long id = strtol(ids, &end, 10);
        equal = equal && expected < count && got[expected] == id;
    }
    CHECK(equal && expected == count, "%zu tokens, expected %zu: %s", count, expected, line);
    const int32_t *numbers = (const void *)words.data;
    const size_t numbered = count == 0 ? 0 : (size_t)numbers[count - 1] + 1;
    const size_t wanted = count_words(json_string_value(text), json_string_length(text));
    CHECK(numbered == wanted, "%zu words, expected %zu: %s", numbered, wanted, line);
    json_decref(text);
}

static void test_golden(void)
{
    FILE *golden = fopen("tests/reference/wordpiece_golden.tsv", "r");
    CHECK(golden != NULL, "tests/reference/wordpiece_golden.tsv");
    if (golden == NULL)
        return;
    struct buffer vocabulary = {0};
    struct wordpiece *wordpiece = NULL;
    struct wordpiece_scratch *scratch = open_scratch();
    int lines = 0;
    for (char line[16384]; fgets(line, sizeof line, golden) != NULL;) {
        if (line[0] == '#') {
            json_t *entry = read_string(line + 1);
            buffer_append(&vocabulary, json_string_value(entry), json_string_length(entry),
                          &error);
            buffer_append(&vocabulary, "\r\n", 2, &error);
            json_decref(entry);
            continue;
        }
        if (wordpiece == NULL)
            wordpiece = open_text((const char *)vocabulary.data, vocabulary.size);
        for (int time = 0; time < 2; time++) /* once more, from the cache */
            check_golden_line(wordpiece, scratch, line);
        lines++;
    }
    CHECK(lines > 400, "%d lines", lines);
    fclose(golden);
    buffer_free(&vocabulary);
    wordpiece_scratch_close(scratch);
    wordpiece_close(wordpiece);
}

/* ---- the definition ---- */

enum { NAIVE_ENTRIES = 200, NAIVE_SIZE = 16 };

struct naive {
    char entries[NAIVE_ENTRIES][NAIVE_SIZE];
    int count;
};

/* The id of "##" + text[0..size), or without where `first`; the last such line. */
static int naive_find(const struct naive *naive, const char *text, size_t size, bool first)
{
    const size_t mark = first ? 0 : 2;
    for (int id = naive->count - 1; id >= 0; id--) {
        const char *entry = naive->entries[id];
        if (strlen(entry) == size + mark && memcmp(entry, "##", mark) == 0 &&
            memcmp(entry + mark, text, size) == 0)
            return id;
    }
    return -1;
}

static size_t naive_encode(const struct naive *naive, const char *word, size_t size,
                           int32_t *ids)
{
    size_t count = 0;
    for (size_t start = 0, end; start < size; start = end) {
        ids[count] = -1;
        for (end = size; end > start; end--)
            if ((ids[count] = naive_find(naive, word + start, end - start, start == 0)) >= 0)
                break;
        if (ids[count++] < 0 || size > WORDPIECE_WORD_MAX) {
            ids[0] = 1;
            return 1;
        }
    }
    return count;
}

static void make_naive(struct naive *naive, struct rng *rng, int letters)
{
    static const char *const specials[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"};
    naive->count = NAIVE_ENTRIES;
    for (int i = 0; i < NAIVE_ENTRIES; i++) {
        char *entry = naive->entries[i];
        if (i < 4) {
            strcpy(entry, specials[i]);
            continue;
        }
        size_t at = rng_next(rng) % 3 == 0 ? 0 : 2;
        memcpy(entry, "##", 2);
        const size_t end = at + 1 + rng_below(rng, i < 40 ? 2 : NAIVE_SIZE - 4);
        while (at < end)
            entry[at++] = (char)('a' + rng_below(rng, (uint64_t)letters));
        entry[at] = '\0';
    }
}

static void test_against_definition(void)
{
    static struct naive naive;
    struct rng rng;
    rng_init(&rng, 3, 0, 0, RNG_TEST);
    for (int letters = 1; letters <= 5; letters++) {
        make_naive(&naive, &rng, letters);
        struct buffer file = {0};
        for (int i = 0; i < naive.count; i++) {
            buffer_append(&file, naive.entries[i], strlen(naive.entries[i]), &error);
            buffer_append(&file, "\n", 1, &error);
        }
        struct wordpiece *wordpiece = open_text((const char *)file.data, file.size);
        struct wordpiece_scratch *scratch = open_scratch();
        int known = 0;
        for (int trial = 0; trial < 400; trial++) {
            char word[110];
            int32_t expected[sizeof word];
            const size_t size = 1 + rng_below(&rng, trial % 4 == 0 ? sizeof word : 12);
            for (size_t i = 0; i < size; i++)
                word[i] = (char)('a' + rng_below(&rng, (uint64_t)letters));
            const size_t wanted = naive_encode(&naive, word, size, expected);
            const size_t count = encode(wordpiece, scratch, word, size);
            CHECK(count == wanted && memcmp(tokens.data, expected, count * 4) == 0,
                  "%d letters, trial %d: '%.*s'", letters, trial, (int)size, word);
            known += expected[0] != 1;
        }
        CHECK(known > 100, "%d letters: %d known words", letters, known);
        wordpiece_scratch_close(scratch);
        wordpiece_close(wordpiece);
        buffer_free(&file);
    }
}

/* ---- words ---- */

static void check_split(const char *text, const char *expected)
{
    struct wordpiece_word word;
    char got[256] = "";
    for (size_t position = 0;
         wordpiece_next_word((const uint8_t *)text, strlen(text), &position, &word);) {
        strncat(got, text + word.start, word.size);
        strcat(got, word.special == WORDPIECE_TEXT ? "|" : "$");
    }
    CHECK(strcmp(got, expected) == 0, "'%s': expected '%s', found '%s'", text, expected, got);
}

static void test_split(void)
{
    check_split("", "");
    check_split(" \t\u0301 ", "");
    check_split("A photo of a Cat.", "A|photo|of|a|Cat|.|");
    check_split("don't 3.14!!", "don|'|t|3|.|14|!|!|");
    check_split("a\u4e2d\u6587b", "a|\u4e2d|\u6587|b|");
    check_split("a\vb\u200bc", "a\vb\u200bc|");
    check_split("\u0301e\u0301 \u200b.", "e\u0301|.|");
    check_split("x[CLS]y[SEP][PAD][UNK][MASK]", "x|[CLS]$y|[SEP]$[PAD]$[UNK]$[MASK]$");
    check_split("[cls] [Mask] [CLS [X] [[SEP]]", "[cls]|[Mask]|[|CLS|[|X|]|[|[SEP]$]|");
    check_split("2\u22603", "2|\u2260|3|");
    check_split("a\xff" "b\xed\xa0\x80" "c", "a\xff" "b\xed\xa0\x80" "c|");
}

/* A vocabulary without [MASK] has no such entry, but the string is one word all the same. */
static void test_special_strings(void)
{
    static const char text[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[\n]\nmask\ncls\n";
    struct wordpiece *wordpiece = open_text(text, sizeof text - 1);
    struct wordpiece_scratch *scratch = open_scratch();
    CHECK(wordpiece_special_id(wordpiece, WORDPIECE_MASK) == -1, "[MASK]");
    CHECK(wordpiece_special_id(wordpiece, WORDPIECE_END) == 3, "[SEP]");
    static const int32_t ids[] = {4, 6, 5, 4, 7, 5, 2, 7}, numbers[] = {0, 0, 0, 1, 1, 1, 2, 3};
    const size_t count = encode(wordpiece, scratch, "[MASK][cls][CLS]cls", 19);
    CHECK(count == 8 && memcmp(tokens.data, ids, sizeof ids) == 0, "%zu tokens", count);
    CHECK(memcmp(words.data, numbers, sizeof numbers) == 0, "word numbers");
    struct buffer out = {0};
    CHECK(wordpiece_piece(wordpiece, 6, &out, &error) == STATUS_OK && out.size == 4 &&
              memcmp(out.data, "mask", 4) == 0, "%zu bytes", out.size);
    CHECK(wordpiece_piece(wordpiece, 8, &out, &error) == STATUS_DATA, "id 8 is accepted");
    CHECK(wordpiece_piece(wordpiece, -1, &out, &error) == STATUS_DATA, "id -1 is accepted");
    buffer_free(&out);
    wordpiece_scratch_close(scratch);
    wordpiece_close(wordpiece);
}

/* A character and its canonical decomposition are the same, whichever it is. */
static void test_every_character(void)
{
    static const char text[] = SPECIALS "a\n##a\nb\n##b\n`\n=\n<\n>\n;\nz\n##z\n";
    struct wordpiece *wordpiece = open_text(text, sizeof text - 1);
    struct wordpiece_scratch *scratch = open_scratch();
    int different = 0;
    for (int32_t code = 1; code < 0x110000; code++) {
        if (code == 0xD800)
            code = 0xE000;
        uint8_t composed[2 + UTF8_LENGTH_MAX] = {'a'}, decomposed[32] = {'a'};
        utf8proc_int32_t parts[4];
        size_t size = 1, decomposed_size = 1;
        size += utf8_write(code, composed + size);
        composed[size++] = 'b';
        const int count =
            (int)utf8proc_decompose_char(code, parts, 4, UTF8PROC_DECOMPOSE, NULL);
        if (count == 1 && parts[0] == code)
            continue;
        for (int i = 0; i < count; i++)
            decomposed_size += utf8_write(parts[i], decomposed + decomposed_size);
        decomposed[decomposed_size++] = 'b';

        int32_t expected[16];
        const size_t wanted = encode(wordpiece, scratch, decomposed, decomposed_size);
        memcpy(expected, tokens.data, wanted * sizeof expected[0]);
        const size_t got = encode(wordpiece, scratch, composed, size);
        if (got != wanted || memcmp(tokens.data, expected, got * sizeof expected[0]) != 0)
            CHECK(false, "U+%04X (%d)", (unsigned)code, ++different);
    }
    CHECK(different == 0, "%d characters", different);
    wordpiece_scratch_close(scratch);
    wordpiece_close(wordpiece);
}

/* ---- files ---- */

static void check_refused(const void *data, size_t size, const char *message)
{
    struct wordpiece *wordpiece = NULL;
    error.text[0] = '\0';
    enum status status = wordpiece_open(&wordpiece, data, size, &error);
    CHECK(status == STATUS_DATA && strstr(error.text, message) != NULL,
          "expected '%s', found status %d, '%s'", message, status, error.text);
    if (status == STATUS_OK)
        wordpiece_close(wordpiece);
}

static void test_bad_files(void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "no line [PAD] among 0"},
        {"[PAD]\n[UNK]\n[CLS]\n", "no line [SEP] among 3"},
        {"[PAD]\n[unk]\n[CLS]\n[SEP]\n", "no line [UNK] among 4"},
        {SPECIALS "\nb", "line 6: expected an entry, found nothing"},
        {SPECIALS "a\n \t\r\nb", "line 7: expected an entry"},
        {SPECIALS "a\nA\n", "line 7: 'A' is for cased text"},
        {SPECIALS "\xff\n", "line 6"},
        {SPECIALS "a\xed\xa0\x80\n", "is not UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_refused(cases[i].text, strlen(cases[i].text), cases[i].message);

    static const char good[] = SPECIALS "a\n##\nb \r\na";
    struct buffer packed = {0};
    CHECK(bpe_pack((const uint8_t *)good, sizeof good - 1, &packed, &error) == STATUS_OK,
          "pack");
    const size_t member = packed.size;
    CHECK(bpe_pack((const uint8_t *)"\nc", 2, &packed, &error) == STATUS_OK, "pack");
    struct wordpiece *wordpiece = open_text((const char *)packed.data, packed.size);
    struct wordpiece_scratch *scratch = open_scratch();
    CHECK(wordpiece_size(wordpiece) == 10, "%d", wordpiece_size(wordpiece));
    static const int32_t ids[] = {8, 7, 9};
    CHECK(encode(wordpiece, scratch, "a b C", 5) == 3 &&
              memcmp(tokens.data, ids, sizeof ids) == 0, "ids of two gzip members");
    wordpiece_scratch_close(scratch);
    wordpiece_close(wordpiece);
    for (size_t size = 2; size < packed.size; size++)
        if (size != member && size != member + 1)
            check_refused(packed.data, size, "the gzip data end");
    buffer_free(&packed);
}

/* ---- any size ---- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void test_hostile(void)
{
    /* The longest entry that can match, so that each place of "aaa..." looks far ahead. */
    char file[sizeof SPECIALS + 2 * WORDPIECE_WORD_MAX + 1000] = SPECIALS "a\n##a\n##";
    char *end = file + strlen(file);
    memset(end, 'a', 98);
    strcpy(end + 98, "b\n##");
    end += strlen(end);
    memset(end, 'a', 500); /* and one that cannot */
    end[500] = '\0';
    struct wordpiece *wordpiece = open_text(file, strlen(file));
    struct wordpiece_scratch *scratch = open_scratch();
    const size_t size = 4 << 20;
    uint8_t *text = malloc(size);
    const double start = seconds();

    memset(text, 'a', size);
    CHECK(encode(wordpiece, scratch, text, size) == 1, "a word of 4 MiB");
    for (size_t i = 100; i < size; i += 101)
        text[i] = ' ';
    CHECK(encode(wordpiece, scratch, text, size) > size - size / 50, "words of 100 letters");
    memset(text, '!', size);
    CHECK(encode(wordpiece, scratch, text, size) == size, "punctuation");
    memset(text, '[', size);
    CHECK(encode(wordpiece, scratch, text, size) == size, "brackets");
    memset(text, 0xFF, size);
    CHECK(encode(wordpiece, scratch, text, size) == 0, "no UTF-8");
    for (size_t i = 0; i < size; i += 2) /* combining marks, of falling classes */
        memcpy(text + i, i % 4 == 0 ? "\u0301" : "\u0323", 2);
    text[0] = text[1] = 'a';
    CHECK(encode(wordpiece, scratch, text, size) == 2, "a word of marks");
    /* A quarter of a million times three characters of three parts each. */
    for (size_t i = 0; i + 16 <= size; i += 16)
        memcpy(text + i, "\uac01\uac01\uac01 \U0001d160  ", 16);
    CHECK(encode(wordpiece, scratch, text, size) == 2 * (size / 16), "decompositions");
    const double took = seconds() - start;
    CHECK(took < 20, "%.1f s", took);

    const uint8_t *data = tokens.data;
    const size_t capacity = tokens.capacity;
    for (int i = 0; i < 100; i++)
        encode(wordpiece, scratch, text, 1000);
    CHECK(tokens.data == data && tokens.capacity == capacity, "the buffer moved");
    free(text);
    wordpiece_scratch_close(scratch);
    wordpiece_close(wordpiece);
}

int main(void)
{
    test_golden();
    test_against_definition();
    test_split();
    test_special_strings();
    test_every_character();
    test_bad_files();
    test_hostile();
    buffer_free(&tokens);
    buffer_free(&words);
    return check_report("wordpiece");
}
