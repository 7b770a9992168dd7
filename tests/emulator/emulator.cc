#include "kernels/cuda/device.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- fibers ----
 * A fiber is a stack and, while it does not run, the stack pointer at which it stopped. */

enum { most_threads = 1024, stack_bytes = 64 * 1024, page_bytes = 4096 };

#if defined(__x86_64__)

/* Pushes what a called function must preserve, stores the stack pointer in *from and goes on
 * where `to` stopped. */
extern "C" void emulator_switch(void **from, void *to);
__asm__(".text\n"
        "emulator_switch:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n");

/* The six registers, then the address that `ret` takes: a function finds its stack pointer 8
 * off a multiple of 16. */
static void *fiber_prepare(void *stack, void (*entry)(void))
{
    void **top = (void **)((char *)stack + stack_bytes) - 2;
    top[0] = (void *)entry;
    return top - 6;
}

static void fiber_switch(void **from, void *to)
{
    emulator_switch(from, to);
}

#else
#include <ucontext.h>

/* Slower by a system call each time. The context lies at the stack's lower end. */
static ucontext_t scheduler_context;

static void *fiber_prepare(void *stack, void (*entry)(void))
{
    ucontext_t *context = (ucontext_t *)stack;
    getcontext(context);
    context->uc_stack.ss_sp = (char *)stack + sizeof *context;
    context->uc_stack.ss_size = stack_bytes - sizeof *context;
    makecontext(context, entry, 0);
    return context;
}

static void fiber_switch(void **from, void *to)
{
    ucontext_t *self = *from == NULL ? &scheduler_context : (ucontext_t *)*from;
    *from = self;
    swapcontext(self, (ucontext_t *)to);
}
#endif

enum wait { WAIT_NOTHING, WAIT_BLOCK, WAIT_WARP, WAIT_DONE };

enum { most_copies = 256 };

struct fiber {
    void *stopped; /* stack pointer */
    enum wait wait;
    uint64_t meeting;    /* the one it waits for */
    const char *place;   /* where, for reports */
    int copies;          /* asynchronous copies not waited for */
    struct {
        void *to;
        const void *from;
    } copy[most_copies];
};

/* What the lanes of a warp bring to an operation and take from it. */
struct warp {
    uint64_t meetings; /* that have taken place */
    int arrived;
    const char *operation;
    int detail;
    uint32_t in[warp_size][16], out[warp_size][4];
};

static struct {
    char *stacks;
    struct fiber fibers[most_threads];
    struct warp warps[most_threads / warp_size];
    uint64_t block_meetings;
    unsigned block_arrived, running;
    void *scheduler; /* its stack pointer */
    unsigned order[most_threads];
    enum emulator_order how;
    uint64_t random;
    const char *kernel;
    emulator_body *body;
    void *context;
    bool abandoned; /* the block made a mistake */
    size_t failures;
    char failure[512];
    char *shared, *shared_end;
} e;

struct emulator_place emulator_place;

enum { shared_most = 256 * 1024 };

void emulator_set_order(enum emulator_order order, uint64_t seed)
{
    e.how = order;
    e.random = seed;
}

size_t emulator_take_failures(const char **first)
{
    const size_t failures = e.failures;
    *first = e.failure;
    e.failures = 0;
    return failures;
}

__attribute__((format(printf, 1, 2))) static void fail(const char *format, ...)
{
    if (e.failures++ == 0) {
        const int used =
            snprintf(e.failure, sizeof e.failure, "%s, block %u,%u, thread %u: ", e.kernel,
                     emulator_place.block_x, emulator_place.block_y, emulator_place.thread);
        va_list args;
        va_start(args, format);
        vsnprintf(e.failure + used, sizeof e.failure - (size_t)used, format, args);
        va_end(args);
    }
    e.abandoned = true;
}

/* ---- memory that ends where nothing may be touched ---- */

static void *map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static size_t whole_pages(size_t bytes)
{
    return (bytes + page_bytes - 1) / page_bytes * page_bytes;
}

