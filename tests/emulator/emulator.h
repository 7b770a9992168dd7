/* emulator.h - what device.h is made of where there is no CUDA compiler: kernels run on the
 * processor, one fiber for each thread, blocks one after another.
 *
 * It is stricter than a GPU where that finds mistakes:
 *   - Shared memory is full of NaN (all bits 1) before each block, ends at a page that may not
 *     be touched, and what lies before it is checked after the block. Device memory, too.
 *   - A barrier or warp operation that some threads of the block or warp never reach, or reach
 *     in different ways, is reported, with who waits where.
 *   - An asynchronous copy lands when it is waited for and not before, within a kernel and,
 *     from page-locked memory, on a stream.
 *   - Fibers run until they must wait, in an order that the test chooses: where a barrier is
 *     missing, one order reads what another thread has not written yet, or has overwritten.
 *     A test can also leave out any barrier of the source, to show that it would be missed.
 * Not emulated: races that no whole-thread order shows, rates, the precision of approximate
 * instructions, memory ordering between blocks. */
#ifndef TESTS_EMULATOR_H
#define TESTS_EMULATOR_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ---- for tests ---- */

enum emulator_order { EMULATOR_FORWARD, EMULATOR_REVERSE, EMULATOR_RANDOM, EMULATOR_ORDERS };

/* seed: of EMULATOR_RANDOM. */
extern "C" void emulator_set_order(enum emulator_order order, uint64_t seed);

/* What a block may ask for on the device that is opened next; 227 KiB if nothing is said. */
extern "C" void emulator_set_shared_bytes(size_t bytes);

/* Mistakes found since the last call, and the first one's text, valid until the next launch. */
extern "C" size_t emulator_take_failures(const char **first);

/* Every barrier that ran since the program started has a number below the count, and a name
 * "file:line". */
extern "C" size_t emulator_barrier_count(void);
extern "C" const char *emulator_barrier_name(size_t number);
/* How many launches have passed it since the last call: a test of one operation looks at
 * these. */
extern "C" size_t emulator_barrier_take_uses(size_t number);
/* Leaves out one barrier, as if the line were not there; SIZE_MAX: none. */
extern "C" void emulator_skip_barrier(size_t number);

/* ---- the names of device.h ---- */

#define DEVICE static inline
#define BOTH_SIDES static inline
#define KERNEL(threads) static void

struct emulator_place {
    unsigned thread, threads;
    unsigned block_x, blocks_x, block_y, blocks_y;
    void *shared;
};
extern struct emulator_place emulator_place; /* of the fiber that runs now */

#define SHARED_MEMORY(type, name) type *const name = (type *)emulator_place.shared

typedef struct emulator_stream *cudaStream_t;
/* Does what was put on the stream: before anything that happens at once. NULL: nothing. */
void emulator_stream_run(cudaStream_t stream);

typedef void emulator_body(void *context);
void emulator_launch(const char *name, size_t blocks_x, size_t blocks_y, unsigned threads,
                     size_t shared_bytes, emulator_body *body, void *context);

#define LAUNCH(kernel, blocks_x, blocks_y, threads, shared_bytes, stream, ...)                \
    do {                                                                                      \
        auto emulated = [&]() { (kernel)(__VA_ARGS__); };                                     \
        emulator_stream_run((cudaStream_t)(stream));                                          \
        emulator_launch(                                                                      \
            __func__, (blocks_x), (blocks_y), (threads), (shared_bytes),                      \
            [](void *context) { (*(decltype(emulated) *)context)(); }, &emulated);            \
    } while (0)

static inline unsigned thread_index(void) { return emulator_place.thread; }
static inline unsigned thread_count(void) { return emulator_place.threads; }
static inline unsigned block_index(void) { return emulator_place.block_x; }
static inline unsigned block_count(void) { return emulator_place.blocks_x; }
static inline unsigned block_index_y(void) { return emulator_place.block_y; }
static inline unsigned block_count_y(void) { return emulator_place.blocks_y; }

/* A place in the source gets its number when it is first passed. */
size_t emulator_barrier_number(const char *file, int line);
void emulator_block_sync(size_t barrier);
void emulator_warp_sync(size_t barrier);

#define EMULATOR_BARRIER(wait)                                                               \
    do {                                                                                     \
        static const size_t barrier_number = emulator_barrier_number(__FILE__, __LINE__);    \
        wait(barrier_number);                                                                \
    } while (0)
#define block_sync() EMULATOR_BARRIER(emulator_block_sync)
#define warp_sync() EMULATOR_BARRIER(emulator_warp_sync)

float emulator_exchange_float(float x, int mask);
double emulator_exchange_double(double x, int mask);
uint32_t emulator_exchange_word(uint32_t x, int mask);
static inline float warp_exchange(float x, int mask)
{
    return emulator_exchange_float(x, mask);
}
static inline double warp_exchange(double x, int mask)
{
    return emulator_exchange_double(x, mask);
}
static inline uint32_t warp_exchange(uint32_t x, int mask)
{
    return emulator_exchange_word(x, mask);
}

static inline float bits_to_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t float_to_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* To the nearest, ties to even; a NaN stays one. */
static inline uint16_t float_to_bf16_bits(float x)
{
    const uint32_t bits = float_to_bits(x);
    if (isnan(x))
        return 0x7fff;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float normal_cdf(float x) { return (float)(erfc(-(double)x * M_SQRT1_2) / 2); }

static inline float exp2_fast(float x)
{
    const float y = exp2f(x);
    return y < 0x1p-126f ? 0 : y;
}

/* Reports an address that is not a multiple of 16, as the device would. */
void emulator_check_alignment(const void *address);

static inline wide_words load_wide(const void *from)
{
    wide_words v;
    emulator_check_alignment(from);
    memcpy(&v, from, sizeof v);
    return v;
}

static inline void store_wide(void *to, wide_words v)
{
    emulator_check_alignment(to);
    memcpy(to, &v, sizeof v);
}

static inline void store_half_wide(void *to, uint32_t first, uint32_t second)
{
    const uint32_t words[2] = {first, second};
    emulator_check_alignment((char *)to + (uintptr_t)to % 16 / 8 * 8);
    memcpy(to, words, sizeof words);
}

void emulator_load_matrices(uint32_t out[4], const bf16 *row, bool transposed);
static inline void load_matrices(uint32_t out[4], const bf16 *row)
{
    emulator_load_matrices(out, row, false);
}
static inline void load_matrices_transposed(uint32_t out[4], const bf16 *row)
{
    emulator_load_matrices(out, row, true);
}
void multiply_tile(float sum[4], const uint32_t a[4], uint32_t b0, uint32_t b1);
void copy_async(void *shared, const void *global);
void copy_async_wait(void);

/* ---- as much of CUDA's runtime as the backend calls ----
 * Kernels, and copies from and to ordinary memory, happen when they are asked for, after what
 * their stream holds. A stream holds copies from page-locked memory and waits for events, until
 * somebody waits for it: memory that is used again too early, or read too early, shows. */

typedef int cudaError_t;
typedef struct emulator_event *cudaEvent_t;
enum {
    cudaSuccess,
    cudaErrorNotReady = 600,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorLaunchFailure = 719,
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaStreamNonBlocking = 1,
    cudaEventDisableTiming = 2
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };

/* Memory that ends at a forbidden page; bytes up to 2^40 only. Free waits for all streams. */
cudaError_t cudaMalloc(void **memory, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMallocHost(void **memory, size_t bytes);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaGetLastError(void);
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int *value, int attribute, int device);

#endif
