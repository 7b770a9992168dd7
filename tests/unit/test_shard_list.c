/* Patterns against the names they stand for, and patterns that must be refused. */
#include <stdlib.h>

#include "formats/shard_list.h"
#include "tests/unit/check.h"

/* The names of a list with spaces between, for comparison; freed by the caller. */
static char *join(const struct shard_list *list)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    for (size_t i = 0; i < list->count; i++)
        fprintf(out, "%s%s", i > 0 ? " " : "", shard_list_name(list, i));
    fclose(out);
    return text;
}

static void check_names(const char *pattern, const char *wanted)
{
    struct shard_list list = {0};
    struct error error = {0};
    enum status status = shard_list_add(&list, pattern, &error);
    char *got = join(&list);
    CHECK(status == STATUS_OK, "'%s': %s", pattern, error.text);
    CHECK(strcmp(got, wanted) == 0, "'%s' became '%s', expected '%s'", pattern, got, wanted);
    free(got);
    shard_list_free(&list);
}

static void check_refused(const char *pattern, const char *reason)
{
    struct shard_list list = {0};
    struct error error = {0};
    enum status status = shard_list_add(&list, pattern, &error);
    CHECK(status == STATUS_USAGE, "'%.80s' gave status %d", pattern, (int)status);
    CHECK(strstr(error.text, reason) != NULL, "'%.80s': '%s' does not say '%s'", pattern,
          error.text, reason);
    shard_list_free(&list);
}

static void test_names(void)
{
    check_names("a.tar", "a.tar");
    check_names("-", "-");
    check_names("{000..003}.tar", "000.tar 001.tar 002.tar 003.tar");
    check_names("x{8..11}", "x8 x9 x10 x11");
    check_names("{08..11}", "08 09 10 11");
    check_names("{8..011}", "008 009 010 011");
    check_names("{0..2}", "0 1 2");
    check_names("{3..1}", "3 2 1");
    check_names("{0..10..5}", "0 5 10");
    check_names("{0..9..5}", "0 5");
    check_names("{9..0..4}", "9 5 1");
    check_names("{7..7}", "7");
    check_names("{a,b,c}.tar", "a.tar b.tar c.tar");
    check_names("{train,x}/{0..1}.tar", "train/0.tar train/1.tar x/0.tar x/1.tar");
    check_names("{a,b{1..2},{c,d}e}", "a b1 b2 ce de");
    check_names("a{,.gz}", "a a.gz");
    check_names("a.tar::b{1..2}.tar::c", "a.tar b1.tar b2.tar c");
    check_names("odd\\{1,2\\}.tar", "odd{1,2}.tar");
    check_names("{a\\,b,c}", "a,b c");
    check_names("{a\\}b,c}", "a}b c");
    check_names("a\\\\b", "a\\b");
    check_names("end\\", "end\\");
    check_names("{999999999999999998..999999999999999999}",
                "999999999999999998 999999999999999999");
}

static void test_refusals(void)
{
    check_refused("", "empty");
    check_refused("a::", "empty");
    check_refused("::a", "empty");
    check_refused("{,a}", "empty");
    check_refused("{0..9", "'{' without");
    check_refused("{a,{b,c}", "'{' without");
    check_refused("0..9}", "'}' without");
    check_refused("{0.9}.tar", "neither");
    check_refused("{a}.tar", "neither");
    check_refused("{}", "neither");
    check_refused("{0..}", "neither");
    check_refused("{..3}", "neither");
    check_refused("{-1..3}", "neither");
    check_refused("{0..3..0}", "neither");
    check_refused("{0..3..}", "neither");
    check_refused("{0..1000000000000000000}", "neither");
    check_refused("{0..10000000}", "more than 10000000");
    check_refused("{0..999999999999999999}", "more than 10000000");

    char *text = malloc(20001);
    memset(text, 'x', 20000);
    text[20000] = '\0';
    check_refused(text, "longer than");
    for (int i = 0; i < 100; i++)
        memcpy(text + 5 * i, "{a,b}", 5);
    text[500] = '\0';
    check_refused(text, "sets");
    memset(text, '{', 3000);
    text[3000] = '\0';
    check_refused(text, "without");
    free(text);
}

static void test_large(void)
{
    struct shard_list list = {0};
    struct error error = {0};
    enum status status = shard_list_add(&list, "{0..999}/{0000..0999}.tar", &error);
    CHECK(status == STATUS_OK && list.count == 1000000, "%zu names: %s", list.count,
          error.text);
    CHECK(strcmp(shard_list_name(&list, 999999), "999/0999.tar") == 0, "last name is %s",
          shard_list_name(&list, 999999));
    status = shard_list_add(&list, "{0..8999999}", &error);
    CHECK(status == STATUS_OK && list.count == SHARD_LIST_NAMES_MAX, "%zu names", list.count);
    status = shard_list_add(&list, "one-more", &error);
    CHECK(status == STATUS_USAGE, "one name too many gave status %d", (int)status);
    shard_list_free(&list);
}

int main(void)
{
    test_names();
    test_refusals();
    test_large();
    return check_report("shard_list");
}
