#include "frame/conform_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"

enum {
    DRIBBLE_STALL_NS = 2000000000, /* a byte that is not read for so long: the rest follows */
    DRIBBLE_TOTAL_NS = 2000000000, /* long inputs are fed byte by byte for so long only */
    SETTLE_NS = 200000000,         /* between the end of the input and SIGTERM */
    EXEC_FAILED = 127,
};

struct descriptors {
    int in[2]; /* the program's end, ours; -1: closed */
    int out;   /* captured stdout, a memfd */
    int err;
    int target; /* what the program gets as stdout: `out` or another descriptor; -1: nothing */
    int failure[2]; /* a pipe that carries errno where exec fails, and closes where it succeeds
                     */
};

/* ---- signals to us ---- */

/* The group to kill where we are ended: signal handlers have no other way to know it. */
static volatile sig_atomic_t running_group;

static void end_both(int number)
{
    if (running_group > 0)
        kill(-(pid_t)running_group, SIGKILL);
    signal(number, SIG_DFL);
    raise(number);
}

enum { WATCHED = 4 };
static const int watched_signals[WATCHED] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};

static void watch_signals(struct sigaction old[WATCHED])
{
    for (int i = 0; i < WATCHED; i++) {
        struct sigaction action = {.sa_handler = end_both};
        if (watched_signals[i] == SIGPIPE)
            action.sa_handler = SIG_IGN; /* a program may end before its input does */
        sigaction(watched_signals[i], &action, &old[i]);
    }
}

static void unwatch_signals(const struct sigaction old[WATCHED])
{
    for (int i = 0; i < WATCHED; i++)
        sigaction(watched_signals[i], &old[i], NULL);
}

/* ---- the program's side ---- */

static _Noreturn void run_child(const struct process_setup *setup,
                                const struct descriptors *fds)
{
    const char *arguments[PROCESS_ARGUMENTS_MAX + 4];
    int count = 0;
    while (count < PROCESS_ARGUMENTS_MAX && setup->command[count] != NULL) {
        arguments[count] = setup->command[count];
        count++;
    }
    for (int i = 0; setup->more[i] != NULL; i++)
        arguments[count++] = setup->more[i];
    arguments[count] = NULL;

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 0; i < WATCHED; i++)
        signal(watched_signals[i], SIG_DFL);
    if (setup->ignore_sigpipe)
        signal(SIGPIPE, SIG_IGN);
    unsetenv("CLIPIPE_STATS");
    dup2(fds->in[0], STDIN_FILENO);
    dup2(fds->err, STDERR_FILENO);
    if (fds->target < 0)
        close(STDOUT_FILENO);
    else
        dup2(fds->target, STDOUT_FILENO);
    execvp(arguments[0], (char *const *)arguments);
    const int reason = errno;
    if (write(fds->failure[1], &reason, sizeof reason) < 0)
        _exit(EXEC_FAILED);
    _exit(EXEC_FAILED);
}

/* ---- descriptors ---- */

