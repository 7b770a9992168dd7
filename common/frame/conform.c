#include "frame/conform.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "frame/conform_input.h"
#include "frame/conform_process.h"

enum {
    RUN_SECONDS = 60,       /* a run that takes longer is killed */
    TERMINATE_SECONDS = 5, /* the same, after SIGTERM */
    QUICK_SECONDS = 2,      /* how soon a program has to end on SIGTERM */
};

struct conform {
    const struct conform_options *options;
    struct process_setup good; /* the plain run */
    struct stream_bytes input;
    struct process_result expected; /* of the plain run */
    FILE *out;
    struct conform_counts *counts;
    struct error *error;
    enum status status; /* not STATUS_OK: checking itself failed, nothing more is run */
};

/* ---- verdicts ---- */

static void say(struct conform *c, const char *verdict, const char *check, const char *format,
                va_list args)
{
    char found[600] = "";
    if (format != NULL)
        vsnprintf(found, sizeof found, format, args);
    for (char *at = found; *at != '\0'; at++)
        if ((unsigned char)*at < ' ')
            *at = ' ';
    fprintf(c->out, "%-8s %s%s%s\n", verdict, check, found[0] != '\0' ? ": " : "", found);
    fflush(c->out);
}

/* Counts a check; the rest says what was found, for the case that it failed. */
__attribute__((format(printf, 4, 5))) static bool judge(struct conform *c, bool good,
                                                        const char *check,
                                                        const char *format, ...)
{
    va_list args;
    if (c->status != STATUS_OK)
        return good;
    va_start(args, format);
    say(c, good ? "ok" : "not ok", check, good ? NULL : format, args);
    va_end(args);
    if (good)
        c->counts->passed++;
    else
        c->counts->failed++;
    return good;
}

__attribute__((format(printf, 3, 4))) static void leave_out(struct conform *c,
                                                            const char *check,
                                                            const char *format, ...)
{
    va_list args;
    if (c->status != STATUS_OK)
        return;
    va_start(args, format);
    say(c, "left out", check, format, args);
    va_end(args);
    c->counts->skipped++;
}

static bool mentions(const struct buffer *text, const char *word)
{
    return text->size > 0 && memmem(text->data, text->size, word, strlen(word)) != NULL;
}

/* "exit code 1, stderr 'what it said'". */
struct found {
    char text[400];
};

static struct found describe(const struct process_result *result)
{
    struct found found;
    char how[80];
    const char *message = (const char *)result->err.data;
    if (result->timed_out)
        snprintf(how, sizeof how, "killed after %.0f s", result->seconds);
    else if (result->code > PROCESS_SIGNAL)
        snprintf(how, sizeof how, "ended by signal %d", result->code - PROCESS_SIGNAL);
    else
        snprintf(how, sizeof how, "exit code %d", result->code);
    /* The first line says what is wrong; of a Python traceback the last one. */
    size_t begin = 0, end = 0;
    while (end < result->err.size && message[end] != '\n')
        end++;
    if (mentions(&result->err, "Traceback")) {
        for (end = result->err.size; end > 0 && message[end - 1] == '\n'; end--)
            ;
        for (begin = end; begin > 0 && message[begin - 1] != '\n'; begin--)
            ;
    }
    snprintf(found.text, sizeof found.text, "%s, stderr '%.*s'", how,
             (int)(end - begin < 250 ? end - begin : 250), end > 0 ? message + begin : "");
    return found;
}

/* ---- runs ---- */

static void run(struct conform *c, const struct process_setup *setup,
                struct process_result *result)
{
    if (c->status == STATUS_OK)
        c->status = process_run(setup, result, c->error);
}

static struct process_setup with_input(const struct conform *c, struct stream_bytes input)
{
    struct process_setup setup = c->good;
    setup.input = input.data;
    setup.input_size = input.size;
    return setup;
}

static bool crashed(const struct process_result *result)
{
    const int number = result->code - PROCESS_SIGNAL;
    return result->timed_out || number == SIGSEGV || number == SIGBUS || number == SIGABRT ||
           number == SIGILL || number == SIGFPE;
}

static bool is_whole_stream(const struct process_result *result)
{
    struct stream_summary summary;
    struct error error;
    const bool whole =
        conform_input_read((struct stream_bytes){result->out.data, result->out.size}, &summary,
                           &error) == STATUS_OK;
    if (whole)
        buffer_free(&summary.marks);
    return whole;
}

