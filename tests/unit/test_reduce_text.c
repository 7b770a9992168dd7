/* Captions of a fixed length: every strategy and layout against cases made by hand and against
 * open_clip's own functions; how often each token is kept; hostile captions. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "formats/reduce_text.h"
#include "tests/unit/check.h"

enum { START = 101, END = 102, PAD = 7, OUT_MAX = 64 };

static const struct text_specials specials = {START, END, PAD};
static struct buffer scratch;
static struct error error;

static const char *const names[] = {"none", "truncate", "random", "shuffle", "block", "syntax"};

/* Checks the status and that nothing is written behind the end. */
static void reduce(const struct text_reduction *reduction, const struct text_input *input,
                   uint64_t epoch, uint64_t sample, int32_t *out)
{
    int32_t exact[OUT_MAX + 1];
    struct rng rng;
    const enum text_strategy strategy = reduction->strategy;
    const bool draws = strategy != TEXT_TRUNCATE && strategy != TEXT_SYNTAX;
    rng_init(&rng, 3, epoch, sample, RNG_TEXT_TOKENS);
    memset(exact, 0x55, sizeof exact);
    enum status status = text_reduce(reduction, &specials, input, draws ? &rng : NULL, &scratch,
                                     exact, &error);
    CHECK(status == STATUS_OK, "%s: %s", names[reduction->strategy], error.text);
    CHECK(exact[reduction->length] == 0x55555555, "%s:%zu of %zu: written behind the end",
          names[reduction->strategy], reduction->length, input->count);
    memcpy(out, exact, reduction->length * sizeof out[0]);
}

/* ---- by hand ---- */

static const char *format(const int32_t *values, size_t count)
{
    static char text[2][OUT_MAX * 12 + 1];
    static int turn;
    char *out = text[turn ^= 1];
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(out + used, 12, "%s%d", i > 0 ? " " : "", values[i]);
    return out;
}

static void check_truncate(enum text_layout layout, size_t length, size_t count,
                           const int32_t *expected)
{
    static const int32_t content[] = {11, 12, 13, 14, 15, 16};
    const struct text_reduction reduction = {TEXT_TRUNCATE, length, layout, false};
    const struct text_input input = {count > 0 ? content : NULL, NULL, NULL, count};
    int32_t out[OUT_MAX];
    reduce(&reduction, &input, 0, 0, out);
    CHECK(memcmp(out, expected, length * sizeof out[0]) == 0, "%s, %zu of %zu: %s, not %s",
          text_layout_name(layout), length, count, format(out, length),
          format(expected, length));
}

#define LIST(...) ((const int32_t[]){__VA_ARGS__})

static void test_layouts(void)
{
    static const enum text_layout with_end[] = {TEXT_LAYOUT_CLIP, TEXT_LAYOUT_BERT_SEP};
    for (int i = 0; i < 2; i++) {
        check_truncate(with_end[i], 5, 0, LIST(START, END, PAD, PAD, PAD));
        check_truncate(with_end[i], 5, 1, LIST(START, 11, END, PAD, PAD));
        check_truncate(with_end[i], 5, 2, LIST(START, 11, 12, END, PAD));
        check_truncate(with_end[i], 5, 3, LIST(START, 11, 12, 13, END));
        check_truncate(with_end[i], 5, 4, LIST(START, 11, 12, 13, END));
        check_truncate(with_end[i], 4, 6, LIST(START, 11, 12, END));
        check_truncate(with_end[i], 3, 6, LIST(START, 11, END));
        check_truncate(with_end[i], 2, 6, LIST(START, END));
    }
    check_truncate(TEXT_LAYOUT_BERT, 5, 0, LIST(START, PAD, PAD, PAD, PAD));
    check_truncate(TEXT_LAYOUT_BERT, 5, 3, LIST(START, 11, 12, 13, PAD));
    check_truncate(TEXT_LAYOUT_BERT, 5, 4, LIST(START, 11, 12, 13, PAD));
    check_truncate(TEXT_LAYOUT_BERT, 2, 6, LIST(START, PAD));
    check_truncate(TEXT_LAYOUT_CLIPA_JAX, 5, 0, LIST(START, PAD, PAD, PAD, PAD));
    check_truncate(TEXT_LAYOUT_CLIPA_JAX, 5, 3, LIST(START, 11, 12, 13, PAD));
    check_truncate(TEXT_LAYOUT_CLIPA_JAX, 5, 4, LIST(START, 11, 12, 13, 14));
    check_truncate(TEXT_LAYOUT_CLIPA_JAX, 5, 6, LIST(START, 11, 12, 13, 14));
    check_truncate(TEXT_LAYOUT_CLIPA_JAX, 2, 6, LIST(START, 11));

    static const char *const layouts[] = {"clip", "bert", "clipa-jax", "bert-sep"};
    enum text_layout layout;
    for (int i = 0; i < 4; i++)
        CHECK(text_layout_from_name(layouts[i], &layout) && (int)layout == i &&
                  strcmp(text_layout_name(layout), layouts[i]) == 0,
              "layout %s", layouts[i]);
    CHECK(!text_layout_from_name("clipa", &layout) && !text_layout_from_name("", &layout),
          "a layout that is none");
}

