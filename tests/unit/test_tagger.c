/* The tagger: how captions fall into words, learning from a small treebank, model files whole
 * and damaged, and what the built-in model says of captions. */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/rng.h"
#include "formats/piece_priority.h"
#include "formats/tagger_learn.h"
#include "formats/tagger_words.h"
#include "tests/unit/check.h"

static struct error error;

/* ---- words ---- */

/* The words of a text with '|' between. */
static const char *split(const void *text, size_t size)
{
    static char joined[4096];
    struct buffer words = {0};
    size_t length = 0;
    CHECK(tagger_split(text, size, &words, &error) == STATUS_OK, "splitting");
    const struct tagger_word *word = (const void *)words.data;
    for (size_t i = 0; i < words.size / sizeof *word && length + 100 < sizeof joined; i++)
        length += (size_t)snprintf(joined + length, sizeof joined - length, "%s%.*s",
                                   i > 0 ? "|" : "", (int)word[i].size,
                                   (const char *)text + word[i].start);
    joined[length] = '\0';
    buffer_free(&words);
    return joined;
}

static void check_words(void)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"   ", ""},
        {"dog", "dog"},
        {"a photo of a dog.", "a|photo|of|a|dog|."},
        {"A man, a plan; it's red!!", "A|man|,|a|plan|;|it|'s|red|!!"},
        {"I don't know what they'll do, can't you?",
         "I|do|n't|know|what|they|'ll|do|,|ca|n't|you|?"},
        {"DON'T", "DO|N'T"},
        {"don\xe2\x80\x99t", "do|n\xe2\x80\x99t"},
        {"cannot gonna Gimme", "can|not|gon|na|Gim|me"},
        {"3.5 of 1,000 at 10:30, 1/2", "3.5|of|1,000|at|10:30|,|1/2"},
        {"$5.00 or 50%", "$|5.00|or|50|%"},
        {"the U.S. flag and Dr. Who", "the|U.S.|flag|and|Dr.|Who"},
        {"in the U.S.", "in|the|U.S|."},
        {"J. Smith and I.", "J.|Smith|and|I|."},
        {"flat-coated retriever", "flat-coated|retriever"},
        {"black-and-white -- old", "black-and-white|--|old"},
        {"\"quoted\" (in brackets)", "\"|quoted|\"|(|in|brackets|)"},
        {"dogs' bowls, o'clock", "dogs|'|bowls|,|o'clock"},
        {"AT&T Q&A cats & dogs", "AT&T|Q&A|cats|&|dogs"},
        {"and/or", "and|/|or"},
        {"wait...what", "wait|...|what"},
        {"see http://example.com/a?b=1, now", "see|http://example.com/a?b=1|,|now"},
        {"mail me@example.com.", "mail|me@example.com|."},
        {"#dog @cat", "#|dog|@|cat"},
        {"the '90s 'em", "the|'90s|'em"},
        {"dog\xf0\x9f\x90\xb6\xf0\x9f\x90\xb6" "cat",
         "dog|\xf0\x9f\x90\xb6\xf0\x9f\x90\xb6|cat"},
        {"caf\xc3\xa9 \xe7\x8c\xab", "caf\xc3\xa9|\xe7\x8c\xab"},
        {"a\xc2\xa0" "b", "a|b"},
        {"\xff\xfe" "x", "\xff|\xfe|x"},
        {"'", "'"},
        {"-", "-"},
        {"-5 a-", "-|5|a|-"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *got = split(cases[i][0], strlen(cases[i][0]));
        CHECK(strcmp(got, cases[i][1]) == 0, "'%s' gave '%s', expected '%s'", cases[i][0], got,
              cases[i][1]);
    }
}

/* Words of any bytes lie in order, without overlap, and are not empty. What is between are
 * blanks; the letters can make U+00A0 and U+2000. */
static void check_words_of_noise(void)
{
    static const char letters[] = "ab'.-,&@/\" 1\xe2\x80\x99\xc2\xa0\xff#$w";
    struct buffer words = {0};
    struct rng rng;
    rng_init(&rng, 1, 0, 0, RNG_TEST);
    for (int round = 0; round < 20000; round++) {
        uint8_t text[24];
        const size_t size = (size_t)rng_below(&rng, sizeof text + 1);
        size_t seen = 0;
        bool good = true;
        for (size_t i = 0; i < size; i++)
            text[i] = (uint8_t)letters[rng_below(&rng, sizeof letters - 1)];
        words.size = 0;
        CHECK(tagger_split(text, size, &words, &error) == STATUS_OK, "splitting");
        const struct tagger_word *word = (const void *)words.data;
        for (size_t i = 0; i < words.size / sizeof *word; i++) {
            for (; seen < word[i].start; seen++)
                good = good && strchr(" \xc2\xa0\xe2\x80", text[seen]) != NULL;
            good = good && word[i].size > 0 && word[i].start == seen;
            seen += word[i].size;
        }
        if (!good || seen > size)
            CHECK(false, "round %d: words do not tile the text", round);
    }
    CHECK(words.size > 0, "nothing was split");
    buffer_free(&words);
}

