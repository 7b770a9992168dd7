/* Both kinds of tokenizers behind one interface, and captions as a checkpoint has them. */
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "formats/bpe.h"
#include "formats/bpe_learn.h"
#include "formats/tokenizer.h"
#include "formats/wordpiece.h"
#include "model/caption_encoder.h"
#include "tests/unit/check.h"

static const char merges[] = "#version: 0.2\nc a\nca t</w>\n";
static const char pieces[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ncat\n##s\nunaffable\n,\na\n";

static struct error error;

static struct tokenizer *open_text(const char *text, size_t size)
{
    struct tokenizer *tokenizer = NULL;
    enum status status = tokenizer_open(&tokenizer, (const uint8_t *)text, size, &error);
    CHECK(status == STATUS_OK, "status %d: %s", status, status == STATUS_OK ? "" : error.text);
    return tokenizer;
}

static void check_facts(const char *text, size_t text_size, enum tokenizer_type type,
                        const int32_t *ids, enum text_cleaning cleaning)
{
    struct buffer packed = {0};
    CHECK(bpe_pack((const uint8_t *)text, text_size, &packed, &error) == STATUS_OK, "pack");
    for (int gzip = 0; gzip < 2; gzip++) {
        struct tokenizer *t = gzip ? open_text((const char *)packed.data, packed.size)
                                   : open_text(text, text_size);
        const char *name = tokenizer_type_name(tokenizer_type(t));
        enum tokenizer_type again;
        CHECK(tokenizer_type(t) == type, "kind %s", name);
        CHECK(tokenizer_type_from_name(name, &again) && again == type, "name %s", name);
        CHECK(tokenizer_size(t) == ids[0], "size %d", tokenizer_size(t));
        CHECK(tokenizer_start(t) == ids[1], "start %d", tokenizer_start(t));
        CHECK(tokenizer_end(t) == ids[2], "end %d", tokenizer_end(t));
        CHECK(tokenizer_padding(t) == ids[3], "padding %d", tokenizer_padding(t));
        CHECK(tokenizer_default_cleaning(t) == cleaning, "cleaning");
        tokenizer_close(t);
    }
    buffer_free(&packed);
}

static void test_kinds(void)
{
    check_facts(merges, sizeof merges - 1, TOKENIZER_CLIP, (int32_t[]){516, 514, 515, 0},
                TEXT_CLEAN_LOWER);
    check_facts(pieces, sizeof pieces - 1, TOKENIZER_WORDPIECE, (int32_t[]){10, 2, 3, 0},
                TEXT_CLEAN_WHITESPACE);
    enum tokenizer_type type;
    CHECK(!tokenizer_type_from_name("bpe", &type), "'bpe' is a kind");

    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "no vocabulary: expected a first line with '#version' or lines [PAD]"},
        {"{\"a\": 1}\n", "no vocabulary"},
        {"the\ncat\n", "no vocabulary"},
        {"#version\nx", "line 2: expected two symbols"},
        {"[CLS]\ncat\n", "no line [PAD] among 2"},
        {"\x1f\x8b\x08", "gzip data end"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tokenizer *t = NULL;
        error.text[0] = '\0';
        enum status status = tokenizer_open(&t, (const uint8_t *)cases[i].text,
                                            strlen(cases[i].text), &error);
        CHECK(status == STATUS_DATA && strstr(error.text, cases[i].message) != NULL,
              "case %zu: status %d, '%s'", i, status, error.text);
    }
}

static void check_piece(const struct tokenizer *t, int32_t id, const char *expected)
{
    struct buffer out = {0};
    CHECK(tokenizer_piece(t, id, &out, &error) == STATUS_OK && out.size == strlen(expected) &&
              memcmp(out.data, expected, out.size) == 0,
          "id %d: '%.*s', expected '%s'", id, (int)out.size, (const char *)out.data, expected);
    buffer_free(&out);
}

