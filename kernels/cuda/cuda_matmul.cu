/* Ways of doing a matrix product, the choice among them, and the plans made so far. */
#include "kernels/cuda/cuda_matmul.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda_blas.h"
#include "kernels/cuda/cuda_graph.h"
#include "kernels/cuda/cuda_plan.h"
#include "kernels/cuda/cuda_timing.h"
#include "kernels/cuda/device.h"

enum {
    plan_slots = 1024,
    plan_probes = 16,
    plain_most = blas_found_most, /* algorithms to time that leave the epilogue to us */
    fused_most = 6,               /* and that do it themselves */
    graphs_most = 3,              /* engines of cuDNN: each may take seconds to compile */
    ways_most = plain_most + fused_most + graphs_most,
    graph_values = 1 << 20, /* results of a product that are worth that */
};

struct plan {
    bool used;
    struct product_key key;
    struct cuda_graph *graph; /* or NULL: cuBLASLt, by `blas` */
    int rank;                 /* the engine's place */
    struct blas_plan blas;
};

struct cuda_matmul {
    struct cuda_blas blas;
    struct cuda_graphs *graphs; /* or NULL */
    struct cuda_plans *kept;
    size_t l2_bytes;
    size_t graph_values; /* graph_values, but for tests */
    struct plan plans[plan_slots];
};

/* ---- opening ---- */

static enum status open_device(struct cuda_matmul *m, struct error *error)
{
    struct cudaDeviceProp device;
    char identity[512];
    int number = 0;
    cudaError_t result = cudaGetDevice(&number);
    if (result == cudaSuccess)
        result = cudaGetDeviceProperties(&device, number);
    if (result != cudaSuccess)
        return error_set(error, STATUS_SYSTEM, "matrix products on the device: %s",
                         cudaGetErrorString(result));
    m->l2_bytes = (size_t)device.l2CacheSize;
    m->graph_values = graph_values;
    snprintf(identity, sizeof identity,
             "%s, compute capability %d.%d, %d multiprocessors, cublasLt %zu, cudnn %zu",
             device.name, device.major, device.minor, device.multiProcessorCount,
             cublasLtGetVersion(), m->graphs == NULL ? 0 : cuda_graphs_version(m->graphs));
    m->kept = cuda_plans_open(identity);
    return m->kept != NULL ? STATUS_OK
                           : error_memory(error, sizeof *m, "plans of matrix products");
}

enum status cuda_matmul_open(struct cuda_matmul **out, struct error *error)
{
    struct error absent;
    struct cuda_matmul *m = (struct cuda_matmul *)calloc(1, sizeof *m);
    if (m == NULL)
        return error_memory(error, sizeof *m, "plans of matrix products");
    if (cuda_blas_open(&m->blas, error) != STATUS_OK) {
        cuda_matmul_close(m);
        return error->status;
    }
    if (cuda_graphs_open(&m->graphs, NULL, &absent) != STATUS_OK)
        m->graphs = NULL;
    if (open_device(m, error) != STATUS_OK) {
        cuda_matmul_close(m);
        return error->status;
    }
    *out = m;
    return STATUS_OK;
}

static void plan_close(struct plan *plan)
{
    cuda_graph_close(plan->graph);
    blas_plan_close(&plan->blas);
    memset(plan, 0, sizeof *plan);
}

void cuda_matmul_close(struct cuda_matmul *m)
{
    if (m == NULL)
        return;
    for (size_t i = 0; i < plan_slots; i++)
        plan_close(&m->plans[i]);
    cuda_graphs_close(m->graphs);
    cuda_plans_close(m->kept);
    cuda_blas_close(&m->blas);
    free(m);
}

/* ---- ways ---- */

static void plan_begin(struct plan *plan, const struct product_key *key)
{
    memset(plan, 0, sizeof *plan);
    plan->key = *key;
}

/* cuDNN's graphs are for products with activations, in bf16, on wide rows. */
static bool graph_takes(const struct cuda_matmul *m, const struct product_key *key)
{
    return m->graphs != NULL && key->operands == ELEMENT_BF16 && key->result == ELEMENT_BF16 &&
           key->epilogue != EPILOGUE_NONE && key->rows * key->columns >= m->graph_values &&
           key->rows % 8 == 0 && key->columns % 8 == 0 &&
           key->inner % 8 == 0 && key->align_a == wide_bytes && key->align_b == wide_bytes &&
           key->align_out == wide_bytes;
}

