#include "kernels/kernels.h"

#include <stddef.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cuda_loader.h"
#include "kernels/ref/ref.h"

/* The one place where a backend is chosen. */
static const struct {
    const char *name;
    enum status (*open)(struct kernels **k, enum precision precision, int threads,
                        struct error *error);
} backends[] = {
    {"ref", ref_open},
    {"cpu", cpu_open},
    {"cuda", cuda_load},
};

const char *const kernels_device_names[] = {"cpu", "ref", "cuda", "auto", NULL};

const char *const kernels_precision_names[] = {
    [PRECISION_FP32] = "fp32",
    [PRECISION_AMP_BF16] = "amp_bf16",
    NULL,
};

enum status kernels_open(struct kernels **k, const char *device, enum precision precision,
                         int threads, struct error *error)
{
    if (strcmp(device, "auto") == 0) {
        enum status status = cuda_load(k, precision, threads, error);
        return status == STATUS_OK || cuda_is_expected() ? status
                                                         : cpu_open(k, precision, threads, error);
    }
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++)
        if (strcmp(device, backends[i].name) == 0)
            return backends[i].open(k, precision, threads, error);
    return error_set(error, STATUS_USAGE, "unknown device '%s', expected auto, cuda, cpu or ref",
                     device);
}

void kernels_close(struct kernels *k)
{
    if (k != NULL)
        k->close(k);
}