/* `words`, `priorities`: a digit for each token, which is 10 plus its place. */
static void check_syntax(enum text_layout layout, size_t length, const char *words,
                         const char *priorities, const int32_t *expected)
{
    const struct text_reduction reduction = {TEXT_SYNTAX, length, layout, false};
    struct text_input input = {.count = strlen(words)};
    int32_t tokens[OUT_MAX], word[OUT_MAX], out[OUT_MAX];
    uint8_t priority[OUT_MAX];
    for (size_t i = 0; i < input.count; i++) {
        tokens[i] = 10 + (int32_t)i;
        word[i] = words[i] - '0';
        priority[i] = (uint8_t)(priorities[i] - '0');
    }
    input.tokens = tokens;
    input.word = word;
    input.priority = priority;
    reduce(&reduction, &input, 0, 0, out);
    CHECK(memcmp(out, expected, length * sizeof out[0]) == 0, "%s, %zu of %s, %s: %s, not %s",
          text_layout_name(layout), length, words, priorities, format(out, length),
          format(expected, length));
}

static void test_syntax(void)
{
    const enum text_layout clip = TEXT_LAYOUT_CLIP, jax = TEXT_LAYOUT_CLIPA_JAX;
    /* a dog runs in the park */
    check_syntax(clip, 8, "012345", "413441", LIST(START, 10, 11, 12, 13, 14, 15, END));
    check_syntax(clip, 7, "012345", "413441", LIST(START, 10, 11, 12, 13, 15, END));
    check_syntax(clip, 5, "012345", "413441", LIST(START, 11, 12, 15, END));
    check_syntax(clip, 4, "012345", "413441", LIST(START, 11, 15, END));
    check_syntax(clip, 3, "012345", "413441", LIST(START, 11, END));
    check_syntax(clip, 2, "012345", "413441", LIST(START, END));
    check_syntax(jax, 5, "012345", "413441", LIST(START, 10, 11, 12, 15));
    check_syntax(jax, 2, "012345", "413441", LIST(START, 11));
    check_syntax(TEXT_LAYOUT_BERT, 5, "012345", "413441", LIST(START, 11, 12, 15, PAD));
    /* all alike: the leftmost */
    check_syntax(clip, 5, "012345", "444444", LIST(START, 10, 11, 12, END));
    check_syntax(clip, 5, "012345", "111111", LIST(START, 10, 11, 12, END));
    /* as many words as room, of more tokens: all words kept, then cut */
    check_syntax(clip, 5, "01122", "411  ", LIST(START, 10, 11, 12, END));
    /* words of several tokens, whose first token decides */
    check_syntax(clip, 4, "0112233", "4414441", LIST(START, 10, 11, END));
    check_syntax(clip, 4, "0112233", "4141141", LIST(START, 11, 12, END));
    check_syntax(clip, 4, "0001", "4111", LIST(START, 10, 11, END));
    check_syntax(clip, 4, "0001234", "4441111", LIST(START, 13, 14, END));
    check_syntax(jax, 3, "0001234", "4441111", LIST(START, 13, 14));
    /* few tokens remain where the words that are kept have few */
    check_syntax(clip, 6, "01222345", "14444111", LIST(START, 10, 15, 16, 17, END));
    check_syntax(clip, 3, "00012", "44414", LIST(START, 13, END));
    /* other priorities than pos-tag's, and numbers of words that fall or begin anywhere */
    check_syntax(clip, 4, "7531", "9870", LIST(START, 12, 13, END));
    check_syntax(clip, 4, "9494", "1234", LIST(START, 10, 11, END));
}