static enum status take_graph(struct cuda_matmul *m, struct plan *plan,
                              const struct matmul *args, int rank, struct error *error)
{
    if (!graph_takes(m, &plan->key) || rank >= graphs_most ||
        cuda_graph_open(&plan->graph, m->graphs, args, wide_bytes, error) != STATUS_OK ||
        rank >= cuda_graph_engines(plan->graph))
        return error_set(error, STATUS_UNAVAILABLE, "no more ways for a matrix product");
    plan->rank = rank;
    if (cuda_graph_prepare(plan->graph, rank, blas_workspace_bytes, error) != STATUS_OK)
        error->status = STATUS_SYSTEM; /* this one does not work; there may be others */
    else
        error->status = STATUS_OK;
    return error->status;
}

/* Makes plan number `way` for a key. STATUS_UNAVAILABLE: there is none; STATUS_SYSTEM: this
 * one does not work. The plan is then closed. */
static enum status plan_way(struct cuda_matmul *m, struct plan *plan,
                            const struct product_key *key, const struct matmul *args, int way,
                            struct error *error)
{
    plan_begin(plan, key);
    if (blas_plan_take(&m->blas, &plan->blas, key, FUSED_BIAS, plain_most, &way) ||
        blas_plan_take(&m->blas, &plan->blas, key, FUSED_ALL, fused_most, &way))
        return STATUS_OK;
    const enum status status = take_graph(m, plan, args, way, error);
    if (status != STATUS_OK)
        plan_close(plan);
    return status;
}

/* A plan as a line, for the file, and back. The number of an engine means something to the
 * same version of cuDNN alone. */
static void way_text(const struct plan *plan, char text[256])
{
    if (plan->graph != NULL)
        snprintf(text, 256, "cudnn %d %lld", plan->rank,
                 (long long)cuda_graph_engine(plan->graph, plan->rank));
    else
        blas_plan_text(&plan->blas, text);
}

static bool plan_parse(struct cuda_matmul *m, struct plan *plan, const struct product_key *key,
                       const struct matmul *args, const char *text)
{
    int rank;
    long long engine;
    struct error error;
    plan_begin(plan, key);
    if (sscanf(text, "cudnn %d %lld", &rank, &engine) == 2 && rank >= 0 && rank < graphs_most) {
        if (take_graph(m, plan, args, rank, &error) == STATUS_OK &&
            cuda_graph_engine(plan->graph, rank) == engine)
            return true;
    } else if (blas_plan_parse(&m->blas, &plan->blas, key, text)) {
        return true;
    }
    plan_close(plan);
    return false;
}

static enum status plan_run(struct cuda_matmul *m, const struct cuda_queue *q,
                            const struct plan *plan, const struct matmul *args,
                            struct error *error)
{
    return plan->graph != NULL
               ? cuda_graph_run(plan->graph, q->stream, args, m->blas.workspace, error)
               : blas_plan_run(&m->blas, q, &plan->blas, &plan->key, args, error);
}

/* ---- timing ---- */

struct timed_plan {
    struct cuda_matmul *m;
    const struct cuda_queue *q;
    const struct plan *plan;
};

static enum status run_timed(void *way, const struct matmul *args, struct error *error)
{
    const struct timed_plan *timed = (const struct timed_plan *)way;
    return plan_run(timed->m, timed->q, timed->plan, args, error);
}

/* *best = the fastest way; a later one must be 2% faster, so that noise chooses less. False
 * where none could be timed. */
