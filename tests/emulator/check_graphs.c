/* check_graphs [LIBCUDA|--device] - whether cuDNN takes the graphs that the backend asks it
 * for: each product with an activation of the towers of B/16, L/16 and H/14, forward and
 * backward, is described to cuDNN together with a GPU that need not be there, and the engines
 * are counted that its heuristics name and that support the graph, in a fixed order of sums and
 * in full precision.
 * Nothing is compiled and nothing run. Exit 0 where every graph has an engine, 69 where there
 * is no cuDNN.
 *
 * Engines look for the driver's library before they say what they support. Without a driver
 * LIBCUDA is the one to link against that comes with the toolkit (lib64/stubs/libcuda.so): its
 * functions only fail, but none is called.
 *
 * --device prints what cuDNN says of the GPU that is there, which is what the figures below
 * should be. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/cuda/cuda_graph.h"
#include "tests/unit/check.h"

/* What cuDNN writes of a device; figures of the three from nvidia's manuals. cudaDeviceId,
 * driver and clocks are of no weight. */
#define DEVICE(name, version, multiprocessors, shared, l2, memory, clock, memory_clock)      \
    "{\"cudaDeviceId\": 0, \"deviceVer\": " version ", \"driverVer\": 13000, "               \
    "\"deviceName\": \"" name "\", \"maxGridSize\": [2147483647, 65535, 65535], "            \
    "\"maxBlockSize\": [1024, 1024, 64], \"regsPerBlock\": 65536, "                          \
    "\"multiProcessorCount\": " multiprocessors ", \"smClockRateKHz\": " clock ", "          \
    "\"memClockRateKHz\": " memory_clock ", \"l2CacheSize\": " l2 ", \"warpSize\": 32, "     \
    "\"maxSharedMemoryPerBlock\": 49152, \"maxSharedMemoryPerBlockOptin\": " shared ", "     \
    "\"reservedSharedMemoryPerBlock\": 1024, \"maxRegistersPerSM\": 65536, "                 \
    "\"pciDeviceId\": 0, \"maxCtasPerSM\": 32, \"maxThreadsPerBlock\": 1024, "               \
    "\"maxThreadsPerSM\": 2048, \"isTccDriver\": 0, \"supportCoopLaunch\": 1, "              \
    "\"totalGlobalMem\": " memory "}"

static const char *const devices[][2] = {
    {"H200", DEVICE("NVIDIA H200", "900", "132", "232448", "62914560", "150754820096",
                    "1980000", "3201000")},
    {"H100", DEVICE("NVIDIA H100 80GB HBM3", "900", "132", "232448", "52428800", "85520809984",
                    "1980000", "2619000")},
    {"A100", DEVICE("NVIDIA A100-SXM4-80GB", "800", "108", "166912", "41943040", "85094825984",
                    "1410000", "1593000")},
};

static const struct tower {
    const char *name;
    size_t rows, width, hidden;
} towers[] = {
    {"B/16 image, 112 pixels", 4096 * 50, 768, 3072},
    {"B/16 image, 224 pixels", 1024 * 197, 768, 3072},
    {"B/16 text, 16 tokens", 4096 * 16, 512, 2048},
    {"L/16 image, 96 pixels", 2048 * 37, 1024, 4096},
    {"L/16 text, 8 tokens", 2048 * 8, 768, 3072},
    {"H/14 image, 84 pixels", 2048 * 37, 1280, 5120},
    {"H/14 text, 8 tokens", 2048 * 8, 1024, 4096},
};

static const char *const activation_names[] = {
    [ACTIVATION_GELU] = "erf",
    [ACTIVATION_GELU_TANH] = "tanh",
    [ACTIVATION_QUICK_GELU] = "sigmoid",
};

enum { KINDS = 3, MODES = 3 };
static const char *const mode_names[MODES] = {"forward", "forward, nothing kept", "backward"};

