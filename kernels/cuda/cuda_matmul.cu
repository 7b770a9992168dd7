#include "kernels/cuda/cuda_matmul.h"

#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda_epilogue.h"
#include "kernels/cuda/cuda_graph.h"
#include "kernels/cuda/cuda_plan.h"
#include "kernels/cuda/grid.h"

enum {
    workspace_bytes = 64 * 1024 * 1024,
    plan_slots = 1024,
    plan_probes = 16,
    plain_most = 8,    /* algorithms to time that leave the epilogue to us */
    fused_most = 6,    /* and that do it themselves */
    graphs_most = 3,   /* engines of cuDNN: each may take seconds to compile */
    ways_most = plain_most + fused_most + graphs_most,
    graph_values = 1 << 20, /* results of a product that are worth that */
    timed_runs = 5,
    wide_bytes = 16, /* alignment beyond this makes no kernel faster */
};

/* What an algorithm is chosen by. Compared as bytes: made by memset, without holes. */
struct plan_key {
    uint64_t rows, columns, inner;
    uint8_t operands, result; /* enum element */
    uint8_t a_transposed, b_transposed, bias, accumulate, a_sums, epilogue, activation, before;
    uint8_t align_a, align_b, align_out, align_bias;
    uint8_t unused[2];
};

/* What cuBLASLt does beside the product. */
enum fusion { FUSED_BIAS, FUSED_ALL };

/* The bias as it gets it: none, as it is, rounded to the result's type, or ours to add. */
enum bias_form { BIAS_NONE, BIAS_GIVEN, BIAS_ROUNDED, BIAS_OURS };

struct plan {
    bool used;
    struct plan_key key;
    struct cuda_graph *graph; /* or NULL: cuBLASLt, by what follows */
    int rank;                 /* the engine's place */
    enum fusion fusion;
    enum bias_form bias;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, out;
    cublasLtMatmulAlgo_t algorithm;
};