static void report_fault(int signal_number, siginfo_t *info, void *context)
{
    (void)context;
    char text[256];
    const int size = snprintf(
        text, sizeof text, "%s, block %u,%u, thread %u: signal %d at %p: out of bounds\n",
        e.kernel == NULL ? "no kernel" : e.kernel, emulator_place.block_x,
        emulator_place.block_y, emulator_place.thread, signal_number, info->si_addr);
    if (write(2, text, (size_t)size) != size)
        _exit(2);
    _exit(1);
}

static void emulator_open(void)
{
    static char signal_stack[64 * 1024];
    const stack_t stack = {signal_stack, 0, sizeof signal_stack};
    struct sigaction action = {};
    const size_t each = stack_bytes + page_bytes; /* a page to run into below every stack */
    e.stacks = (char *)map(most_threads * each);
    e.shared = (char *)map(shared_most + page_bytes);
    if (e.stacks == NULL || e.shared == NULL) {
        fprintf(stderr, "emulator: cannot map memory\n");
        exit(71);
    }
    for (size_t i = 0; i < most_threads; i++)
        mprotect(e.stacks + i * each, page_bytes, PROT_NONE);
    e.shared_end = e.shared + shared_most;
    mprotect(e.shared_end, page_bytes, PROT_NONE);
    sigaltstack(&stack, NULL);
    action.sa_sigaction = report_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}

/* ---- the scheduler ---- */

static void fiber_stop(enum wait wait, uint64_t meeting, const char *place)
{
    struct fiber *self = &e.fibers[emulator_place.thread];
    self->wait = wait;
    self->meeting = meeting;
    self->place = place;
    fiber_switch(&self->stopped, e.scheduler);
}

static void fiber_main(void)
{
    e.body(e.context);
    e.running--;
    fiber_stop(WAIT_DONE, 0, "its end");
    abort();
}

static bool may_run(const struct fiber *fiber, unsigned thread)
{
    switch (fiber->wait) {
    case WAIT_NOTHING:
        return true;
    case WAIT_BLOCK:
        return e.block_meetings > fiber->meeting;
    case WAIT_WARP:
        return e.warps[thread / warp_size].meetings > fiber->meeting;
    case WAIT_DONE:
        return false;
    }
    return false;
}

static uint64_t random_below(uint64_t bound)
{
    e.random = e.random * 6364136223846793005u + 1442695040888963407u;
    return (e.random >> 33) % bound;
}

static void choose_order(unsigned threads)
{
    for (unsigned i = 0; i < threads; i++)
        e.order[i] = e.how == EMULATOR_REVERSE ? threads - 1 - i : i;
    if (e.how != EMULATOR_RANDOM)
        return;
    for (unsigned i = threads; i > 1; i--) {
        const unsigned j = (unsigned)random_below(i), held = e.order[i - 1];
        e.order[i - 1] = e.order[j];
        e.order[j] = held;
    }
}

/* Nobody can go on: names one thread that waits and one that is elsewhere. */
static void report_stuck(unsigned threads)
{
    unsigned first = 0, other;
    while (e.fibers[first].wait == WAIT_DONE)
        first++;
    for (other = 0; other < threads; other++)
        if (strcmp(e.fibers[other].place, e.fibers[first].place) != 0)
            break;
    if (other == threads)
        fail("thread %u waits at %s for threads that never come", first, e.fibers[first].place);
    else
        fail("thread %u waits at %s, thread %u is at %s", first, e.fibers[first].place, other,
             e.fibers[other].place);
}

/* Runs those of 32 fibers of the order that may run, once each. Forward and in reverse they are
 * a warp, which so goes on until it waits for the block: as far ahead of the others as a warp
 * can be. At random they are of many warps, and others each time. */
static bool run_warp(unsigned first)
{
    bool any = false;
    for (unsigned i = first; i < first + warp_size && !e.abandoned; i++) {
        const unsigned t = e.order[i];
        if (!may_run(&e.fibers[t], t))
            continue;
        any = true;
        emulator_place.thread = t;
        fiber_switch(&e.scheduler, e.fibers[t].stopped);
    }
    return any;
}