static void check_encode(const struct tokenizer *t, const char *text, const int32_t *ids,
                         const int32_t *numbers, size_t count)
{
    struct buffer tokens = {0}, words = {0};
    struct tokenizer_scratch *scratch = NULL;
    CHECK(tokenizer_scratch_open(&scratch, t, &error) == STATUS_OK, "scratch");
    CHECK(tokenizer_encode(t, scratch, (const uint8_t *)text, strlen(text), &tokens, &words,
                           &error) == STATUS_OK, "encode");
    CHECK(tokens.size == count * 4 && memcmp(tokens.data, ids, tokens.size) == 0, "'%s': ids",
          text);
    CHECK(words.size == count * 4 && memcmp(words.data, numbers, words.size) == 0,
          "'%s': words", text);
    tokenizer_scratch_close(scratch);
    buffer_free(&tokens);
    buffer_free(&words);
}

static void test_texts(void)
{
    struct buffer out = {0};
    struct tokenizer *t = open_text(merges, sizeof merges - 1);
    check_encode(t, "cat cats", (int32_t[]){513, 512, 83, 256 + 82}, (int32_t[]){0, 1, 1, 1},
                 4);
    check_piece(t, 513, "cat");
    check_piece(t, 512, "ca");
    check_piece(t, 256 + 82, "s");
    check_piece(t, 514, "<start_of_text>");
    check_piece(t, 515, "<end_of_text>");
    CHECK(tokenizer_piece(t, 516, &out, &error) == STATUS_DATA, "id 516");
    tokenizer_close(t);

    t = open_text(pieces, sizeof pieces - 1);
    check_encode(t, "Cats, dog [SEP]", (int32_t[]){5, 6, 8, 1, 3}, (int32_t[]){0, 0, 1, 2, 3},
                 5);
    check_piece(t, 6, "##s");
    check_piece(t, 2, "[CLS]");
    CHECK(tokenizer_piece(t, 10, &out, &error) == STATUS_DATA, "id 10");
    CHECK(out.size == 0, "%zu bytes", out.size);
    tokenizer_close(t);
}

static size_t count_words(enum tokenizer_type type, const struct buffer *text)
{
    size_t position = 0, start, size, count = 0, end = 0;
    for (; tokenizer_next_word(type, text->data, text->size, &position, &start, &size);
         count++) {
        CHECK(start >= end && size > 0 && start + size <= position &&
                  position <= text->size, "word %zu: %zu + %zu", count, start, size);
        end = start + size;
    }
    return count;
}

/* A stage may number the words of the cased text where the tokens came from the lower-cased. */
static void test_words_of_any_case(void)
{
    static const char *const parts[] = {
        "Cat", "[CLS]", "[Mask]", "don't", "I'LL", "\u0130", "\u03a3\u03a3", "\u212a", "\u4e2d",
        "e\u0301", "[", "\u1e9e", "<START_OF_TEXT>", "7", " ", " ", "\u24b6", "\u2167",
    };
    struct text_cleaner cased = {.mode = TEXT_CLEAN_WHITESPACE}, lower = {0};
    struct buffer text = {0}, a = {0}, b = {0};
    struct rng rng;
    rng_init(&rng, 4, 0, 0, RNG_TEST);
    for (int trial = 0; trial < 3000; trial++) {
        text.size = 0;
        for (uint64_t n = rng_below(&rng, 12); n > 0; n--) {
            const char *part = parts[rng_below(&rng, sizeof parts / sizeof parts[0])];
            uint8_t other[UTF8_LENGTH_MAX];
            size_t size = utf8_write((int32_t)rng_below(&rng, 0x3000), other);
            if (rng_below(&rng, 4) == 0)
                buffer_append(&text, other, size, &error);
            else
                buffer_append(&text, part, strlen(part), &error);
        }
        CHECK(text_clean(&cased, text.data, text.size, &a, &error) == STATUS_OK &&
                  text_clean(&lower, text.data, text.size, &b, &error) == STATUS_OK, "clean");
        const size_t wanted = count_words(TOKENIZER_WORDPIECE, &a);
        const size_t got = count_words(TOKENIZER_WORDPIECE, &b);
        CHECK(got == wanted, "'%.*s': %zu words, lower-cased %zu", (int)a.size,
              (const char *)a.data, wanted, got);
    }
    text_cleaner_free(&cased);
    text_cleaner_free(&lower);
    buffer_free(&text);
    buffer_free(&a);
    buffer_free(&b);
}

/* ---- caption encoders ---- */

