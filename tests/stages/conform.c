/* conform - runs the contract of a stage on any program.
 *
 *     conform [--source | --sink] [--words] [--loose] [--threads OPTION] [--cut-step N]
 *             NAME INPUT PROGRAM [ARGUMENT]...
 *
 * INPUT is a small complete stream (below 64 KiB) that the program accepts; - for a source.
 * --sink: what it writes is not records. --words: only help, version and mistakes. --loose: its
 * output holds times, so that two runs differ. --threads -j: takes a number of threads that may
 * not change its output. The last line is "NAME: N passed, N failed".
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/io.h"
#include "stream/reader.h"
#include "stream/writer.h"
#include "tests/unit/check.h"

enum { TIME_LIMIT_SECONDS = 60, ARGUMENTS_MAX = 60 };

/* How one run of the program is set up. */
struct setup {
    const uint8_t *input; /* fed through a pipe; NULL: stdin is /dev/null */
    size_t input_size;
    bool dribble;       /* one byte at a time */
    bool hold;          /* keep the pipe open and send SIGTERM */
    const char *output; /* opened for stdout; NULL: captured; "": closed; "|": reader gone */
    bool ignore_sigpipe;
    const char *more[4]; /* further arguments, ended by NULL */
};

struct result {
    int code; /* exit code, or 256 + signal */
    struct buffer out, err;
    double seconds;
};

static struct {
    bool source, sink, words, loose;
    const char *threads;
    size_t cut_step;
    char **command;
} test = {.cut_step = 1};

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(70);
}

static void load(int fd, struct buffer *out)
{
    struct error error;
    off_t size = lseek(fd, 0, SEEK_END);
    lseek(fd, 0, SEEK_SET);
    out->size = 0;
    if (buffer_reserve(out, (size_t)size + 1, &error) != STATUS_OK)
        die("load");
    ssize_t got = io_read_full(fd, out->data, (size_t)size);
    out->size = got < 0 ? 0 : (size_t)got;
    out->data[out->size] = '\0';
    close(fd);
}

static _Noreturn void run_child(const struct setup *setup, int in, int out, int err)
{
    char *arguments[ARGUMENTS_MAX];
    int count = 0;
    for (char **a = test.command; *a != NULL && count < ARGUMENTS_MAX - 5; a++)
        arguments[count++] = *a;
    for (int i = 0; setup->more[i] != NULL; i++)
        arguments[count++] = (char *)setup->more[i];
    arguments[count] = NULL;

    signal(SIGPIPE, setup->ignore_sigpipe ? SIG_IGN : SIG_DFL);
    alarm(TIME_LIMIT_SECONDS);
    dup2(in, STDIN_FILENO);
    dup2(err, STDERR_FILENO);
    if (setup->output != NULL && setup->output[0] == '\0')
        close(STDOUT_FILENO);
    else
        dup2(out, STDOUT_FILENO);
    execvp(arguments[0], arguments);
    _exit(127);
}

/* Writes a byte and waits until it has been read, so that no read gets two. */
static void feed(const struct setup *setup, int fd)
{
    if (!setup->dribble) {
        io_write_all(fd, setup->input, setup->input_size);
        return;
    }
    for (size_t i = 0; i < setup->input_size; i++) {
        int waiting = 1;
        if (io_write_all(fd, setup->input + i, 1) != 0)
            return;
        for (int64_t start = clock_now_ns(); waiting > 0;) {
            if (ioctl(fd, FIONREAD, &waiting) != 0 || clock_now_ns() - start > 2000000000)
                return;
        }
    }
}

