/* The BPE encoder against its definition, spelled out on strings; against ids of open_clip
 * where CLIPIPE_CLIP_VOCAB names CLIP's vocabulary file. */
#include <stdlib.h>
#include <time.h>

#include "base/io.h"
#include "base/rng.h"
#include "formats/bpe.h"
#include "formats/bpe_learn.h"
#include "formats/text_clean.h"
#include "base/utf8.h"
#include "tests/unit/check.h"

enum { NAIVE_MERGES_MAX = 600, NAIVE_SYMBOL_MAX = 600, NAIVE_WORD_MAX = 400 };

/* ---- the definition ---- */

struct naive {
    char left[NAIVE_MERGES_MAX][NAIVE_SYMBOL_MAX];
    char right[NAIVE_MERGES_MAX][NAIVE_SYMBOL_MAX];
    int merges;
};

static void naive_load(struct naive *naive, const char *text)
{
    naive->merges = 0;
    for (const char *line = strchr(text, '\n'); line != NULL; line = strchr(line + 1, '\n'))
        if (sscanf(line + 1, "%599s %599s", naive->left[naive->merges],
                   naive->right[naive->merges]) == 2)
            naive->merges++;
}

/* Where two merges make the same string, it means the later. */
static int naive_id(const struct naive *naive, const char *symbol)
{
    for (int i = naive->merges - 1; i >= 0; i--) {
        const size_t left = strlen(naive->left[i]);
        if (strncmp(symbol, naive->left[i], left) == 0 &&
            strcmp(symbol + left, naive->right[i]) == 0)
            return 512 + i;
    }
    size_t at = 0;
    const int32_t code = utf8_next((const uint8_t *)symbol, strlen(symbol), &at);
    for (unsigned byte = 0; byte < 256; byte++)
        if (bpe_byte_code((uint8_t)byte) == code)
            return bpe_byte_id((uint8_t)byte) + (symbol[at] != '\0' ? 256 : 0);
    return -1;
}

static int naive_rank(const struct naive *naive, const char *left, const char *right)
{
    for (int i = 0; i < naive->merges; i++)
        if (strcmp(naive->left[i], left) == 0 && strcmp(naive->right[i], right) == 0)
            return i;
    return naive->merges;
}

static int naive_merge(const struct naive *naive, char (*symbols)[NAIVE_SYMBOL_MAX], int count)
{
    for (;;) {
        int best = naive->merges;
        for (int i = 0; i + 1 < count; i++) {
            int rank = naive_rank(naive, symbols[i], symbols[i + 1]);
            best = rank < best ? rank : best;
        }
        if (best == naive->merges)
            return count;
        int to = 0;
        for (int from = 0; from < count; to++) {
            const bool merges = from + 1 < count &&
                                strcmp(symbols[from], naive->left[best]) == 0 &&
                                strcmp(symbols[from + 1], naive->right[best]) == 0;
            char joined[2 * NAIVE_SYMBOL_MAX];
            snprintf(joined, sizeof joined, "%s%s", symbols[from],
                     merges ? symbols[from + 1] : "");
            memcpy(symbols[to], joined, NAIVE_SYMBOL_MAX);
            from += merges ? 2 : 1;
        }
        count = to;
    }
}

static int naive_encode(const struct naive *naive, const uint8_t *bytes, size_t size,
                        int32_t *ids)
{
    static char symbols[NAIVE_WORD_MAX][NAIVE_SYMBOL_MAX];
    for (size_t i = 0; i < size; i++) {
        uint8_t code[UTF8_LENGTH_MAX];
        size_t length = utf8_write(bpe_byte_code(bytes[i]), code);
        memcpy(symbols[i], code, length);
        strcpy(symbols[i] + length, i + 1 == size ? "</w>" : "");
    }
    int count = naive_merge(naive, symbols, (int)size);
    for (int i = 0; i < count; i++)
        ids[i] = naive_id(naive, symbols[i]);
    return count;
}

/* ---- helpers ---- */

static struct error error;
static struct buffer tokens, words;

static struct bpe *open_text(const char *text)
{
    struct bpe *bpe = NULL;
    enum status status = bpe_open(&bpe, (const uint8_t *)text, strlen(text), &error);
    CHECK(status == STATUS_OK, "status %d: %s", status, status == STATUS_OK ? "" : error.text);
    return bpe;
}