static char directory[] = "/tmp/test_tokenizer.XXXXXX";

static void write_vocabulary(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    CHECK(io_write_file(path, text, strlen(text), &error) == STATUS_OK, "%s", path);
}

/* A model of 8 tokens and 16 or 520 ids, as far as captions are concerned. */
static void make_checkpoint(struct checkpoint *checkpoint, size_t vocab_size,
                            enum text_pool pool, const char *model_json)
{
    *checkpoint = (struct checkpoint){.path = directory};
    checkpoint->config.text.context_length = 8;
    checkpoint->config.text.vocab_size = vocab_size;
    checkpoint->config.text.pool = pool;
    checkpoint->config.model_json = (char *)(uintptr_t)model_json;
}

static void check_reduced_caption(const struct checkpoint *checkpoint, bool by_syntax,
                                  const char *caption, const int32_t *expected)
{
    struct caption_encoder encoder;
    int32_t got[8];
    enum status status = caption_encoder_open(&encoder, checkpoint, NULL, &error);
    CHECK(status == STATUS_OK, "status %d: %s", status, error.text);
    if (status != STATUS_OK)
        return;
    if (by_syntax)
        CHECK(caption_encoder_reduce_by_syntax(&encoder, checkpoint, &error) == STATUS_OK, "%s",
              error.text);
    CHECK(caption_encoder_run(&encoder, (const uint8_t *)caption, strlen(caption), got,
                              &error) == STATUS_OK, "run");
    for (int i = 0; i < 8; i++)
        CHECK(got[i] == expected[i], "'%s': place %d has %d, expected %d", caption, i, got[i],
              expected[i]);
    caption_encoder_close(&encoder);
}

static void check_caption(const struct checkpoint *checkpoint, const char *caption,
                          const int32_t *expected)
{
    check_reduced_caption(checkpoint, false, caption, expected);
}

static void check_refused(const struct checkpoint *checkpoint, const char *vocab,
                          enum status expected, const char *message)
{
    struct caption_encoder encoder;
    error.text[0] = '\0';
    enum status status = caption_encoder_open(&encoder, checkpoint, vocab, &error);
    CHECK(status == expected && strstr(error.text, message) != NULL,
          "expected '%s', found status %d, '%s'", message, status, error.text);
    if (status == STATUS_OK)
        caption_encoder_close(&encoder);
}

static void test_foreign_checkpoints(void)
{
    static const char bert[] = "{\"text_cfg\": {\"hf_tokenizer_name\": \"bert-base-uncased\"}}";
    static const char clipa[] = "{\"text_cfg\": {\"hf_tokenizer_name\": \"bert-base-uncased\","
                                " \"tokenizer_kwargs\": {\"strip_sep_token\": true}}}";
    static const char canonical[] =
        "{\"text_cfg\": {\"tokenizer_kwargs\": {\"clean\": \"canonicalize\"}}}";
    static const char odd[] = "{\"text_cfg\": {\"tokenizer_kwargs\": {\"clean\": \"polish\"}}}";
    struct checkpoint checkpoint;
    make_checkpoint(&checkpoint, 16, TEXT_POOL_LAST, bert);
    check_refused(&checkpoint, NULL, STATUS_NO_INPUT, "vocab.txt.gz");
    write_vocabulary("vocab.txt", pieces);
    check_caption(&checkpoint, "Cats, a", (int32_t[]){2, 5, 6, 8, 9, 3, 0, 0});
    check_caption(&checkpoint, "a a a a a a a", (int32_t[]){2, 9, 9, 9, 9, 9, 9, 3});
    make_checkpoint(&checkpoint, 16, TEXT_POOL_LAST, clipa);
    check_caption(&checkpoint, "Cats, a", (int32_t[]){2, 5, 6, 8, 9, 0, 0, 0});
    check_caption(&checkpoint, "a a a a a a a", (int32_t[]){2, 9, 9, 9, 9, 9, 9, 0});
    make_checkpoint(&checkpoint, 16, TEXT_POOL_LAST, NULL);
    check_caption(&checkpoint, "a", (int32_t[]){2, 9, 0, 0, 0, 0, 0, 0});

    make_checkpoint(&checkpoint, 9, TEXT_POOL_LAST, clipa);
    check_refused(&checkpoint, NULL, STATUS_DATA, "vocabulary of 10 ids, the model has 9");
    make_checkpoint(&checkpoint, 22, TEXT_POOL_LAST, clipa);
    check_refused(&checkpoint, NULL, STATUS_DATA, "vocabulary of 10 ids, the model has 22");
    make_checkpoint(&checkpoint, 16, TEXT_POOL_ARGMAX, "{\"text_cfg\": {}}");
    check_refused(&checkpoint, NULL, STATUS_DATA, "of the kind wordpiece");

    write_vocabulary("vocab.txt.gz", merges);
    make_checkpoint(&checkpoint, 520, TEXT_POOL_ARGMAX, canonical);
    check_caption(&checkpoint, "Cat!_ cat", (int32_t[]){514, 513, 513, 515, 0, 0, 0, 0});
    make_checkpoint(&checkpoint, 520, TEXT_POOL_ARGMAX, odd);
    check_refused(&checkpoint, NULL, STATUS_DATA, "cleaned by 'polish'");
    make_checkpoint(&checkpoint, 520, TEXT_POOL_LAST, clipa);
    check_refused(&checkpoint, NULL, STATUS_DATA, "of the kind clip");
}

