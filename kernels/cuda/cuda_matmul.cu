#include "kernels/cuda/cuda_matmul.h"

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <stdlib.h>
#include <string.h>

enum { workspace_bytes = 32 * 1024 * 1024, plan_slots = 512, plan_probes = 8 };

/* What an algorithm is chosen by. Compared as bytes: made by memset, without holes. */
struct plan_key {
    uint64_t rows, columns, inner;
    uint32_t flags; /* operands transposed, bias, accumulate */
    uint32_t align_a, align_b, align_out;
};

struct plan {
    bool used;
    struct plan_key key;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, out;
    cublasLtMatmulAlgo_t algorithm;
};

struct cuda_matmul {
    cublasLtHandle_t handle;
    void *workspace;
    struct plan plans[plan_slots];
};

static void plan_close(struct plan *plan)
{
    if (plan->operation != NULL)
        cublasLtMatmulDescDestroy(plan->operation);
    if (plan->a != NULL)
        cublasLtMatrixLayoutDestroy(plan->a);
    if (plan->b != NULL)
        cublasLtMatrixLayoutDestroy(plan->b);
    if (plan->out != NULL)
        cublasLtMatrixLayoutDestroy(plan->out);
    memset(plan, 0, sizeof *plan);
}

enum status cuda_matmul_open(struct cuda_matmul **out, struct error *error)
{
    struct cuda_matmul *m = (struct cuda_matmul *)calloc(1, sizeof *m);
    if (m == NULL)
        return error_memory(error, sizeof *m, "plans of matrix products");
    const cublasStatus_t status = cublasLtCreate(&m->handle);
    if (status != CUBLAS_STATUS_SUCCESS) {
        error_set(error, STATUS_UNAVAILABLE, "cannot start cublasLt: %s",
                  cublasLtGetStatusString(status));
        cuda_matmul_close(m);
        return error->status;
    }
    if (cudaMalloc(&m->workspace, workspace_bytes) != cudaSuccess) {
        error_memory(error, workspace_bytes, "matrix products on the device");
        cuda_matmul_close(m);
        return error->status;
    }
    *out = m;
    return STATUS_OK;
}

void cuda_matmul_close(struct cuda_matmul *m)
{
    if (m == NULL)
        return;
    for (size_t i = 0; i < plan_slots; i++)
        plan_close(&m->plans[i]);
    if (m->handle != NULL)
        cublasLtDestroy(m->handle);
    cudaFree(m->workspace);
    free(m);
}

/* The largest power of two, up to 256, that divides an address. */
static uint32_t alignment_of(const void *address)
{
    const uintptr_t bits = (uintptr_t)address | 256;
    return (uint32_t)(bits & -bits);
}

static struct plan_key key_of(const struct matmul *args)
{
    struct plan_key key;
    memset(&key, 0, sizeof key);
    key.rows = args->rows;
    key.columns = args->columns;
    key.inner = args->inner;
    key.flags = (uint32_t)(args->a_transposed | args->b_transposed << 1 |
                           (args->bias != NULL) << 2 | args->accumulate << 3);
    key.align_a = alignment_of(args->a);
    key.align_b = alignment_of(args->b);
    key.align_out = alignment_of(args->out);
    return key;
}

/* cuBLASLt's matrices are column-major, so that a row-major matrix is its transposed one: it
 * computes out^T[columns,rows] = op(b)^T op(a)^T, with b first. */
static cublasStatus_t plan_describe(struct plan *plan, const struct matmul *args)
{
    const cublasOperation_t first = args->b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = args->a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t epilogue =
        args->bias != NULL ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    const uint64_t r = args->rows, c = args->columns, n = args->inner;
    cublasStatus_t s =
        cublasLtMatmulDescCreate(&plan->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_TRANSA, &first,
                                           sizeof first);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_TRANSB,
                                           &second, sizeof second);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                           &epilogue, sizeof epilogue);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = args->b_transposed
                ? cublasLtMatrixLayoutCreate(&plan->a, CUDA_R_32F, n, c, (int64_t)n)
                : cublasLtMatrixLayoutCreate(&plan->a, CUDA_R_32F, c, n, (int64_t)c);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = args->a_transposed
                ? cublasLtMatrixLayoutCreate(&plan->b, CUDA_R_32F, r, n, (int64_t)r)
                : cublasLtMatrixLayoutCreate(&plan->b, CUDA_R_32F, n, r, (int64_t)n);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatrixLayoutCreate(&plan->out, CUDA_R_32F, c, r, (int64_t)c);
    return s;
}