static size_t encode(const struct bpe *bpe, struct bpe_scratch *scratch, const void *text,
                     size_t size)
{
    tokens.size = words.size = 0;
    enum status status = bpe_encode(bpe, scratch, text, size, &tokens, &words, &error);
    CHECK(status == STATUS_OK, "status %d", status);
    CHECK(tokens.size == words.size, "%zu, %zu", tokens.size, words.size);
    return tokens.size / sizeof(int32_t);
}

/* Encodes each word by the definition and compares ids and word numbers. */
static bool same_as_naive(const struct naive *naive, const uint8_t *text, size_t size)
{
    static int32_t ids[NAIVE_WORD_MAX];
    const int32_t *got = (const void *)tokens.data, *got_words = (const void *)words.data;
    const size_t got_count = tokens.size / sizeof *got;
    struct bpe_word word;
    size_t position = 0, at = 0;
    for (int number = 0; bpe_next_word(text, size, &position, &word); number++) {
        int count = naive_encode(naive, text + word.start, word.size, ids);
        for (int i = 0; i < count; i++, at++)
            if (at >= got_count || got[at] != ids[i] || got_words[at] != number)
                return false;
    }
    return at == got_count;
}

/* A vocabulary learned from random words over a few letters. */
static char *learn_text(struct rng *rng, int letters, int words_count, int vocab_size)
{
    struct bpe_learner *learner;
    struct buffer out = {0};
    size_t merges;
    CHECK(bpe_learner_open(&learner, &error) == STATUS_OK, "open");
    for (int i = 0; i < words_count; i++) {
        uint8_t word[40];
        size_t size = 1 + rng_below(rng, sizeof word);
        for (size_t j = 0; j < size; j++)
            word[j] = (uint8_t)('a' + rng_below(rng, (uint64_t)letters));
        CHECK(bpe_learner_add(learner, word, size, &error) == STATUS_OK, "add");
    }
    CHECK(bpe_learner_finish(learner, vocab_size, &out, &merges, &error) == STATUS_OK, "learn");
    CHECK(buffer_append(&out, "", 1, &error) == STATUS_OK, "end");
    bpe_learner_close(learner);
    return (char *)out.data;
}

/* ---- tests ---- */

static void test_byte_alphabet(void)
{
    bool seen[256] = {false};
    for (unsigned byte = 0; byte < 256; byte++)
        seen[bpe_byte_id((uint8_t)byte)] = true;
    for (int id = 0; id < 256; id++)
        CHECK(seen[id], "id %d has no byte", id);
    CHECK(bpe_byte_id('!') == 0 && bpe_byte_code('!') == '!', "'!'");
    CHECK(bpe_byte_id('~') == 93 && bpe_byte_id(161) == 94, "the first gap");
    CHECK(bpe_byte_id(255) == 187 && bpe_byte_code(255) == 255, "255");
    CHECK(bpe_byte_id(0) == 188 && bpe_byte_code(0) == 0x100, "0");
    CHECK(bpe_byte_id(' ') == 188 + 32 && bpe_byte_code(' ') == 0x120, "space");
    CHECK(bpe_byte_id(173) == 255 && bpe_byte_code(173) == 0x143, "173");
}

static void check_split(const char *text, const char *expected)
{
    static const char *const ends[] = {
        [BPE_TEXT] = "|", [BPE_START_STRING] = "^", [BPE_END_STRING] = "$"};
    const uint8_t *bytes = (const uint8_t *)text;
    const size_t size = strlen(text);
    struct bpe_word word;
    char got[256] = "";
    for (size_t position = 0; bpe_next_word(bytes, size, &position, &word);) {
        strncat(got, text + word.start, word.size);
        strcat(got, ends[word.special]);
    }
    CHECK(strcmp(got, expected) == 0, "'%s': expected '%s', found '%s'", text, expected, got);
}

