#include "frame/bad_samples.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"

const char *const bad_action_names[] = {"skip", "fail", NULL};

enum { PERCENT_FROM_SAMPLES = 1000, NAMED_FIRST = 10, NAMED_EVERY = 1000 };

void bad_samples_begin(struct bad_samples *bad, struct stage *stage)
{
    char text[32];
    size_t length = strlen(bad->limit_text);
    bad->limit_is_percent = length > 0 && bad->limit_text[length - 1] == '%';
    snprintf(text, sizeof text, "%.*s", (int)(length - bad->limit_is_percent), bad->limit_text);
    int64_t whole;
    bool good = bad->limit_is_percent ? number_parse_real(text, &bad->limit)
                                      : number_parse_integer(text, &whole);
    if (good && !bad->limit_is_percent)
        bad->limit = (double)whole;
    if (!good || bad->limit < 0 || (bad->limit_is_percent && bad->limit > 100)) {
        struct error error;
        error_set(&error, STATUS_USAGE, "--max-bad: '%.40s' is neither a count nor a percentage",
                  bad->limit_text);
        stage_fail(stage, &error);
    }
}

static void check_limit(const struct bad_samples *bad, struct stage *stage, uint64_t seen)
{
    double limit = bad->limit_is_percent ? bad->limit / 100 * (double)seen : bad->limit;
    if ((double)bad->count <= limit)
        return;
    struct error error;
    error_set(&error, STATUS_DATA,
              "%" PRIu64 " of %" PRIu64 " samples are bad, more than --max-bad %s allows",
              bad->count, seen, bad->limit_text);
    stage_fail(stage, &error);
}

void bad_samples_take(struct bad_samples *bad, struct stage *stage, const char *key,
                      size_t key_size, uint64_t seen, const struct error *why)
{
    struct error error = *why;
    if (key != NULL)
        error_prefix(&error, "sample '%.*s'", (int)(key_size < 200 ? key_size : 200), key);
    if (bad->action == BAD_FAIL)
        stage_fail(stage, &error);

    bad->count++;
    stage->dropped++;
    if (bad->count <= NAMED_FIRST || bad->count % NAMED_EVERY == 0)
        stage_warn(stage, "%s (bad sample %" PRIu64 ", dropped)", error.text, bad->count);
    if (!bad->limit_is_percent || seen >= PERCENT_FROM_SAMPLES)
        check_limit(bad, stage, seen);
}

void bad_samples_end(struct bad_samples *bad, struct stage *stage, uint64_t seen)
{
    if (bad->count > 0)
        check_limit(bad, stage, seen);
}
