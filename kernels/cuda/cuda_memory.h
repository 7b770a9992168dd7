/* cuda_memory.h - memory of the device: pieces of it, copies in and out, and scratch.
 *
 * Everything is in the order of one stream. Uploads go through page-locked memory on a stream
 * of their own: while one piece is on its way to the device, the processor fills the other, and
 * what was asked for before goes on. One thread at a time. */
#ifndef KERNELS_CUDA_MEMORY_H
#define KERNELS_CUDA_MEMORY_H

#include "kernels/cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

#include "base/error.h"

enum { staging_pieces = 2 };

struct staging {
    cudaStream_t stream;
    void *piece[staging_pieces];
    cudaEvent_t left[staging_pieces]; /* the piece's last copy has been made */
    cudaEvent_t reached;              /* what was asked for before an upload is done */
    cudaEvent_t arrived;              /* an upload is */
    unsigned next;                    /* piece */
};

struct cuda_memory {
    cudaStream_t stream; /* the caller's */
    struct staging staging;
    void *scratch; /* of one operation at a time; grows to the largest ever needed */
    size_t scratch_bytes;
};

/* What an open that failed half-way has made, close frees; both need a zeroed struct. Before
 * close the caller waits for the stream. */
cudaError_t cuda_memory_open(struct cuda_memory *m, cudaStream_t stream);
void cuda_memory_close(struct cuda_memory *m);

/* For cudaFree. NULL where memory is refused, which is then no failure of what comes next. */
void *cuda_memory_allocate(size_t bytes);

/* upload: from_host may be changed as soon as it returns. download: waits for the stream. */
cudaError_t cuda_memory_upload(struct cuda_memory *m, void *to_device, const void *from_host,
                               size_t bytes);
cudaError_t cuda_memory_download(const struct cuda_memory *m, void *to_host,
                                 const void *from_device, size_t bytes);
cudaError_t cuda_memory_zero(const struct cuda_memory *m, void *memory, size_t bytes);

/* count * element_bytes, valid until the next call, which may wait for what still uses them;
 * NULL and STATUS_SYSTEM where memory is refused. */
void *cuda_memory_scratch(struct cuda_memory *m, size_t count, size_t element_bytes,
                          struct error *error);

#ifdef __cplusplus
}
#endif

#endif
