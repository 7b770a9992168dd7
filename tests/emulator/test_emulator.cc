/* The emulator finds the mistakes that it is there to find: one small kernel for each. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/cuda/device.h"
#include "tests/unit/check.h"

enum { threads = 64 };

/* What the last launch did wrong. */
static const char *mistake(void)
{
    const char *first;
    return emulator_take_failures(&first) > 0 ? first : "nothing";
}

/* Each thread writes one value and reads its neighbour's; right only with the barrier. */
KERNEL(threads) exchange_kernel(float *out, bool with_barrier)
{
    SHARED_MEMORY(float, shared);
    shared[thread_index()] = (float)thread_index();
    if (with_barrier)
        block_sync();
    out[thread_index()] = shared[(thread_index() + 1) % threads];
}

static bool exchanged(bool with_barrier)
{
    float out[threads];
    LAUNCH(exchange_kernel, 1, 1, threads, sizeof out, NULL, out, with_barrier);
    for (int i = 0; i < threads; i++)
        if (out[i] != (float)((i + 1) % threads))
            return false;
    return true;
}

static void test_barrier(void)
{
    for (int order = 0; order < EMULATOR_ORDERS; order++) {
        emulator_set_order((enum emulator_order)order, 3);
        CHECK(exchanged(true), "order %d, with its barrier", order);
        CHECK(!exchanged(false), "order %d, without", order);
    }
    emulator_set_order(EMULATOR_FORWARD, 0);
    emulator_skip_barrier(0);
    CHECK(!exchanged(true), "the barrier was not left out");
    emulator_skip_barrier(SIZE_MAX);
    CHECK(strcmp(mistake(), "nothing") == 0, "%s", mistake());
}

KERNEL(threads) lonely_barrier_kernel(void)
{
    if (thread_index() != 5)
        block_sync();
}

KERNEL(threads) divergent_warp_kernel(float *out)
{
    float x = (float)thread_index();
    x += thread_index() % 2 == 0 ? warp_exchange(x, 1) : warp_exchange(x, 2);
    out[thread_index()] = x;
}

KERNEL(threads) lonely_lane_kernel(float *out)
{
    if (lane_index() < 31)
        out[thread_index()] = warp_sum((float)thread_index());
}

KERNEL(threads) misaligned_kernel(float *out)
{
    store_wide(out + 1, {{0, 0, 0, 0}});
}

KERNEL(threads) forgotten_copy_kernel(const float *in)
{
    SHARED_MEMORY(float, shared);
    copy_async(shared + 4 * thread_index(), in);
}

KERNEL(threads) early_read_kernel(float *out, const float *in)
{
    SHARED_MEMORY(float, shared);
    copy_async(shared + 4 * thread_index(), in);
    out[thread_index()] = shared[4 * thread_index()];
    copy_async_wait();
}

KERNEL(threads) underrun_kernel(void)
{
    SHARED_MEMORY(float, shared);
    float *before = shared - 3;
    *before = 1;
}

KERNEL(threads) overrun_kernel(size_t at)
{
    SHARED_MEMORY(float, shared);
    shared[at] = 1;
}

static void test_reports(void)
{
    alignas(16) float out[2 * threads] = {};
    LAUNCH(lonely_barrier_kernel, 1, 1, threads, 0, NULL);
    CHECK(strstr(mistake(), "waits at") != NULL, "a barrier that one thread never reaches");
    LAUNCH(divergent_warp_kernel, 1, 1, threads, 0, NULL, out);
    CHECK(strstr(mistake(), "other lanes") != NULL, "lanes in different exchanges");
    LAUNCH(lonely_lane_kernel, 1, 1, threads, 0, NULL, out);
    CHECK(strstr(mistake(), "waits at") != NULL, "a lane that is missing");
    LAUNCH(misaligned_kernel, 1, 1, threads, 0, NULL, out);
    CHECK(strstr(mistake(), "16 bytes") != NULL, "an access off alignment");
    LAUNCH(forgotten_copy_kernel, 1, 1, threads, threads * 16, NULL, out);
    CHECK(strstr(mistake(), "not waited for") != NULL, "a copy nobody waits for");
    LAUNCH(early_read_kernel, 1, 1, threads, threads * 16, NULL, out + threads, out);
    CHECK(isnan(out[threads]), "read %g before the copy", (double)out[threads]);
    LAUNCH(underrun_kernel, 1, 1, threads, 64, NULL);
    CHECK(strstr(mistake(), "before shared memory") != NULL, "a write before shared memory");
    LAUNCH(overrun_kernel, 1, 1, 48, 64, NULL, 0);
    CHECK(strstr(mistake(), "launch of") != NULL, "a block of half a warp");
}