static void test_split(void)
{
    check_split("", "");
    check_split(" \t ", "");
    check_split("a photo of a cat.", "a|photo|of|a|cat|.|");
    check_split("it's i'd they've we'll i'm you're can't",
                "it|'s|i|'d|they|'ve|we|'ll|i|'m|you|'re|can|'t|");
    check_split("IT'S 'lx 'tis 'q !'s", "IT|'S|'|lx|'t|is|'|q|!'|s|");
    check_split("'\u017f", "'\u017f|");
    check_split("abc123 4.5", "abc|1|2|3|4|.|5|");
    check_split("x\u00bd\u2167\u0663y", "x|\u00bd|\u2167|\u0663|y|");
    check_split("caf\u00e9\u4e2d\u6587", "caf\u00e9\u4e2d\u6587|");
    check_split("e\u0301x", "e|\u0301|x|"); /* marks are no letters */
    check_split("a\u0345b", "a|b|");
    check_split("\U0001f600\U0001f3fd!\u00a0?", "\U0001f600\U0001f3fd!|?|");
    check_split("a\xff\xfe" "b", "a|\xff\xfe|b|");
    check_split("<start_of_text>a<end_of_text>", "<start_of_text>^a|<end_of_text>$");
    check_split("<START_OF_TEXT><\u017ftart_of_text>", "<START_OF_TEXT>|<\u017ftart_of_text>|");
    check_split("!<start_of_text> <end_of_text", "!<|start|_|of|_|text|>|<|end|_|of|_|text|");
}

/* "abc" is made in two ways, and a pair of the first ranks better than the second way: both
 * places of a round are merged before the new pair is looked at. */
static void test_rounds(void)
{
    static const char text[] = "#version: test\nb c\na b\nab c\nabc a\na bc\nx y</w>\n";
    static struct naive naive;
    struct bpe *bpe = open_text(text);
    naive_load(&naive, text);
    struct bpe_scratch *scratch;
    CHECK(bpe_scratch_open(&scratch, &error) == STATUS_OK, "scratch");
    CHECK(bpe_vocab_size(bpe) == 512 + 6 + 2 && bpe_start(bpe) == 518 && bpe_end(bpe) == 519,
          "size %d", bpe_vocab_size(bpe));
    size_t count = encode(bpe, scratch, "abcabcd", 7);
    const int32_t *ids = (const void *)tokens.data;
    CHECK(count == 3 && ids[0] == 516 && ids[1] == 516 && ids[2] == 256 + 67,
          "%zu tokens, %d %d %d", count, ids[0], ids[1], ids[2]);

    char word[NAIVE_WORD_MAX];
    /* Short words and long ones, which are merged in different ways. */
    for (size_t size = 1; size < sizeof word; size += 1 + size / 60) {
        for (size_t i = 0; i < size; i++)
            word[i] = "abc"[i % 3];
        encode(bpe, scratch, word, size);
        CHECK(same_as_naive(&naive, (const uint8_t *)word, size), "%zu letters", size);
    }
    encode(bpe, scratch, "xy xyx <end_of_text>xy", 22);
    ids = (const void *)tokens.data;
    CHECK(ids[0] == 517 && ids[4] == 519 && ids[5] == 517, "%d %d %d", ids[0], ids[4], ids[5]);
    bpe_scratch_close(scratch);
    bpe_close(bpe);
}

static void test_against_definition(void)
{
    static struct naive naive;
    struct rng rng;
    rng_init(&rng, 2, 0, 0, RNG_TEST);
    for (int letters = 1; letters <= 6; letters++) {
        char *text = learn_text(&rng, letters, 300, 514 + 100 * letters - 1);
        naive_load(&naive, text);
        struct bpe *bpe = open_text(text);
        struct bpe_scratch *scratch;
        CHECK(bpe_scratch_open(&scratch, &error) == STATUS_OK, "scratch");
        CHECK(naive.merges > 5 && bpe_vocab_size(bpe) == 514 + naive.merges, "%d merges",
              naive.merges);
        for (int trial = 0; trial < 80; trial++) {
            uint8_t input[300];
            const size_t size = rng_below(&rng, sizeof input + 1);
            const uint64_t spaces = 1 + rng_below(&rng, 100);
            for (size_t i = 0; i < size; i++)
                input[i] = rng_below(&rng, spaces) == 0 && spaces > 1
                               ? (uint8_t)rng_next(&rng)
                               : (uint8_t)('a' + rng_below(&rng, (uint64_t)letters));
            encode(bpe, scratch, input, size);
            CHECK(same_as_naive(&naive, input, size), "%d letters, trial %d: '%.*s'", letters,
                  trial, (int)size, (const char *)input);
            encode(bpe, scratch, input, size); /* once more, from the cache */
            CHECK(same_as_naive(&naive, input, size), "%d letters, trial %d, cached", letters,
                  trial);
        }
        bpe_scratch_close(scratch);
        bpe_close(bpe);
        free(text);
    }
}