static void close_one(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void close_all(struct descriptors *fds)
{
    if (fds->target != fds->out)
        close_one(&fds->target);
    close_one(&fds->in[0]);
    close_one(&fds->in[1]);
    close_one(&fds->out);
    close_one(&fds->err);
    close_one(&fds->failure[0]);
    close_one(&fds->failure[1]);
}

static int open_target(enum process_output output, int captured)
{
    int gone[2];
    switch (output) {
    case PROCESS_FULL:
        return open("/dev/full", O_WRONLY | O_CLOEXEC);
    case PROCESS_READER_GONE:
        if (pipe2(gone, O_CLOEXEC) != 0)
            return -1;
        close(gone[0]);
        return gone[1];
    case PROCESS_CLOSED:
        return -1;
    default:
        return captured;
    }
}

static enum status open_all(const struct process_setup *setup, struct descriptors *fds,
                            struct error *error)
{
    *fds = (struct descriptors){{-1, -1}, -1, -1, -1, {-1, -1}};
    fds->out = memfd_create("stdout", MFD_CLOEXEC);
    fds->err = memfd_create("stderr", MFD_CLOEXEC);
    bool good = fds->out >= 0 && fds->err >= 0 && pipe2(fds->failure, O_CLOEXEC) == 0;
    if (setup->input == NULL)
        good = good && (fds->in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;
    else
        good = good && pipe2(fds->in, O_CLOEXEC) == 0 &&
               fcntl(fds->in[1], F_SETFL, O_NONBLOCK) == 0;
    if (good) {
        fds->target = open_target(setup->output, fds->out);
        good = fds->target >= 0 || setup->output == PROCESS_CLOSED;
    }
    if (good)
        return STATUS_OK;
    error_set_errno(error, STATUS_SYSTEM, "cannot open what a program needs");
    close_all(fds);
    return STATUS_SYSTEM;
}

static enum status load(int fd, struct buffer *out, struct error *error)
{
    struct stat about;
    out->size = 0;
    if (fstat(fd, &about) != 0 || lseek(fd, 0, SEEK_SET) != 0)
        return error_set_errno(error, STATUS_SYSTEM, "cannot read a program's output");
    enum status status = buffer_reserve(out, (size_t)about.st_size + 1, error);
    if (status != STATUS_OK)
        return status;
    const ssize_t got = io_read_full(fd, out->data, (size_t)about.st_size);
    out->size = got > 0 ? (size_t)got : 0;
    out->data[out->size] = '\0';
    return STATUS_OK;
}

/* ---- feeding and watching ---- */

struct run {
    const struct process_setup *setup;
    struct descriptors fds;
    pid_t child;
    size_t fed;
    int64_t start_ns, last_read_ns; /* last_read: when the last byte of a dribble was taken */
    int64_t fed_ns;      /* when all was fed; 0: not yet */
    int64_t signal_ns;   /* when SIGTERM was sent; 0: not yet */
};

/* Writes what the pipe takes. Once the program has closed its end the rest is void. */
static void feed(struct run *run, int64_t now)
{
    const struct process_setup *setup = run->setup;
    size_t size = setup->input_size - run->fed;
    const bool dribble = setup->dribble && now - run->start_ns < DRIBBLE_TOTAL_NS &&
                         now - run->last_read_ns < DRIBBLE_STALL_NS;
    if (dribble && size > 0) {
        int waiting = 0;
        if (ioctl(run->fds.in[1], FIONREAD, &waiting) == 0 && waiting > 0)
            return;
        run->last_read_ns = now;
        size = 1;
    }
    const ssize_t wrote = write(run->fds.in[1], setup->input + run->fed, size);
    if (wrote > 0)
        run->fed += (size_t)wrote;
    else if (wrote < 0 && errno != EAGAIN && errno != EINTR)
        run->fed = setup->input_size;
    if (run->fed == setup->input_size) {
        run->fed_ns = now;
        if (!setup->terminate)
            close_one(&run->fds.in[1]);
    }
}

static bool too_much(const struct run *run)
{
    struct stat out, err;
    return fstat(run->fds.out, &out) != 0 || fstat(run->fds.err, &err) != 0 ||
           out.st_size > PROCESS_OUTPUT_MAX || err.st_size > PROCESS_OUTPUT_MAX;
}

/* Until there is something to do: room in the pipe, or a little time. Programs end within
 * milliseconds, so the pauses begin short. */
static void pause_run(const struct run *run, int64_t now)
{
    if (run->fed_ns == 0 && run->setup->dribble) {
        sched_yield();
        return;
    }
    if (run->fed_ns == 0) {
        poll(&(struct pollfd){.fd = run->fds.in[1], .events = POLLOUT}, 1, 20);
        return;
    }
    const int64_t waited = now - run->fed_ns;
    const long ns = waited < 2000000 ? 50000 : waited < 100000000 ? 500000 : 5000000;
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

/* The group is killed before the program's id is given back to the system. */
static int reap(pid_t child)
{
    int state = 0;
    kill(-child, SIGKILL);
    while (waitpid(child, &state, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(state) ? WEXITSTATUS(state) : PROCESS_SIGNAL + WTERMSIG(state);
}

static void watch(struct run *run, struct process_result *result)
{
    for (;;) {
        siginfo_t ended = {.si_pid = 0};
        waitid(P_PID, (id_t)run->child, &ended, WEXITED | WNOHANG | WNOWAIT);
        const int64_t now = clock_now_ns();
        if (ended.si_pid == run->child)
            break;
        if (!result->timed_out &&
            ((double)(now - run->start_ns) * 1e-9 > run->setup->limit_seconds ||
             too_much(run))) {
            result->timed_out = true;
            kill(-run->child, SIGKILL);
        }
        if (run->fed_ns == 0)
            feed(run, now);
        if (run->setup->terminate && run->signal_ns == 0 && run->fed_ns != 0 &&
            now - run->fed_ns > SETTLE_NS) {
            kill(run->child, SIGTERM);
            run->signal_ns = now;
        }
        pause_run(run, now);
    }
    const int64_t from = run->signal_ns != 0 ? run->signal_ns : run->start_ns;
    result->seconds = (double)(clock_now_ns() - from) * 1e-9;
    result->code = reap(run->child);
}

static enum status check_exec(const struct run *run, struct error *error)
{
    int reason;
    if (read(run->fds.failure[0], &reason, sizeof reason) != (ssize_t)sizeof reason)
        return STATUS_OK;
    errno = reason;
    return error_set_errno(error, STATUS_NO_INPUT, "cannot execute %s",
                           run->setup->command[0]);
}

enum status process_run(const struct process_setup *setup, struct process_result *result,
                        struct error *error)
{
    struct sigaction old[WATCHED];
    struct run run = {.setup = setup};
    enum status status = open_all(setup, &run.fds, error);
    if (status != STATUS_OK)
        return status;
    result->timed_out = false;
    watch_signals(old);
    run.start_ns = run.last_read_ns = clock_now_ns();
    run.child = fork();
    if (run.child == 0)
        run_child(setup, &run.fds);
    if (run.child < 0) {
        status = error_set_errno(error, STATUS_SYSTEM, "cannot start a process");
    } else {
        setpgid(run.child, run.child); /* here, too: whichever of us comes first */
        running_group = run.child;
        close_one(&run.fds.in[0]);
        close_one(&run.fds.failure[1]);
        if (run.fds.target != run.fds.out)
            close_one(&run.fds.target);
        if (setup->input == NULL)
            run.fed_ns = run.start_ns;
        watch(&run, result);
        running_group = 0;
        status = check_exec(&run, error);
    }
    unwatch_signals(old);
    if (status == STATUS_OK)
        status = load(run.fds.out, &result->out, error);
    if (status == STATUS_OK)
        status = load(run.fds.err, &result->err, error);
    close_all(&run.fds);
    return status;
}

void process_result_free(struct process_result *result)
{
    buffer_free(&result->out);
    buffer_free(&result->err);
    *result = (struct process_result){.code = 0};
}