/* ---- learning ---- */

/* A made-up language: articles, then perhaps an adjective in "-ish", a noun, a verb in "-ate";
 * "wug" is a noun after an article and a verb otherwise. */
static void make_treebank(uint64_t seed, int sentences, struct buffer *out)
{
    static const char *const nouns[] = {"blick", "dax", "fep", "wug", "zorb"};
    static const char *const adjectives[] = {"redish", "bigish", "oldish"};
    struct rng rng;
    rng_init(&rng, seed, 0, 0, RNG_TEST);
    for (int i = 0; i < sentences; i++) {
        char line[256];
        int size = snprintf(line, sizeof line, "the\tDT\n");
        if (rng_below(&rng, 2) == 0)
            size += snprintf(line + size, sizeof line - (size_t)size, "%s\tJJ\n",
                             adjectives[rng_below(&rng, 3)]);
        size += snprintf(line + size, sizeof line - (size_t)size, "%s\tNN\n%s\n.\t.\n\n",
                         nouns[rng_below(&rng, 5)],
                         rng_below(&rng, 2) == 0 ? "wug\tVB" : "runate\tVB");
        CHECK(buffer_append(out, line, (size_t)size, &error) == STATUS_OK, "memory");
    }
}

static void learn(const struct buffer *text, const struct tagger_learning *learning,
                  struct buffer *model)
{
    struct treebank treebank;
    CHECK(treebank_open(&treebank, text->data, text->size, &error) == STATUS_OK, "%s",
          error.text);
    CHECK(tagger_learn(&treebank, learning, model, &error) == STATUS_OK, "learning");
    treebank_close(&treebank);
}

static double test_on(const struct buffer *model, const struct buffer *text)
{
    struct tagger *tagger = NULL;
    struct treebank treebank;
    struct tagger_score score;
    CHECK(tagger_open(&tagger, model->data, model->size, &error) == STATUS_OK, "%s",
          error.text);
    CHECK(treebank_open(&treebank, text->data, text->size, &error) == STATUS_OK, "treebank");
    CHECK(tagger_test(tagger, &treebank, &score, &error) == STATUS_OK, "testing");
    treebank_close(&treebank);
    tagger_close(tagger);
    CHECK(score.words > 100 && score.priorities_right >= score.tags_right, "%d words",
          (int)score.words);
    return (double)score.tags_right / (double)score.words;
}

static void check_learning(struct buffer *model)
{
    const struct tagger_learning learning = {.passes = 4, .runs = 2, .seed = 5};
    const struct tagger_learning other = {.passes = 4, .runs = 2, .seed = 6};
    struct buffer train = {0}, dev = {0}, again = {0};
    make_treebank(1, 400, &train);
    make_treebank(2, 200, &dev);
    learn(&train, &learning, model);
    learn(&train, &learning, &again);
    CHECK(again.size == model->size && memcmp(again.data, model->data, again.size) == 0,
          "the same treebank and seed gave another model");
    again.size = 0;
    learn(&train, &other, &again);
    CHECK(again.size != model->size || memcmp(again.data, model->data, again.size) != 0,
          "another seed gave the same model");
    const double accuracy = test_on(model, &dev);
    CHECK_NEAR(accuracy, 1, 0.001, "accuracy on 200 sentences of the same language");
    buffer_free(&train);
    buffer_free(&dev);
    buffer_free(&again);
}