static void set_fact(struct checkpoint *checkpoint, const char *key, const char *value)
{
    CHECK(metadata_set(&checkpoint->about, key, value, &error) == STATUS_OK, "%s", key);
}

static void test_own_checkpoints(void)
{
    struct checkpoint checkpoint;
    char path[256];
    write_vocabulary("vocab.txt.gz", pieces); /* plain text under that name */
    write_vocabulary("clip.txt", merges);
    make_checkpoint(&checkpoint, 16, TEXT_POOL_ARGMAX, NULL);
    set_fact(&checkpoint, "tokenizer.type", "wordpiece");
    set_fact(&checkpoint, "tokenizer.size", "10");
    set_fact(&checkpoint, "tokenizer.clean", "none");
    set_fact(&checkpoint, "text.layout", "clipa-jax");
    check_caption(&checkpoint, "a&#44;", (int32_t[]){2, 9, 1, 1, 1, 1, 0, 0});
    check_caption(&checkpoint, "a a a a a a a", (int32_t[]){2, 9, 9, 9, 9, 9, 9, 9});
    set_fact(&checkpoint, "tokenizer.clean", "whitespace");
    set_fact(&checkpoint, "text.layout", "bert-sep");
    check_caption(&checkpoint, "a&#44;", (int32_t[]){2, 9, 8, 3, 0, 0, 0, 0});

    /* Six words: the noun and the first five others. */
    static const char caption[] = "a a, a, a a Cats a";
    static const int32_t first[] = {2, 9, 9, 8, 9, 8, 9, 3};
    static const int32_t important[] = {2, 9, 9, 8, 9, 8, 5, 3};
    check_caption(&checkpoint, caption, first);
    check_reduced_caption(&checkpoint, true, caption, important);
    set_fact(&checkpoint, "text.syntax", "pieces");
    check_reduced_caption(&checkpoint, true, caption, important);

    snprintf(path, sizeof path, "%s/clip.txt", directory);
    check_refused(&checkpoint, path, STATUS_DATA, "the model was trained with wordpiece");
    set_fact(&checkpoint, "text.layout", "upside-down");
    check_refused(&checkpoint, NULL, STATUS_DATA, "layout 'upside-down'");
    set_fact(&checkpoint, "tokenizer.size", "11");
    check_refused(&checkpoint, NULL, STATUS_DATA, "the model was trained with 11");
    metadata_free(&checkpoint.about);
}

static void test_caption_encoders(void)
{
    static const char *const names[] = {"vocab.txt", "vocab.txt.gz", "clip.txt"};
    CHECK(mkdtemp(directory) != NULL, "%s", directory);
    test_foreign_checkpoints();
    test_own_checkpoints();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        unlink(path);
    }
    CHECK(rmdir(directory) == 0, "%s", directory);
}

int main(void)
{
    test_kinds();
    test_texts();
    test_words_of_any_case();
    test_caption_encoders();
    return check_report("tokenizer");
}
