#include "kernels/cuda/cuda_memory.h"

#include <string.h>

static const size_t staging_bytes = 8 * 1024 * 1024;

/* ---- opening ---- */

static cudaError_t staging_open(struct staging *s)
{
    cudaError_t result = cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking);
    cudaEvent_t *const events[] = {&s->left[0], &s->left[1], &s->reached, &s->arrived};
    for (size_t i = 0; i < sizeof events / sizeof events[0] && result == cudaSuccess; i++)
        result = cudaEventCreateWithFlags(events[i], cudaEventDisableTiming);
    for (unsigned i = 0; i < staging_pieces && result == cudaSuccess; i++)
        result = cudaMallocHost(&s->piece[i], staging_bytes);
    return result;
}

/* What an open that failed half-way has not made is NULL. */
static void staging_close(struct staging *s)
{
    if (s->stream != NULL)
        cudaStreamSynchronize(s->stream);
    for (unsigned i = 0; i < staging_pieces; i++) {
        if (s->left[i] != NULL)
            cudaEventDestroy(s->left[i]);
        cudaFreeHost(s->piece[i]);
    }
    if (s->reached != NULL)
        cudaEventDestroy(s->reached);
    if (s->arrived != NULL)
        cudaEventDestroy(s->arrived);
    if (s->stream != NULL)
        cudaStreamDestroy(s->stream);
}

cudaError_t cuda_memory_open(struct cuda_memory *m, cudaStream_t stream)
{
    m->stream = stream;
    return staging_open(&m->staging);
}

void cuda_memory_close(struct cuda_memory *m)
{
    staging_close(&m->staging);
    cudaFree(m->scratch);
    memset(m, 0, sizeof *m);
}

/* ---- pieces ---- */

void *cuda_memory_allocate(size_t bytes)
{
    void *memory = NULL;
    if (cudaMalloc(&memory, bytes == 0 ? 1 : bytes) == cudaSuccess)
        return memory;
    (void)cudaGetLastError();
    return NULL;
}

/* cudaFree waits for what still uses the old piece. */
void *cuda_memory_scratch(struct cuda_memory *m, size_t count, size_t element_bytes,
                          struct error *error)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, element_bytes, &bytes))
        bytes = SIZE_MAX;
    if (bytes <= m->scratch_bytes && m->scratch != NULL)
        return m->scratch;
    cudaFree(m->scratch);
    m->scratch_bytes = 0;
    m->scratch = cuda_memory_allocate(bytes);
    if (m->scratch != NULL)
        m->scratch_bytes = bytes;
    else
        error_memory(error, bytes, "scratch of the cuda backend");
    return m->scratch;
}

/* ---- copies ---- */

/* Operations asked for before may still read what is overwritten, and those asked for after
 * must find it: an event each way between the two streams. */
static cudaError_t upload_pieces(struct cuda_memory *m, uint8_t *to, const uint8_t *from,
                                 size_t bytes)
{
    struct staging *s = &m->staging;
    cudaError_t result = cudaEventRecord(s->reached, m->stream);
    if (result == cudaSuccess)
        result = cudaStreamWaitEvent(s->stream, s->reached, 0);
    for (size_t at = 0; at < bytes && result == cudaSuccess; at += staging_bytes) {
        const size_t left = bytes - at, size = left < staging_bytes ? left : staging_bytes;
        const unsigned i = s->next++ % staging_pieces;
        result = cudaEventSynchronize(s->left[i]);
        if (result != cudaSuccess)
            break;
        memcpy(s->piece[i], from + at, size);
        result = cudaMemcpyAsync(to + at, s->piece[i], size, cudaMemcpyHostToDevice, s->stream);
        if (result == cudaSuccess)
            result = cudaEventRecord(s->left[i], s->stream);
    }
    if (result == cudaSuccess)
        result = cudaEventRecord(s->arrived, s->stream);
    if (result == cudaSuccess)
        result = cudaStreamWaitEvent(m->stream, s->arrived, 0);
    return result;
}

cudaError_t cuda_memory_upload(struct cuda_memory *m, void *to_device, const void *from_host,
                               size_t bytes)
{
    return bytes == 0 ? cudaSuccess
                      : upload_pieces(m, (uint8_t *)to_device, (const uint8_t *)from_host,
                                      bytes);
}

cudaError_t cuda_memory_download(const struct cuda_memory *m, void *to_host,
                                 const void *from_device, size_t bytes)
{
    if (bytes == 0)
        return cudaSuccess;
    const cudaError_t result =
        cudaMemcpyAsync(to_host, from_device, bytes, cudaMemcpyDeviceToHost, m->stream);
    return result != cudaSuccess ? result : cudaStreamSynchronize(m->stream);
}

cudaError_t cuda_memory_zero(const struct cuda_memory *m, void *memory, size_t bytes)
{
    return bytes == 0 ? cudaSuccess : cudaMemsetAsync(memory, 0, bytes, m->stream);
}