struct cuda_matmul {
    cublasLtHandle_t handle;
    struct cuda_graphs *graphs; /* or NULL */
    struct cuda_plans *kept;
    void *workspace;
    void *scratch; /* grows */
    size_t scratch_bytes;
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
    if (result == cudaSuccess)
        result = cudaMalloc(&m->workspace, workspace_bytes);
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
    const cublasStatus_t status = cublasLtCreate(&m->handle);
    if (status != CUBLAS_STATUS_SUCCESS) {
        error_set(error, STATUS_UNAVAILABLE, "cannot start cublasLt: %s",
                  cublasLtGetStatusString(status));
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

void cuda_matmul_close(struct cuda_matmul *m)
{
    if (m == NULL)
        return;
    for (size_t i = 0; i < plan_slots; i++)
        plan_close(&m->plans[i]);
    if (m->handle != NULL)
        cublasLtDestroy(m->handle);
    cuda_graphs_close(m->graphs);
    cuda_plans_close(m->kept);
    cudaFree(m->workspace);
    cudaFree(m->scratch);
    free(m);
}

/* ---- keys ---- */

/* The largest power of two, up to wide_bytes, that divides an address; of NULL wide_bytes. */
static uint8_t alignment_of(const void *address)
{
    const uintptr_t bits = (uintptr_t)address | wide_bytes;
    return (uint8_t)(bits & -bits);
}

static uint8_t lesser(uint8_t a, uint8_t b)
{
    return a < b ? a : b;
}

static struct plan_key key_of(enum element operands, enum element result,
                              const struct matmul *args)
{
    struct plan_key key;
    memset(&key, 0, sizeof key);
    key.rows = args->rows;
    key.columns = args->columns;
    key.inner = args->inner;
    key.operands = (uint8_t)operands;
    key.result = (uint8_t)(args->accumulate ? ELEMENT_FLOAT : result);
    key.a_transposed = args->a_transposed;
    key.b_transposed = args->b_transposed;
    key.bias = args->bias != NULL;
    key.accumulate = args->accumulate;
    key.a_sums = args->a_sums != NULL;
    key.epilogue = (uint8_t)args->epilogue;
    key.align_a = alignment_of(args->a);
    key.align_b = alignment_of(args->b);
    key.align_out = alignment_of(args->out);
    key.align_bias = alignment_of(args->bias);
    if (args->epilogue != EPILOGUE_NONE) {
        key.activation = (uint8_t)args->activation;
        key.before = args->before != NULL;
        key.align_out = lesser(key.align_out, alignment_of(args->before));
    }
    return key;
}

/* The key as a line, for the file. */
static void key_text(const struct plan_key *key, char text[256])
{
    static const char *const elements[] = {"fp32", "bf16"};
    static const char *const epilogues[] = {"", " activation", " activation-backward"};
    static const char *const activations[] = {"gelu", "gelu-tanh", "quick-gelu"};
    const bool plain = key->epilogue == EPILOGUE_NONE;
    snprintf(text, 256, "%llu x %llu x %llu %s%s %s -> %s%s%s%s%s%s%s%s align %d %d %d %d",
             (unsigned long long)key->rows, (unsigned long long)key->columns,
             (unsigned long long)key->inner, key->a_transposed ? "t" : "n",
             key->b_transposed ? "t" : "n", elements[key->operands], elements[key->result],
             key->accumulate ? " accumulate" : "", key->a_sums ? " a-sums" : "",
             key->bias ? " bias" : "", epilogues[key->epilogue], plain ? "" : " ",
             plain ? "" : activations[key->activation], key->before ? " before" : "",
             key->align_a, key->align_b, key->align_out, key->align_bias);
}

static size_t key_hash(const struct plan_key *key)
{
    const uint8_t *bytes = (const uint8_t *)key;
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < sizeof *key; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return (size_t)(hash ^ hash >> 32);
}

/* ---- what cuBLASLt is told ---- */

/* How it is to end a product, where it has an ending that is ours; its GELU is the tanh form,
 * and quick, which fp32 is not for. */
static bool epilogue_of(const struct plan_key *key, enum fusion fusion, enum bias_form bias,
                        cublasLtEpilogue_t *epilogue)
{
    const bool biased = bias == BIAS_GIVEN || bias == BIAS_ROUNDED;
    *epilogue = biased ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    if (fusion == FUSED_BIAS)
        return true;
    if (key->operands != ELEMENT_BF16)
        return false;
    if (key->accumulate) {
        *epilogue = CUBLASLT_EPILOGUE_BGRADB; /* its b is our a */
        return key->a_sums;
    }
    if (key->epilogue == EPILOGUE_NONE || key->activation != ACTIVATION_GELU_TANH ||
        key->columns % 8 != 0 || bias == BIAS_OURS)
        return false;
    if (key->epilogue == EPILOGUE_ACTIVATION_BACKWARD)
        *epilogue = CUBLASLT_EPILOGUE_DGELU;
    else if (key->before)
        *epilogue = biased ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    else
        *epilogue = biased ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    return true;
}

static bool epilogue_reads_bias(cublasLtEpilogue_t epilogue)
{
    return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_BIAS ||
           epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
}

static bool epilogue_has_aux(cublasLtEpilogue_t epilogue)
{
    return epilogue == CUBLASLT_EPILOGUE_GELU_AUX ||
           epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS || epilogue == CUBLASLT_EPILOGUE_DGELU;
}

static cudaDataType_t type_of(uint8_t element)
{
    return element == ELEMENT_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static cublasStatus_t set(cublasStatus_t before, cublasLtMatmulDesc_t operation,
                          cublasLtMatmulDescAttributes_t name, const void *value, size_t bytes)
{
    return before != CUBLAS_STATUS_SUCCESS
               ? before
               : cublasLtMatmulDescSetAttribute(operation, name, value, bytes);
}

/* Pointers only have to be as aligned as the real ones, which are set before each run. */
static cublasStatus_t describe_epilogue(const struct plan *plan, cublasLtEpilogue_t epilogue)
{
    const struct plan_key *key = &plan->key;
    const cudaDataType_t bias_type = plan->bias == BIAS_GIVEN ? CUDA_R_32F
                                                              : type_of(key->result);
    const int64_t columns = (int64_t)key->columns;
    const uintptr_t aux = key->align_out;
    uintptr_t bias = wide_bytes;
    if (plan->bias == BIAS_GIVEN)
        bias = key->align_bias;
    cublasStatus_t s = set(CUBLAS_STATUS_SUCCESS, plan->operation,
                           CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (epilogue_reads_bias(epilogue))
        s = set(s, plan->operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type,
                sizeof bias_type);
    if (epilogue_reads_bias(epilogue) || epilogue == CUBLASLT_EPILOGUE_BGRADB)
        s = set(s, plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
    if (epilogue_has_aux(epilogue)) {
        s = set(s, plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &columns,
                sizeof columns);
        s = set(s, plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux,
                sizeof aux);
    }
    return s;
}

/* cuBLASLt's matrices are column-major, so that a row-major matrix is its transposed one: it
 * computes out^T[columns,rows] = op(b)^T op(a)^T, with b first. A plan that failed half way is
 * to be closed. */
static bool describe(struct plan *plan)
{
    const struct plan_key *key = &plan->key;
    const cublasOperation_t first = key->b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = key->a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const uint64_t r = key->rows, c = key->columns, n = key->inner;
    const cudaDataType_t operands = type_of(key->operands);
    cublasLtEpilogue_t epilogue;
    if (!epilogue_of(key, plan->fusion, plan->bias, &epilogue))
        return false;
    cublasStatus_t s =
        cublasLtMatmulDescCreate(&plan->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    s = set(s, plan->operation, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first);
    s = set(s, plan->operation, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = describe_epilogue(plan, epilogue);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = key->b_transposed
                ? cublasLtMatrixLayoutCreate(&plan->a, operands, n, c, (int64_t)n)
                : cublasLtMatrixLayoutCreate(&plan->a, operands, c, n, (int64_t)c);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = key->a_transposed
                ? cublasLtMatrixLayoutCreate(&plan->b, operands, r, n, (int64_t)r)
                : cublasLtMatrixLayoutCreate(&plan->b, operands, n, r, (int64_t)n);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatrixLayoutCreate(&plan->out, type_of(key->result), c, r, (int64_t)c);
    return s == CUBLAS_STATUS_SUCCESS;
}

/* Algorithms for a described plan, the one thought best first, among those that reduce in a
 * fixed order and in fp32, if at all. */
static int ask(struct cuda_matmul *m, const struct plan *plan, int most,
               cublasLtMatmulHeuristicResult_t *found)
{
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE |
                                CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint32_t align_a = plan->key.align_a, align_b = plan->key.align_b,
                   align_out = plan->key.align_out;
    const uint64_t workspace = workspace_bytes;
    cublasLtMatmulPreference_t preference;
    int count = 0, good = 0;
    if (cublasLtMatmulPreferenceCreate(&preference) != CUBLAS_STATUS_SUCCESS)
        return 0;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void *value;
        size_t bytes;
    } wishes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align_b, sizeof align_b},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align_a, sizeof align_a},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align_out, sizeof align_out},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align_out, sizeof align_out},
    };
    cublasStatus_t s = CUBLAS_STATUS_SUCCESS;
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0] && s == CUBLAS_STATUS_SUCCESS; i++)
        s = cublasLtMatmulPreferenceSetAttribute(preference, wishes[i].name, wishes[i].value,
                                                 wishes[i].bytes);
    if (s != CUBLAS_STATUS_SUCCESS ||
        cublasLtMatmulAlgoGetHeuristic(m->handle, plan->operation, plan->a, plan->b, plan->out,
                                       plan->out, preference, most, found,
                                       &count) != CUBLAS_STATUS_SUCCESS)
        count = 0;
    cublasLtMatmulPreferenceDestroy(preference);
    for (int i = 0; i < count; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS)
            found[good++] = found[i];
    return good;
}