/* Whether a program that was to fail did: with the code and a message where that counts. For a
 * filter it is enough that what it wrote is not whole, since every reader notices. */
static bool failed_well(const struct conform *c, const struct process_result *result, int code)
{
    if (crashed(result))
        return false;
    if (c->options->strict)
        return result->code == code && (code > PROCESS_SIGNAL || result->err.size > 0);
    if (!c->options->sink && is_whole_stream(result))
        return false;
    return result->code != 0 || !c->options->sink;
}

static const char *failure_wanted(const struct conform *c)
{
    return c->options->sink ? "not 0" : "not 0, or a stream without END";
}

static void expect_failure(struct conform *c, const struct process_setup *setup, int code,
                           const char *check)
{
    struct process_result result = {.code = 0};
    run(c, setup, &result);
    if (c->status == STATUS_OK) {
        const bool good = failed_well(c, &result, code);
        if (c->options->strict)
            judge(c, good, check, "%s; expected exit code %d and a message",
                  describe(&result).text, code);
        else
            judge(c, good, check, "%s; expected %s", describe(&result).text, failure_wanted(c));
    }
    process_result_free(&result);
}

/* ---- the command line ---- */

static size_t count_lines(const struct buffer *text)
{
    size_t lines = 0;
    for (size_t i = 0; i < text->size; i++)
        lines += text->data[i] == '\n';
    return lines;
}

static struct process_setup with_option(const struct conform *c, const char *option)
{
    struct process_setup setup = c->good;
    setup.input = NULL;
    setup.more[0] = option;
    return setup;
}

static void check_command_line(struct conform *c)
{
    const bool strict = c->options->strict;
    struct process_result result = {.code = 0};
    struct process_setup setup = with_option(c, "--help");
    run(c, &setup, &result);
    judge(c, result.code == 0 && result.out.size > 0 &&
                 (!strict || (result.err.size == 0 && mentions(&result.out, "usage: ") &&
                              mentions(&result.out, "example:"))),
          "--help prints its usage, an example and exits with 0", "%s, %zu bytes on stdout",
          describe(&result).text, result.out.size);

    setup = with_option(c, "--version");
    run(c, &setup, &result);
    judge(c,
          result.code == 0 && result.out.size > 0 &&
              (!strict || (count_lines(&result.out) == 1 && mentions(&result.out, "clipipe"))),
          "--version prints a line and exits with 0", "%s, %zu lines on stdout",
          describe(&result).text, count_lines(&result.out));

    setup = with_option(c, "--no-such-option");
    run(c, &setup, &result);
    judge(c, result.code != 0 && !crashed(&result) && result.out.size == 0 &&
                 (!strict || (result.code == 64 && count_lines(&result.err) <= 2)),
          "an unknown option fails and writes nothing", "%s, %zu bytes on stdout; expected %s",
          describe(&result).text, result.out.size, strict ? "64" : "not 0");
    process_result_free(&result);

    setup = with_option(c, "--help");
    setup.output = PROCESS_FULL;
    if (strict)
        expect_failure(c, &setup, 74, "--help to a full disk fails");
}

/* ---- good input ---- */

static void expect_same(struct conform *c, const struct process_setup *setup, const char *check)
{
    const struct buffer *wanted = &c->expected.out;
    struct process_result result = {.code = 0};
    run(c, setup, &result);
    const bool same = c->options->varies ||
                      (result.out.size == wanted->size &&
                       (wanted->size == 0 ||
                        memcmp(result.out.data, wanted->data, wanted->size) == 0));
    judge(c, result.code == 0 && same, check, "%s, %zu bytes of output, %s",
          describe(&result).text, result.out.size,
          same ? "expected 0" : "not the same as the first time");
    process_result_free(&result);
}

static void expect_whole(struct conform *c, enum stream_change change, const char *check)
{
    struct buffer changed = {0};
    struct process_result result = {.code = 0};
    if (c->status == STATUS_OK)
        c->status = conform_input_change(c->input, change, &changed, c->error);
    const struct process_setup setup =
        with_input(c, (struct stream_bytes){changed.data, changed.size});
    run(c, &setup, &result);
    if (c->status == STATUS_OK)
        judge(c, result.code == 0 && is_whole_stream(&result), check,
              "%s, %zu bytes of output%s", describe(&result).text, result.out.size,
              is_whole_stream(&result) ? "" : " that are no whole stream");
    process_result_free(&result);
    buffer_free(&changed);
}