/* Captions have words with hyphens whole, treebanks apart; learning reads them both ways. */
static void check_hyphens(void)
{
    static const char sentences[] = "a\tDT\none\tCD\n-\tHYPH\nyear\tNN\nplan\tNN\n\n"
                                    "a\tDT\nred\tJJ\nplan\tNN\n\n"
                                    "a\tDT\nwell\tRB\n-\tHYPH\nmade\tVBN\nplan\tNN\n\n"
                                    "the\tDT\nt\tNN\n-\tHYPH\nshirt\tNN\n\n";
    static const char text[] = "a one-year plan a well-made plan the t-shirt";
    static const char *const wanted[] = {"DT", "JJ", "NN", "DT", "JJ", "NN", "DT", "NN"};
    const struct tagger_learning learning = {.passes = 20, .runs = 1, .seed = 1};
    struct buffer train = {0}, model = {0}, words = {0};
    struct tagger_scratch scratch = {{0}};
    struct tagger *tagger = NULL;
    uint8_t tags[8] = {0};
    for (int i = 0; i < 20; i++)
        CHECK(buffer_append(&train, sentences, sizeof sentences - 1, &error) == STATUS_OK,
              "memory");
    learn(&train, &learning, &model);
    CHECK(tagger_open(&tagger, model.data, model.size, &error) == STATUS_OK, "%s", error.text);
    CHECK(tagger_split((const uint8_t *)text, sizeof text - 1, &words, &error) == STATUS_OK &&
          words.size == 8 * sizeof(struct tagger_word), "words");
    CHECK(tagger_tag(tagger, &scratch, (const uint8_t *)text, (const void *)words.data, 8, tags,
                     &error) == STATUS_OK, "tagging");
    for (int i = 0; i < 8; i++)
        CHECK(strcmp(tagger_tag_name(tagger, tags[i]), wanted[i]) == 0, "word %d is %s", i,
              tagger_tag_name(tagger, tags[i]));
    tagger_close(tagger);
    tagger_scratch_free(&scratch);
    buffer_free(&train);
    buffer_free(&model);
    buffer_free(&words);
}

static void check_treebanks(void)
{
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"", "no word"},
        {"\n\n", "no word"},
        {"a\tDT\nb\n", "line 2: no tab"},
        {"\tDT\n", "line 1: no word"},
        {"a\tDT\n\nb\t\n", "line 3: tag of 0 bytes"},
        {"a\tABCDEFGH\n", "line 1: tag of 8 bytes"},
        {"a\tD T\n", "line 1: tag of 3 bytes"},
    };
    struct treebank treebank;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        enum status status = treebank_open(&treebank, (const uint8_t *)bad[i].text,
                                           strlen(bad[i].text), &error);
        CHECK(status == STATUS_DATA && strstr(error.text, bad[i].message) != NULL,
              "case %zu: status %d, '%s'", i, status, error.text);
    }
    char many[64 * 8];
    size_t size = 0;
    for (int i = 0; i <= TAGGER_TAGS_MAX; i++)
        size += (size_t)snprintf(many + size, sizeof many - size, "a\tT%d\n", i);
    CHECK(treebank_open(&treebank, (const uint8_t *)many, size, &error) == STATUS_DATA,
          "64 tags were taken");
    static const char crlf[] = "a\tDT\r\n\r\nb\tNN\r\n";
    CHECK(treebank_open(&treebank, (const uint8_t *)crlf, sizeof crlf - 1, &error) == STATUS_OK,
          "carriage returns");
    CHECK(treebank.tags.size == 2 && treebank.sentences.size == 2 * sizeof(size_t) &&
          strcmp((const char *)treebank.names.data + 8, "NN") == 0, "what was read");
    treebank_close(&treebank);
}

/* ---- model files ---- */

static enum status open_bytes(const uint8_t *data, size_t size)
{
    struct tagger *tagger = NULL;
    enum status status = tagger_open(&tagger, data, size, &error);
    if (status == STATUS_OK)
        tagger_close(tagger);
    return status;
}

/* Makes the checksum right again after a change. */
static enum status open_resealed(const struct buffer *model)
{
    const uint32_t crc = crc32c(0, model->data + 12, model->size - 12);
    for (size_t i = 0; i < 4; i++)
        model->data[8 + i] = (uint8_t)(crc >> 8 * i);
    return open_bytes(model->data, model->size);
}

static uint32_t number_at(const struct buffer *model, size_t at)
{
    uint32_t value = 0;
    for (size_t i = 0; i < 4; i++)
        value |= (uint32_t)model->data[at + i] << 8 * i;
    return value;
}