static void test_append_and_decode(void)
{
    struct bpe *bpe = open_text("#version: 0.2\nt h\nth e</w>");
    struct bpe_scratch *scratch;
    CHECK(bpe_scratch_open(&scratch, &error) == STATUS_OK, "scratch");
    encode(bpe, scratch, "the", 3);
    CHECK(bpe_encode(bpe, scratch, (const uint8_t *)"a th", 4, &tokens, &words, &error) ==
              STATUS_OK, "encode");
    CHECK(bpe_encode(bpe, scratch, NULL, 0, &tokens, &words, &error) == STATUS_OK, "empty");
    const int32_t *ids = (const void *)tokens.data, *numbers = (const void *)words.data;
    const int32_t expected_ids[] = {513, 256 + 64, 83, 256 + 71};
    CHECK(tokens.size == sizeof expected_ids &&
              memcmp(ids, expected_ids, sizeof expected_ids) == 0, "%zu bytes", tokens.size);
    CHECK(numbers[0] == 0 && numbers[1] == 0 && numbers[2] == 1 && numbers[3] == 1, "words");

    struct buffer out = {0};
    const int32_t all[] = {514, 513, 320, 512, 327, 515};
    CHECK(bpe_decode(bpe, all, 6, &out, &error) == STATUS_OK, "decode");
    const char expected[] = "<start_of_text>the a thh <end_of_text>";
    CHECK(out.size == sizeof expected - 1 && memcmp(out.data, expected, out.size) == 0,
          "'%.*s'", (int)out.size, (const char *)out.data);
    const int32_t outside[] = {516, -1};
    CHECK(bpe_decode(bpe, outside, 1, &out, &error) == STATUS_DATA, "id 516 is accepted");
    CHECK(bpe_decode(bpe, outside + 1, 1, &out, &error) == STATUS_DATA, "id -1 is accepted");
    buffer_free(&out);
    bpe_scratch_close(scratch);
    bpe_close(bpe);
}

static void check_refused(const void *data, size_t size, const char *message)
{
    struct bpe *bpe = NULL;
    error.text[0] = '\0';
    enum status status = bpe_open(&bpe, data, size, &error);
    CHECK(status == STATUS_DATA && strstr(error.text, message) != NULL,
          "expected '%s', found status %d, '%s'", message, status, error.text);
    if (status == STATUS_OK)
        bpe_close(bpe);
}

static void test_bad_files(void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "line 1"},
        {"a b\nb c", "line 1"},
        {"#version: 1\na b\nc", "line 3: expected two symbols, found 'c'"},
        {"#version: 1\na b\n\n", "line 3"},
        {"#version: 1\na ", "line 2"},
        {"#version: 1\n b", "line 2"},
        {"#version: 1\na b c", "line 2"},
        {"#version: 1\na</w> b", "line 2"},
        {"#version: 1\na \xe4\xb8\xad", "line 2"},
        {"#version: 1\na \xff", "line 2"},
        {"#version: 1\na bc", "line 2: no line makes"},
        {"#version: 1\na b\na b", "line 3: repeats the merge of line 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_refused(cases[i].text, strlen(cases[i].text), cases[i].message);

    static const char good[] = "#version: 0.2\na b\nab c</w>\n";
    struct buffer packed = {0};
    CHECK(bpe_pack((const uint8_t *)good, sizeof good - 1, &packed, &error) == STATUS_OK,
          "pack");
    struct bpe *bpe = NULL;
    CHECK(bpe_open(&bpe, packed.data, packed.size, &error) == STATUS_OK, "a gzip file");
    CHECK(bpe_vocab_size(bpe) == 516, "%d", bpe_vocab_size(bpe));
    bpe_close(bpe);
    for (size_t size = 2; size < packed.size; size++)
        check_refused(packed.data, size, "the gzip data end");
    packed.data[12] ^= 0xFF;
    check_refused(packed.data, packed.size, "gzip data");

    /* 80 MB of zeros in a few kilobytes. */
    const size_t bomb_size = 80 << 20;
    uint8_t *bomb = calloc(bomb_size, 1);
    packed.size = 0;
    CHECK(bomb != NULL && bpe_pack(bomb, bomb_size, &packed, &error) == STATUS_OK, "pack");
    check_refused(packed.data, packed.size, "unpacks to more than");
    free(bomb);
    buffer_free(&packed);
}

