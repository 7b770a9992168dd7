/* cuda_graph.h - a matrix product with bias and activation as one graph of cuDNN, through its
 * backend API: the erf and sigmoid GELUs that cuBLASLt has no epilogue for. bf16 operands and
 * results, fp32 in between.
 *
 * cuDNN is looked for at run time (libcudnn.so.9); where it is absent, or was at build time,
 * opening gives STATUS_UNAVAILABLE and cuBLASLt does everything. One thread at a time. */
#ifndef KERNELS_CUDA_GRAPH_H
#define KERNELS_CUDA_GRAPH_H

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/kernels.h"

struct cuda_graphs; /* the library and its handle */
struct cuda_graph;  /* one product */

/* device_json NULL: the current device. Otherwise a description of a device, as cuDNN writes
 * it itself, for asking the heuristics where there is none: such graphs cannot be prepared. */
enum status cuda_graphs_open(struct cuda_graphs **graphs, const char *device_json,
                             struct error *error);
void cuda_graphs_close(struct cuda_graphs *graphs); /* accepts NULL */

/* cuDNN's version as it counts: 91900 is 9.19.0. */
size_t cuda_graphs_version(const struct cuda_graphs *graphs);

/* The description of the current device that cuda_graphs_open takes; to be freed. */
enum status cuda_graphs_device_json(struct cuda_graphs *graphs, char **json,
                                    struct error *error);

/* Describes args' product, whose pointers say no more than where bias and before are wanted
 * and that every address is a multiple of `alignment`, and asks which engines run it.
 * accumulate and a_sums are not taken. STATUS_UNAVAILABLE: no engine does. */
enum status cuda_graph_open(struct cuda_graph **graph, struct cuda_graphs *graphs,
                            const struct matmul *args, size_t alignment, struct error *error);
void cuda_graph_close(struct cuda_graph *graph); /* accepts NULL */

/* Engines that promise the same bits every time and no lower precision, the one thought best
 * first; and the number by which cuDNN knows one. */
int cuda_graph_engines(const struct cuda_graph *graph);
int64_t cuda_graph_engine(const struct cuda_graph *graph, int rank);

/* Makes the engine ready, which may compile for seconds. STATUS_UNAVAILABLE where it refuses
 * or wants more scratch than most_bytes. Replaces the engine made ready before. */
enum status cuda_graph_prepare(struct cuda_graph *graph, int rank, size_t most_bytes,
                               struct error *error);

/* Puts the product on the stream. args as in cuda_graph_open; scratch of most_bytes. */
enum status cuda_graph_run(struct cuda_graph *graph, void *stream, const struct matmul *args,
                           void *scratch, struct error *error);

#ifdef __cplusplus
}
#endif

#endif
