#include "kernels/cuda_loader.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/cuda_backend.h"

#define CUDA_LIBRARY "libclipipe-cuda.so"

/* path = DIR/../lib/libclipipe-cuda.so for the program DIR/name; false where that is unknown. */
static bool beside_program(char path[PATH_MAX])
{
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);
    if (length < 0)
        return false;
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    static const char library[] = "/../lib/" CUDA_LIBRARY;
    if (slash == NULL || (size_t)(slash - path) + sizeof library > PATH_MAX)
        return false;
    memcpy(slash, library, sizeof library);
    return true;
}

/* The driver's device nodes: on Linux, and on Linux below Windows. */
bool cuda_is_expected(void)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (visible != NULL && (visible[0] == '\0' || strcmp(visible, "-1") == 0))
        return false;
    return access("/dev/nvidiactl", F_OK) == 0 || access("/dev/dxg", F_OK) == 0;
}

enum status cuda_load(struct kernels **k, enum precision precision, int threads,
                      struct error *error)
{
    char path[PATH_MAX];
    (void)threads;
    void *library = NULL;
    if (beside_program(path) && access(path, F_OK) == 0)
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    else
        library = dlopen(CUDA_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        error_set(error, STATUS_UNAVAILABLE, "no CUDA backend: %s", dlerror());
        return error_hint(error, "`make cuda` builds it where nvcc is; --device cpu needs none");
    }
    cuda_open_function *open = NULL;
    void *symbol = dlsym(library, CUDA_OPEN_SYMBOL);
    memcpy(&open, &symbol, sizeof open); /* C has no cast from an object to a function */
    if (open == NULL)
        return error_set(error, STATUS_UNAVAILABLE, "%s has no " CUDA_OPEN_SYMBOL,
                         CUDA_LIBRARY);
    return open(k, precision, sizeof(struct kernels), error);
}