static void run_block(unsigned threads)
{
    for (unsigned t = 0; t < threads; t++) {
        struct fiber *fiber = &e.fibers[t];
        char *stack = e.stacks + (size_t)t * (stack_bytes + page_bytes) + page_bytes;
        fiber->stopped = fiber_prepare(stack, fiber_main);
        fiber->wait = WAIT_NOTHING;
        fiber->place = "its start";
        fiber->copies = 0;
    }
    for (unsigned w = 0; w < threads / warp_size; w++)
        e.warps[w].arrived = 0;
    e.block_arrived = 0;
    e.running = threads;
    choose_order(threads);
    while (e.running > 0 && !e.abandoned) {
        bool any = false;
        for (unsigned first = 0; first < threads; first += warp_size)
            while (run_warp(first))
                any = true;
        if (!any && !e.abandoned)
            report_stuck(threads);
        choose_order(threads);
    }
    for (unsigned t = 0; t < threads && !e.abandoned; t++)
        if (e.fibers[t].copies > 0)
            fail("thread %u ends with %d copies not waited for", t, e.fibers[t].copies);
}

void emulator_launch(const char *name, size_t blocks_x, size_t blocks_y, unsigned threads,
                     size_t shared_bytes, emulator_body *body, void *context)
{
    const size_t room = (shared_bytes + 15) / 16 * 16, front = 256;
    if (e.stacks == NULL)
        emulator_open();
    e.kernel = name;
    e.body = body;
    e.context = context;
    e.abandoned = false;
    emulator_place = (struct emulator_place){};
    if (threads == 0 || threads > most_threads || threads % warp_size != 0 || blocks_x == 0 ||
        blocks_y == 0 || blocks_x > 0x7fffffff || blocks_y > 65535 ||
        room + front > shared_most) {
        fail("launch of %zu x %zu blocks of %u threads with %zu bytes", blocks_x, blocks_y,
             threads, shared_bytes);
        return;
    }
    emulator_place.threads = threads;
    emulator_place.blocks_x = (unsigned)blocks_x;
    emulator_place.blocks_y = (unsigned)blocks_y;
    emulator_place.shared = e.shared_end - room;
    for (size_t block = 0; block < blocks_x * blocks_y && !e.abandoned; block++) {
        memset(e.shared_end - room - front, 0xff, room + front);
        emulator_place.block_x = (unsigned)(block % blocks_x);
        emulator_place.block_y = (unsigned)(block / blocks_x);
        run_block(threads);
        for (size_t i = 0; i < front && !e.abandoned; i++)
            if (e.shared_end[-(ptrdiff_t)room - 1 - (ptrdiff_t)i] != (char)0xff)
                fail("wrote %zu bytes before shared memory", i + 1);
    }
    e.kernel = NULL;
}

/* ---- barriers ---- */

enum { most_barriers = 256 };

static struct {
    char name[64];
    size_t uses;
} barriers[most_barriers];
static size_t barrier_count, barrier_skipped = SIZE_MAX;

size_t emulator_barrier_count(void) { return barrier_count; }
const char *emulator_barrier_name(size_t number) { return barriers[number].name; }
void emulator_skip_barrier(size_t number) { barrier_skipped = number; }

size_t emulator_barrier_take_uses(size_t number)
{
    const size_t uses = barriers[number].uses;
    barriers[number].uses = 0;
    return uses;
}

size_t emulator_barrier_number(const char *file, int line)
{
    char name[sizeof barriers[0].name];
    const char *slash = strrchr(file, '/');
    snprintf(name, sizeof name, "%s:%d", slash == NULL ? file : slash + 1, line);
    for (size_t i = 0; i < barrier_count; i++)
        if (strcmp(barriers[i].name, name) == 0)
            return i;
    if (barrier_count == most_barriers)
        abort();
    strcpy(barriers[barrier_count].name, name);
    return barrier_count++;
}

void emulator_block_sync(size_t barrier)
{
    barriers[barrier].uses++;
    if (barrier == barrier_skipped)
        return;
    if (++e.block_arrived == emulator_place.threads) {
        e.block_arrived = 0;
        e.block_meetings++;
        fiber_stop(WAIT_NOTHING, 0, barriers[barrier].name); /* others may go first */
        return;
    }
    fiber_stop(WAIT_BLOCK, e.block_meetings, barriers[barrier].name);
}

