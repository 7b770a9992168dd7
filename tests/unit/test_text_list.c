/* Lists of lines as Python splits them, and templates of class names. */
#include <stdlib.h>

#include "base/buffer.h"
#include "formats/text_list.h"
#include "tests/unit/check.h"

/* ---- lists of lines ---- */

/* `expected`: the lines, each ended by '|'. */
static void check_list(const char *text, size_t size, const char *expected)
{
    struct text_list list;
    struct error error = {.status = STATUS_OK};
    char joined[200] = "";
    uint8_t *exact = malloc(size + 1);
    memcpy(exact + 1, text, size);
    enum status status = text_list_parse(&list, exact + 1, size, &error);
    for (size_t i = 0; i < list.count; i++) {
        size_t used = strlen(joined);
        snprintf(joined + used, sizeof joined - used, "%s|", list.lines[i]);
        CHECK(text_list_find(&list, list.lines[i]) <= i, "line %zu is not found", i);
    }
    CHECK(text_list_find(&list, "no such line") == list.count, "a line that is not there");
    CHECK(status == STATUS_OK && strcmp(joined, expected) == 0,
          "'%.*s': got '%s', expected '%s' %s", (int)size, text, joined, expected, error.text);
    text_list_free(&list);
    CHECK(list.count == 0 && list.lines == NULL, "freed, but not empty");
    free(exact);
}

#define LIST(text, expected) check_list(text, sizeof(text) - 1, expected)

static void test_lists(void)
{
    static const char *const empty[] = {"", "\n", " \n\t\n", "\r\n\r\n", "\xc2\x85"};
    struct text_list list;
    struct error error;
    LIST("cat", "cat|");
    LIST("cat\n", "cat|");
    LIST("cat\ndog", "cat|dog|");
    LIST("cat\r\ndog\r\n", "cat|dog|");
    LIST("cat\rdog\n\rfox", "cat|dog||fox|");
    LIST("\ncat\n\n\ndog\n\n\n", "|cat|||dog|");
    LIST("  hot dog \t\n", "hot dog|");
    LIST("a\x0b" "b\x0c" "c\x1c" "d\x1d" "e\x1e" "f", "a|b|c|d|e|f|");
    LIST("a\xc2\x85" "b\xe2\x80\xa8" "c\xe2\x80\xa9" "d", "a|b|c|d|");
    LIST("caf\xc3\xa9\n\xe2\x80\x94", "caf\xc3\xa9|\xe2\x80\x94|");
    LIST("a\x1f" "b\xc2", "a\x1f" "b\xc2|"); /* neither US nor half a NEL breaks a line */
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++)
        CHECK(text_list_parse(&list, (const uint8_t *)empty[i], strlen(empty[i]), &error) ==
                      STATUS_DATA &&
                  list.count == 0,
              "list %zu is not empty", i);
    CHECK(text_list_parse(&list, (const uint8_t *)"a\nb\0c", 5, &error) == STATUS_DATA &&
              strstr(error.text, "NUL") != NULL,
          "'%s'", error.text);
}

static void test_templates(void)
{
    static const struct {
        const char *template, *expected;
    } good[] = {
        {"a photo of a {c}.", "a photo of a hot {dog}."},
        {"{c}", "hot {dog}"},
        {"{c}{c}", "hot {dog}hot {dog}"},
        {"no class", "no class"},
        {"", ""},
        {"{{c}} is {c} is }}{{", "{c} is hot {dog} is }{"},
        {"{{{c}}}", "{hot {dog}}"},
    };
    static const char *const bad[] = {"{", "}", "{}", "{d}", "a {c", "a c}", "{{c}", "{ c}"};
    struct buffer out = {0};
    struct error error = {.status = STATUS_OK};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        const char *want = good[i].expected;
        enum status status = template_fill(good[i].template, "hot {dog}", &out, &error);
        CHECK(status == STATUS_OK && out.size == strlen(want) &&
                  (out.size == 0 || memcmp(out.data, want, out.size) == 0),
              "'%s': got '%.*s', expected '%s'", good[i].template, (int)out.size,
              out.size > 0 ? (const char *)out.data : "", want);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(template_fill(bad[i], "cat", &out, &error) == STATUS_DATA, "'%s'", bad[i]);
    buffer_free(&out);
}

int main(void)
{
    test_lists();
    test_templates();
    return check_report("text_list");
}