/* A priority may be any byte. */
static void test_extreme_priorities(void)
{
    const struct text_reduction reduction = {TEXT_SYNTAX, 4, TEXT_LAYOUT_CLIP, false};
    const int32_t tokens[] = {1, 2, 3, 4}, word[] = {0, INT32_MAX, -1, INT32_MIN};
    const uint8_t priority[] = {255, 254, 255, 0}, last[] = {255, 255, 255, 255};
    struct text_input input = {tokens, word, priority, 4};
    int32_t out[4];
    reduce(&reduction, &input, 0, 0, out);
    CHECK(memcmp(out, LIST(START, 2, 4, END), sizeof out) == 0, "%s", format(out, 4));
    input.priority = last;
    reduce(&reduction, &input, 0, 0, out);
    CHECK(memcmp(out, LIST(START, 1, 2, END), sizeof out) == 0, "%s", format(out, 4));
}

/* ---- what is drawn ---- */

enum { COUNT = 9, LENGTH = 6, ROOM = LENGTH - 2, DRAWS = 20000 };

static const int32_t nine[COUNT] = {0, 1, 2, 3, 4, 5, 6, 7, 8};

static void draw(enum text_strategy strategy, uint64_t epoch, uint64_t sample, int32_t *out)
{
    const struct text_reduction reduction = {strategy, LENGTH, TEXT_LAYOUT_CLIP, false};
    const struct text_input input = {nine, NULL, NULL, COUNT};
    int32_t whole[LENGTH];
    reduce(&reduction, &input, epoch, sample, whole);
    memcpy(out, whole + 1, ROOM * sizeof out[0]);
}

static void check_share(int count, double p, const char *what, int a, int b)
{
    CHECK_NEAR(count, DRAWS * p, 4.5 * sqrt(DRAWS * p * (1 - p)), "%s: %d, %d", what, a, b);
}

/* random keeps each pair as often, in order; shuffle the same sets, any token at any place. */
static void test_random(void)
{
    int pair[COUNT][COUNT] = {{0}}, place[COUNT][ROOM] = {{0}};
    int32_t kept[ROOM], shuffled[ROOM];
    size_t unordered = 0, other = 0;
    for (uint64_t sample = 0; sample < DRAWS; sample++) {
        bool seen[COUNT] = {false};
        draw(TEXT_RANDOM, 0, sample, kept);
        draw(TEXT_SHUFFLE, 0, sample, shuffled);
        for (int i = 0; i < ROOM; i++) {
            seen[kept[i]] = true;
            unordered += i > 0 && kept[i] <= kept[i - 1];
            for (int j = 0; j < i; j++)
                pair[kept[j]][kept[i]]++;
            place[shuffled[i]][i]++;
        }
        for (int i = 0; i < ROOM; i++) {
            other += !seen[shuffled[i]];
            seen[shuffled[i]] = false;
        }
    }
    CHECK(unordered == 0, "random: %zu tokens out of order", unordered);
    CHECK(other == 0, "shuffle: %zu tokens that random does not keep", other);
    for (int i = 0; i < COUNT; i++) {
        for (int j = i + 1; j < COUNT; j++)
            check_share(pair[i][j], (double)ROOM * (ROOM - 1) / (COUNT * (COUNT - 1)),
                        "random: tokens", i, j);
        for (int j = 0; j < ROOM; j++)
            check_share(place[i][j], 1.0 / COUNT, "shuffle: token, place", i, j);
    }
}

