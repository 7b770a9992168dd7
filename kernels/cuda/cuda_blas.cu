#include "kernels/cuda/cuda_blas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda_epilogue.h"
#include "kernels/cuda/device.h"

/* ---- opening ---- */

enum status cuda_blas_open(struct cuda_blas *blas, struct error *error)
{
    const cublasStatus_t status = cublasLtCreate(&blas->handle);
    if (status != CUBLAS_STATUS_SUCCESS)
        return error_set(error, STATUS_UNAVAILABLE, "cannot start cublasLt: %s",
                         cublasLtGetStatusString(status));
    const cudaError_t result = cudaMalloc(&blas->workspace, blas_workspace_bytes);
    if (result != cudaSuccess)
        return error_set(error, STATUS_SYSTEM, "matrix products on the device: %s",
                         cudaGetErrorString(result));
    return STATUS_OK;
}

void cuda_blas_close(struct cuda_blas *blas)
{
    if (blas->handle != NULL)
        cublasLtDestroy(blas->handle);
    cudaFree(blas->workspace);
    cudaFree(blas->scratch);
    memset(blas, 0, sizeof *blas);
}

/* ---- what cuBLASLt is told ---- */

/* How it is to end a product, where it has an ending that is ours; its GELU is the tanh form,
 * and quick, which fp32 is not for. */
