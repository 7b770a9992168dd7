/* test_cuda_matmul.cc - how cuda_matmul.cu and cuda_blas.cu talk to cuBLASLt, on a library of
 * the same interface that computes on the processor: layouts, epilogues and pointers, what is
 * left to our kernels, and the choice among ways: the fastest that gives the same bits twice,
 * kept in a file. */
#include <stdlib.h>
#include <unistd.h>

#include "kernels/cuda/device.h"
#include "tests/emulator/cublasLt.h"
#include "tests/unit/check.h"

/* The emulator's runtime has no more than the backend uses. */
struct cudaDeviceProp {
    char name[64];
    int major, minor, multiProcessorCount, l2CacheSize;
};
static cudaError_t cudaGetDevice(int *device) { return *device = 0, cudaSuccess; }
static cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int)
{
    *p = {"processor", 9, 0, 4, 4096};
    return cudaSuccess;
}
static cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, 0);
}
static cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t, cudaEvent_t);

#include "kernels/cuda/cuda_blas.cu"
#include "kernels/cuda/cuda_timing.cu"

/* The ones to be tested, beside the emulated backend's, which they are compared with. */
#define cuda_matmul tested_matmul
#define cuda_matmul_open tested_matmul_open
#define cuda_matmul_close tested_matmul_close
#define cuda_matmul_run tested_matmul_run
#define cuda_matmul_run_way tested_matmul_run_way
#include "kernels/cuda/cuda_matmul.cu"
#undef cuda_matmul
#undef cuda_matmul_open
#undef cuda_matmul_close
#undef cuda_matmul_run
#undef cuda_matmul_run_way

extern "C" {
#include "base/rng.h"
struct cuda_matmul;
enum status cuda_matmul_open(struct cuda_matmul **m, struct error *error);
enum status cuda_matmul_run(struct cuda_matmul *m, const struct cuda_queue *q,
                            enum element operands, enum element result,
                            const struct matmul *args, struct error *error);
}

/* ---- the library ---- */

enum { algorithms = 3 };

/* What the library is to be like, and what it has done. */
static struct {
    bool float_bias_refused, any_bias_refused, fused_refused, algorithms_refused;
    double cost[algorithms], fused_cost, graph_cost; /* ms */
    int unsteady; /* the algorithm that gives other bits every time; < 0: none */
    bool graphs;
    int products, asked, last_algorithm;
    bool last_fused, last_graph;
    double last_cost;
    int alive; /* descriptors and graphs */
} library;

struct library_operation {
    cublasOperation_t transposed[2];
    cublasLtEpilogue_t epilogue;
    void *bias, *aux;
    cudaDataType_t bias_type;
    int64_t aux_stride;
};

struct library_layout {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t stride;
};

static cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t, cudaEvent_t)
{
    *ms = (float)library.last_cost;
    return cudaSuccess;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = (cublasLtHandle_t)&library;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }
size_t cublasLtGetVersion(void) { return 1; }
const char *cublasLtGetStatusString(cublasStatus_t) { return "no"; }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *operation, cublasComputeType_t,
                                        cudaDataType_t)
{
    *operation = (cublasLtMatmulDesc_t)calloc(1, sizeof **operation);
    library.alive++;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation)
{
    free(operation);
    library.alive--;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t o,
                                              cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t bytes)
{
    const struct {
        void *field;
        size_t bytes;
    } fields[] = {
        {&o->transposed[0], sizeof o->transposed[0]},
        {&o->transposed[1], sizeof o->transposed[1]},
        {&o->epilogue, sizeof o->epilogue},
        {&o->bias, sizeof o->bias},
        {&o->bias_type, sizeof o->bias_type},
        {&o->aux, sizeof o->aux},
        {&o->aux_stride, sizeof o->aux_stride},
    };
    if (bytes != fields[name].bytes)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(fields[name].field, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t columns, int64_t stride)
{
    *layout = (cublasLtMatrixLayout_t)calloc(1, sizeof **layout);
    **layout = {type, rows, columns, stride};
    library.alive++;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    free(layout);
    library.alive--;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    *preference = NULL;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t,
                                                    const void *, size_t bytes)
{
    return bytes == 4 || bytes == 8 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

static bool reads_bias(cublasLtEpilogue_t e)
{
    return e == CUBLASLT_EPILOGUE_BIAS || e == CUBLASLT_EPILOGUE_GELU_BIAS ||
           e == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
}

static bool is_fused(cublasLtEpilogue_t e)
{
    return e != CUBLASLT_EPILOGUE_DEFAULT && e != CUBLASLT_EPILOGUE_BIAS;
}

/* The shapes fit together, and the library is not told to refuse. */
static bool supported(cublasLtMatmulDesc_t o, cublasLtMatrixLayout_t a,
                      cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t d)
{
    const bool at = o->transposed[0] == CUBLAS_OP_T, bt = o->transposed[1] == CUBLAS_OP_T;
    const uint64_t inner = at ? a->rows : a->columns;
    if ((at ? a->columns : a->rows) != d->rows || (bt ? b->rows : b->columns) != d->columns ||
        (bt ? b->columns : b->rows) != inner || a->type != b->type)
        return false;
    if (reads_bias(o->epilogue) &&
        (library.any_bias_refused || (library.float_bias_refused && d->type == CUDA_R_16BF &&
                                      o->bias_type == CUDA_R_32F)))
        return false;
    return !(is_fused(o->epilogue) && library.fused_refused);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t, cublasLtMatmulDesc_t o, cublasLtMatrixLayout_t a,
    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
    cublasLtMatmulPreference_t, int most, cublasLtMatmulHeuristicResult_t *found, int *count)
{
    library.asked++;
    *count = 0;
    if (!supported(o, a, b, d))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    for (; *count < most && *count < algorithms; ++*count) {
        found[*count] = {};
        found[*count].algo.data[0] = (uint64_t)*count;
        found[*count].algo.data[7] = 0xfedcba9876543210u;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t o,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algorithm,
                                       cublasLtMatmulHeuristicResult_t *result)
{
    *result = {};
    return supported(o, a, b, d) && algorithm->data[0] < algorithms &&
                   algorithm->data[7] == 0xfedcba9876543210u && !library.algorithms_refused
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_NOT_SUPPORTED;
}

static double at(const void *from, cudaDataType_t type, size_t i)
{
    return (double)(type == CUDA_R_16BF ? to_float(((const bf16 *)from)[i])
                                        : ((const float *)from)[i]);
}

static void put(void *to, cudaDataType_t type, size_t i, double x)
{
    if (type == CUDA_R_16BF)
        from_float((bf16 *)to + i, (float)x);
    else
        ((float *)to)[i] = (float)x;
}

static double gelu_tanh(double x, double *slope)
{
    const double u = 1.5957691216057308 * (x + 0.044715 * x * x * x), s = 1 / (1 + exp(-u));
    *slope = s + x * s * (1 - s) * 1.5957691216057308 * (1 + 3 * 0.044715 * x * x);
    return x * s;
}

/* Column-major, as the library's. */
static double element(const void *from, cublasLtMatrixLayout_t l, bool transposed, uint64_t row,
                      uint64_t column)
{
    const uint64_t r = transposed ? column : row, c = transposed ? row : column;
    return at(from, l->type, c * (uint64_t)l->stride + r);
}

static double ended(cublasLtMatmulDesc_t o, cudaDataType_t type, double x, uint64_t row,
                    uint64_t column)
{
    const size_t aux = column * (uint64_t)o->aux_stride + row;
    double slope;
    if (reads_bias(o->epilogue))
        x += at(o->bias, o->bias_type, row);
    if (o->epilogue == CUBLASLT_EPILOGUE_GELU_AUX ||
        o->epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS)
        put(o->aux, type, aux, x);
    if (o->epilogue == CUBLASLT_EPILOGUE_DGELU) {
        gelu_tanh(at(o->aux, type, aux), &slope);
        return x * slope;
    }
    return is_fused(o->epilogue) && o->epilogue != CUBLASLT_EPILOGUE_BGRADB
               ? gelu_tanh(x, &slope)
               : x;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t o, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t la, const void *b,
                              cublasLtMatrixLayout_t lb, const void *beta, const void *c,
                              cublasLtMatrixLayout_t, void *d, cublasLtMatrixLayout_t ld,
                              const cublasLtMatmulAlgo_t *algorithm, void *, size_t,
                              cudaStream_t)
{
    const bool at_ = o->transposed[0] == CUBLAS_OP_T, bt = o->transposed[1] == CUBLAS_OP_T;
    const uint64_t inner = at_ ? la->rows : la->columns;
    const double scale = (double)*(const float *)alpha, add = (double)*(const float *)beta;
    library.last_algorithm = (int)algorithm->data[0];
    library.last_fused = is_fused(o->epilogue);
    library.last_graph = false;
    library.last_cost = library.last_fused ? library.fused_cost
                                           : library.cost[library.last_algorithm];
    library.products++;
    for (uint64_t column = 0; column < ld->columns; column++) {
        double b_sum = 0;
        for (uint64_t i = 0; i < inner; i++)
            b_sum += element(b, lb, bt, i, column);
        if (o->epilogue == CUBLASLT_EPILOGUE_BGRADB)
            put(o->bias, ld->type, column, b_sum);
        for (uint64_t row = 0; row < ld->rows; row++) {
            const size_t to = column * (uint64_t)ld->stride + row;
            double sum = 0;
            for (uint64_t i = 0; i < inner; i++)
                sum += element(a, la, at_, row, i) * element(b, lb, bt, i, column);
            if (library.last_algorithm == library.unsteady)
                sum *= 1 + library.products % 7 * 0.01;
            sum = scale * sum + (add == 0 ? 0 : add * at(c, ld->type, to));
            put(d, ld->type, to, ended(o, ld->type, sum, row, column));
        }
    }
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- the library of graphs: two engines, of which the first cannot be made ready ---- */

struct cuda_graph {
    int rank;
};

static struct cuda_matmul *emulated;
static struct cuda_queue queue;

extern "C" {
enum status cuda_graphs_open(struct cuda_graphs **graphs, const char *, struct error *error)
{
    *graphs = (struct cuda_graphs *)&library;
    return library.graphs ? STATUS_OK : error_set(error, STATUS_UNAVAILABLE, "no graphs");
}

void cuda_graphs_close(struct cuda_graphs *) {}
size_t cuda_graphs_version(const struct cuda_graphs *) { return 2; }

enum status cuda_graph_open(struct cuda_graph **graph, struct cuda_graphs *,
                            const struct matmul *args, size_t alignment, struct error *)
{
    CHECK((uintptr_t)args->a % alignment == 0 && !args->accumulate, "a graph of %zu",
          alignment);
    *graph = (struct cuda_graph *)calloc(1, sizeof **graph);
    library.alive++;
    return STATUS_OK;
}

void cuda_graph_close(struct cuda_graph *graph)
{
    library.alive -= graph != NULL;
    free(graph);
}

int cuda_graph_engines(const struct cuda_graph *) { return 2; }
int64_t cuda_graph_engine(const struct cuda_graph *, int rank) { return 40 + rank; }

enum status cuda_graph_prepare(struct cuda_graph *graph, int rank, size_t, struct error *error)
{
    graph->rank = rank;
    return rank == 0 ? error_set(error, STATUS_UNAVAILABLE, "refused") : STATUS_OK;
}

enum status cuda_graph_run(struct cuda_graph *graph, void *, const struct matmul *args, void *,
                           struct error *error)
{
    CHECK(graph->rank == 1, "engine %d runs", graph->rank);
    library.last_graph = true;
    library.last_cost = library.graph_cost;
    return cuda_matmul_run(emulated, &queue, ELEMENT_BF16, ELEMENT_BF16, args, error);
}
}

/* ---- products ---- */

static struct rng rng;

enum { arrays_most = 8 };
static void *arrays[arrays_most];
static int array_count;

static void *device_values(enum element type, size_t count, bool random)
{
    void *memory = NULL;
    if (cudaMalloc(&memory, count * 4 + 64) != cudaSuccess || array_count == arrays_most)
        exit(71);
    arrays[array_count++] = memory;
    memset(memory, 0xff, count * 4 + 64);
    for (size_t i = 0; random && i < count; i++)
        put(memory, type == ELEMENT_BF16 ? CUDA_R_16BF : CUDA_R_32F, i, rng_normal(&rng));
    return memory;
}

static void free_arrays(void)
{
    while (array_count > 0)
        cudaFree(arrays[--array_count]);
}

struct form {
    size_t rows, columns, inner;
    enum element operands, result;
    int flags; /* 1, 2: operands transposed; 4: bias; 8: accumulate; 16: a_sums; 32: before */
    enum matmul_epilogue epilogue;
    enum activation activation;
};

static struct matmul make(const struct form *f)
{
    const size_t n = f->rows * f->columns;
    struct matmul m = {};
    m.rows = f->rows;
    m.columns = f->columns;
    m.inner = f->inner;
    m.a_transposed = f->flags & 1;
    m.b_transposed = f->flags & 2;
    m.accumulate = f->flags & 8;
    m.epilogue = f->epilogue;
    m.activation = f->activation;
    m.a = device_values(f->operands, f->rows * f->inner, true);
    m.b = device_values(f->operands, f->inner * f->columns, true);
    m.bias = f->flags & 4 ? (float *)device_values(ELEMENT_FLOAT, f->columns, true) : NULL;
    m.a_sums = f->flags & 16 ? (float *)device_values(ELEMENT_FLOAT, f->rows, true) : NULL;
    m.out = device_values(m.accumulate ? ELEMENT_FLOAT : f->result, n, m.accumulate);
    if (f->epilogue != EPILOGUE_NONE && f->flags & 32)
        m.before =
            device_values(f->result, n, f->epilogue == EPILOGUE_ACTIVATION_BACKWARD);
    return m;
}

/* The largest difference by the size of the values, NaN where any is. */
static double difference(const void *a, const void *b, enum element type, size_t count)
{
    const cudaDataType_t t = type == ELEMENT_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    double worst = 0;
    for (size_t i = 0; i < count; i++) {
        const double x = at(a, t, i), y = at(b, t, i), off = fabs(x - y) / (1 + fabs(y));
        if (!(off <= worst))
            worst = off;
    }
    return worst;
}

/* way < 0: the chosen one. False where there is no such way. */
static bool check_form(struct tested_matmul *m, const struct form *f, int way)
{
    const double tolerance = f->operands == ELEMENT_BF16 ? 0.02 : 1e-5;
    const enum element type = f->flags & 8 ? ELEMENT_FLOAT : f->result;
    const size_t n = f->rows * f->columns;
    struct error error = {};
    char name[64] = "";
    rng_init(&rng, (uint64_t)f->flags + 7, 0, 0, RNG_TEST);
    const struct matmul want = make(f);
    rng_init(&rng, (uint64_t)f->flags + 7, 0, 0, RNG_TEST);
    void *kept[arrays_most];
    const int kept_count = array_count;
    memcpy(kept, arrays, sizeof kept);
    array_count = 0;
    const struct matmul got = make(f);
    cuda_matmul_run(emulated, &queue, f->operands, f->result, &want, &error);
    const enum status status =
        way < 0 ? tested_matmul_run(m, &queue, f->operands, f->result, &got, &error)
                : tested_matmul_run_way(m, &queue, f->operands, f->result, &got, way, name,
                                        &error);
    if (status == STATUS_OK) {
        const double off = difference(got.out, want.out, type, n);
        CHECK(off <= tolerance, "form %d, epilogue %d, way %d %s: out is off by %g", f->flags,
              (int)f->epilogue, way, name, off);
        if (f->flags & 16)
            CHECK(difference(got.a_sums, want.a_sums, ELEMENT_FLOAT, f->rows) <= 1e-5,
                  "form %d, way %d %s: a_sums", f->flags, way, name);
        if (want.before != NULL)
            CHECK(difference(got.before, want.before, f->result, n) <= tolerance,
                  "form %d, epilogue %d, way %d %s: before", f->flags, (int)f->epilogue, way,
                  name);
    } else {
        CHECK(way >= 0 && (status == STATUS_UNAVAILABLE || status == STATUS_SYSTEM),
              "form %d, epilogue %d: %s", f->flags, (int)f->epilogue, error.text);
    }
    free_arrays();
    memcpy(arrays, kept, sizeof kept);
    array_count = kept_count;
    free_arrays();
    return status != STATUS_UNAVAILABLE;
}

static void reset(void)
{
    memset(&library, 0, sizeof library);
    library.unsteady = -1;
    library.cost[0] = 3;
    library.cost[1] = 2;
    library.cost[2] = 4;
    library.fused_cost = library.graph_cost = 5;
}

static struct tested_matmul *open_tested(void)
{
    struct tested_matmul *m = NULL;
    struct error error;
    CHECK(tested_matmul_open(&m, &error) == STATUS_OK, "open");
    m->graph_values = 0;
    return m;
}

static void close_tested(struct tested_matmul *m)
{
    tested_matmul_close(m);
    CHECK(library.alive == 0, "%d descriptors are left", library.alive);
}

/* All forms in all ways, with a library that refuses this and that. */
static void test_ways(void)
{
    static const size_t sizes[][3] = {{1, 1, 1}, {5, 7, 3}, {16, 8, 24}};
    for (int refusal = 0; refusal < 4; refusal++) {
        reset();
        library.graphs = refusal == 0;
        library.float_bias_refused = refusal == 1;
        library.any_bias_refused = refusal == 2;
        library.fused_refused = refusal == 3;
        struct tested_matmul *m = open_tested();
        for (size_t s = 0; s < 3; s++)
            for (int form = 0; form < 3 * 64; form++) {
                struct form f = {sizes[s][0], sizes[s][1], sizes[s][2], ELEMENT_BF16,
                                 ELEMENT_BF16, form % 64, EPILOGUE_NONE, ACTIVATION_GELU_TANH};
                f.epilogue = (enum matmul_epilogue)(form / 64);
                f.activation = (enum activation)(form % 3);
                const bool backward = f.epilogue == EPILOGUE_ACTIVATION_BACKWARD;
                if ((f.flags & 8 && (f.flags & 4 || f.epilogue != EPILOGUE_NONE)) ||
                    (f.flags & 16 && !(f.flags & 8)) ||
                    (f.flags & 32 && f.epilogue == EPILOGUE_NONE) ||
                    (backward && (f.flags & 4 || !(f.flags & 32))))
                    continue;
                int way = 0;
                while (check_form(m, &f, way))
                    way++;
                CHECK(way > 0, "form %d has no way", form);
                check_form(m, &f, -1);
                f.operands = f.result = ELEMENT_FLOAT;
                for (way = 0; check_form(m, &f, way); way++)
                    CHECK(!library.last_fused && !library.last_graph, "fp32 is approximated");
                check_form(m, &f, -1);
                f.operands = ELEMENT_BF16;
                if (f.epilogue == EPILOGUE_NONE)
                    check_form(m, &f, -1);
            }
        close_tested(m);
    }
}

/* ---- the choice ---- */

static char plans_path[] = "/tmp/clipipe-matmul-XXXXXX";
static const struct form plain = {16, 8, 24, ELEMENT_BF16, ELEMENT_BF16, 6, EPILOGUE_NONE,
                                  ACTIVATION_GELU};
static const struct form gradient = {16, 8, 24, ELEMENT_BF16, ELEMENT_BF16, 25, EPILOGUE_NONE,
                                     ACTIVATION_GELU};
static const struct form tanh_form = {16, 8, 24, ELEMENT_BF16, ELEMENT_BF16, 38,
                                      EPILOGUE_ACTIVATION, ACTIVATION_GELU_TANH};

/* One run in a cache opened anew; what it used is in `library`. */
static void run_once(const struct form *f)
{
    struct tested_matmul *m = open_tested();
    check_form(m, f, -1);
    const int products = library.products;
    check_form(m, f, -1);
    CHECK(library.products - products == (library.last_graph ? 0 : 1),
          "the second run is one product");
    close_tested(m);
}

static void test_choice(void)
{
    setenv("CLIPIPE_CUDA_PLANS", plans_path, 1);
    reset();
    unlink(plans_path);
    run_once(&plain);
    CHECK(library.last_algorithm == 1 && library.products > 10,
          "the fastest is timed and taken");
    library.products = library.asked = 0;
    library.cost[1] = 9;
    run_once(&plain);
    CHECK(library.last_algorithm == 1 && library.products == 2 && library.asked == 0,
          "the file's choice is taken as it is");
    library.algorithms_refused = true; /* the file's words do not fit this library */
    run_once(&plain);
    CHECK(library.last_algorithm == 0, "what is refused is timed again");
    library.algorithms_refused = false;

    unlink(plans_path);
    reset();
    library.cost[1] = 2.97;
    run_once(&plain);
    CHECK(library.last_algorithm == 0, "one percent is noise");

    unlink(plans_path);
    reset();
    library.unsteady = 1;
    library.cost[2] = 2.5;
    run_once(&plain);
    CHECK(library.last_algorithm == 2, "what does not repeat is not taken: %d",
          library.last_algorithm);

    unlink(plans_path);
    reset();
    library.fused_cost = 1;
    run_once(&tanh_form);
    CHECK(library.last_fused, "the library's epilogue");
    unlink(plans_path);
    reset();
    library.graphs = true;
    library.graph_cost = 1;
    for (int i = 0; i < 2; i++, library.graph_cost = 9) {
        run_once(&tanh_form);
        CHECK(library.last_graph, "a graph, %s", i == 0 ? "timed" : "from the file");
    }

    unlink(plans_path);
    reset();
    run_once(&gradient); /* timing adds nothing to out and a_sums: check_form looks */
    CHECK(library.products > 10, "a product that adds is timed");

    reset();
    setenv("CLIPIPE_CUDA_PLANS", "off", 1);
    run_once(&plain);
    CHECK(library.last_algorithm == 0 && library.products == 2, "off: the first, untimed");
    unlink(plans_path);
}

/* More shapes than slots: every one still gets its choice. */
static void test_many(void)
{
    reset();
    setenv("CLIPIPE_CUDA_PLANS", "off", 1);
    struct tested_matmul *m = open_tested();
    for (int round = 0; round < 2; round++)
        for (size_t rows = 1; rows <= 1500; rows++) {
            const struct form f = {rows, 1, 1, ELEMENT_FLOAT, ELEMENT_FLOAT, 0, EPILOGUE_NONE,
                                   ACTIVATION_GELU};
            check_form(m, &f, -1);
        }
    close_tested(m);
}

int main(void)
{
    struct error error;
    const char *mistake;
    const int file = mkstemp(plans_path);
    CHECK(file >= 0 && close(file) == 0, "%s", plans_path);
    cudaStream_t stream;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess, "a stream");
    queue.stream = stream;
    queue.multiprocessors = 4;
    queue.shared_bytes = 48 * 1024;
    CHECK(cuda_matmul_open(&emulated, &error) == STATUS_OK, "the emulated ones");
    setenv("CLIPIPE_CUDA_PLANS", "off", 1);
    test_ways();
    test_choice();
    test_many();
    cudaStreamDestroy(stream);
    const size_t mistakes = emulator_take_failures(&mistake);
    CHECK(mistakes == 0, "%zu mistakes, the first: %s", mistakes, mistake);
    return check_report("test_cuda_matmul");
}