static struct result run(const struct setup *setup)
{
    struct result result = {.code = -1};
    int in[2], out = memfd_create("out", MFD_CLOEXEC), err = memfd_create("err", MFD_CLOEXEC);
    int64_t start = clock_now_ns();
    if (pipe2(in, O_CLOEXEC) != 0)
        die("pipe");
    if (setup->input == NULL) {
        close(in[0]);
        in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    int target = out;
    if (setup->output != NULL && strcmp(setup->output, "|") == 0) {
        int gone[2];
        if (pipe2(gone, O_CLOEXEC) != 0)
            die("pipe");
        close(gone[0]);
        target = gone[1];
    } else if (setup->output != NULL && setup->output[0] != '\0') {
        target = open(setup->output, O_WRONLY | O_CLOEXEC);
    }

    pid_t child = fork();
    if (child == 0)
        run_child(setup, in[0], target, err);
    if (child < 0)
        die("fork");
    close(in[0]);
    if (target != out)
        close(target);
    feed(setup, in[1]);
    if (setup->hold) {
        usleep(200000);
        kill(child, SIGTERM);
        start = clock_now_ns();
    } else {
        close(in[1]);
    }
    int status;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (setup->hold)
        close(in[1]);
    result.seconds = (double)(clock_now_ns() - start) * 1e-9;
    result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
    load(out, &result.out);
    load(err, &result.err);
    return result;
}

static void result_free(struct result *result)
{
    buffer_free(&result->out);
    buffer_free(&result->err);
}

/* Runs and expects an exit code and, where it is a failure, a message. */
static void expect(const struct setup *setup, int code, const char *what)
{
    struct result result = run(setup);
    CHECK(result.code == code, "%s: exit code %d, expected %d: %.200s", what, result.code, code,
          (const char *)result.err.data);
    if (code > 0 && code < 256)
        CHECK(result.err.size > 0, "%s: no message on stderr", what);
    result_free(&result);
}

static size_t count_lines(const struct buffer *text)
{
    size_t lines = 0;
    for (size_t i = 0; i < text->size; i++)
        lines += text->data[i] == '\n';
    return lines;
}

static void test_command_line(void)
{
    struct result help = run(&(struct setup){.more = {"--help"}});
    CHECK(help.code == 0 && help.err.size == 0, "--help: exit code %d", help.code);
    CHECK(strstr((const char *)help.out.data, "usage: ") != NULL &&
              strstr((const char *)help.out.data, "example:") != NULL,
          "--help prints usage and an example");
    result_free(&help);
    struct result version = run(&(struct setup){.more = {"--version"}});
    CHECK(version.code == 0 && count_lines(&version.out) == 1 &&
              strstr((const char *)version.out.data, "clipipe") != NULL,
          "--version: exit code %d", version.code);
    result_free(&version);
    struct result bad = run(&(struct setup){.more = {"--no-such-option"}});
    CHECK(bad.code == 64 && bad.out.size == 0 && count_lines(&bad.err) <= 2,
          "--no-such-option: exit code %d", bad.code);
    result_free(&bad);
    expect(&(struct setup){.output = "/dev/full", .more = {"--help"}}, 74, "--help to /dev/full");
}

static void test_damaged_input(const struct buffer *input)
{
    static const char text[] = "this is not a stream of records, it is a text\n";
    uint8_t noise[4096];
    uint32_t state = 1;
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)((state = state * 1664525 + 1013904223) >> 24);

    size_t wrong = 0;
    for (size_t cut = 0; cut < input->size; cut += test.cut_step) {
        struct result result = run(&(struct setup){.input = input->data, .input_size = cut});
        if (result.code != 76 && wrong++ < 5)
            printf("cut at %zu of %zu: exit code %d: %.200s\n", cut, input->size, result.code,
                   (const char *)result.err.data);
        result_free(&result);
    }
    CHECK(wrong == 0, "%zu cuts do not give 76", wrong);
    expect(&(struct setup){.input = (const uint8_t *)text, .input_size = sizeof text - 1}, 65,
           "a text as input");
    expect(&(struct setup){.input = noise, .input_size = sizeof noise}, 65, "noise as input");
}

/* The input, ended by ABORT in place of END: the cause must reach the end of the pipeline. */
static void test_abort(const struct buffer *input)
{
    static const char cause[] = "first-stage";
    struct reader *reader;
    struct writer *writer;
    struct record record;
    struct error error;
    bool end;
    int from = memfd_create("from", MFD_CLOEXEC), to = memfd_create("to", MFD_CLOEXEC);
    if (io_write_all(from, input->data, input->size) != 0)
        die("abort");
    lseek(from, 0, SEEK_SET);
    reader_open(&reader, from, "input", 0, &error);
    writer_open(&writer, to, "output", (struct writer_options){.checksum = false}, &error);
    while (reader_next(reader, &record, &end, &error) == STATUS_OK && !end) {
        uint64_t version;
        writer_set_metadata(writer, reader_metadata(reader, &version), &error);
        writer_put(writer, &record, &error);
    }
    writer_abort(writer, cause, "the disk caught fire");
    writer_close(writer);
    reader_close(reader);
    close(from);
    struct buffer aborted = {0};
    load(to, &aborted);

    struct result result =
        run(&(struct setup){.input = aborted.data, .input_size = aborted.size});
    CHECK(result.code == 76 && strstr((const char *)result.err.data, "caught fire") != NULL,
          "ABORT upstream: exit code %d: %.200s", result.code, (const char *)result.err.data);
    if (!test.sink)
        CHECK(memmem(result.out.data, result.out.size, cause, sizeof cause - 1) != NULL,
              "ABORT is passed on with its cause");
    result_free(&result);
    buffer_free(&aborted);
}

