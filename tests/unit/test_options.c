/* The option table: what the parser takes, refuses, and writes into provenance lines. */
#include <stdint.h>
#include <stdlib.h>

#include "check.h"
#include "frame/options.h"
#include "frame/provenance.h"

static struct {
    int64_t size, threads;
    double rate, scale[2];
    const char *name;
    int kind;
    bool keep;
} options;

static const char *const kinds[] = {"random", "center", NULL};

static struct option_spec table[] = {
    {.name = "size", .letter = 'n', .argument = "N", OPTION_INTEGER(&options.size, 1, 100)},
    {.name = "rate", .argument = "X", OPTION_REAL(&options.rate, 0, 1)},
    {.name = "scale", .argument = "A,B", OPTION_PAIR(&options.scale, 0, 1)},
    {.name = "name", .argument = "TEXT", OPTION_TEXT(&options.name)},
    {.name = "kind", .argument = "KIND", OPTION_CHOICE(&options.kind, kinds)},
    {.name = "keep", OPTION_FLAG(&options.keep)},
    {.name = "threads", .letter = 'j', .neutral = true, OPTION_INTEGER(&options.threads, 0, 9)},
};

enum { OPTION_COUNT = sizeof table / sizeof table[0], WORDS_MAX = 20 };

/* Parses a command line given as one string; words are separated by single blanks. */
static enum status parse(const char *line, int *operands, struct error *error)
{
    static char copy[200];
    static char program[] = "program";
    char *words[WORDS_MAX + 1] = {program};
    int count = 1;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word != NULL && count < WORDS_MAX;
         word = strtok(NULL, " "))
        words[count++] = word;
    const struct option_part part = {table, OPTION_COUNT};
    int first = count;
    *error = (struct error){.text = ""};
    enum status status = options_parse(&part, 1, count, words, &first, error);
    *operands = count - first;
    return status;
}

static void test_accepted(void)
{
    struct error error;
    int operands;
    CHECK(parse("--size 7 in.rec --rate=0.25 --scale 0.4,1 --kind center --keep -j3 --name x",
                &operands, &error) == STATUS_OK,
          "%s", error.text);
    CHECK(options.size == 7 && options.rate == 0.25 && options.scale[0] == 0.4 &&
              options.scale[1] == 1 && options.kind == 1 && options.keep &&
              options.threads == 3 && strcmp(options.name, "x") == 0,
          "values");
    CHECK(operands == 1 && table[0].given && table[6].given, "%d operands", operands);
    CHECK(parse("-n 100 -- --size", &operands, &error) == STATUS_OK && operands == 1 &&
              options.size == 100,
          "what follows -- is an operand");
}

static void test_refused(void)
{
    static const struct {
        const char *line, *said;
    } cases[] = {
        {"--size", "needs an argument"},     {"--size 0", "range 1 to 100"},
        {"--size 101", "range 1 to 100"},    {"--size 7x", "not a whole number"},
        {"--rate nan", "not a number"},      {"--rate 1.01", "range 0 to 1"},
        {"--scale 0.4", "two ascending"},    {"--scale 0.9,0.4", "two ascending"},
        {"--kind squash", "random, center"}, {"--nothing", "unknown option '--nothing'"},
        {"-z", "unknown option '-z'"},       {"--keep=yes", "--keep=yes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error error;
        int operands;
        enum status status = parse(cases[i].line, &operands, &error);
        CHECK(status == STATUS_USAGE && strstr(error.text, cases[i].said) != NULL,
              "'%s': status %d, '%s'", cases[i].line, status, error.text);
    }
}

static void test_provenance(void)
{
    struct error error;
    int operands;
    struct metadata now = {0}, before = {0};
    static char names[] = "a\0b\0c\0d\0e\0f\0g\0h\0i\0j";
    char *shards[10];
    for (int i = 0; i < 10; i++)
        shards[i] = names + 2 * i;
    parse("--size 7 --rate 0.1 --scale 0.4,1 --kind center -j 5 --name tag", &operands, &error);
    char *line = provenance_format("tool", table, OPTION_COUNT, shards, 10);
    CHECK(line != NULL, "no memory");
    if (line == NULL)
        return;
    CHECK(strncmp(line, "tool ", 5) == 0 &&
              strstr(line, " --size=7 --rate=0.1 --scale=0.4,1 --name=tag --kind=center") != NULL,
          "%s", line);
    CHECK(strstr(line, "threads") == NULL && strstr(line, " h and 2 more") != NULL,
          "%s", line);
    provenance_append(&now, "first", &error);
    provenance_append(&now, line, &error);
    CHECK(strcmp(metadata_get(&now, "pg.2"), line) == 0, "the second line is pg.2");
    free(line);
    metadata_free(&now);

    provenance_settings(&now, table, OPTION_COUNT, &error);
    metadata_copy(&before, &now, &error);
    CHECK(provenance_compare(&now, &before, &error) == STATUS_OK, "%s", error.text);
    metadata_set(&before, "rate", "0.2", &error);
    CHECK(provenance_compare(&now, &before, &error) == STATUS_USAGE &&
              strcmp(error.text, "--rate is 0.1, the checkpoint was made with 0.2") == 0,
          "%s", error.text);
    metadata_free(&now);
    metadata_free(&before);
}

int main(void)
{
    test_accepted();
    test_refused();
    test_provenance();
    return check_report("options");
}
