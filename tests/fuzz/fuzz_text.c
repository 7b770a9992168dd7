/* Any bytes as a caption: cleaned in every mode, encoded and decoded again. */
#include "formats/bpe.h"
#include "formats/bpe_learn.h"
#include "formats/text_clean.h"
#include "formats/text_list.h"
#include "base/utf8.h"
#include "tests/fuzz/fuzz.h"

bool fuzz_accepted;

/* A small vocabulary and the working memory of one thread, made once. */
static struct {
    struct bpe *bpe;
    struct bpe_scratch *scratch;
    struct text_cleaner cleaner;
    struct buffer cleaned, tokens, words, text;
} tools;

static const char *const captions[] = {
    "a photo of a cat, a photo of a dog",
    "Fish &amp; chips &#38;&lt;b&gt; caf\xc3\xa9 \xef\xac\x81re",
    "\xe2\x80\x9cquoted\xe2\x80\x9d it's we'll <start_of_text> 2023",
    "\xe4\xb8\xad\xe6\x96\x87 \xd0\xba\xd0\xbe\xd1\x82 \xf0\x9f\x90\xb1 e\xcc\x81 \xc4\xb0",
    "\x1b[31mred\x1b[0m\r\ntwo\xc2\x85lines \xef\xbc\xa1\xef\xbc\xa2",
    "sch\u00c3\u00b6n \u00c3\u0192\u00c2\u00b6 \u00e2\u20ac\u0153q\u00e2\u20ac\ufffd",
    "voil\u00c3 la \u4e2d \u00c3\u00b6 \u221a\u00b1",
    "\u00ed\u00a0\u00bd\u00ed\u00b8\u00bf \u0420\u00b5\u0421\u201a",
    "&checkmark;&FFILIG;&#59;&ampamp; \u251c\u00e2 \u00d0\u00b0\u00d0\u00b1",
};

static void release_tools(void)
{
    bpe_close(tools.bpe);
    bpe_scratch_close(tools.scratch);
    text_cleaner_free(&tools.cleaner);
    buffer_free(&tools.cleaned);
    buffer_free(&tools.tokens);
    buffer_free(&tools.words);
    buffer_free(&tools.text);
}

static void make_tools(void)
{
    struct bpe_learner *learner;
    struct buffer vocabulary = {0};
    struct error error;
    size_t merges;
    MUST(bpe_learner_open(&learner, &error) == STATUS_OK);
    for (size_t i = 0; i < sizeof captions / sizeof captions[0]; i++)
        for (int times = 0; times < 2; times++)
            MUST(bpe_learner_add(learner, (const uint8_t *)captions[i], strlen(captions[i]),
                                 &error) == STATUS_OK);
    MUST(bpe_learner_finish(learner, BPE_VOCAB_MIN + 40, &vocabulary, &merges, &error) ==
         STATUS_OK);
    MUST(merges == 40);
    bpe_learner_close(learner);
    MUST(bpe_open(&tools.bpe, vocabulary.data, vocabulary.size, &error) == STATUS_OK);
    MUST(bpe_scratch_open(&tools.scratch, &error) == STATUS_OK);
    buffer_free(&vocabulary);
    atexit(release_tools);
}

static void check_utf8(const struct buffer *text)
{
    for (size_t at = 0; at < text->size;) {
        uint8_t again[UTF8_LENGTH_MAX];
        size_t start = at, length;
        int32_t code = utf8_next(text->data, text->size, &at);
        length = utf8_write(code, again);
        MUST(length == at - start && memcmp(text->data + start, again, length) == 0);
    }
}

/* Leaves the text cleaned for CLIP. */
static void clean(const uint8_t *data, size_t size)
{
    static const enum text_cleaning modes[] = {TEXT_CLEAN_NONE, TEXT_CLEAN_CANONICALIZE,
                                               TEXT_CLEAN_WHITESPACE, TEXT_CLEAN_LOWER};
    struct error error;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        tools.cleaner.mode = modes[i];
        MUST(text_clean(&tools.cleaner, data, size, &tools.cleaned, &error) == STATUS_OK);
        check_utf8(&tools.cleaned);
    }
}

static void encode(const uint8_t *text, size_t size)
{
    struct error error;
    tools.tokens.size = tools.words.size = tools.text.size = 0;
    MUST(bpe_encode(tools.bpe, tools.scratch, text, size, &tools.tokens, &tools.words,
                    &error) == STATUS_OK);
    const int32_t *tokens = (const int32_t *)tools.tokens.data;
    const int32_t *words = (const int32_t *)tools.words.data;
    size_t count = tools.tokens.size / sizeof tokens[0];
    MUST(tools.words.size == tools.tokens.size && count <= size);
    for (size_t i = 0; i < count; i++) {
        MUST(tokens[i] >= 0 && tokens[i] < bpe_vocab_size(tools.bpe));
        MUST(words[i] == (i == 0 ? 0 : words[i - 1]) || words[i] == words[i - 1] + 1);
    }
    MUST(bpe_decode(tools.bpe, tokens, count, &tools.text, &error) == STATUS_OK);
}

/* Leaves out what stands between words: spaces, and U+0345, which no part of CLIP's pattern
 * takes. */
static size_t remove_spaces(struct buffer *text)
{
    size_t kept = 0;
    for (size_t i = 0; i < text->size; i++) {
        bool iota = i + 1 < text->size && memcmp(text->data + i, "\xcd\x85", 2) == 0;
        if (!iota && text->data[i] != ' ')
            text->data[kept++] = text->data[i];
        i += iota;
    }
    return kept;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error error;
    struct text_list list;
    if (tools.bpe == NULL)
        make_tools();
    encode(data, size); /* not cleaned: any bytes */

    clean(data, size);
    encode(tools.cleaned.data, tools.cleaned.size);
    size_t wanted = remove_spaces(&tools.cleaned), got = remove_spaces(&tools.text);
    MUST(got == wanted && (got == 0 || memcmp(tools.text.data, tools.cleaned.data, got) == 0));

    enum status status = text_list_parse(&list, data, size, &error);
    fuzz_check_status(status, &error);
    fuzz_accepted = status == STATUS_OK;
    for (size_t i = 0; i < list.count; i++)
        fuzz_check_status(template_fill(list.lines[i], "cat", &tools.text, &error), &error);
    text_list_free(&list);
    return 0;
}

bool fuzz_seed(int number, struct buffer *out)
{
    out->size = 0;
    if (number >= (int)(sizeof captions / sizeof captions[0]))
        return false;
    fuzz_append(out, captions[number], strlen(captions[number]));
    return true;
}