/* Accesses that end the process, in one of their own. */
template <typename F> static bool ends(F run)
{
    const pid_t child = fork();
    int status = 0;
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(0);
        run();
        _exit(0);
    }
    return child > 0 && waitpid(child, &status, 0) == child && status != 0;
}

static void test_bounds(void)
{
    float *memory = NULL;
    CHECK(!ends([] { LAUNCH(overrun_kernel, 1, 1, threads, 64, NULL, 15); }), "the last word");
    CHECK(ends([] { LAUNCH(overrun_kernel, 1, 1, threads, 64, NULL, 16); }),
          "a word past shared memory");
    CHECK(cudaMalloc((void **)&memory, 20) == cudaSuccess, "20 bytes");
    CHECK(isnan(memory[0]), "fresh memory holds %g", (double)memory[0]);
    CHECK(ends([&] { memory[8] = 1; }), "a write far past device memory");
    memory[5] = 1;
    cudaFree(memory);
    CHECK(strstr(mistake(), "past its 20 bytes") != NULL, "a write just past device memory");
}

KERNEL(threads) read_kernel(float *out, const float *in)
{
    if (thread_index() == 0)
        out[0] = in[0];
}

/* A copy from page-locked memory is made when somebody waits for it: a stream that waits for
 * its event, and not one that does not; and it takes what the memory then holds. */
static void test_streams(void)
{
    cudaStream_t copies = NULL, kernels = NULL;
    cudaEvent_t arrived = NULL;
    float *staging = NULL, *device = NULL, seen = 0;
    CHECK(cudaStreamCreateWithFlags(&copies, 0) == cudaSuccess, "a stream");
    CHECK(cudaStreamCreateWithFlags(&kernels, 0) == cudaSuccess, "another");
    CHECK(cudaEventCreateWithFlags(&arrived, 0) == cudaSuccess, "an event");
    CHECK(cudaMallocHost((void **)&staging, 64) == cudaSuccess, "page-locked memory");
    CHECK(cudaMalloc((void **)&device, 64) == cudaSuccess, "memory");
    staging[0] = 1;
    CHECK(cudaMemcpyAsync(device, staging, 64, cudaMemcpyHostToDevice, copies) == cudaSuccess,
          "a copy");
    CHECK(cudaEventRecord(arrived, copies) == cudaSuccess, "its event");
    LAUNCH(read_kernel, 1, 1, threads, 0, kernels, &seen, device);
    CHECK(isnan(seen), "read %g before the copy", (double)seen);
    staging[0] = 2;
    CHECK(cudaStreamWaitEvent(kernels, arrived, 0) == cudaSuccess, "a wait");
    LAUNCH(read_kernel, 1, 1, threads, 0, kernels, &seen, device);
    CHECK(seen == 2, "memory was used again before its copy was made, but %g arrived",
          (double)seen);
    cudaFree(device);
    cudaFreeHost(staging);
    cudaEventDestroy(arrived);
    cudaStreamDestroy(kernels);
    cudaStreamDestroy(copies);
}

/* An exchange of words in which each lane has its own. */
KERNEL(threads) exchange_words_kernel(uint32_t *out)
{
    out[thread_index()] = warp_exchange((uint32_t)(0xffffff00u + thread_index()), 5);
}

static void test_exchange(void)
{
    uint32_t out[threads];
    LAUNCH(exchange_words_kernel, 1, 1, threads, 0, NULL, out);
    for (unsigned i = 0; i < threads; i++)
        CHECK(out[i] == 0xffffff00u + (i ^ 5), "lane %u gets %x", i, (unsigned)out[i]);
}

int main(void)
{
    test_barrier();
    test_reports();
    test_bounds();
    test_streams();
    test_exchange();
    return check_report("emulator");
}
