/* BPE learning against the published algorithm, which counts all pairs anew for each merge. */
#include <stdlib.h>

#include "base/rng.h"
#include "formats/bpe.h"
#include "formats/bpe_learn.h"
#include "base/utf8.h"
#include "tests/unit/check.h"

enum {
    WORDS_MAX = 400,
    WORD_SYMBOLS_MAX = 24,
    SYMBOL_MAX = 64,
    MERGES_MAX = 3000,
};

static struct error error;

/* A symbol is its bytes and, at the end of a word, "</w>"; letters stand for themselves. */
typedef char symbol[SYMBOL_MAX];

static struct {
    symbol symbols[WORDS_MAX][WORD_SYMBOLS_MAX];
    int sizes[WORDS_MAX];
    uint64_t counts[WORDS_MAX];
    int words;
    symbol left[MERGES_MAX], right[MERGES_MAX];
    int merges;
} naive;

struct candidate {
    const char *left, *right;
    uint64_t count;
};

static int compare_naive(const char *a, const char *b)
{
    static const char mark[] = "</w>";
    const char *a_mark = strstr(a, mark), *b_mark = strstr(b, mark);
    const size_t a_size = a_mark == NULL ? strlen(a) : (size_t)(a_mark - a);
    const size_t b_size = b_mark == NULL ? strlen(b) : (size_t)(b_mark - b);
    int order = memcmp(a, b, a_size < b_size ? a_size : b_size);
    if (order != 0)
        return order;
    if (a_size != b_size)
        return a_size < b_size ? -1 : 1;
    return (a_mark != NULL) - (b_mark != NULL);
}

static bool better(const struct candidate *a, const struct candidate *b)
{
    if (a->count != b->count)
        return a->count > b->count;
    int order = compare_naive(a->left, b->left);
    return (order != 0 ? order : compare_naive(a->right, b->right)) < 0;
}

static struct candidate count_naive(const char *left, const char *right)
{
    struct candidate pair = {left, right, 0};
    for (int w = 0; w < naive.words; w++)
        for (int i = 0; i + 1 < naive.sizes[w]; i++)
            if (strcmp(naive.symbols[w][i], left) == 0 &&
                strcmp(naive.symbols[w][i + 1], right) == 0)
                pair.count += naive.counts[w];
    return pair;
}

static struct candidate best_naive(void)
{
    static symbol seen[4096][2];
    int seen_count = 0;
    struct candidate best = {NULL, NULL, 0};
    for (int w = 0; w < naive.words; w++) {
        for (int i = 0; i + 1 < naive.sizes[w]; i++) {
            const char *left = naive.symbols[w][i], *right = naive.symbols[w][i + 1];
            int at = 0;
            while (at < seen_count &&
                   (strcmp(seen[at][0], left) != 0 || strcmp(seen[at][1], right) != 0))
                at++;
            if (at < seen_count)
                continue;
            strcpy(seen[seen_count][0], left);
            strcpy(seen[seen_count++][1], right);
            struct candidate pair = count_naive(left, right);
            if (pair.count >= 2 && (best.left == NULL || better(&pair, &best)))
                best = pair;
        }
    }
    return best;
}

static void merge_naive(const char *left, const char *right)
{
    for (int w = 0; w < naive.words; w++) {
        int to = 0;
        for (int from = 0; from < naive.sizes[w]; to++) {
            symbol *symbols = naive.symbols[w];
            const bool merges = from + 1 < naive.sizes[w] && strcmp(symbols[from], left) == 0 &&
                                strcmp(symbols[from + 1], right) == 0;
            symbol joined;
            snprintf(joined, sizeof joined, "%.31s%.31s", merges ? left : symbols[from],
                     merges ? right : "");
            memcpy(symbols[to], joined, sizeof joined);
            from += merges ? 2 : 1;
        }
        naive.sizes[w] = to;
    }
}

static void learn_naive(int wanted)
{
    naive.merges = 0;
    while (naive.merges < wanted) {
        const struct candidate best = best_naive();
        if (best.left == NULL)
            return;
        symbol left, right;
        strcpy(left, best.left);
        strcpy(right, best.right);
        strcpy(naive.left[naive.merges], left);
        strcpy(naive.right[naive.merges++], right);
        merge_naive(left, right);
    }
}

static void add_word(struct bpe_learner *learner, const char *word, uint64_t count)
{
    const int w = naive.words++;
    naive.sizes[w] = (int)strlen(word);
    naive.counts[w] = count;
    for (int i = 0; word[i] != '\0'; i++)
        snprintf(naive.symbols[w][i], SYMBOL_MAX, "%c%s", word[i],
                 word[i + 1] == '\0' ? "</w>" : "");
    for (uint64_t i = 0; i < count; i++)
        CHECK(bpe_learner_add(learner, (const uint8_t *)word, strlen(word), &error) ==
                  STATUS_OK,
              "%s", word);
}