/* False where there is nothing to compare the other runs with. */
static bool check_good_run(struct conform *c)
{
    run(c, &c->good, &c->expected);
    bool good = judge(c, c->expected.code == 0, "a good stream: exit code 0", "%s",
                      describe(&c->expected).text);
    if (c->status != STATUS_OK || !good)
        return false;
    if (!c->options->sink) {
        struct stream_summary summary;
        struct error error = {.text = ""};
        const bool whole = conform_input_read((struct stream_bytes){c->expected.out.data,
                                                                    c->expected.out.size},
                                              &summary, &error) == STATUS_OK;
        good = judge(c, whole, "a good stream: the output is one, too, and ends with END",
                     "%zu bytes of output: %s", c->expected.out.size, error.text);
        if (whole)
            buffer_free(&summary.marks);
    }
    if (c->options->strict && (!c->options->sink || c->options->varies))
        judge(c, mentions(&c->expected.err, "waiting for output"),
              "a good stream: a line of statistics at the end", "%s",
              describe(&c->expected).text);
    return good;
}

static void check_repeats(struct conform *c)
{
    static const char *const counts[] = {"1", "2", "7"};
    struct process_setup setup = c->good;
    expect_same(c, &setup, "a second run gives the same bytes");
    if (!c->options->source) {
        setup.dribble = true;
        expect_same(c, &setup, "a stream that comes byte by byte gives the same bytes");
        setup.dribble = false;
    }
    if (c->options->threads == NULL)
        leave_out(c, "any number of threads gives the same bytes", "no --threads OPTION");
    for (int i = 0; c->options->threads != NULL && i < 3; i++) {
        char check[80];
        snprintf(check, sizeof check, "%s threads give the same bytes", counts[i]);
        setup.more[0] = c->options->threads;
        setup.more[1] = counts[i];
        expect_same(c, &setup, check);
    }
}

/* Whether `part` is what is left of `whole` when some values are taken out. */
static bool is_subsequence(const struct buffer *part, const struct buffer *whole)
{
    size_t found = 0;
    for (size_t i = 0; i < whole->size && found < part->size; i++)
        found += whole->data[i] == part->data[found];
    return found == part->size;
}

/* What a stage does not know is not its to drop: a tensor and a fact of no meaning. */
static void check_passing_on(struct conform *c)
{
    struct buffer marked = {0};
    struct process_result result = {.code = 0};
    struct stream_summary before = {0}, after = {0};
    struct error error = {.text = ""};
    if (c->status == STATUS_OK)
        c->status = conform_input_change(c->input, STREAM_MARKED, &marked, c->error);
    const struct stream_bytes input = {marked.data, marked.size};
    if (c->status == STATUS_OK)
        c->status = conform_input_read(input, &before, c->error);
    const struct process_setup setup = with_input(c, input);
    run(c, &setup, &result);
    if (c->status == STATUS_OK &&
        judge(c, conform_input_read((struct stream_bytes){result.out.data, result.out.size},
                                    &after, &error) == STATUS_OK,
              "a stream with a tensor it does not know is accepted", "%s, output: %s",
              describe(&result).text, error.text)) {
        judge(c, after.has_mark && is_subsequence(&after.marks, &before.marks),
              "a tensor it does not know passes through", "%s",
              after.has_mark ? "its values have changed" : "it is missing");
        judge(c, after.has_fact, "metadata it does not know passes through", "it is missing");
    }
    buffer_free(&before.marks);
    buffer_free(&after.marks);
    process_result_free(&result);
    buffer_free(&marked);
}

/* ---- bad input ---- */

/* Every place at which the stream is cut, in an order that covers it evenly however soon the
 * time is up: the ends of headers and records first, then steps of the golden section. */
struct cuts {
    size_t size;
    size_t special[16];
    size_t special_count, step;
};