/* ---- ways ---- */

static void plan_begin(struct plan *plan, const struct plan_key *key)
{
    memset(plan, 0, sizeof *plan);
    plan->key = *key;
}

/* Takes algorithm number *way of a fusion, or lowers *way by how many there are. A bias is
 * given as it is where that is taken, else rounded, else added by us. */
static bool take_algorithm(struct cuda_matmul *m, struct plan *plan, enum fusion fusion,
                           int most, int *way)
{
    const struct plan_key key = plan->key;
    cublasLtMatmulHeuristicResult_t found[plain_most];
    const int last = !key.bias ? BIAS_NONE : fusion == FUSED_ALL ? BIAS_ROUNDED : BIAS_OURS;
    for (int bias = key.bias ? BIAS_GIVEN : BIAS_NONE; bias <= last; bias++) {
        if (bias == BIAS_ROUNDED && key.result == ELEMENT_FLOAT)
            continue;
        plan->fusion = fusion;
        plan->bias = (enum bias_form)bias;
        const int count = describe(plan) ? ask(m, plan, most, found) : 0;
        if (*way < count) {
            plan->algorithm = found[*way].algo;
            return true;
        }
        plan_close(plan);
        plan->key = key;
        *way -= count;
        if (count > 0)
            break;
    }
    return false;
}

