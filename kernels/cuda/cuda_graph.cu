/* cuDNN's backend API: every object is a descriptor that is made, given attributes and
 * finalized. A graph keeps its descriptors in one list, and its first failure until asked. */
#include "kernels/cuda/cuda_graph.h"

#include <stdlib.h>
#include <string.h>

#if __has_include(<cudnn.h>)

#include <cudnn.h>
#include <dlfcn.h>

#define CUDNN_LIBRARY "libcudnn.so.9"

struct cuda_graphs {
    void *library;
    cudnnHandle_t handle; /* made for the first graph; NULL with a described device */
    cudnnBackendDescriptor_t device; /* NULL with a real one */
    size_t version;
    __typeof__(&cudnnCreate) create;
    __typeof__(&cudnnDestroy) destroy;
    __typeof__(&cudnnSetStream) set_stream;
    __typeof__(&cudnnGetVersion) get_version;
    __typeof__(&cudnnGetErrorString) error_string;
    __typeof__(&cudnnBackendCreateDescriptor) create_descriptor;
    __typeof__(&cudnnBackendDestroyDescriptor) destroy_descriptor;
    __typeof__(&cudnnBackendSetAttribute) set_attribute;
    __typeof__(&cudnnBackendGetAttribute) get_attribute;
    __typeof__(&cudnnBackendFinalize) finalize;
    __typeof__(&cudnnBackendExecute) execute;
};

enum { descriptors_most = 64, engines_most = 16, tensors_most = 6 };

/* Tensors are known by number, from 1. */
enum tensor_number {
    TENSOR_A = 1,
    TENSOR_B,
    TENSOR_BIAS,
    TENSOR_PRODUCT,
    TENSOR_BEFORE,
    TENSOR_OUT
};

struct cuda_graph {
    struct cuda_graphs *graphs;
    cudnnStatus_t status; /* the first failure; nothing is called after it */
    const char *failed;   /* what failed */
    cudnnBackendDescriptor_t made[descriptors_most];
    int made_count;
    cudnnBackendDescriptor_t operations; /* the graph */
    cudnnBackendDescriptor_t engines[engines_most];
    int64_t engine_numbers[engines_most];
    int engine_count;
    cudnnBackendDescriptor_t plan; /* not in the list: replaced */
};

/* ---- the library ---- */