static size_t greatest_common_divisor(size_t a, size_t b)
{
    while (b != 0) {
        const size_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static void cuts_init(struct cuts *cuts, struct stream_bytes input)
{
    const size_t second = conform_input_record_start(input, 1);
    size_t last = second;
    for (size_t i = 2, next; (next = conform_input_record_start(input, i)) < input.size; i++)
        last = next;
    const size_t places[] = {0, 1, 7, 8, 9, second - 1, second, second + 1, second + 8,
                             last - 1, last, last + 1, last + 8, input.size / 2,
                             input.size - 2, input.size - 1};
    *cuts = (struct cuts){.size = input.size};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (places[i] < input.size)
            cuts->special[cuts->special_count++] = places[i];
    cuts->step = (size_t)((double)input.size * 0.6180339887) + 1;
    while (greatest_common_divisor(cuts->step, input.size) != 1)
        cuts->step++;
}

static void check_cuts(struct conform *c)
{
    struct cuts cuts;
    struct found first = {.text = ""};
    size_t made = 0, wrong = 0, wrong_at = 0;
    const int64_t end_ns = clock_now_ns() + (int64_t)(c->options->seconds * 1e9);
    struct process_result result = {.code = 0};
    cuts_init(&cuts, c->input);
    for (size_t at = 0; c->status == STATUS_OK && made < cuts.special_count + cuts.size;
         made++) {
        const bool special = made < cuts.special_count;
        if (!special && clock_now_ns() > end_ns)
            break;
        if (!special)
            at = (at + cuts.step) % cuts.size;
        const size_t cut = special ? cuts.special[made] : at;
        const struct process_setup setup =
            with_input(c, (struct stream_bytes){c->input.data, cut});
        run(c, &setup, &result);
        if (c->status != STATUS_OK || failed_well(c, &result, 76))
            continue;
        if (wrong++ == 0) {
            first = describe(&result);
            wrong_at = cut;
        }
    }
    char check[120];
    snprintf(check, sizeof check, "a stream of %zu bytes cut at %zu places fails", cuts.size,
             made < cuts.size ? made : cuts.size);
    judge(c, wrong == 0, check, "%zu do not; at byte %zu: %s; expected %s", wrong, wrong_at,
          first.text, c->options->strict ? "76" : failure_wanted(c));
    process_result_free(&result);
}

static void check_garbage(struct conform *c)
{
    static const char text[] = "this is not a stream of records, it is a text\n";
    uint8_t noise[4096];
    struct rng rng;
    rng_init(&rng, 1, 0, 0, RNG_TEST);
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)rng_next(&rng);
    struct process_setup setup =
        with_input(c, (struct stream_bytes){(const uint8_t *)text, sizeof text - 1});
    expect_failure(c, &setup, 65, "a text as input fails");
    setup = with_input(c, (struct stream_bytes){noise, sizeof noise});
    expect_failure(c, &setup, 65, "noise as input fails");
}

static void check_damage(struct conform *c)
{
    struct buffer damaged = {0};
    if (c->status == STATUS_OK)
        c->status = conform_input_change(c->input, STREAM_DAMAGED, &damaged, c->error);
    const struct process_setup setup =
        with_input(c, (struct stream_bytes){damaged.data, damaged.size});
    expect_failure(c, &setup, 65, "a wrong bit in a stream with checksums fails");
    buffer_free(&damaged);
}

/* ABORT in place of END: the cause must reach the end of the pipeline. */
static void check_abort(struct conform *c)
{
    struct buffer aborted = {0};
    struct process_result result = {.code = 0};
    if (c->status == STATUS_OK)
        c->status = conform_input_change(c->input, STREAM_ABORTED, &aborted, c->error);
    const struct process_setup setup =
        with_input(c, (struct stream_bytes){aborted.data, aborted.size});
    run(c, &setup, &result);
    if (c->status == STATUS_OK) {
        judge(c, failed_well(c, &result, 76), "a stream that was aborted fails",
              "%s; expected %s", describe(&result).text,
              c->options->strict ? "76" : failure_wanted(c));
        if (c->options->strict)
            judge(c, mentions(&result.err, STREAM_ABORT_REASON),
                  "the message names the first cause", "%s", describe(&result).text);
        if (c->options->strict && !c->options->sink)
            judge(c, mentions(&result.out, STREAM_ABORT_STAGE),
                  "ABORT is passed on with the stage that failed first", "it is not");
    }
    process_result_free(&result);
    buffer_free(&aborted);
}

/* ---- outputs that fail, and signals ---- */

static void check_broken_output(struct conform *c)
{
    static const struct {
        enum process_output output;
        bool ignore_sigpipe;
        int code;
        const char *check;
    } cases[] = {
        {PROCESS_FULL, false, 74, "a full disk fails"},
        {PROCESS_CLOSED, false, 74, "a closed output fails"},
        {PROCESS_READER_GONE, false, PROCESS_SIGNAL + SIGPIPE, "a reader that is gone ends it"},
        {PROCESS_READER_GONE, true, PROCESS_SIGNAL + SIGPIPE,
         "a reader that is gone ends it where SIGPIPE was ignored"},
    };
    if (!c->options->strict && c->expected.out.size == 0) {
        leave_out(c, "output that fails", "it writes nothing to stdout");
        return;
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct process_setup setup = c->good;
        struct process_result result = {.code = 0};
        setup.output = cases[i].output;
        setup.ignore_sigpipe = cases[i].ignore_sigpipe;
        run(c, &setup, &result);
        const bool good = c->options->strict
                              ? failed_well(c, &result, cases[i].code)
                              : result.code != 0 && !crashed(&result);
        char wanted[40] = "not 0";
        if (c->options->strict)
            snprintf(wanted, sizeof wanted, "%s %d",
                     cases[i].code > PROCESS_SIGNAL ? "signal" : "exit code",
                     cases[i].code % PROCESS_SIGNAL);
        if (c->status == STATUS_OK)
            judge(c, good, cases[i].check, "%s; expected %s", describe(&result).text, wanted);
        process_result_free(&result);
    }
}

static void check_termination(struct conform *c)
{
    struct process_result result = {.code = 0};
    struct process_setup setup =
        with_input(c, (struct stream_bytes){c->input.data, c->input.size / 2});
    setup.terminate = true;
    setup.limit_seconds = TERMINATE_SECONDS;
    run(c, &setup, &result);
    const bool ended = result.code == PROCESS_SIGNAL + SIGTERM || result.code == 75 ||
                       (!c->options->strict && result.code != 0);
    if (c->status == STATUS_OK)
        judge(c, ended && !result.timed_out && result.seconds < QUICK_SECONDS,
              "SIGTERM in the middle of a stream ends it within 2 s", "%s, %.2f s",
              describe(&result).text, result.seconds);
    process_result_free(&result);
}

/* ---- all ---- */

static enum status check_input(struct stream_bytes input, struct error *error)
{
    struct stream_summary summary;
    enum status status = conform_input_read(input, &summary, error);
    if (status != STATUS_OK)
        return error_prefix(error, "the input to check with");
    buffer_free(&summary.marks);
    return STATUS_OK;
}

static void run_checks(struct conform *c)
{
    const struct conform_options *options = c->options;
    if (options->no_options)
        leave_out(c, "--help, --version and unknown options", "--no-options");
    else
        check_command_line(c);
    if (options->only_options)
        return;
    if (!check_good_run(c)) {
        leave_out(c, "all other checks", "the program does not work on a good stream");
        return;
    }
    check_repeats(c);
    check_broken_output(c);
    if (options->source)
        return;
    if (!options->sink) {
        check_passing_on(c);
        expect_whole(c, STREAM_EMPTY, "a stream without samples gives one");
        expect_whole(c, STREAM_JOINED, "two streams joined give one");
    }
    if (options->strict && !options->sink)
        expect_whole(c, STREAM_PACKED, "a stream packed by zstd gives one");
    check_cuts(c);
    check_garbage(c);
    if (options->strict)
        check_damage(c);
    check_abort(c);
    check_termination(c);
}

enum status conform_run(const struct conform_options *options, char *const *command,
                        const uint8_t *input, size_t size, FILE *out,
                        struct conform_counts *counts, struct error *error)
{
    struct conform c = {
        .options = options,
        .good = {.command = command,
                 .input = input,
                 .input_size = size,
                 .limit_seconds = RUN_SECONDS},
        .input = {input, size},
        .out = out,
        .counts = counts,
        .error = error,
        .status = STATUS_OK,
    };
    size_t arguments = 0;
    while (command[arguments] != NULL)
        arguments++;
    *counts = (struct conform_counts){0};
    if (arguments > PROCESS_ARGUMENTS_MAX)
        return error_set(error, STATUS_USAGE, "%zu arguments, at most %d", arguments,
                         PROCESS_ARGUMENTS_MAX);
    if (input != NULL)
        c.status = check_input(c.input, error);
    if (c.status == STATUS_OK)
        run_checks(&c);
    process_result_free(&c.expected);
    return c.status;
}
