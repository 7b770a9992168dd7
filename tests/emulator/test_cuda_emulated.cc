/* The CUDA kernels, thread by thread on the processor, against the reference: in several orders
 * of threads, and with barriers left out, each of which must be missed. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include "kernels/kernels.h"
#include "kernels/ref/ref.h"
}
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.h"
#include "tests/emulator/backend_checks.h"
#include "tests/unit/check.h"

static struct kernels *ref, *cuda; /* of one precision at a time */
static const char *device_name;

/* All struct members that are operations: none may be forgotten. */
static void test_complete(void)
{
    const size_t first = offsetof(struct kernels, state) / sizeof(void *);
    void *members[sizeof(struct kernels) / sizeof(void *)];
    memcpy(members, cuda, sizeof members);
    for (size_t i = first; i < sizeof members / sizeof members[0]; i++)
        CHECK(members[i] != NULL, "member %zu of struct kernels is not set", i);
}

static void test_group(enum backend_check group, enum emulator_order order,
                       enum backend_sizes sizes)
{
    static const char *const names[] = {"forward", "reverse", "random"};
    char first[256];
    const char *mistake;
    size_t passed = 0;
    emulator_set_order(order, 5);
    const size_t failed =
        backend_check_run(group, ref, cuda, sizes, 11 + (uint64_t)group, &passed, first);
    check_passed += (int)passed;
    CHECK(failed == 0, "%s, %s, threads %s: %zu failed, the first: %s", device_name,
          backend_check_names[group], names[order], failed, first);
    const size_t mistakes = emulator_take_failures(&mistake);
    CHECK(mistakes == 0, "%s, %s, threads %s: %zu mistakes, the first: %s", device_name,
          backend_check_names[group], names[order], mistakes, mistake);
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

static bool found[256]; /* barriers, by number, that were missed in one precision or other */

/* Leaves out each barrier that a group passes, alone. */
static void test_barriers(enum backend_check group)
{
    const size_t count = emulator_barrier_count();
    size_t passed = 0;
    bool here[256];
    for (size_t b = 0; b < count; b++)
        emulator_barrier_take_uses(b);
    emulator_set_order(EMULATOR_FORWARD, 0);
    backend_check_run(group, ref, cuda, SIZES_TINY, 3, &passed, NULL);
    for (size_t b = 0; b < count; b++)
        here[b] = emulator_barrier_take_uses(b) > 0;
    for (size_t b = 0; b < count; b++)
        if (here[b] && !found[b])
            found[b] = missed(b, group);
}

static void test_groups(int first, int last)
{
    for (int group = first; group <= last; group++) {
        test_group((enum backend_check)group, EMULATOR_FORWARD, SIZES_MEDIUM);
        test_group((enum backend_check)group, EMULATOR_REVERSE, SIZES_SMALL);
        test_group((enum backend_check)group, EMULATOR_RANDOM, SIZES_SMALL);
        test_barriers((enum backend_check)group);
    }
}

static bool open_both(const char *name, enum precision precision, size_t shared_bytes)
{
    struct error error;
    device_name = name;
    emulator_set_shared_bytes(shared_bytes);
    CHECK(clipipe_cuda_open(&cuda, precision, sizeof *cuda - 8, &error) == STATUS_UNAVAILABLE,
          "a struct of another size was accepted");
    if (ref_open(&ref, precision, 0, &error) == STATUS_OK &&
        clipipe_cuda_open(&cuda, precision, sizeof *cuda, &error) == STATUS_OK)
        return true;
    CHECK(false, "%s", error.text);
    return false;
}

static void close_both(void)
{
    cuda->close(cuda);
    ref->close(ref);
}

int main(void)
{
    if (open_both("fp32", PRECISION_FP32, 227 * 1024)) {
        test_complete();
        test_groups(0, BACKEND_CHECKS - 1);
        close_both();
    }
    if (open_both("amp_bf16", PRECISION_AMP_BF16, 227 * 1024)) {
        test_complete();
        test_groups(0, BACKEND_CHECKS - 1);
        close_both();
    }
    if (open_both("amp_bf16 in 48 KiB", PRECISION_AMP_BF16, 48 * 1024)) {
        test_groups(CHECK_LONG_HEADS, CHECK_LONG_HEADS);
        close_both();
    }
    const size_t count = emulator_barrier_count();
    for (size_t b = 0; b < count; b++) {
        CHECK(found[b], "nothing fails without the barrier at %s", emulator_barrier_name(b));
    }
    CHECK(count > 20, "%zu barriers ran", count);
    return check_report("cuda_emulated");
}