static bool plan_fastest(struct cuda_matmul *m, const struct cuda_queue *q,
                         const struct product_key *key, const struct matmul *args,
                         struct plan *best)
{
    struct error error;
    float best_time = -1;
    memset(best, 0, sizeof *best);
    struct cuda_trial *trial =
        cuda_trial_open(q, args, (enum element)key->result, 2 * m->l2_bytes);
    for (int way = 0; trial != NULL && way < ways_most; way++) {
        struct plan plan;
        struct timed_plan timed = {m, q, &plan};
        const enum status status = plan_way(m, &plan, key, args, way, &error);
        if (status == STATUS_UNAVAILABLE)
            break;
        if (status != STATUS_OK)
            continue;
        const float time = cuda_trial_time(trial, run_timed, &timed);
        if (time < 0 || (best_time >= 0 && !(time < 0.98f * best_time))) {
            plan_close(&plan);
            continue;
        }
        plan_close(best);
        *best = plan;
        best_time = time;
    }
    cuda_trial_close(trial);
    return best_time >= 0;
}

/* ---- the cache ---- */

/* A plan is never replaced by another for the same key: where its slots are full, the last of
 * them makes room, and the file, or the same heuristics, would choose the same again. */
static struct plan *plan_find(struct cuda_matmul *m, const struct product_key *key, bool *found)
{
    const size_t home = product_key_hash(key);
    struct plan *plan = NULL;
    for (size_t i = 0; i < plan_probes; i++) {
        plan = &m->plans[(home + i) % plan_slots];
        *found = plan->used && memcmp(&plan->key, key, sizeof *key) == 0;
        if (*found || !plan->used)
            return plan;
    }
    plan_close(plan);
    return plan;
}

/* Times the ways and keeps the fastest; the file may meanwhile have got another's choice. */
static bool plan_time(struct cuda_matmul *m, const struct cuda_queue *q,
                      const struct product_key *key, const struct matmul *args,
                      struct plan *plan)
{
    char product[256], way[256];
    if (!plan_fastest(m, q, key, args, plan))
        return false;
    product_key_text(key, product);
    way_text(plan, way);
    const char *kept = cuda_plans_keep(m->kept, product, way);
    struct plan other;
    if (kept != NULL && strcmp(kept, way) != 0 && plan_parse(m, &other, key, args, kept)) {
        plan_close(plan);
        *plan = other;
    }
    return true;
}

static enum status plan_choose(struct cuda_matmul *m, const struct cuda_queue *q,
                               const struct product_key *key, const struct matmul *args,
                               struct plan *plan, struct error *error)
{
    char product[256];
    product_key_text(key, product);
    const char *way = cuda_plans_find(m->kept, product);
    if (way != NULL && plan_parse(m, plan, key, args, way))
        return STATUS_OK;
    if (way != NULL)
        cuda_plans_drop(m->kept, product);
    if (cuda_plans_can_keep(m->kept) && plan_time(m, q, key, args, plan))
        return STATUS_OK;
    if (plan_way(m, plan, key, args, 0, error) == STATUS_OK)
        return STATUS_OK;
    return error_set(error, STATUS_SYSTEM, "no algorithm for the matrix product %s", product);
}

enum status cuda_matmul_run(struct cuda_matmul *m, const struct cuda_queue *q,
                            enum element operands, enum element result,
                            const struct matmul *args, struct error *error)
{
    const struct product_key key = product_key_make(operands, result, args);
    bool found;
    struct plan *plan = plan_find(m, &key, &found);
    if (!found) {
        if (plan_choose(m, q, &key, args, plan, error) != STATUS_OK)
            return error->status;
        plan->used = true;
    }
    return plan_run(m, q, plan, args, error);
}

enum status cuda_matmul_run_way(struct cuda_matmul *m, const struct cuda_queue *q,
                                enum element operands, enum element result,
                                const struct matmul *args, int way, char name[64],
                                struct error *error)
{
    static const char *const biases[] = {"", ", bias fp32", ", bias bf16", ", bias apart"};
    const struct product_key key = product_key_make(operands, result, args);
    struct plan plan;
    if (plan_way(m, &plan, &key, args, way, error) != STATUS_OK)
        return error->status;
    if (plan.graph != NULL)
        snprintf(name, 64, "cudnn %d", plan.rank);
    else
        snprintf(name, 64, "cublasLt%s%s %d", plan.blas.fusion == FUSED_ALL ? " with all" : "",
                 biases[plan.blas.bias], way);
    const enum status status = plan_run(m, q, &plan, args, error);
    cudaStreamSynchronize((cudaStream_t)q->stream); /* the plan goes */
    plan_close(&plan);
    return status;
}