/* ---- warp operations ---- */

/* Waits for the warp's other lanes; the last to come calls `combine`, which makes warp.out of
 * warp.in. */
static void warp_meet(const char *operation, int detail, void (*combine)(struct warp *warp))
{
    struct warp *warp = &e.warps[emulator_place.thread / warp_size];
    if (warp->arrived == 0) {
        warp->operation = operation;
        warp->detail = detail;
    } else if (strcmp(warp->operation, operation) != 0 || warp->detail != detail) {
        fail("%s (%d) while other lanes of the warp are at %s (%d)", operation, detail,
             warp->operation, warp->detail);
        fiber_stop(WAIT_WARP, warp->meetings, operation);
    }
    if (++warp->arrived < warp_size) {
        fiber_stop(WAIT_WARP, warp->meetings, operation);
        return;
    }
    if (combine != NULL)
        combine(warp);
    warp->arrived = 0;
    warp->meetings++;
}

void emulator_warp_sync(size_t barrier)
{
    barriers[barrier].uses++;
    if (barrier == barrier_skipped)
        return;
    warp_meet(barriers[barrier].name, 0, NULL);
    fiber_stop(WAIT_NOTHING, 0, barriers[barrier].name);
}

static void combine_exchange(struct warp *warp)
{
    for (int lane = 0; lane < warp_size; lane++)
        memcpy(warp->out[lane], warp->in[lane ^ warp->detail], sizeof warp->out[lane]);
}

template <typename T> static T exchange(T x, int mask)
{
    const unsigned thread = emulator_place.thread;
    struct warp *warp = &e.warps[thread / warp_size];
    T y;
    memcpy(warp->in[thread % warp_size], &x, sizeof x);
    warp_meet("warp_exchange", mask, combine_exchange);
    memcpy(&y, warp->out[thread % warp_size], sizeof y);
    return y;
}

float emulator_exchange_float(float x, int mask) { return exchange(x, mask); }
double emulator_exchange_double(double x, int mask) { return exchange(x, mask); }
uint32_t emulator_exchange_word(uint32_t x, int mask) { return exchange(x, mask); }

void emulator_check_alignment(const void *address)
{
    if ((uintptr_t)address % 16 != 0) {
        fail("access of 16 bytes at %p", address);
        fiber_stop(WAIT_WARP, UINT64_MAX, "misaligned access");
    }
}

static const bf16 *matrix_row(const struct warp *warp, int matrix, int row)
{
    const bf16 *address;
    memcpy(&address, warp->in[8 * matrix + row], sizeof address);
    return address;
}

static void combine_matrices(struct warp *warp)
{
    for (int lane = 0; lane < warp_size; lane++) {
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++) {
            bf16 pair[2];
            for (int j = 0; j < 2; j++)
                pair[j] = warp->detail ? matrix_row(warp, i, 2 * t + j)[g]
                                       : matrix_row(warp, i, g)[2 * t + j];
            memcpy(&warp->out[lane][i], pair, sizeof pair);
        }
    }
}

void emulator_load_matrices(uint32_t out[4], const bf16 *row, bool transposed)
{
    const unsigned thread = emulator_place.thread;
    struct warp *warp = &e.warps[thread / warp_size];
    emulator_check_alignment(row);
    if ((const char *)row < (char *)emulator_place.shared ||
        (const char *)row + 16 > e.shared_end) {
        fail("load_matrices of %p, outside shared memory", (const void *)row);
        fiber_stop(WAIT_WARP, UINT64_MAX, "load_matrices");
    }
    memcpy(warp->in[thread % warp_size], &row, sizeof row);
    warp_meet("load_matrices", transposed, combine_matrices);
    memcpy(out, warp->out[thread % warp_size], sizeof warp->out[0]);
}

static float half_of(uint32_t pair, int which)
{
    return bits_to_float(which == 0 ? pair << 16 : pair & 0xffff0000u);
}