static void test_block(void)
{
    int count[COUNT] = {0};
    int32_t kept[ROOM];
    size_t broken = 0;
    for (uint64_t sample = 0; sample < DRAWS; sample++) {
        draw(TEXT_BLOCK, 0, sample, kept);
        count[kept[0]]++;
        for (int i = 1; i < ROOM; i++)
            broken += kept[i] != kept[0] + i;
    }
    CHECK(broken == 0, "%zu tokens are not behind the one before", broken);
    for (int i = 0; i < COUNT; i++) {
        if (i <= COUNT - ROOM)
            check_share(count[i], 1.0 / (COUNT - ROOM + 1), "a block at", i, 0);
        else
            CHECK(count[i] == 0, "%d blocks at %d", count[i], i);
    }
}

static void test_draws(void)
{
    static const enum text_strategy strategies[] = {TEXT_RANDOM, TEXT_SHUFFLE, TEXT_BLOCK};
    int32_t a[ROOM], b[ROOM];
    for (size_t s = 0; s < 3; s++) {
        size_t changed = 0, different = 0;
        for (uint64_t sample = 0; sample < 100; sample++) {
            draw(strategies[s], 0, sample, a);
            draw(strategies[s], 0, sample, b);
            different += memcmp(a, b, sizeof a) != 0;
            draw(strategies[s], 1, sample, b);
            changed += memcmp(a, b, sizeof a) != 0;
        }
        CHECK(different == 0, "%s: two results for a sample", names[strategies[s]]);
        CHECK(changed > 60, "%s: only %zu of 100 samples change with the epoch",
              names[strategies[s]], changed);
    }
}

/* ---- any caption ---- */

/* What holds for every strategy: content from the caption, padding behind it, captions that fit
 * are left alone. */
static void check_any(enum text_strategy strategy, enum text_layout layout, size_t length,
                      size_t count)
{
    const struct text_reduction reduction = {strategy, length, layout, false};
    const size_t room = text_reduction_room(&reduction), kept = count < room ? count : room;
    const bool end = layout == TEXT_LAYOUT_CLIP || layout == TEXT_LAYOUT_BERT_SEP;
    int32_t *tokens = malloc((count + 1) * sizeof *tokens), out[OUT_MAX];
    uint8_t *priority = malloc(count + 1);
    for (size_t i = 0; i < count; i++) {
        tokens[i] = 1000 + (int32_t)i;
        priority[i] = (uint8_t)(1 + i * 7 % 4);
    }
    const struct text_input input = {tokens, tokens, priority, count}; /* a word a token */
    reduce(&reduction, &input, 0, count, out);
    size_t wrong = out[0] != START;
    for (size_t i = 1; i < length; i++) {
        if (i <= kept)
            wrong += out[i] < 1000 || out[i] >= 1000 + (int32_t)count ||
                     (count <= room && out[i] != tokens[i - 1]) ||
                     (i > 1 && strategy != TEXT_SHUFFLE && out[i] <= out[i - 1]);
        else
            wrong += out[i] != (end && i == kept + 1 ? END : PAD);
    }
    CHECK(wrong == 0, "%s:%zu, %s, %zu tokens: %s", names[strategy], length,
          text_layout_name(layout), count, format(out, length));
    free(tokens);
    free(priority);
}

static void test_any(void)
{
    static const size_t counts[] = {0, 1, 2, 5, 6, 7, 8, 62, 63, 64, 65, 127, 10000};
    static const size_t lengths[] = {2, 3, 8, OUT_MAX};
    for (int strategy = TEXT_TRUNCATE; strategy <= TEXT_SYNTAX; strategy++)
        for (int layout = TEXT_LAYOUT_CLIP; layout <= TEXT_LAYOUT_BERT_SEP; layout++)
            for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
                for (size_t j = 0; j < sizeof counts / sizeof counts[0]; j++)
                    check_any(strategy, layout, lengths[i], counts[j]);
}

/* ---- open_clip's own functions ---- */

enum { FIELDS = 9, NUMBERS_MAX = 256 };

static size_t read_numbers(const char *text, int32_t *out)
{
    size_t count = 0;
    char *end;
    for (long value; count < NUMBERS_MAX; text = end) {
        value = strtol(text, &end, 10);
        if (end == text)
            break;
        out[count++] = (int32_t)value;
    }
    return count;
}