static void check_models(struct buffer *model)
{
    for (size_t size = 0; size < model->size; size++)
        if (open_bytes(model->data, size) != STATUS_DATA)
            CHECK(false, "a model cut at %zu of %zu was taken", size, model->size);
    for (size_t at = 0; at < model->size; at++) {
        model->data[at] ^= 0x10;
        if (open_bytes(model->data, model->size) != STATUS_DATA)
            CHECK(false, "a model with byte %zu changed was taken", at);
        model->data[at] ^= 0x10;
    }

    /* the same with a right checksum: what the structure itself must refuse */
    const size_t tags = number_at(model, 12), words = number_at(model, 16),
                 rows = number_at(model, 20);
    const size_t word_hashes = 28 + 8 * tags, word_tags = word_hashes + 4 * words,
                 word_sure = word_tags + 8 * words, row_keys = word_sure + words,
                 row_sizes = row_keys + 4 * rows, weights = row_sizes + rows;
    const struct {
        size_t at;
        uint8_t value;
        const char *what;
    } bad[] = {
        {28, 0, "an empty name"},
        {28 + 7, 'x', "a name without end"},
        {28, ' ', "a name with a blank"},
        {word_hashes + 3, 0xFF, "a word's hash out of order"},
        {word_tags + 7, 0x80, "a word with a tag beyond the last"},
        {word_sure, (uint8_t)tags, "a word that is surely none of the tags"},
        {row_keys + 3, 0xFF, "a row's key out of order"},
        {row_sizes, 0, "a row without weights"},
        {row_sizes, 200, "a row of too many weights"},
        {model->size - 2, (uint8_t)((model->data[model->size - 2] & 0xC0) | tags),
         "a weight of a tag beyond the last"},
        {model->size - 2, (uint8_t)(model->data[model->size - 2] | 0x3F),
         "a weight of tag 63"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const uint8_t keep = model->data[bad[i].at];
        model->data[bad[i].at] = bad[i].value;
        CHECK(open_resealed(model) == STATUS_DATA, "%s was taken", bad[i].what);
        model->data[bad[i].at] = keep;
    }
    model->data[weights] &= 0x3F;
    const uint8_t high = model->data[weights + 1];
    model->data[weights + 1] = 0;
    CHECK(open_resealed(model) == STATUS_DATA, "a weight of 0 was taken");
    model->data[weights + 1] = high;
}

/* ---- the built-in model ---- */

/* The priorities of a caption's words, a digit each. */
static const char *priorities(const struct tagger *tagger, const char *text)
{
    static char digits[256];
    struct buffer words = {0};
    struct tagger_scratch scratch = {{0}};
    uint8_t tags[sizeof digits];
    CHECK(tagger_split((const uint8_t *)text, strlen(text), &words, &error) == STATUS_OK,
          "splitting");
    const size_t count = words.size / sizeof(struct tagger_word);
    CHECK(count < sizeof digits && tagger_tag(tagger, &scratch, (const uint8_t *)text,
                                              (const void *)words.data, count, tags,
                                              &error) == STATUS_OK, "tagging");
    for (size_t i = 0; i < count; i++)
        digits[i] = (char)('0' + tagger_priority(tagger, tags[i]));
    digits[count] = '\0';
    tagger_scratch_free(&scratch);
    buffer_free(&words);
    return digits;
}

static void check_english(const struct tagger *tagger)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"a photo of a dog", "41441"},
        {"A photo of a small red bird.", "41442214"},
        {"two dogs are running on the beach", "4133441"},
        {"the old man sat under a green tree", "42134421"},
        {"She can't drive the new car!", "44434214"},
        {"a man riding a horse near a river", "41341441"},
        {"President Bush visited Paris on Monday.", "1131414"},
        {"Beautiful flowers. Beautiful day.", "214214"},
        {"the largest building in the world", "421441"},
        {"I love my flat-coated retriever", "43421"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *got = priorities(tagger, cases[i][0]);
        CHECK(strcmp(got, cases[i][1]) == 0, "'%s' gave %s, expected %s", cases[i][0], got,
              cases[i][1]);
    }
}

/* The model fits the features that it was learned with: a change of either, the other left as
 * it is, gives other tags for some of these words. */
