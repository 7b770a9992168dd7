/* Which tokens of a caption were kept, and how a sheet shows it. */
#include <stdlib.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "formats/contact_sheet.h"
#include "frame/view_caption.h"
#include "tests/unit/check.h"

/* ---- comparing lists ---- */

static void test_kept(void)
{
    static const struct {
        const char *all, *kept, *marks; /* one letter a token; '+' is kept */
        enum kept_order order;
    } cases[] = {
        {"abcdef", "abc", "+++...", KEPT_IN_ORDER},
        {"abcdef", "cd", "..++..", KEPT_IN_ORDER},
        {"abcdef", "af", "+....+", KEPT_IN_ORDER},
        {"abcdef", "", "......", KEPT_IN_ORDER},
        {"", "", "", KEPT_IN_ORDER},
        {"abab", "ab", "++..", KEPT_IN_ORDER},
        {"axbab", "ab", "...++", KEPT_IN_ORDER}, /* neighbours before the leftmost */
        {"axbxaxb", "ab", "+.+....", KEPT_IN_ORDER},
        {"abc", "cb", ".++", KEPT_SHUFFLED},
        {"aba", "aab", "+++", KEPT_SHUFFLED},
        {"aab", "ba", "+.+", KEPT_SHUFFLED},
        {"abc", "aa", "...", KEPT_FOREIGN},
        {"abc", "abcd", "...", KEPT_FOREIGN},
        {"", "a", "", KEPT_FOREIGN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t all[8], kept[8];
        bool is_kept[8];
        char marks[9] = "";
        const size_t count = strlen(cases[i].all), kept_count = strlen(cases[i].kept);
        for (size_t k = 0; k < count; k++)
            all[k] = cases[i].all[k];
        for (size_t k = 0; k < kept_count; k++)
            kept[k] = cases[i].kept[k];
        const enum kept_order order = kept_tokens_find(
            (struct token_list){all, count}, (struct token_list){kept, kept_count}, is_kept);
        for (size_t k = 0; k < count; k++)
            marks[k] = is_kept[k] ? '+' : '.';
        CHECK(order == cases[i].order && strcmp(marks, cases[i].marks) == 0,
              "%s of %s: %s, order %d", cases[i].kept, cases[i].all, marks, order);
    }
}

static void test_content(void)
{
    enum { START = 90, END = 91, PAD = 0 };
    static const struct {
        int32_t tokens[6];
        size_t length, first, count;
    } cases[] = {
        {{START, 5, 6, END, PAD, PAD}, 6, 1, 2}, {{START, 5, PAD, END, PAD, PAD}, 6, 1, 2},
        {{START, 5, 6, 7, 8, END}, 6, 1, 4},     {{START, 5, 6, PAD, PAD, PAD}, 6, 1, 2},
        {{START, END, PAD, PAD, PAD, PAD}, 6, 1, 0}, {{START, END}, 2, 1, 0},
        {{5, 6, 7, 8, 9, 10}, 6, 0, 6},          {{START}, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct token_list content =
            kept_tokens_content(cases[i].tokens, cases[i].length, START, END, PAD);
        CHECK(content.ids == cases[i].tokens + cases[i].first &&
                  content.count == cases[i].count,
              "case %zu: %zu tokens", i, content.count);
    }
}

/* ---- captions ---- */

/* A vocabulary on disk, and the facts that name it. */
static void write_vocabulary(const char *text, struct metadata *facts, bool right_crc)
{
    struct error error;
    char crc[9];
    const char *directory = getenv("TMPDIR");
    char *name;
    if (asprintf(&name, "%s/clipipe-vocabulary-XXXXXX",
                 directory != NULL ? directory : "/tmp") < 0)
        abort();
    const int fd = mkstemp(name);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "vocabulary");
    close(fd);
    snprintf(crc, sizeof crc, "%08x", crc32c(0, text, strlen(text)) ^ (right_crc ? 0 : 1));
    metadata_set(facts, "tokenizer.path", name, &error);
    metadata_set(facts, "tokenizer.crc32c", crc, &error);
    free(name);
}

static void remove_vocabulary(struct metadata *facts)
{
    unlink(metadata_get(facts, "tokenizer.path"));
    metadata_free(facts);
}

/* One caption through view_caption; NULL or length 0 leaves a tensor out. */
struct caption {
    const char *text;
    const int32_t *tokens, *words;
    size_t count;
    const int32_t *text_tokens;
    size_t length;
};

static void show(struct view_caption *view, const struct metadata *facts,
                 const struct caption *caption)
{
    struct record record = {.count = 0};
    struct tensor tensor;
    struct error error = {.text = ""};
    const size_t size = caption->text != NULL ? strlen(caption->text) : 0;
    int64_t text_offsets[] = {0, (int64_t)size}, token_offsets[] = {0, (int64_t)caption->count};
    if (caption->text != NULL)
        record_put_ragged(&record, "text", DTYPE_U8, (void *)caption->text, size, text_offsets,
                          1, &error);
    if (caption->tokens != NULL)
        record_put_ragged(&record, "tokens", DTYPE_I32, (void *)caption->tokens, caption->count,
                          token_offsets, 1, &error);
    if (caption->words != NULL)
        record_put_ragged(&record, "tokens.word", DTYPE_I32, (void *)caption->words,
                          caption->count, token_offsets, 1, &error);
    tensor_init(&tensor, "text_tokens", DTYPE_I32, 2, (const size_t[]){1, caption->length},
                (void *)caption->text_tokens);
    if (caption->text_tokens != NULL)
        record_put(&record, &tensor, &error);
    CHECK(view_caption_set_facts(view, facts, &error) == STATUS_OK &&
              view_caption_begin(view, &record, &error) == STATUS_OK &&
              view_caption_make(view, 0, &error) == STATUS_OK,
          "%s", error.text);
}

/* `marks`: ' ' plain, '-' struck out, '>' the order in which the model gets them. */
static void expect(const struct view_caption *view, const char *text, const char *marks,
                   const char *what)
{
    static const char letters[] = {
        [SHEET_PLAIN] = ' ', [SHEET_DROPPED] = '-', [SHEET_ORDER] = '>'};
    char found[200] = "";
    for (size_t i = 0; i < view->marks.size && i < sizeof found - 1; i++)
        found[i] = letters[view->marks.data[i]];
    CHECK(view->shown.size == strlen(text) &&
              (view->shown.size == 0 || memcmp(view->shown.data, text, view->shown.size) == 0),
          "%s: '%.*s', expected '%s'", what, (int)view->shown.size,
          (const char *)view->shown.data, text);
    CHECK(view->marks.size == view->shown.size && strcmp(found, marks) == 0,
          "%s: marks '%s', expected '%s'", what, found, marks);
}

/* Without merges every byte is a token: 'a' is 64, at the end of a word 320. */
static void test_clip(void)
{
    struct metadata facts = {0};
    struct view_caption view = {.tokenizer = NULL};
    write_vocabulary("#version: 0.2\n", &facts, true);
    enum { A = 64, LAST = 256, START = 512, END = 513 };
    const int32_t d = 'd' - 'a' + A, o = 'o' - 'a' + A, g = 'g' - 'a' + A + LAST;
    const int32_t a = A + LAST, all[] = {START, a, d, o, g, END};
    const int32_t dog[] = {START, d, o, g, END, 0}, shuffled[] = {START, g, a, d, END, 0};
    const int32_t foreign[] = {START, A + 25, END, 0, 0, 0};

    show(&view, &facts, &(struct caption){.text = "A  Dog", .text_tokens = all, .length = 6});
    expect(&view, "a dog", "     ", "all kept");
    CHECK(view.counted && view.kept == 4 && view.all == 4, "%zu of %zu", view.kept, view.all);
    show(&view, &facts, &(struct caption){.text = "A dog", .text_tokens = dog, .length = 6});
    expect(&view, "a dog", "-    ", "one dropped");
    CHECK(view.counted && view.kept == 3 && view.all == 4, "%zu of %zu", view.kept, view.all);
    show(&view, &facts, &(struct caption){.text = "dog,a a", .text_tokens = dog, .length = 6});
    expect(&view, "dog,a a", "   ----", "no space before a comma; struck spaces between");
    show(&view, &facts,
         &(struct caption){.text = "a dog", .text_tokens = shuffled, .length = 6});
    expect(&view, "a dog\n\u2192 g a d", "   - >>>>>>>>>>", "shuffled");
    show(&view, &facts, &(struct caption){.text = "a", .text_tokens = foreign, .length = 6});
    expect(&view, "a\n\u2192 z", " >>>>>>", "a token that the caption lacks");
    show(&view, &facts, &(struct caption){.text = "", .text_tokens = foreign + 2, .length = 1});
    expect(&view, "", "", "an empty caption");
    show(&view, &facts, &(struct caption){.text_tokens = dog, .length = 6});
    expect(&view, "d o g", "     ", "text_tokens alone");
    show(&view, &facts, &(struct caption){.text = "A  Dog"});
    expect(&view, "A  Dog", "      ", "text alone stays as it is");

    const int32_t tokens[] = {a, d, o, g}, words[] = {0, 1, 1, 1}, wrong[] = {700, -3, d, 0};
    show(&view, &facts, &(struct caption){.tokens = tokens, .words = words, .count = 4,
                                          .text_tokens = dog, .length = 6});
    expect(&view, "a dog", "-    ", "tokens in place of text");
    show(&view, &facts, &(struct caption){.text = "cat", .tokens = tokens, .words = words,
                                          .count = 4, .text_tokens = dog, .length = 6});
    expect(&view, "a dog", "-    ", "tokens win over text");
    show(&view, &facts, &(struct caption){.tokens = wrong, .count = 4});
    expect(&view, "<700> <-3> d !", "              ", "ids of no vocabulary");
    view_caption_free(&view);
    remove_vocabulary(&facts);
}

static void test_wordpiece(void)
{
    struct metadata facts = {0};
    struct view_caption view = {.tokenizer = NULL};
    write_vocabulary("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngold\n##fish\na\n!\n", &facts, true);
    const int32_t kept[] = {2, 5, 8, 0, 0}, last[] = {2, 6, 3, 0, 0}, unknown[] = {2, 1, 0};
    show(&view, &facts, &(struct caption){.text = "A Goldfish!", .text_tokens = kept,
                                          .length = 5});
    expect(&view, "a goldfish!", "-     ---- ", "pieces of a word");
    show(&view, &facts,
         &(struct caption){.text = "goldfish", .text_tokens = last, .length = 5});
    expect(&view, "goldfish", "----    ", "a last piece, and [SEP]");
    show(&view, &facts, &(struct caption){.text = "a ????x", .text_tokens = unknown,
                                          .length = 3});
    CHECK(memmem(view.shown.data, view.shown.size, "[UNK]", 5) != NULL, "[UNK] is shown");
    show(&view, &facts, &(struct caption){.text_tokens = last, .length = 5});
    expect(&view, "##fish", "      ", "text_tokens alone");
    view_caption_free(&view);
    remove_vocabulary(&facts);
}

static void test_no_vocabulary(void)
{
    struct metadata facts = {0};
    struct view_caption view = {.tokenizer = NULL};
    struct error error;
    const int32_t tokens[] = {512, 64, 513};
    const struct caption caption = {.text = "A dog", .text_tokens = tokens, .length = 3};
    show(&view, &facts, &caption);
    expect(&view, "A dog", "     ", "a stream that names none");
    CHECK(view.warning[0] == '\0' && !view.counted, "no warning: %s", view.warning);
    write_vocabulary("#version: 0.2\n", &facts, false);
    show(&view, &facts, &caption);
    expect(&view, "A dog", "     ", "another checksum");
    CHECK(strstr(view.warning, "checksum") != NULL && !view.counted, "warning: %s",
          view.warning);
    unlink(metadata_get(&facts, "tokenizer.path"));
    show(&view, &facts, &caption);
    CHECK(strstr(view.warning, "cannot open") != NULL, "warning: %s", view.warning);
    view_caption_free(&view);
    metadata_free(&facts);

    write_vocabulary("#version: 0.2\n", &facts, true);
    metadata_set(&facts, "tokenizer.clean", "sometimes", &error);
    CHECK(view_caption_set_facts(&view, &facts, &error) == STATUS_DATA,
          "a cleaning of no name");
    view_caption_free(&view);
    remove_vocabulary(&facts);
}

int main(void)
{
    test_kept();
    test_content();
    test_clip();
    test_wordpiece();
    test_no_vocabulary();
    return check_report("view_caption");
}