/* A megabyte without a space, of each kind: all together in 10 seconds. */
static void test_hostile(void)
{
    static const char *const units[] = {"a", "ab", "abcaacb", "\U0001f600", "\u4e2d", "!",
                                        "\xff", "1", "'", "<start_of_tex", "a\u0345"};
    struct rng rng;
    rng_init(&rng, 3, 0, 0, RNG_TEST);
    char *text = learn_text(&rng, 3, 2000, 1500);
    struct bpe *bpe = open_text(text);
    struct bpe_scratch *scratch;
    CHECK(bpe_scratch_open(&scratch, &error) == STATUS_OK, "scratch");
    const clock_t start = clock();
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        struct buffer input = {0}, back = {0};
        while (input.size < 1000000)
            if (buffer_append(&input, units[i], strlen(units[i]), &error) != STATUS_OK)
                break;
        const size_t count = encode(bpe, scratch, input.data, input.size);
        CHECK(count > 1000, "unit %zu: %zu tokens", i, count);
        CHECK(bpe_decode(bpe, (const void *)tokens.data, count, &back, &error) == STATUS_OK,
              "unit %zu", i);
        if (i < 6) /* one word: its text and a space */
            CHECK(back.size == input.size + 1 && memcmp(back.data, input.data, input.size) == 0,
                  "unit %zu: %zu of %zu bytes", i, back.size, input.size);
        buffer_free(&input);
        buffer_free(&back);
    }
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    CHECK(seconds < 10, "%.1f s", seconds);
    bpe_scratch_close(scratch);
    bpe_close(bpe);
    free(text);
}

/* ---- CLIP's own vocabulary ---- */

/* Undoes the escapes of the golden file in place; returns the length. */
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

static void check_golden_line(const struct bpe *bpe, struct bpe_scratch *scratch, char *line)
{
    static struct text_cleaner cleaner;
    static struct buffer clean;
    char *ids = strchr(line, '\t');
    CHECK(ids != NULL, "a line without ids");
    if (ids == NULL)
        return;
    *ids++ = '\0';
    const size_t size = unescape(line);
    CHECK(text_clean(&cleaner, (const uint8_t *)line, size, &clean, &error) == STATUS_OK,
          "clean");
    const size_t count = encode(bpe, scratch, clean.data, clean.size);
    const int32_t *got = (const void *)tokens.data;
    size_t expected = 0;
    bool equal = true;
    for (char *end; *ids != '\0' && *ids != '\n'; ids = end, expected++) {
        const long id = strtol(ids, &end, 10);
        equal = equal && expected < count && got[expected] == id;
    }
    CHECK(equal && expected == count, "'%s': %zu tokens, expected %zu", line, count, expected);
}

static void test_golden(void)
{
    const char *path = getenv("CLIPIPE_CLIP_VOCAB");
    if (path == NULL) {
        printf("bpe: CLIP's own ids: skipped, CLIPIPE_CLIP_VOCAB is not set\n");
        return;
    }
    struct buffer file = {0};
    struct bpe *bpe = NULL;
    struct bpe_scratch *scratch = NULL;
    FILE *golden = fopen("tests/reference/clip_bpe_golden.tsv", "r");
    CHECK(golden != NULL, "tests/reference/clip_bpe_golden.tsv");
    CHECK(io_read_file(path, 64 << 20, &file, &error) == STATUS_OK, "%s", path);
    CHECK(bpe_open(&bpe, file.data, file.size, &error) == STATUS_OK, "%s", path);
    CHECK(bpe_scratch_open(&scratch, &error) == STATUS_OK, "scratch");
    if (golden != NULL && bpe != NULL && scratch != NULL) {
        char line[8192];
        CHECK(bpe_vocab_size(bpe) == 49408, "%d", bpe_vocab_size(bpe));
        while (fgets(line, sizeof line, golden) != NULL)
            check_golden_line(bpe, scratch, line);
    }
    if (golden != NULL)
        fclose(golden);
    bpe_scratch_close(scratch);
    bpe_close(bpe);
    buffer_free(&file);
}

int main(void)
{
    test_byte_alphabet();
    test_split();
    test_rounds();
    test_against_definition();
    test_append_and_decode();
    test_bad_files();
    test_hostile();
    test_golden();
    buffer_free(&tokens);
    buffer_free(&words);
    return check_report("bpe");
}