/* in: sum[4], a[4], b0, b1. The matrices by the layouts of device.h. */
static void combine_multiply(struct warp *warp)
{
    float a[16][16], b[16][8];
    for (int lane = 0; lane < warp_size; lane++) {
        const int g = lane / 4, t = lane % 4;
        const uint32_t *in = warp->in[lane];
        for (int j = 0; j < 2; j++) {
            for (int i = 0; i < 4; i++)
                a[g + 8 * (i % 2)][2 * t + j + 8 * (i / 2)] = half_of(in[4 + i], j);
            for (int i = 0; i < 2; i++)
                b[2 * t + j + 8 * i][g] = half_of(in[8 + i], j);
        }
    }
    for (int lane = 0; lane < warp_size; lane++) {
        for (int i = 0; i < 4; i++) {
            const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
            float sum = bits_to_float(warp->in[lane][i]);
            for (int k = 0; k < 16; k++)
                sum += a[row][k] * b[k][column];
            warp->out[lane][i] = float_to_bits(sum);
        }
    }
}

void multiply_tile(float sum[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    const unsigned thread = emulator_place.thread;
    struct warp *warp = &e.warps[thread / warp_size];
    uint32_t *in = warp->in[thread % warp_size];
    memcpy(in, sum, 4 * sizeof *in);
    memcpy(in + 4, a, 4 * sizeof *in);
    in[8] = b0;
    in[9] = b1;
    warp_meet("multiply_tile", 0, combine_multiply);
    memcpy(sum, warp->out[thread % warp_size], 4 * sizeof *sum);
}

void copy_async(void *shared, const void *global)
{
    struct fiber *self = &e.fibers[emulator_place.thread];
    emulator_check_alignment(shared);
    emulator_check_alignment(global);
    if (self->copies == most_copies)
        copy_async_wait(); /* lands early: only the order of more than 256 goes unchecked */
    self->copy[self->copies].to = shared;
    self->copy[self->copies++].from = global;
}

void copy_async_wait(void)
{
    struct fiber *self = &e.fibers[emulator_place.thread];
    for (int i = 0; i < self->copies; i++)
        memcpy(self->copy[i].to, self->copy[i].from, 16);
    self->copies = 0;
}

/* ---- streams ----
 * A stream is a list of what has not been done; an event, a place in one. */

enum { most_streams = 8, most_waiting = 64, most_pinned = 16 };

struct task {
    void *to; /* a copy; NULL: a wait for the other stream's tasks before `until` */
    const void *from;
    size_t bytes;
    cudaStream_t other;
    uint64_t until;
};

struct emulator_stream {
    bool open;
    uint64_t done, asked; /* tasks, since it was created */
    struct task task[most_waiting];
};

struct emulator_event {
    cudaStream_t stream; /* NULL: not recorded yet */
    uint64_t until;
};

static struct emulator_stream streams[most_streams];
static struct {
    const char *first;
    size_t bytes;
} pinned[most_pinned];

static void task_run(const struct task &task);

static void stream_run_until(cudaStream_t stream, uint64_t until)
{
    while (stream != NULL && stream->done < until && stream->done < stream->asked) {
        const struct task task = stream->task[stream->done++ % most_waiting];
        task_run(task);
    }
}

void emulator_stream_run(cudaStream_t stream)
{
    stream_run_until(stream, UINT64_MAX);
}

static void task_run(const struct task &task)
{
    if (task.to != NULL)
        memcpy(task.to, task.from, task.bytes);
    else
        stream_run_until(task.other, task.until);
}

/* Where there is no room the oldest task is done, as a device may at any time. */
static void stream_add(cudaStream_t stream, const struct task &task)
{
    if (stream == NULL) {
        task_run(task);
        return;
    }
    if (stream->asked - stream->done == most_waiting)
        stream_run_until(stream, stream->done + 1);
    stream->task[stream->asked++ % most_waiting] = task;
}

static void run_all_streams(void)
{
    for (int i = 0; i < most_streams; i++)
        emulator_stream_run(&streams[i]);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    (void)flags;
    for (int i = 0; i < most_streams; i++) {
        if (streams[i].open)
            continue;
        streams[i].open = true;
        *stream = &streams[i];
        return cudaSuccess;
    }
    return cudaErrorMemoryAllocation;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    emulator_stream_run(stream);
    stream->open = false;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    emulator_stream_run(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    emulator_stream_run(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    (void)flags;
    if (event->stream != NULL)
        stream_add(stream, {NULL, NULL, 0, event->stream, event->until});
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    *event = (cudaEvent_t)calloc(1, sizeof **event);
    return *event == NULL ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    free(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    event->stream = stream;
    event->until = stream == NULL ? 0 : stream->asked;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    stream_run_until(event->stream, event->until);
    return cudaSuccess;
}

static bool is_pinned(const void *memory)
{
    for (int i = 0; i < most_pinned; i++)
        if (pinned[i].first != NULL && (const char *)memory >= pinned[i].first &&
            (const char *)memory < pinned[i].first + pinned[i].bytes)
            return true;
    return false;
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    for (int i = 0; i < most_pinned; i++) {
        if (pinned[i].first != NULL)
            continue;
        pinned[i].first = (char *)malloc(bytes);
        pinned[i].bytes = bytes;
        *memory = (void *)pinned[i].first;
        return *memory == NULL ? cudaErrorMemoryAllocation : cudaSuccess;
    }
    return cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void *memory)
{
    run_all_streams();
    for (int i = 0; i < most_pinned; i++)
        if (pinned[i].first == memory)
            pinned[i].first = NULL;
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    if (kind == cudaMemcpyHostToDevice && is_pinned(from)) {
        stream_add(stream, {to, from, bytes, NULL, 0});
        return cudaSuccess;
    }
    emulator_stream_run(stream);
    if (bytes > 0)
        memcpy(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream)
{
    emulator_stream_run(stream);
    if (bytes > 0)
        memset(memory, value, bytes);
    return cudaSuccess;
}

/* ---- device memory ---- */

struct allocation {
    size_t mapped; /* bytes from the page with this struct to the forbidden one */
    size_t bytes;
    char *end;
};

/* A page for the struct, then pages at whose end the memory lies. */
cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    if (bytes > (size_t)1 << 40)
        return cudaErrorMemoryAllocation;
    const size_t room = bytes == 0 ? 16 : (bytes + 15) / 16 * 16;
    const size_t mapped = page_bytes + whole_pages(room);
    char *block = (char *)map(mapped + page_bytes);
    if (block == NULL)
        return cudaErrorMemoryAllocation;
    if (e.stacks == NULL)
        emulator_open();
    mprotect(block + mapped, page_bytes, PROT_NONE);
    if (bytes < (size_t)1 << 30)
        memset(block + mapped - room, 0xff, room);
    struct allocation *allocation = (struct allocation *)block;
    *allocation = (struct allocation){mapped, bytes, block + mapped};
    mprotect(block, page_bytes, PROT_NONE);
    *memory = block + mapped - room;
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    if (memory == NULL)
        return cudaSuccess;
    run_all_streams();
    char *block = (char *)((uintptr_t)memory & ~(uintptr_t)(page_bytes - 1)) - page_bytes;
    mprotect(block, page_bytes, PROT_READ | PROT_WRITE);
    const struct allocation allocation = *(struct allocation *)block;
    for (const char *at = (char *)memory + allocation.bytes;
         at < allocation.end && allocation.bytes < (size_t)1 << 30; at++)
        if (*at != (char)0xff) {
            e.kernel = "cudaFree";
            fail("written past its %zu bytes", allocation.bytes);
        }
    munmap(block, allocation.mapped + page_bytes);
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void) { return cudaSuccess; }

const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaErrorMemoryAllocation ? "out of memory" : "no error";
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    (void)device;
    return cudaSuccess;
}

static size_t device_shared_bytes = 227 * 1024;

void emulator_set_shared_bytes(size_t bytes) { device_shared_bytes = bytes; }

/* Two multiprocessors: enough for grids to have several blocks, few enough to be quick. */
cudaError_t cudaDeviceGetAttribute(int *value, int attribute, int device)
{
    (void)device;
    *value = attribute == cudaDevAttrMultiProcessorCount          ? 2
             : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? (int)device_shared_bytes
                                                                    : 9;
    return cudaSuccess;
}