/* Where the pointers lead does not matter here. */
static struct matmul product_of(const struct tower *t, int mode, enum activation kind)
{
    static float anything[1];
    struct matmul m = {.rows = t->rows,
                       .columns = t->hidden,
                       .inner = t->width,
                       .a = anything,
                       .b = anything,
                       .b_transposed = mode < 2,
                       .bias = mode < 2 ? anything : NULL,
                       .out = anything,
                       .epilogue = mode < 2 ? EPILOGUE_ACTIVATION
                                            : EPILOGUE_ACTIVATION_BACKWARD,
                       .activation = kind,
                       .before = mode == 1 ? NULL : anything};
    return m;
}

/* How many engines cuDNN has for it; 0 and *error where none. */
static int engines_of(struct cuda_graphs *graphs, const struct matmul *m, struct error *error)
{
    struct cuda_graph *graph;
    if (cuda_graph_open(&graph, graphs, m, 16, error) != STATUS_OK)
        return 0;
    const int engines = cuda_graph_engines(graph);
    cuda_graph_close(graph);
    return engines;
}

static void check_tower(struct cuda_graphs *graphs, const char *device, const struct tower *t)
{
    for (int mode = 0; mode < MODES; mode++) {
        printf("| %s | %s | %s |", device, t->name, mode_names[mode]);
        for (int kind = 0; kind < KINDS; kind++) {
            struct error error = {0};
            const struct matmul m = product_of(t, mode, (enum activation)kind);
            const int engines = engines_of(graphs, &m, &error);
            printf(" %d |", engines);
            CHECK(engines > 0, "%s: %s, %s, %s: %s", device, t->name, mode_names[mode],
                  activation_names[kind], error.text);
        }
        putchar('\n');
    }
}

/* The check can fail: there is no engine for a device that no cuDNN knows. */
static void check_refusal(void)
{
    struct cuda_graphs *graphs = NULL;
    struct error error = {0};
    if (cuda_graphs_open(&graphs, "{\"deviceVer\": 900}", &error) == STATUS_OK) {
        const struct matmul m = product_of(&towers[0], 0, ACTIVATION_GELU);
        CHECK(engines_of(graphs, &m, &error) == 0, "half a device is no device");
    }
    CHECK(error.status == STATUS_UNAVAILABLE, "half a device: %s", error.text);
    cuda_graphs_close(graphs);
}

static int print_device(void)
{
    struct cuda_graphs *graphs;
    char *json;
    struct error error;
    enum status status = cuda_graphs_open(&graphs, NULL, &error);
    if (status == STATUS_OK) {
        status = cuda_graphs_device_json(graphs, &json, &error);
        if (status == STATUS_OK) {
            puts(json);
            free(json);
        }
        cuda_graphs_close(graphs);
    }
    if (status != STATUS_OK)
        fprintf(stderr, "check_graphs: %s\n", error.text);
    return (int)status;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--device") == 0)
        return print_device();
    /* The name that it carries inside is the driver's, so that cuDNN finds it loaded. */
    if (argc > 1 && dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL) == NULL &&
        dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL) == NULL) {
        fprintf(stderr, "check_graphs: %s\n", dlerror());
        return STATUS_NO_INPUT;
    }
    for (size_t d = 0; d < sizeof devices / sizeof devices[0]; d++) {
        struct cuda_graphs *graphs;
        struct error error;
        if (cuda_graphs_open(&graphs, devices[d][1], &error) != STATUS_OK) {
            fprintf(stderr, "check_graphs: %s: %s\n", devices[d][0], error.text);
            return error.status;
        }
        if (d == 0)
            printf("cudnn %zu: engines for products with GELU\n\n"
                   "| device | tower | pass | erf | tanh | sigmoid |\n"
                   "| --- | --- | --- | ---: | ---: | ---: |\n",
                   cuda_graphs_version(graphs));
        for (size_t t = 0; t < sizeof towers / sizeof towers[0]; t++)
            check_tower(graphs, devices[d][0], &towers[t]);
        cuda_graphs_close(graphs);
    }
    check_refusal();
    return check_report("check_graphs");
}