static bool find(struct cuda_graphs *graphs, void *function, const char *name)
{
    void *symbol = dlsym(graphs->library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

static bool find_all(struct cuda_graphs *g)
{
    return find(g, &g->create, "cudnnCreate") && find(g, &g->destroy, "cudnnDestroy") &&
           find(g, &g->set_stream, "cudnnSetStream") &&
           find(g, &g->get_version, "cudnnGetVersion") &&
           find(g, &g->error_string, "cudnnGetErrorString") &&
           find(g, &g->create_descriptor, "cudnnBackendCreateDescriptor") &&
           find(g, &g->destroy_descriptor, "cudnnBackendDestroyDescriptor") &&
           find(g, &g->set_attribute, "cudnnBackendSetAttribute") &&
           find(g, &g->get_attribute, "cudnnBackendGetAttribute") &&
           find(g, &g->finalize, "cudnnBackendFinalize") &&
           find(g, &g->execute, "cudnnBackendExecute");
}

static cudnnStatus_t describe_device(struct cuda_graphs *g, const char *json)
{
    cudnnStatus_t s = g->create_descriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &g->device);
    if (s == CUDNN_STATUS_SUCCESS)
        s = g->set_attribute(g->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                             CUDNN_TYPE_CHAR, (int64_t)strlen(json), json);
    return s == CUDNN_STATUS_SUCCESS ? g->finalize(g->device) : s;
}

enum status cuda_graphs_open(struct cuda_graphs **out, const char *device_json,
                             struct error *error)
{
    struct cuda_graphs *g = (struct cuda_graphs *)calloc(1, sizeof *g);
    if (g == NULL)
        return error_memory(error, sizeof *g, "cudnn graphs");
    g->library = dlopen(CUDNN_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (g->library == NULL || !find_all(g)) {
        error_set(error, STATUS_UNAVAILABLE, "no cudnn: %s", dlerror());
        cuda_graphs_close(g);
        return error->status;
    }
    g->version = g->get_version();
    const cudnnStatus_t s =
        device_json == NULL ? CUDNN_STATUS_SUCCESS : describe_device(g, device_json);
    if (s != CUDNN_STATUS_SUCCESS) {
        error_set(error, STATUS_UNAVAILABLE, "cannot start cudnn %zu: %s", g->version,
                  g->error_string(s));
        cuda_graphs_close(g);
        return error->status;
    }
    *out = g;
    return STATUS_OK;
}

/* The handle takes a while and memory on the device, and many a model needs none. */
static enum status start(struct cuda_graphs *g, struct error *error)
{
    if (g->handle != NULL || g->device != NULL)
        return STATUS_OK;
    const cudnnStatus_t s = g->create(&g->handle);
    if (s == CUDNN_STATUS_SUCCESS)
        return STATUS_OK;
    g->handle = NULL;
    return error_set(error, STATUS_UNAVAILABLE, "cannot start cudnn %zu: %s", g->version,
                     g->error_string(s));
}

/* The library stays loaded: its threads and its memory are not made to be taken down. */
void cuda_graphs_close(struct cuda_graphs *g)
{
    if (g == NULL)
        return;
    if (g->device != NULL)
        g->destroy_descriptor(g->device);
    if (g->handle != NULL)
        g->destroy(g->handle);
    free(g);
}

size_t cuda_graphs_version(const struct cuda_graphs *graphs)
{
    return graphs->version;
}

enum status cuda_graphs_device_json(struct cuda_graphs *g, char **json, struct error *error)
{
    cudnnBackendDescriptor_t device = NULL;
    int64_t size = 0;
    *json = NULL;
    if (start(g, error) != STATUS_OK)
        return error->status;
    cudnnStatus_t s = g->create_descriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &device);
    if (s == CUDNN_STATUS_SUCCESS)
        s = g->set_attribute(device, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1,
                             &g->handle);
    if (s == CUDNN_STATUS_SUCCESS)
        s = g->finalize(device);
    if (s == CUDNN_STATUS_SUCCESS)
        s = g->get_attribute(device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                             0, &size, NULL);
    if (s == CUDNN_STATUS_SUCCESS)
        *json = (char *)calloc((size_t)size + 1, 1);
    if (*json != NULL)
        s = g->get_attribute(device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                             size, &size, *json);
    if (device != NULL)
        g->destroy_descriptor(device);
    if (s == CUDNN_STATUS_SUCCESS && *json != NULL)
        return STATUS_OK;
    free(*json);
    return error_set(error, STATUS_UNAVAILABLE, "cudnn does not describe the device: %s",
                     g->error_string(s));
}

/* ---- descriptors ---- */

static bool good(struct cuda_graph *graph, cudnnStatus_t status, const char *what)
{
    if (graph->status == CUDNN_STATUS_SUCCESS && status != CUDNN_STATUS_SUCCESS) {
        graph->status = status;
        graph->failed = what;
    }
    return graph->status == CUDNN_STATUS_SUCCESS;
}

/* NULL after a failure, which the calls below then pass over. */
static cudnnBackendDescriptor_t make(struct cuda_graph *graph,
                                     cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t d = NULL;
    if (graph->status != CUDNN_STATUS_SUCCESS)
        return NULL;
    if (graph->made_count == descriptors_most)
        good(graph, CUDNN_STATUS_INTERNAL_ERROR, "too many descriptors");
    else if (good(graph, graph->graphs->create_descriptor(type, &d), "a descriptor"))
        graph->made[graph->made_count++] = d;
    return d;
}

static void set(struct cuda_graph *graph, cudnnBackendDescriptor_t d,
                cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                int64_t count, const void *values)
{
    if (graph->status == CUDNN_STATUS_SUCCESS)
        good(graph, graph->graphs->set_attribute(d, name, type, count, values), "an attribute");
}

static void set_descriptor(struct cuda_graph *graph, cudnnBackendDescriptor_t d,
                           cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t value)
{
    set(graph, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static void finalize(struct cuda_graph *graph, cudnnBackendDescriptor_t d, const char *what)
{
    if (graph->status == CUDNN_STATUS_SUCCESS)
        good(graph, graph->graphs->finalize(d), what);
}

/* A matrix as a batch of one. stride[2]: elements from row to row, and column to column. */
static cudnnBackendDescriptor_t tensor(struct cuda_graph *graph, enum tensor_number number,
                                       cudnnDataType_t type, bool kept, size_t alignment,
                                       size_t rows, size_t columns, size_t row_stride,
                                       size_t column_stride)
{
    const int64_t id = number, align = (int64_t)alignment;
    const int64_t sizes[3] = {1, (int64_t)rows, (int64_t)columns};
    const int64_t strides[3] = {(int64_t)(rows * columns), (int64_t)row_stride,
                                (int64_t)column_stride};
    const bool is_virtual = !kept;
    cudnnBackendDescriptor_t d = make(graph, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(graph, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    set(graph, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(graph, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align);
    set(graph, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 3, sizes);
    set(graph, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 3, strides);
    set(graph, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    finalize(graph, d, "a tensor");
    return d;
}

static cudnnBackendDescriptor_t product(struct cuda_graph *graph, cudnnBackendDescriptor_t a,
                                        cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t c)
{
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t how = make(graph, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    set(graph, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    finalize(graph, how, "a matrix product");
    cudnnBackendDescriptor_t d = make(graph, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    set_descriptor(graph, d, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    set_descriptor(graph, d, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    set_descriptor(graph, d, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c);
    set_descriptor(graph, d, CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
    finalize(graph, d, "a matrix product");
    return d;
}

static cudnnBackendDescriptor_t pointwise(struct cuda_graph *graph, cudnnPointwiseMode_t mode)
{
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const double beta = 1.702;
    cudnnBackendDescriptor_t d = make(graph, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(graph, d, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(graph, d, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type);
    if (mode == CUDNN_POINTWISE_SWISH_FWD || mode == CUDNN_POINTWISE_SWISH_BWD)
        set(graph, d, CUDNN_ATTR_POINTWISE_SWISH_BETA, CUDNN_TYPE_DOUBLE, 1, &beta);
    finalize(graph, d, "a function");
    return d;
}

/* y = f(x), or f(x, b); backward: y = x's gradient, from the gradient b of f(x). */
static cudnnBackendDescriptor_t apply(struct cuda_graph *graph, cudnnPointwiseMode_t mode,
                                      bool backward, cudnnBackendDescriptor_t x,
                                      cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t y)
{
    cudnnBackendDescriptor_t how = pointwise(graph, mode);
    cudnnBackendDescriptor_t d = make(graph, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_descriptor(graph, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    set_descriptor(graph, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b != NULL)
        set_descriptor(graph, d, backward ? CUDNN_ATTR_OPERATION_POINTWISE_DYDESC
                                          : CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    set_descriptor(graph, d, backward ? CUDNN_ATTR_OPERATION_POINTWISE_DXDESC
                                      : CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    finalize(graph, d, "an operation on every element");
    return d;
}

/* ---- the graph ---- */

static cudnnPointwiseMode_t mode_of(enum activation kind, bool backward)
{
    switch (kind) {
    case ACTIVATION_GELU:
        return backward ? CUDNN_POINTWISE_GELU_BWD : CUDNN_POINTWISE_GELU_FWD;
    case ACTIVATION_GELU_TANH:
        return backward ? CUDNN_POINTWISE_GELU_APPROX_TANH_BWD
                        : CUDNN_POINTWISE_GELU_APPROX_TANH_FWD;
    default:
        return backward ? CUDNN_POINTWISE_SWISH_BWD : CUDNN_POINTWISE_SWISH_FWD;
    }
}

static void describe(struct cuda_graph *graph, const struct matmul *args, size_t alignment)
{
    const size_t R = args->rows, C = args->columns, I = args->inner;
    const bool forward = args->epilogue == EPILOGUE_ACTIVATION;
    const bool backward = args->epilogue == EPILOGUE_ACTIVATION_BACKWARD;
    const cudnnDataType_t bf16 = CUDNN_DATA_BFLOAT16, fp32 = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t operations[3];
    int64_t count = 0;

    cudnnBackendDescriptor_t a = tensor(graph, TENSOR_A, bf16, true, alignment, R, I,
                                        args->a_transposed ? 1 : I, args->a_transposed ? R : 1);
    cudnnBackendDescriptor_t b = tensor(graph, TENSOR_B, bf16, true, alignment, I, C,
                                        args->b_transposed ? 1 : C, args->b_transposed ? I : 1);
    cudnnBackendDescriptor_t out = tensor(graph, TENSOR_OUT, bf16, true, alignment, R, C, C, 1);
    cudnnBackendDescriptor_t before = NULL;
    if (backward || (forward && args->before != NULL))
        before = tensor(graph, TENSOR_BEFORE, bf16, true, alignment, R, C, C, 1);
    else if (forward && args->bias != NULL)
        before = tensor(graph, TENSOR_BEFORE, fp32, false, 16, R, C, C, 1);

    cudnnBackendDescriptor_t sum = forward ? before : out; /* product + bias */
    cudnnBackendDescriptor_t plain = sum;                  /* the product alone */
    if (args->bias != NULL || backward || plain == NULL)
        plain = tensor(graph, TENSOR_PRODUCT, fp32, false, 16, R, C, C, 1);
    operations[count++] = product(graph, a, b, plain);
    if (args->bias != NULL) {
        cudnnBackendDescriptor_t bias =
            tensor(graph, TENSOR_BIAS, fp32, true, 4, 1, C, C, 1);
        operations[count++] = apply(graph, CUDNN_POINTWISE_ADD, false, plain, bias, sum);
    }
    if (forward)
        operations[count++] = apply(graph, mode_of(args->activation, false), false,
                                    sum != NULL ? sum : plain, NULL, out);
    if (backward)
        operations[count++] = apply(graph, mode_of(args->activation, true), true, before, plain,
                                    out);

    graph->operations = make(graph, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(graph, graph->operations, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
        count, operations);
    if (graph->graphs->handle != NULL)
        set(graph, graph->operations, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1,
            &graph->graphs->handle);
    finalize(graph, graph->operations, "a graph");
}

/* Whether the engine of a configuration adds in a fixed order and in fp32; *number is its. */
static bool engine_wanted(struct cuda_graph *graph, cudnnBackendDescriptor_t config,
                          int64_t *number)
{
    struct cuda_graphs *g = graph->graphs;
    cudnnBackendDescriptor_t engine = NULL;
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t count = 0;
    if (g->create_descriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) != CUDNN_STATUS_SUCCESS)
        return false;
    bool wanted =
        g->get_attribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                         &count, &engine) == CUDNN_STATUS_SUCCESS &&
        g->get_attribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &count,
                         number) == CUDNN_STATUS_SUCCESS &&
        g->get_attribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                         CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes) ==
            CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; wanted && i < count; i++)
        wanted = notes[i] != CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC &&
                 notes[i] != CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS &&
                 notes[i] != CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
    g->destroy_descriptor(engine);
    return wanted;
}

static void ask(struct cuda_graph *graph)
{
    struct cuda_graphs *g = graph->graphs;
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    cudnnBackendDescriptor_t found[engines_most];
    int64_t count = 0;
    cudnnBackendDescriptor_t heuristics = make(graph, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_descriptor(graph, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph->operations);
    set(graph, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (g->device != NULL)
        set_descriptor(graph, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, g->device);
    finalize(graph, heuristics, "the choice of engines");
    for (int i = 0; i < engines_most; i++)
        found[i] = make(graph, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (graph->status != CUDNN_STATUS_SUCCESS ||
        !good(graph,
              g->get_attribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                               CUDNN_TYPE_BACKEND_DESCRIPTOR, engines_most, &count, found),
              "the choice of engines"))
        return;
    for (int64_t i = 0; i < count && i < engines_most; i++) {
        int64_t number;
        if (engine_wanted(graph, found[i], &number)) {
            graph->engine_numbers[graph->engine_count] = number;
            graph->engines[graph->engine_count++] = found[i];
        }
    }
}

enum status cuda_graph_open(struct cuda_graph **out, struct cuda_graphs *graphs,
                            const struct matmul *args, size_t alignment, struct error *error)
{
    if (start(graphs, error) != STATUS_OK)
        return error->status;
    struct cuda_graph *graph = (struct cuda_graph *)calloc(1, sizeof *graph);
    if (graph == NULL)
        return error_memory(error, sizeof *graph, "a cudnn graph");
    graph->graphs = graphs;
    describe(graph, args, alignment);
    ask(graph);
    if (graph->status != CUDNN_STATUS_SUCCESS)
        error_set(error, STATUS_UNAVAILABLE, "cudnn takes no such product: %s: %s",
                  graph->failed, graphs->error_string(graph->status));
    else if (graph->engine_count == 0)
        error_set(error, STATUS_UNAVAILABLE, "cudnn has no deterministic engine for a product");
    if (graph->engine_count == 0) {
        cuda_graph_close(graph);
        return error->status;
    }
    *out = graph;
    return STATUS_OK;
}

void cuda_graph_close(struct cuda_graph *graph)
{
    if (graph == NULL)
        return;
    if (graph->plan != NULL)
        graph->graphs->destroy_descriptor(graph->plan);
    while (graph->made_count > 0)
        graph->graphs->destroy_descriptor(graph->made[--graph->made_count]);
    free(graph);
}

int cuda_graph_engines(const struct cuda_graph *graph)
{
    return graph->engine_count;
}

int64_t cuda_graph_engine(const struct cuda_graph *graph, int rank)
{
    return graph->engine_numbers[rank];
}

/* ---- running ---- */

enum status cuda_graph_prepare(struct cuda_graph *graph, int rank, size_t most_bytes,
                               struct error *error)
{
    struct cuda_graphs *g = graph->graphs;
    int64_t bytes = 0, count = 0;
    if (graph->plan != NULL)
        g->destroy_descriptor(graph->plan);
    graph->plan = NULL;
    cudnnStatus_t s =
        g->create_descriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &graph->plan);
    if (s == CUDNN_STATUS_SUCCESS)
        s = g->set_attribute(graph->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE,
                             1, &g->handle);
    if (s == CUDNN_STATUS_SUCCESS)
        s = g->set_attribute(graph->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                             CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph->engines[rank]);
    if (s == CUDNN_STATUS_SUCCESS)
        s = g->finalize(graph->plan);
    if (s == CUDNN_STATUS_SUCCESS)
        s = g->get_attribute(graph->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                             CUDNN_TYPE_INT64, 1, &count, &bytes);
    if (s != CUDNN_STATUS_SUCCESS)
        return error_set(error, STATUS_UNAVAILABLE, "cudnn's engine %lld: %s",
                         (long long)graph->engine_numbers[rank], g->error_string(s));
    if (bytes < 0 || (size_t)bytes > most_bytes)
        return error_set(error, STATUS_UNAVAILABLE,
                         "cudnn's engine %lld wants %lld bytes of scratch",
                         (long long)graph->engine_numbers[rank], (long long)bytes);
    return STATUS_OK;
}

static cudnnStatus_t fill_pack(struct cuda_graphs *g, cudnnBackendDescriptor_t pack,
                               const struct matmul *args, void *scratch)
{
    int64_t numbers[tensors_most] = {TENSOR_A, TENSOR_B, TENSOR_OUT};
    const void *pointers[tensors_most] = {args->a, args->b, args->out};
    int64_t count = 3;
    if (args->bias != NULL) {
        numbers[count] = TENSOR_BIAS;
        pointers[count++] = args->bias;
    }
    if (args->before != NULL && args->epilogue != EPILOGUE_NONE) {
        numbers[count] = TENSOR_BEFORE;
        pointers[count++] = args->before;
    }
    cudnnStatus_t s = g->set_attribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS,
                                       CUDNN_TYPE_INT64, count, numbers);
    if (s == CUDNN_STATUS_SUCCESS)
        s = g->set_attribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
                             count, pointers);
    if (s == CUDNN_STATUS_SUCCESS)
        s = g->set_attribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1,
                             &scratch);
    return s == CUDNN_STATUS_SUCCESS ? g->finalize(pack) : s;
}

enum status cuda_graph_run(struct cuda_graph *graph, void *stream, const struct matmul *args,
                           void *scratch, struct error *error)
{
    struct cuda_graphs *g = graph->graphs;
    cudnnBackendDescriptor_t pack = NULL;
    cudnnStatus_t s = g->create_descriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (s == CUDNN_STATUS_SUCCESS)
        s = fill_pack(g, pack, args, scratch);
    if (s == CUDNN_STATUS_SUCCESS)
        s = g->set_stream(g->handle, (cudaStream_t)stream);
    if (s == CUDNN_STATUS_SUCCESS)
        s = g->execute(g->handle, graph->plan, pack);
    if (pack != NULL)
        g->destroy_descriptor(pack);
    if (s == CUDNN_STATUS_SUCCESS)
        return STATUS_OK;
    return error_set(error, STATUS_SYSTEM, "matrix product %zu x %zu x %zu: cudnn says %s",
                     args->rows, args->columns, args->inner, g->error_string(s));
}

#else /* no header of cuDNN */

enum status cuda_graphs_open(struct cuda_graphs **graphs, const char *device_json,
                             struct error *error)
{
    (void)graphs;
    (void)device_json;
    return error_set(error, STATUS_UNAVAILABLE, "built without cudnn");
}

void cuda_graphs_close(struct cuda_graphs *graphs)
{
    (void)graphs;
}

size_t cuda_graphs_version(const struct cuda_graphs *graphs)
{
    (void)graphs;
    return 0;
}

enum status cuda_graphs_device_json(struct cuda_graphs *graphs, char **json,
                                    struct error *error)
{
    return cuda_graphs_open(&graphs, *json = NULL, error);
}

enum status cuda_graph_open(struct cuda_graph **graph, struct cuda_graphs *graphs,
                            const struct matmul *args, size_t alignment, struct error *error)
{
    (void)graph;
    (void)args;
    (void)alignment;
    return cuda_graphs_open(&graphs, NULL, error);
}

void cuda_graph_close(struct cuda_graph *graph)
{
    (void)graph;
}

int cuda_graph_engines(const struct cuda_graph *graph)
{
    (void)graph;
    return 0;
}

int64_t cuda_graph_engine(const struct cuda_graph *graph, int rank)
{
    (void)graph;
    return rank;
}

enum status cuda_graph_prepare(struct cuda_graph *graph, int rank, size_t most_bytes,
                               struct error *error)
{
    (void)graph;
    (void)rank;
    (void)most_bytes;
    return error_set(error, STATUS_UNAVAILABLE, "built without cudnn");
}

enum status cuda_graph_run(struct cuda_graph *graph, void *stream, const struct matmul *args,
                           void *scratch, struct error *error)
{
    (void)stream;
    (void)args;
    return cuda_graph_prepare(graph, 0, scratch != NULL, error);
}

#endif