/* cuDNN's graphs are for products with activations, in bf16, on wide rows. */
static bool graph_takes(const struct cuda_matmul *m, const struct plan_key *key)
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
    if (cuda_graph_prepare(plan->graph, rank, workspace_bytes, error) != STATUS_OK)
        error->status = STATUS_SYSTEM; /* this one does not work; there may be others */
    else
        error->status = STATUS_OK;
    return error->status;
}

/* Makes plan number `way` for a key. STATUS_UNAVAILABLE: there is none; STATUS_SYSTEM: this
 * one does not work. The plan is then closed. */
static enum status plan_way(struct cuda_matmul *m, struct plan *plan,
                            const struct plan_key *key, const struct matmul *args, int way,
                            struct error *error)
{
    plan_begin(plan, key);
    if (take_algorithm(m, plan, FUSED_BIAS, plain_most, &way) ||
        take_algorithm(m, plan, FUSED_ALL, fused_most, &way))
        return STATUS_OK;
    const enum status status = take_graph(m, plan, args, way, error);
    if (status != STATUS_OK)
        plan_close(plan);
    return status;
}

/* A plan as a line, for the file, and back. cuBLASLt's algorithm is a few words that mean
 * something to the same version of the library alone; so does the number of an engine. */
static void way_text(const struct plan *plan, char text[256])
{
    const size_t words = sizeof plan->algorithm.data / sizeof plan->algorithm.data[0];
    if (plan->graph != NULL) {
        snprintf(text, 256, "cudnn %d %lld", plan->rank,
                 (long long)cuda_graph_engine(plan->graph, plan->rank));
        return;
    }
    int length = snprintf(text, 256, "cublas %d %d", (int)plan->fusion, (int)plan->bias);
    for (size_t i = 0; i < words && length < 256; i++)
        length += snprintf(text + length, (size_t)(256 - length), " %llx",
                           (unsigned long long)plan->algorithm.data[i]);
}

static bool parse_algorithm(struct plan *plan, const char *text)
{
    const size_t words = sizeof plan->algorithm.data / sizeof plan->algorithm.data[0];
    char *end;
    for (size_t i = 0; i < words; i++) {
        plan->algorithm.data[i] = strtoull(text, &end, 16);
        if (end == text)
            return false;
        text = end;
    }
    return *text == '\0';
}

static bool plan_parse(struct cuda_matmul *m, struct plan *plan, const struct plan_key *key,
                       const struct matmul *args, const char *text)
{
    int fusion, bias, rank, length = 0;
    long long engine;
    struct error error;
    cublasLtMatmulHeuristicResult_t result;
    plan_begin(plan, key);
    if (sscanf(text, "cudnn %d %lld", &rank, &engine) == 2 && rank >= 0 && rank < graphs_most) {
        if (take_graph(m, plan, args, rank, &error) == STATUS_OK &&
            cuda_graph_engine(plan->graph, rank) == engine)
            return true;
    } else if (sscanf(text, "cublas %d %d%n", &fusion, &bias, &length) == 2 &&
               fusion >= FUSED_BIAS && fusion <= FUSED_ALL && bias >= BIAS_NONE &&
               bias <= BIAS_OURS && (bias != BIAS_NONE) == key->bias) {
        plan->fusion = (enum fusion)fusion;
        plan->bias = (enum bias_form)bias;
        if (parse_algorithm(plan, text + length) && describe(plan) &&
            cublasLtMatmulAlgoCheck(m->handle, plan->operation, plan->a, plan->b, plan->out,
                                    plan->out, &plan->algorithm,
                                    &result) == CUBLAS_STATUS_SUCCESS &&
            result.workspaceSize <= workspace_bytes)
            return true;
    }
    plan_close(plan);
    return false;
}