/* The text that the naive learner would write. */
static bool same_file(const struct buffer *file, size_t merges)
{
    static char text[MERGES_MAX * 2 * SYMBOL_MAX];
    size_t size = (size_t)sprintf(text, "#version: 0.2 clipipe");
    for (int i = 0; i < naive.merges; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, "\n%s %s", naive.left[i],
                                 naive.right[i]);
    return merges == (size_t)naive.merges && size == file->size &&
           memcmp(text, file->data, size) == 0;
}

/* How many words the encoder, with the learned file, splits otherwise than learning did. */
static int count_other_splits(const struct buffer *file, char (*words)[WORD_SYMBOLS_MAX])
{
    struct bpe *bpe = NULL;
    struct bpe_scratch *scratch = NULL;
    struct buffer tokens = {0}, numbers = {0}, text = {0};
    CHECK(bpe_open(&bpe, file->data, file->size, &error) == STATUS_OK, "%s", error.text);
    CHECK(bpe_scratch_open(&scratch, &error) == STATUS_OK, "scratch");
    int other = 0;
    for (int w = 0; w < naive.words; w++) {
        tokens.size = numbers.size = 0;
        CHECK(bpe_encode(bpe, scratch, (const uint8_t *)words[w], strlen(words[w]), &tokens,
                         &numbers, &error) == STATUS_OK, "encode");
        const size_t count = tokens.size / sizeof(int32_t);
        bool equal = count == (size_t)naive.sizes[w];
        for (size_t i = 0; equal && i < count; i++) {
            text.size = 0;
            const int32_t *id = (const int32_t *)(const void *)tokens.data + i;
            CHECK(bpe_decode(bpe, id, 1, &text, &error) == STATUS_OK, "decode");
            const size_t size = text.size - (i + 1 == count); /* without its space */
            equal = strncmp((const char *)text.data, naive.symbols[w][i], size) == 0;
        }
        other += !equal;
    }
    bpe_scratch_close(scratch);
    bpe_close(bpe);
    buffer_free(&tokens);
    buffer_free(&numbers);
    buffer_free(&text);
    return other;
}

static void test_against_definition(void)
{
    struct rng rng;
    rng_init(&rng, 1, 0, 0, RNG_TEST);
    for (int trial = 0; trial < 60; trial++) {
        static char words[WORDS_MAX][WORD_SYMBOLS_MAX];
        struct bpe_learner *learner;
        struct buffer file = {0};
        size_t merges;
        const uint64_t letters = 1 + rng_below(&rng, 5);
        const int word_count = 1 + (int)rng_below(&rng, 60);
        const int vocab_size = BPE_VOCAB_MIN + (int)rng_below(&rng, 200);
        CHECK(bpe_learner_open(&learner, &error) == STATUS_OK, "open");
        naive.words = 0;
        for (int w = 0; w < word_count; w++) {
            const size_t size = 1 + rng_below(&rng, WORD_SYMBOLS_MAX - 1);
            for (size_t i = 0; i < size; i++)
                words[w][i] = (char)('a' + rng_below(&rng, letters));
            words[w][size] = '\0';
            add_word(learner, words[w], 1 + rng_below(&rng, 9));
        }
        learn_naive(vocab_size - BPE_VOCAB_MIN);
        CHECK(bpe_learner_finish(learner, vocab_size, &file, &merges, &error) == STATUS_OK,
              "finish");
        CHECK(same_file(&file, merges), "trial %d: %zu merges, expected %d", trial, merges,
              naive.merges);
        int other = count_other_splits(&file, words);
        CHECK(other == 0, "trial %d: %d words are split in another way", trial, other);
        bpe_learner_close(learner);
        buffer_free(&file);
    }
}

static void learn(const char *const *texts, size_t count, int vocab_size, struct buffer *file)
{
    struct bpe_learner *learner;
    size_t merges;
    file->size = 0;
    CHECK(bpe_learner_open(&learner, &error) == STATUS_OK, "open");
    for (size_t i = 0; i < count; i++)
        CHECK(bpe_learner_add(learner, (const uint8_t *)texts[i], strlen(texts[i]), &error) ==
                  STATUS_OK, "%s", texts[i]);
    CHECK(bpe_learner_finish(learner, vocab_size, file, &merges, &error) == STATUS_OK,
          "finish");
    bpe_learner_close(learner);
}