static bool is_complete_stream(const struct buffer *bytes)
{
    struct reader *reader;
    struct record record;
    struct error error;
    bool end = false;
    int fd = memfd_create("stream", MFD_CLOEXEC);
    if (io_write_all(fd, bytes->data, bytes->size) != 0)
        die("stream");
    lseek(fd, 0, SEEK_SET);
    enum status status = reader_open(&reader, fd, "output", 0, &error);
    while (status == STATUS_OK && !end)
        status = reader_next(reader, &record, &end, &error);
    reader_close(reader);
    close(fd);
    return status == STATUS_OK && end;
}

static void expect_same(const struct result *a, const struct setup *setup, const char *what)
{
    struct result b = run(setup);
    CHECK(b.code == 0, "%s: exit code %d: %.200s", what, b.code, (const char *)b.err.data);
    if (!test.loose)
        CHECK(a->out.size == b.out.size && memcmp(a->out.data, b.out.data, b.out.size) == 0,
              "%s: output differs (%zu and %zu bytes)", what, a->out.size, b.out.size);
    result_free(&b);
}

static void test_output(const struct setup *good)
{
    struct result result = run(good);
    CHECK(result.code == 0, "good input: exit code %d: %.200s", result.code,
          (const char *)result.err.data);
    if (!test.sink)
        CHECK(is_complete_stream(&result.out), "the output is a complete stream");
    if (!test.sink || test.loose)
        CHECK(memmem(result.err.data, result.err.size, "waiting for output", 18) != NULL,
              "a line of statistics at the end");

    struct setup setup = *good;
    expect_same(&result, &setup, "a second run");
    if (!test.source) {
        setup.dribble = true;
        expect_same(&result, &setup, "one-byte reads");
        setup.dribble = false;
    }
    static const char *const counts[] = {"1", "2", "7"};
    for (int i = 0; test.threads != NULL && i < 3; i++) {
        setup.more[0] = test.threads;
        setup.more[1] = counts[i];
        expect_same(&result, &setup, counts[i]);
    }
    result_free(&result);
}

static void test_broken_output(const struct setup *good)
{
    struct setup setup = *good;
    setup.output = "/dev/full";
    expect(&setup, 74, "/dev/full");
    setup.output = "";
    expect(&setup, 74, "closed stdout");
    setup.output = "|";
    expect(&setup, 256 + SIGPIPE, "reader gone");
    setup.ignore_sigpipe = true;
    expect(&setup, 256 + SIGPIPE, "reader gone, SIGPIPE ignored by the parent");
}

static void test_termination(const struct buffer *input)
{
    struct result result = run(&(struct setup){
        .input = input->data, .input_size = input->size / 2, .hold = true});
    CHECK(result.code == 256 + SIGTERM || result.code == 75, "SIGTERM: exit code %d",
          result.code);
    CHECK(result.seconds < 2, "SIGTERM: took %.2f s", result.seconds);
    result_free(&result);
}

static int parse_arguments(int argc, char **argv)
{
    int at = 1;
    for (; at < argc && argv[at][0] == '-' && argv[at][1] == '-'; at++) {
        if (strcmp(argv[at], "--source") == 0)
            test.source = true;
        else if (strcmp(argv[at], "--sink") == 0)
            test.sink = true;
        else if (strcmp(argv[at], "--words") == 0)
            test.words = true;
        else if (strcmp(argv[at], "--loose") == 0)
            test.loose = true;
        else if (strcmp(argv[at], "--threads") == 0 && at + 1 < argc)
            test.threads = argv[++at];
        else if (strcmp(argv[at], "--cut-step") == 0 && at + 1 < argc)
            test.cut_step = strtoul(argv[++at], NULL, 10);
        else
            return -1;
    }
    return at + 2 < argc && test.cut_step > 0 ? at : -1;
}

int main(int argc, char **argv)
{
    int at = parse_arguments(argc, argv);
    if (at < 0) {
        fprintf(stderr, "usage: conform [OPTION]... NAME INPUT PROGRAM [ARGUMENT]...\n");
        return 64;
    }
    test.command = argv + at + 2;
    signal(SIGPIPE, SIG_IGN);

    struct buffer input = {0};
    struct error error;
    struct setup good = {.input = NULL};
    if (!test.source && !test.words) {
        if (io_read_file(argv[at + 1], 60000, &input, &error) != STATUS_OK) {
            fprintf(stderr, "conform: %s\n", error.text);
            return 66;
        }
        good.input = input.data;
        good.input_size = input.size;
    }
    test_command_line();
    if (!test.words) {
        test_output(&good);
        test_broken_output(&good);
    }
    if (!test.words && !test.source) {
        test_damaged_input(&input);
        test_abort(&input);
        test_termination(&input);
    }
    buffer_free(&input);
    return check_report(argv[at]);
}