/* The heuristics' first choice among algorithms that reduce in a fixed order, if at all. */
static cublasStatus_t plan_choose(struct cuda_matmul *m, struct plan *plan)
{
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE |
                                CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint64_t workspace = workspace_bytes;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    cublasStatus_t s = cublasLtMatmulPreferenceCreate(&preference);
    if (s != CUBLAS_STATUS_SUCCESS)
        return s;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void *value;
        size_t bytes;
    } wishes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &plan->key.align_b, sizeof(uint32_t)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &plan->key.align_a, sizeof(uint32_t)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &plan->key.align_out, sizeof(uint32_t)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &plan->key.align_out, sizeof(uint32_t)},
    };
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0] && s == CUBLAS_STATUS_SUCCESS; i++)
        s = cublasLtMatmulPreferenceSetAttribute(preference, wishes[i].name, wishes[i].value,
                                                 wishes[i].bytes);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatmulAlgoGetHeuristic(m->handle, plan->operation, plan->a, plan->b,
                                           plan->out, plan->out, preference, 1, &found, &count);
    if (s == CUBLAS_STATUS_SUCCESS && count == 0)
        s = CUBLAS_STATUS_NOT_SUPPORTED;
    if (s == CUBLAS_STATUS_SUCCESS)
        plan->algorithm = found.algo;
    cublasLtMatmulPreferenceDestroy(preference);
    return s;
}

static size_t key_hash(const struct plan_key *key)
{
    uint64_t hash = key->rows * 0x9e3779b97f4a7c15u ^ key->flags;
    hash = (hash ^ hash >> 29) * 0xbf58476d1ce4e5b9u ^ key->columns;
    hash = (hash ^ hash >> 32) * 0x94d049bb133111ebu ^ key->inner;
    return (size_t)((hash ^ hash >> 31) * 0x9e3779b97f4a7c15u >> 40);
}

/* A plan is never replaced by another algorithm for the same key: where its slots are full, the
 * last of them makes room, and the same heuristics would choose the same again. */
static struct plan *plan_find(struct cuda_matmul *m, const struct plan_key *key, bool *found)
{
    const size_t home = key_hash(key);
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

enum status cuda_matmul_run(struct cuda_matmul *m, const struct cuda_queue *q,
                            const struct matmul *args, struct error *error)
{
    const float alpha = 1, beta = args->accumulate ? 1 : 0;
    const struct plan_key key = key_of(args);
    bool found;
    struct plan *plan = plan_find(m, &key, &found);
    cublasStatus_t s = CUBLAS_STATUS_SUCCESS;
    if (!found) {
        plan->key = key;
        s = plan_describe(plan, args);
        if (s == CUBLAS_STATUS_SUCCESS)
            s = plan_choose(m, plan);
        if (s == CUBLAS_STATUS_SUCCESS)
            plan->used = true;
        else
            plan_close(plan);
    }
    if (s == CUBLAS_STATUS_SUCCESS && args->bias != NULL)
        s = cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                           &args->bias, sizeof args->bias);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatmul(m->handle, plan->operation, &alpha, args->b, plan->a, args->a,
                           plan->b, &beta, args->out, plan->out, args->out, plan->out,
                           &plan->algorithm, m->workspace, workspace_bytes,
                           (cudaStream_t)q->stream);
    if (s != CUBLAS_STATUS_SUCCESS)
        return error_set(error, STATUS_SYSTEM,
                         "matrix product %zu x %zu x %zu: cublasLt says %s", args->rows,
                         args->columns, args->inner, cublasLtGetStatusString(s));
    return STATUS_OK;
}