/* ---- running a plan ---- */

static void *scratch(struct cuda_matmul *m, size_t bytes, struct error *error)
{
    if (bytes > m->scratch_bytes) {
        cudaFree(m->scratch);
        m->scratch_bytes = 0;
        if (cudaMalloc(&m->scratch, bytes) != cudaSuccess) {
            (void)cudaGetLastError(); /* told here; it is no failure of the next operation */
            m->scratch = NULL;
            error_memory(error, bytes, "a matrix product on the device");
            return NULL;
        }
        m->scratch_bytes = bytes;
    }
    return m->scratch;
}

/* Gives cuBLASLt the pointers of its epilogue. */
static enum status set_pointers(struct cuda_matmul *m, const struct cuda_queue *q,
                                const struct plan *plan, const struct matmul *args,
                                cublasLtEpilogue_t epilogue, struct error *error)
{
    const void *bias = args->bias, *aux = args->before;
    cublasStatus_t s = CUBLAS_STATUS_SUCCESS;
    if (epilogue == CUBLASLT_EPILOGUE_BGRADB) {
        bias = scratch(m, args->rows * sizeof(float), error);
    } else if (epilogue_reads_bias(epilogue) && plan->bias == BIAS_ROUNDED) {
        bias = scratch(m, args->columns * sizeof(uint16_t), error);
        if (bias != NULL)
            cuda_convert(q, ELEMENT_BF16, (void *)bias, ELEMENT_FLOAT, args->bias,
                         args->columns);
    } else if (!epilogue_reads_bias(epilogue)) {
        bias = NULL;
    }
    if (bias == NULL &&
        (epilogue == CUBLASLT_EPILOGUE_BGRADB || epilogue_reads_bias(epilogue)))
        return error->status;
    if (bias != NULL)
        s = set(s, plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
    if (epilogue_has_aux(epilogue))
        s = set(s, plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux,
                sizeof aux);
    if (s != CUBLAS_STATUS_SUCCESS)
        return error_set(error, STATUS_BUG, "an epilogue's pointers: cublasLt says %s",
                         cublasLtGetStatusString(s));
    return STATUS_OK;
}

/* a_sums, by cuBLASLt into scratch or by us from a. */
static enum status end_sums(struct cuda_matmul *m, const struct cuda_queue *q,
                            const struct plan *plan, const struct matmul *args,
                            struct error *error)
{
    const enum element type = (enum element)plan->key.operands;
    if (plan->fusion == FUSED_ALL) {
        cuda_add(q, ELEMENT_FLOAT, args->a_sums, args->a_sums, m->scratch, args->rows);
    } else if (args->a_transposed) {
        float *parts = (float *)scratch(
            m, cuda_sum_rows_floats(args->inner, args->rows) * sizeof(float), error);
        if (parts == NULL)
            return error->status;
        cuda_sum_rows(q, type, args->a_sums, args->a, args->inner, args->rows, args->rows,
                      parts);
    } else {
        cuda_sum_columns(q, type, args->a_sums, args->a, args->rows, args->inner);
    }
    return STATUS_OK;
}

/* What the plan has left of the bias and the activation; the product is in `product`. */
static void end_product(const struct cuda_queue *q, const struct plan *plan,
                        const struct matmul *args, void *product)
{
    const enum element type = (enum element)plan->key.result;
    const size_t n = args->rows * args->columns;
    if (plan->bias == BIAS_OURS)
        cuda_add_bias(q, type, product, args->bias, args->rows, args->columns);
    if (plan->fusion == FUSED_ALL)
        return;
    if (args->epilogue == EPILOGUE_ACTIVATION)
        cuda_activation_forward(q, type, args->out, product, n, args->activation);
    else if (args->epilogue == EPILOGUE_ACTIVATION_BACKWARD)
        cuda_activation_backward(q, type, args->out, product, args->before, n,
                                 args->activation);
}

static enum status plan_run(struct cuda_matmul *m, const struct cuda_queue *q,
                            const struct plan *plan, const struct matmul *args,
                            struct error *error)
{
    const float alpha = 1, beta = args->accumulate ? 1 : 0;
    cublasLtEpilogue_t epilogue;
    if (plan->graph != NULL)
        return cuda_graph_run(plan->graph, q->stream, args, m->workspace, error);
    epilogue_of(&plan->key, plan->fusion, plan->bias, &epilogue);
    if (set_pointers(m, q, plan, args, epilogue, error) != STATUS_OK)
        return error->status;
    /* The sum before the activation goes where it is wanted, and is read from there. */
    void *product = plan->fusion == FUSED_BIAS && args->epilogue == EPILOGUE_ACTIVATION &&
                            args->before != NULL
                        ? args->before
                        : args->out;
    const cublasStatus_t s =
        cublasLtMatmul(m->handle, plan->operation, &alpha, args->b, plan->a, args->a, plan->b,
                       &beta, product, plan->out, product, plan->out, &plan->algorithm,
                       m->workspace, workspace_bytes, (cudaStream_t)q->stream);
    if (s != CUBLAS_STATUS_SUCCESS)
        return error_set(error, STATUS_SYSTEM,
                         "matrix product %zu x %zu x %zu: cublasLt says %s", args->rows,
                         args->columns, args->inner, cublasLtGetStatusString(s));
    end_product(q, plan, args, product);
    return args->a_sums != NULL ? end_sums(m, q, plan, args, error) : STATUS_OK;
}

/* ---- timing ---- */

/* What ways are timed with: results of their own where a run adds to what is there, and
 * something to fill the cache with. */
struct trial {
    struct matmul args;
    size_t out_bytes;
    void *out, *sums; /* or NULL: args' own */
    void *flush;      /* or NULL: no memory for it */
    size_t digest_blocks, digest_bytes;
    uint64_t *digests, *host_digests; /* [2, threads] */
    cudaEvent_t begin, end;
};

static bool trial_open(struct trial *trial, const struct cuda_matmul *m,
                       const struct cuda_queue *q, const struct plan_key *key,
                       const struct matmul *args)
{
    memset(trial, 0, sizeof *trial);
    trial->args = *args;
    trial->out_bytes = args->rows * args->columns * (key->result == ELEMENT_BF16 ? 2 : 4);
    trial->digest_blocks = smaller(divide_up(trial->out_bytes / 2, flat_threads),
                                   (size_t)q->multiprocessors);
    trial->digest_bytes = trial->digest_blocks * flat_threads * sizeof *trial->digests;
    trial->host_digests = (uint64_t *)malloc(2 * trial->digest_bytes);
    bool good = trial->host_digests != NULL &&
                cudaMalloc((void **)&trial->digests, 2 * trial->digest_bytes) == cudaSuccess &&
                cudaEventCreate(&trial->begin) == cudaSuccess &&
                cudaEventCreate(&trial->end) == cudaSuccess;
    if (good && args->accumulate) {
        good = cudaMalloc(&trial->out, trial->out_bytes) == cudaSuccess;
        trial->args.out = trial->out;
    }
    if (good && args->a_sums != NULL) {
        good = cudaMalloc(&trial->sums, args->rows * sizeof(float)) == cudaSuccess;
        trial->args.a_sums = (float *)trial->sums;
    }
    if (good && cudaMalloc(&trial->flush, 2 * m->l2_bytes) != cudaSuccess)
        trial->flush = NULL;
    (void)cudaGetLastError(); /* refused memory is no failure of the next operation */
    return good;
}

static void trial_close(struct trial *trial)
{
    if (trial->begin != NULL)
        cudaEventDestroy(trial->begin);
    if (trial->end != NULL)
        cudaEventDestroy(trial->end);
    free(trial->host_digests);
    cudaFree(trial->digests);
    cudaFree(trial->out);
    cudaFree(trial->sums);
    cudaFree(trial->flush);
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
static bool repeats(struct cuda_matmul *m, const struct cuda_queue *q, const struct plan *plan,
                    const struct trial *trial)
{
    cudaStream_t stream = (cudaStream_t)q->stream;
    const size_t threads = trial->digest_blocks * flat_threads;
    struct error error;
    for (size_t i = 0; i < 2; i++) {
        if (trial->out != NULL)
            cudaMemsetAsync(trial->out, 0, trial->out_bytes, stream);
        if (plan_run(m, q, plan, &trial->args, &error) != STATUS_OK)
            return false;
        LAUNCH(digest_kernel, trial->digest_blocks, 1, flat_threads, 0, q->stream,
               trial->digests + i * threads, (const uint16_t *)trial->args.out,
               trial->out_bytes / 2);
    }
    return cudaMemcpyAsync(trial->host_digests, trial->digests, 2 * trial->digest_bytes,
                           cudaMemcpyDeviceToHost, stream) == cudaSuccess &&
           cudaStreamSynchronize(stream) == cudaSuccess &&
           memcmp(trial->host_digests, trial->host_digests + threads, trial->digest_bytes) == 0;
}

static int compare_times(const void *a, const void *b)
{
    const float left = *(const float *)a, right = *(const float *)b;
    return (left > right) - (left < right);
}

/* The median of a few runs, in milliseconds, with nothing in the cache; < 0: it cannot be
 * run, or not twice with the same bits. */
static float time_plan(struct cuda_matmul *m, const struct cuda_queue *q,
                       const struct plan *plan, const struct trial *trial)
{
    cudaStream_t stream = (cudaStream_t)q->stream;
    float times[timed_runs];
    struct error error;
    if (!repeats(m, q, plan, trial)) {
        (void)cudaGetLastError();
        return -1;
    }
    for (int i = 0; i < timed_runs; i++) {
        if (trial->flush != NULL)
            cudaMemsetAsync(trial->flush, i, 2 * m->l2_bytes, stream);
        cudaEventRecord(trial->begin, stream);
        if (plan_run(m, q, plan, &trial->args, &error) != STATUS_OK)
            return -1;
        cudaEventRecord(trial->end, stream);
        if (cudaEventSynchronize(trial->end) != cudaSuccess ||
            cudaEventElapsedTime(&times[i], trial->begin, trial->end) != cudaSuccess)
            return -1;
    }
    qsort(times, timed_runs, sizeof times[0], compare_times);
    return times[timed_runs / 2];
}

/* *best = the fastest way; a later one must be 2% faster, so that noise chooses less. False
 * where none could be timed. */
static bool plan_fastest(struct cuda_matmul *m, const struct cuda_queue *q,
                         const struct plan_key *key, const struct matmul *args,
                         struct plan *best)
{
    struct trial trial;
    struct error error;
    float best_time = -1;
    memset(best, 0, sizeof *best);
    const bool ready = trial_open(&trial, m, q, key, args);
    for (int way = 0; ready && way < ways_most; way++) {
        struct plan plan;
        const enum status status = plan_way(m, &plan, key, args, way, &error);
        if (status == STATUS_UNAVAILABLE)
            break;
        if (status != STATUS_OK)
            continue;
        const float time = time_plan(m, q, &plan, &trial);
        if (time < 0 || (best_time >= 0 && !(time < 0.98f * best_time))) {
            plan_close(&plan);
            continue;
        }
        plan_close(best);
        *best = plan;
        best_time = time;
    }
    trial_close(&trial);
    return best_time >= 0;
}

/* ---- the cache ---- */

/* A plan is never replaced by another for the same key: where its slots are full, the last of
 * them makes room, and the file, or the same heuristics, would choose the same again. */
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

/* Times the ways and keeps the fastest; the file may meanwhile have got another's choice. */
static bool plan_time(struct cuda_matmul *m, const struct cuda_queue *q,
                      const struct plan_key *key, const struct matmul *args, struct plan *plan)
{
    char product[256], way[256];
    if (!plan_fastest(m, q, key, args, plan))
        return false;
    key_text(key, product);
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
                               const struct plan_key *key, const struct matmul *args,
                               struct plan *plan, struct error *error)
{
    char product[256];
    key_text(key, product);
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
    const struct plan_key key = key_of(operands, result, args);
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
    const struct plan_key key = key_of(operands, result, args);
    struct plan plan;
    if (plan_way(m, &plan, &key, args, way, error) != STATUS_OK)
        return error->status;
    if (plan.graph != NULL)
        snprintf(name, 64, "cudnn %d", plan.rank);
    else
        snprintf(name, 64, "cublasLt%s%s %d", plan.fusion == FUSED_ALL ? " with all" : "",
                 biases[plan.bias], way);
    const enum status status = plan_run(m, q, &plan, args, error);
    cudaStreamSynchronize((cudaStream_t)q->stream); /* the plan goes */
    plan_close(&plan);
    return status;
}