static bool epilogue_of(const struct product_key *key, enum blas_fusion fusion,
                        enum blas_bias bias, cublasLtEpilogue_t *epilogue)
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
static cublasStatus_t describe_epilogue(const struct blas_plan *plan,
                                        const struct product_key *key,
                                        cublasLtEpilogue_t epilogue)
{
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
static bool describe(struct blas_plan *plan, const struct product_key *key)
{
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
        s = describe_epilogue(plan, key, epilogue);
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
static int ask(const struct cuda_blas *blas, const struct blas_plan *plan,
               const struct product_key *key, int most, cublasLtMatmulHeuristicResult_t *found)
{
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE |
                                CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint32_t align_a = key->align_a, align_b = key->align_b, align_out = key->align_out;
    const uint64_t workspace = blas_workspace_bytes;
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
        cublasLtMatmulAlgoGetHeuristic(blas->handle, plan->operation, plan->a, plan->b,
                                       plan->out, plan->out, preference, most, found,
                                       &count) != CUBLAS_STATUS_SUCCESS)
        count = 0;
    cublasLtMatmulPreferenceDestroy(preference);
    for (int i = 0; i < count; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS)
            found[good++] = found[i];
    return good;
}

/* ---- plans ---- */

void blas_plan_close(struct blas_plan *plan)
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

/* A bias is given as it is where that is taken, else rounded, else added by us. */
bool blas_plan_take(const struct cuda_blas *blas, struct blas_plan *plan,
                    const struct product_key *key, enum blas_fusion fusion, int most, int *way)
{
    cublasLtMatmulHeuristicResult_t found[blas_found_most];
    const int last = !key->bias ? BIAS_NONE : fusion == FUSED_ALL ? BIAS_ROUNDED : BIAS_OURS;
    for (int bias = key->bias ? BIAS_GIVEN : BIAS_NONE; bias <= last; bias++) {
        if (bias == BIAS_ROUNDED && key->result == ELEMENT_FLOAT)
            continue;
        plan->fusion = fusion;
        plan->bias = (enum blas_bias)bias;
        const int count = describe(plan, key) ? ask(blas, plan, key, most, found) : 0;
        if (*way < count) {
            plan->algorithm = found[*way].algo;
            return true;
        }
        blas_plan_close(plan);
        *way -= count;
        if (count > 0)
            break;
    }
    return false;
}

void blas_plan_text(const struct blas_plan *plan, char text[256])
{
    const size_t words = sizeof plan->algorithm.data / sizeof plan->algorithm.data[0];
    int length = snprintf(text, 256, "cublas %d %d", (int)plan->fusion, (int)plan->bias);
    for (size_t i = 0; i < words && length < 256; i++)
        length += snprintf(text + length, (size_t)(256 - length), " %llx",
                           (unsigned long long)plan->algorithm.data[i]);
}

static bool parse_algorithm(struct blas_plan *plan, const char *text)
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

bool blas_plan_parse(const struct cuda_blas *blas, struct blas_plan *plan,
                     const struct product_key *key, const char *text)
{
    int fusion, bias, length = 0;
    cublasLtMatmulHeuristicResult_t result;
    if (sscanf(text, "cublas %d %d%n", &fusion, &bias, &length) != 2 || fusion < FUSED_BIAS ||
        fusion > FUSED_ALL || bias < BIAS_NONE || bias > BIAS_OURS ||
        (bias != BIAS_NONE) != key->bias)
        return false;
    plan->fusion = (enum blas_fusion)fusion;
    plan->bias = (enum blas_bias)bias;
    if (parse_algorithm(plan, text + length) && describe(plan, key) &&
        cublasLtMatmulAlgoCheck(blas->handle, plan->operation, plan->a, plan->b, plan->out,
                                plan->out, &plan->algorithm,
                                &result) == CUBLAS_STATUS_SUCCESS &&
        result.workspaceSize <= blas_workspace_bytes)
        return true;
    blas_plan_close(plan);
    return false;
}

/* ---- running ---- */

static void *scratch(struct cuda_blas *blas, size_t bytes, struct error *error)
{
    if (bytes > blas->scratch_bytes) {
        cudaFree(blas->scratch);
        blas->scratch_bytes = 0;
        if (cudaMalloc(&blas->scratch, bytes) != cudaSuccess) {
            (void)cudaGetLastError(); /* told here; it is no failure of the next operation */
            blas->scratch = NULL;
            error_memory(error, bytes, "a matrix product on the device");
            return NULL;
        }
        blas->scratch_bytes = bytes;
    }
    return blas->scratch;
}

/* Gives cuBLASLt the pointers of its epilogue. */
static enum status set_pointers(struct cuda_blas *blas, const struct cuda_queue *q,
                                const struct blas_plan *plan, const struct matmul *args,
                                cublasLtEpilogue_t epilogue, struct error *error)
{
    const void *bias = args->bias, *aux = args->before;
    cublasStatus_t s = CUBLAS_STATUS_SUCCESS;
    if (epilogue == CUBLASLT_EPILOGUE_BGRADB) {
        bias = scratch(blas, args->rows * sizeof(float), error);
    } else if (epilogue_reads_bias(epilogue) && plan->bias == BIAS_ROUNDED) {
        bias = scratch(blas, args->columns * sizeof(uint16_t), error);
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
static enum status end_sums(struct cuda_blas *blas, const struct cuda_queue *q,
                            const struct blas_plan *plan, const struct product_key *key,
                            const struct matmul *args, struct error *error)
{
    const enum element type = (enum element)key->operands;
    if (plan->fusion == FUSED_ALL) {
        cuda_add(q, ELEMENT_FLOAT, args->a_sums, args->a_sums, blas->scratch, args->rows);
    } else if (args->a_transposed) {
        float *parts = (float *)scratch(
            blas, cuda_sum_rows_floats(args->inner, args->rows) * sizeof(float), error);
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
static void end_product(const struct cuda_queue *q, const struct blas_plan *plan,
                        const struct product_key *key, const struct matmul *args,
                        void *product)
{
    const enum element type = (enum element)key->result;
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

enum status blas_plan_run(struct cuda_blas *blas, const struct cuda_queue *q,
                          const struct blas_plan *plan, const struct product_key *key,
                          const struct matmul *args, struct error *error)
{
    const float alpha = 1, beta = args->accumulate ? 1 : 0;
    cublasLtEpilogue_t epilogue;
    epilogue_of(key, plan->fusion, plan->bias, &epilogue);
    if (set_pointers(blas, q, plan, args, epilogue, error) != STATUS_OK)
        return error->status;
    /* The sum before the activation goes where it is wanted, and is read from there. */
    void *product = plan->fusion == FUSED_BIAS && args->epilogue == EPILOGUE_ACTIVATION &&
                            args->before != NULL
                        ? args->before
                        : args->out;
    const cublasStatus_t s =
        cublasLtMatmul(blas->handle, plan->operation, &alpha, args->b, plan->a, args->a,
                       plan->b, &beta, product, plan->out, product, plan->out,
                       &plan->algorithm, blas->workspace, blas_workspace_bytes,
                       (cudaStream_t)q->stream);
    if (s != CUBLAS_STATUS_SUCCESS)
        return error_set(error, STATUS_SYSTEM,
                         "matrix product %zu x %zu x %zu: cublasLt says %s", args->rows,
                         args->columns, args->inner, cublasLtGetStatusString(s));
    end_product(q, plan, key, args, product);
    return args->a_sums != NULL ? end_sums(blas, q, plan, key, args, error) : STATUS_OK;
}
