#include "kernels/cuda/cuda_timing.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/grid.h"

enum { timed_runs = 5 };

struct cuda_trial {
    cudaStream_t stream;
    struct matmul args;
    size_t out_bytes, flush_bytes;
    void *out, *sums; /* or NULL: args' own */
    void *flush;      /* or NULL: no memory for it */
    size_t digest_blocks, digest_bytes;
    uint64_t *digests, *host_digests; /* [2, threads] */
    cudaEvent_t begin, end;
};

static bool allocate(struct cuda_trial *trial)
{
    trial->host_digests = (uint64_t *)malloc(2 * trial->digest_bytes);
    bool good = trial->host_digests != NULL &&
                cudaMalloc((void **)&trial->digests, 2 * trial->digest_bytes) == cudaSuccess &&
                cudaEventCreate(&trial->begin) == cudaSuccess &&
                cudaEventCreate(&trial->end) == cudaSuccess;
    if (good && trial->args.accumulate) {
        good = cudaMalloc(&trial->out, trial->out_bytes) == cudaSuccess;
        trial->args.out = trial->out;
    }
    if (good && trial->args.a_sums != NULL) {
        good = cudaMalloc(&trial->sums, trial->args.rows * sizeof(float)) == cudaSuccess;
        trial->args.a_sums = (float *)trial->sums;
    }
    if (good && cudaMalloc(&trial->flush, trial->flush_bytes) != cudaSuccess)
        trial->flush = NULL;
    (void)cudaGetLastError(); /* refused memory is no failure of the next operation */
    return good;
}

struct cuda_trial *cuda_trial_open(const struct cuda_queue *q, const struct matmul *args,
                                   enum element result, size_t flush_bytes)
{
    struct cuda_trial *trial = (struct cuda_trial *)calloc(1, sizeof *trial);
    if (trial == NULL)
        return NULL;
    trial->stream = (cudaStream_t)q->stream;
    trial->args = *args;
    trial->out_bytes = args->rows * args->columns * (result == ELEMENT_BF16 ? 2 : 4);
    trial->flush_bytes = flush_bytes;
    trial->digest_blocks = smaller(divide_up(trial->out_bytes / 2, flat_threads),
                                   (size_t)q->multiprocessors);
    trial->digest_bytes = trial->digest_blocks * flat_threads * sizeof *trial->digests;
    if (allocate(trial))
        return trial;
    cuda_trial_close(trial);
    return NULL;
}

void cuda_trial_close(struct cuda_trial *trial)
{
    if (trial == NULL)
        return;
    if (trial->begin != NULL)
        cudaEventDestroy(trial->begin);
    if (trial->end != NULL)
        cudaEventDestroy(trial->end);
    free(trial->host_digests);
    cudaFree(trial->digests);
    cudaFree(trial->out);
    cudaFree(trial->sums);
    cudaFree(trial->flush);
    free(trial);
}


/* digests[threads] = numbers that say what out[n] holds: of each half word and its place. */
KERNEL(flat_threads) digest_kernel(uint64_t *digests, const uint16_t *out, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = flat_first(1); i < n; i += flat_step(1)) {
        uint64_t x = (i + 1) * 0x9e3779b97f4a7c15u ^ out[i];
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
        sum += x ^ x >> 27;
    }
    digests[flat_first(1)] = sum;
}

/* Whether two runs give the same bits. */
static bool repeats(struct cuda_trial *trial, cuda_timed_run *run, void *way)
{
    const size_t threads = trial->digest_blocks * flat_threads;
    struct error error;
    for (size_t i = 0; i < 2; i++) {
        if (trial->out != NULL)
            cudaMemsetAsync(trial->out, 0, trial->out_bytes, trial->stream);
        if (run(way, &trial->args, &error) != STATUS_OK)
            return false;
        LAUNCH(digest_kernel, trial->digest_blocks, 1, flat_threads, 0, trial->stream,
               trial->digests + i * threads, (const uint16_t *)trial->args.out,
               trial->out_bytes / 2);
    }
    return cudaMemcpyAsync(trial->host_digests, trial->digests, 2 * trial->digest_bytes,
                           cudaMemcpyDeviceToHost, trial->stream) == cudaSuccess &&
           cudaStreamSynchronize(trial->stream) == cudaSuccess &&
           memcmp(trial->host_digests, trial->host_digests + threads, trial->digest_bytes) == 0;
}

static int compare_times(const void *a, const void *b)
{
    const float left = *(const float *)a, right = *(const float *)b;
    return (left > right) - (left < right);
}

float cuda_trial_time(struct cuda_trial *trial, cuda_timed_run *run, void *way)
{
    float times[timed_runs];
    struct error error;
    if (!repeats(trial, run, way)) {
        (void)cudaGetLastError();
        return -1;
    }
    for (int i = 0; i < timed_runs; i++) {
        if (trial->flush != NULL)
            cudaMemsetAsync(trial->flush, i, trial->flush_bytes, trial->stream);
        cudaEventRecord(trial->begin, trial->stream);
        if (run(way, &trial->args, &error) != STATUS_OK)
            return -1;
        cudaEventRecord(trial->end, trial->stream);
        if (cudaEventSynchronize(trial->end) != cudaSuccess ||
            cudaEventElapsedTime(&times[i], trial->begin, trial->end) != cudaSuccess)
            return -1;
    }
    qsort(times, timed_runs, sizeof times[0], compare_times);
    return times[timed_runs / 2];
}
