/* The CUDA kernels, thread by thread on the processor, against the reference: in several orders
 * of threads, and with barriers left out, each of which must be missed. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include "kernels/kernels.h"
}
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.h"
#include "tests/emulator/backend_checks.h"
#include "tests/unit/check.h"

static struct kernels *ref, *cuda;

/* All struct members that are operations: none may be forgotten. */
static void test_complete(void)
{
    void *members[sizeof(struct kernels) / sizeof(void *)];
    memcpy(members, cuda, sizeof members);
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        CHECK(members[i] != NULL, "member %zu of struct kernels is not set", i);
}

static void test_order(enum emulator_order order, enum backend_sizes sizes)
{
    static const char *const names[] = {"forward", "reverse", "random"};
    emulator_set_order(order, 5);
    for (int i = 0; i < BACKEND_CHECKS; i++) {
        char first[256];
        const char *mistake;
        size_t passed = 0;
        const size_t failed = backend_check_run((enum backend_check)i, ref, cuda, sizes,
                                                11 + (uint64_t)i, &passed, first);
        check_passed += (int)passed;
        CHECK(failed == 0, "%s, threads %s: %zu failed, the first: %s", backend_check_names[i],
              names[order], failed, first);
        const size_t mistakes = emulator_take_failures(&mistake);
        CHECK(mistakes == 0, "%s, threads %s: %zu mistakes, the first: %s",
              backend_check_names[i], names[order], mistakes, mistake);
    }
}

/* Is anything wrong in a group without this barrier, in one order or another? In a process of
 * its own: what is wrong may be an access out of bounds, which ends it. */
static bool missed(size_t barrier, enum backend_check group)
{
    const pid_t child = fork();
    int status = 0;
    if (child == 0) {
        bool found = false;
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(0);
        emulator_skip_barrier(barrier);
        for (int order = 0; order < EMULATOR_ORDERS && !found; order++) {
            const char *mistake;
            size_t passed = 0;
            emulator_set_order((enum emulator_order)order, 7);
            found = backend_check_run(group, ref, cuda, SIZES_TINY, 3, &passed, NULL) > 0;
            found |= emulator_take_failures(&mistake) > 0;
        }
        _exit(found);
    }
    return child > 0 && waitpid(child, &status, 0) == child && status != 0;
}

/* Every barrier of every kernel, left out alone, makes a wrong result somewhere. */
static void test_barriers(void)
{
    const size_t count = emulator_barrier_count();
    bool found[256] = {};
    for (int group = 0; group < BACKEND_CHECKS; group++) {
        size_t passed = 0;
        bool here[256];
        for (size_t b = 0; b < count; b++)
            emulator_barrier_take_uses(b);
        emulator_set_order(EMULATOR_FORWARD, 0);
        backend_check_run((enum backend_check)group, ref, cuda, SIZES_TINY, 3, &passed, NULL);
        for (size_t b = 0; b < count; b++)
            here[b] = emulator_barrier_take_uses(b) > 0;
        for (size_t b = 0; b < count; b++)
            if (here[b] && !found[b])
                found[b] = missed(b, (enum backend_check)group);
    }
    for (size_t b = 0; b < count; b++) {
        CHECK(found[b], "nothing fails without the barrier at %s", emulator_barrier_name(b));
    }
    CHECK(count > 10, "%zu barriers ran", count);
}

int main(void)
{
    struct error error;
    CHECK(kernels_open(&ref, "ref", 0, &error) == STATUS_OK, "%s", error.text);
    CHECK(clipipe_cuda_open(&cuda, sizeof *cuda - 8, &error) == STATUS_UNAVAILABLE,
          "a struct of another size was accepted");
    if (clipipe_cuda_open(&cuda, sizeof *cuda, &error) != STATUS_OK) {
        CHECK(false, "%s", error.text);
        return check_report("cuda_emulated");
    }
    test_complete();
    test_order(EMULATOR_FORWARD, SIZES_LARGE);
    test_order(EMULATOR_REVERSE, SIZES_SMALL);
    test_order(EMULATOR_RANDOM, SIZES_SMALL);
    test_barriers();
    cuda->close(cuda);
    kernels_close(ref);
    return check_report("cuda_emulated");
}