static bool split_fields(char *line, char *fields[FIELDS])
{
    int count = 0;
    for (char *field = line; field != NULL && count < FIELDS; count++) {
        char *tab = strchr(field, '\t');
        fields[count] = field;
        field = tab == NULL ? NULL : tab + 1;
        if (tab != NULL)
            *tab = '\0';
    }
    return count == FIELDS;
}

static void check_golden_line(char *line, int number)
{
    static const struct text_specials clip = {49406, 49407, 0};
    char *fields[FIELDS], strategy[40];
    int32_t tokens[NUMBERS_MAX], word[NUMBERS_MAX], wide[NUMBERS_MAX], expected[NUMBERS_MAX];
    int32_t out[NUMBERS_MAX] = {0};
    uint8_t priority[NUMBERS_MAX];
    struct text_reduction reduction = {.layout = TEXT_LAYOUT_CLIP};
    if (!split_fields(line, fields)) {
        CHECK(false, "line %d: not %d fields", number, FIELDS);
        return;
    }
    snprintf(strategy, sizeof strategy, "%s:%s", fields[0], fields[1]);
    CHECK(text_reduction_parse(&reduction, strategy, &error) == STATUS_OK, "%s", error.text);
    const size_t count = read_numbers(fields[5], tokens), words = read_numbers(fields[6], word);
    const size_t priorities = read_numbers(fields[7], wide);
    const size_t length = read_numbers(fields[8], expected);
    for (size_t i = 0; i < count; i++)
        priority[i] = (uint8_t)wide[i];
    const struct text_input input = {tokens, word, priority, count};
    struct rng rng;
    rng_init(&rng, strtoull(fields[2], NULL, 10), strtoull(fields[3], NULL, 10),
             strtoull(fields[4], NULL, 10), RNG_TEXT_TOKENS);
    enum status status = STATUS_BUG;
    if (words == count && priorities == count && length == reduction.length)
        status = text_reduce(&reduction, &clip, &input, &rng, &scratch, out, &error);
    CHECK(status == STATUS_OK && memcmp(out, expected, length * sizeof out[0]) == 0,
          "line %d, %s of %zu tokens: %s, not %s", number, strategy, count,
          format(out, length), format(expected, length));
}

static void test_golden(void)
{
    static const char path[] = "tests/reference/text_reduction_golden.tsv";
    char line[8192];
    int number = 0;
    FILE *golden = fopen(path, "r");
    while (golden != NULL && fgets(line, sizeof line, golden) != NULL)
        check_golden_line(line, ++number);
    CHECK(number >= 100, "%s: %d lines", path, number);
    if (golden != NULL)
        fclose(golden);
}

/* ---- strategies as text ---- */

static void test_strategies(void)
{
    static const char *const bad[] = {"", "truncate", "truncate:1", "truncate:4097", "random:0",
                                      "syntax:8%", "grid:8", "block:", "simple:8", "none:8"};
    struct text_reduction text = {.layout = TEXT_LAYOUT_BERT, .pieces = true};
    CHECK(text_reduction_parse(&text, "none", &error) == STATUS_OK &&
              text.strategy == TEXT_NONE,
          "none became %d", text.strategy);
    for (int strategy = TEXT_TRUNCATE; strategy <= TEXT_SYNTAX; strategy++)
        for (size_t length = TEXT_LENGTH_MIN; length <= TEXT_LENGTH_MAX; length += 4094) {
            char name[40];
            snprintf(name, sizeof name, "%s:%zu", names[strategy], length);
            CHECK(text_reduction_parse(&text, name, &error) == STATUS_OK &&
                      (int)text.strategy == strategy && text.length == length,
                  "%s became %d:%zu", name, text.strategy, text.length);
        }
    CHECK(text.layout == TEXT_LAYOUT_BERT && text.pieces, "layout and pieces do not stay");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(text_reduction_parse(&text, bad[i], &error) == STATUS_USAGE &&
                  strncmp(error.text, "--text: ", 8) == 0,
              "'%s': '%s'", bad[i], error.text);
}

int main(void)
{
    test_strategies();
    test_layouts();
    test_syntax();
    test_extreme_priorities();
    test_random();
    test_block();
    test_draws();
    test_any();
    test_golden();
    buffer_free(&scratch);
    return check_report("reduce_text");
}