static void check_features(const struct tagger *tagger)
{
    static const char *const vocabulary[] = {
        "a", "the", "dog", "Dogs", "runs", "running", "red", "old", "on", "to", "fast", "Paris",
        "light", "book", "3.5", "U.S.", "well-known", ",", ".", "?", "is", "n't", "that", "her",
        "blue", "drive", "Bill", "may", "like", "second", "BIG", "zorbish", "blickly",
        "painted",
        "\"", "more", "cut", "caf\xc3\xa9", "what", "his",
    };
    enum { SENTENCES = 500, WORDS = 12 };
    struct tagger_scratch scratch = {{0}};
    struct rng rng;
    uint32_t crc = 0;
    rng_init(&rng, 3, 0, 0, RNG_TEST);
    for (int i = 0; i < SENTENCES; i++) {
        char text[WORDS * 16];
        struct tagger_word words[WORDS];
        uint8_t tags[WORDS];
        size_t size = 0;
        for (int j = 0; j < WORDS; j++) {
            const char *word =
                vocabulary[rng_below(&rng, sizeof vocabulary / sizeof vocabulary[0])];
            words[j] = (struct tagger_word){size, strlen(word)};
            memcpy(text + size, word, words[j].size);
            size += words[j].size;
        }
        CHECK(tagger_tag(tagger, &scratch, (const uint8_t *)text, words, WORDS, tags, &error) ==
              STATUS_OK, "tagging");
        crc = crc32c(crc, tags, WORDS);
    }
    CHECK(crc == 0xf6beeb2c, "checksum of the tags is %08x", crc);
    tagger_scratch_free(&scratch);
}

/* Long captions, and the same tags from a scratch that has been used. */
static void check_long(const struct tagger *tagger)
{
    enum { WORDS = 10000 };
    static char text[2 * WORDS];
    static struct tagger_word words[WORDS];
    static uint8_t tags[WORDS], again[WORDS];
    struct tagger_scratch scratch = {{0}};
    for (size_t i = 0; i < WORDS; i++) {
        text[2 * i] = (char)('a' + i * i % 26);
        text[2 * i + 1] = ' ';
        words[i] = (struct tagger_word){2 * i, 1};
    }
    for (int round = 0; round < 2; round++)
        CHECK(tagger_tag(tagger, &scratch, (const uint8_t *)text, words, WORDS,
                         round == 0 ? tags : again, &error) == STATUS_OK, "tagging");
    CHECK(memcmp(tags, again, WORDS) == 0, "two rounds differ");
    for (size_t i = 0; i < WORDS; i++)
        if (tags[i] >= tagger_tag_count(tagger))
            CHECK(false, "word %zu has tag %d", i, tags[i]);
    tagger_scratch_free(&scratch);
}

static void check_names(const struct tagger *tagger)
{
    static const struct {
        const char *name;
        int priority;
    } cases[] = {{"NN", 1}, {"NNPS", 1}, {"JJ", 2}, {"JJR", 2}, {"VBG", 3}, {"MD", 4},
                 {"N", 4},  {".", 4},    {"RB", 4}, {"", 4}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        CHECK(tagger_name_priority(cases[i].name) == cases[i].priority, "%s", cases[i].name);
    for (int tag = 0; tag < tagger_tag_count(tagger); tag++)
        CHECK(tagger_priority(tagger, tag) ==
              tagger_name_priority(tagger_tag_name(tagger, tag)), "tag %d", tag);
}

/* ---- vocabularies ---- */

static void check_pieces(const struct tagger *tagger)
{
    static const char vocabulary[] =
        "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ndog\nbeautiful\nwas\nof\n##ing\n!\ndogs\n";
    static const uint8_t wanted[] = {4, 4, 4, 4, 4, 1, 2, 3, 4, 0, 4, 1};
    struct tokenizer *tokenizer = NULL;
    uint8_t got[sizeof wanted];
    CHECK(tokenizer_open(&tokenizer, (const uint8_t *)vocabulary, sizeof vocabulary - 1,
                         &error) == STATUS_OK, "%s", error.text);
    CHECK(tokenizer_size(tokenizer) == (int32_t)sizeof wanted, "size");
    CHECK(piece_priorities(tagger, tokenizer, got, &error) == STATUS_OK, "tagging");
    for (size_t i = 0; i < sizeof wanted; i++)
        CHECK(wanted[i] == 0 ? got[i] >= PRIORITY_NOUN && got[i] <= PRIORITY_OTHER
                             : got[i] == wanted[i], "entry %zu has %d", i, got[i]);
    tokenizer_close(tokenizer);
}

int main(void)
{
    struct buffer model = {0};
    struct tagger *english = NULL;
    check_words();
    check_words_of_noise();
    check_treebanks();
    check_learning(&model);
    check_models(&model);
    check_hyphens();
    CHECK(tagger_open_english(&english, &error) == STATUS_OK, "%s", error.text);
    if (english != NULL) {
        check_english(english);
        check_features(english);
        check_long(english);
        check_names(english);
        check_pieces(english);
    }
    tagger_close(english);
    buffer_free(&model);
    return check_report("test_tagger");
}