static void check_file(const struct buffer *file, const char *expected)
{
    CHECK(file->size == strlen(expected) && memcmp(file->data, expected, file->size) == 0,
          "expected '%s', found '%.*s'", expected, (int)file->size, (const char *)file->data);
}

static void test_known(void)
{
    struct buffer file = {0};
    const char *const once[] = {"low", "", " ", "newer 1 2 3"};
    learn(once, 4, 49408, &file);
    check_file(&file, "#version: 0.2 clipipe"); /* nothing occurs twice */

    const char *const ties[] = {"ba ab", "ab ba", "abc abc"};
    learn(ties, 3, 49408, &file);
    check_file(&file, "#version: 0.2 clipipe\na b\na b</w>\nab c</w>\nb a</w>");
    learn(ties, 3, BPE_VOCAB_MIN + 2, &file);
    check_file(&file, "#version: 0.2 clipipe\na b\na b</w>");

    const char *const specials[] = {"<start_of_text> <start_of_text>", "\u00e9 \u00e9"};
    learn(specials, 2, BPE_VOCAB_MIN + 1, &file); /* e acute is C3 A9 */
    check_file(&file, "#version: 0.2 clipipe\n\u00c3 \u00a9</w>");
    buffer_free(&file);
}

static void test_limits(void)
{
    struct bpe_learner *learner;
    struct buffer file = {0};
    size_t merges;
    char text[2 * BPE_LEARN_WORD_MAX + 4];
    memset(text, 'a', sizeof text);
    text[BPE_LEARN_WORD_MAX] = ' ';
    CHECK(bpe_learner_open(&learner, &error) == STATUS_OK, "open");
    CHECK(bpe_learner_add(learner, (const uint8_t *)text, sizeof text, &error) == STATUS_OK,
          "add");
    struct bpe_learner_stats stats = bpe_learner_stats(learner);
    CHECK(stats.words == 2 && stats.words_too_long == 1 && stats.words_distinct == 1,
          "%d words, %d too long", (int)stats.words, (int)stats.words_too_long);
    CHECK(bpe_learner_finish(learner, BPE_VOCAB_MIN - 1, &file, &merges, &error) ==
              STATUS_USAGE,
          "513 tokens are accepted");
    CHECK(bpe_learner_finish(learner, BPE_VOCAB_MAX + 1, &file, &merges, &error) ==
              STATUS_USAGE,
          "49409 tokens are accepted");
    CHECK(bpe_learner_finish(learner, BPE_VOCAB_MAX, &file, &merges, &error) == STATUS_OK,
          "finish");
    CHECK(merges >= 7 && merges < 20, "%zu merges of 256 letters", merges);
    bpe_learner_close(learner);
    buffer_free(&file);
}

/* Many words, so that every table grows; packed twice, the bytes are the same, with no time in
 * the header, and the file opens. */
static void test_large(void)
{
    struct rng rng;
    rng_init(&rng, 2, 0, 0, RNG_TEST);
    struct bpe_learner *learner;
    struct buffer file = {0}, packed[2] = {{0}, {0}};
    struct bpe *bpe = NULL;
    size_t merges;
    CHECK(bpe_learner_open(&learner, &error) == STATUS_OK, "open");
    for (int i = 0; i < 50000; i++) {
        uint8_t word[12];
        const size_t size = 1 + rng_below(&rng, sizeof word);
        for (size_t j = 0; j < size; j++)
            word[j] = (uint8_t)('a' + rng_below(&rng, 1 + rng_below(&rng, 26)));
        CHECK(bpe_learner_add(learner, word, size, &error) == STATUS_OK, "add");
    }
    CHECK(bpe_learner_finish(learner, 10000, &file, &merges, &error) == STATUS_OK, "finish");
    CHECK(merges == 10000 - BPE_VOCAB_MIN, "%zu merges", merges);
    for (int i = 0; i < 2; i++)
        CHECK(bpe_pack(file.data, file.size, &packed[i], &error) == STATUS_OK, "pack");
    CHECK(packed[0].size == packed[1].size &&
              memcmp(packed[0].data, packed[1].data, packed[0].size) == 0, "bytes differ");
    CHECK(memcmp(packed[0].data + 4, "\0\0\0\0", 4) == 0, "a time in the header");
    CHECK(bpe_open(&bpe, packed[0].data, packed[0].size, &error) == STATUS_OK,
          "%s", error.text);
    CHECK(bpe_vocab_size(bpe) == 10000, "%d", bpe_vocab_size(bpe));
    bpe_close(bpe);
    bpe_learner_close(learner);
    buffer_free(&file);
    buffer_free(&packed[0]);
    buffer_free(&packed[1]);
}

int main(void)
{
    test_against_definition();
    test_known();
    test_limits();
    test_large();
    return check_report("bpe_learn");
}
