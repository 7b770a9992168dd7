/* check_cuda - every operation of the CUDA backend, and its bf16 kernels, against the reference
 * on the device at hand: what test_cuda_emulated.cc checks without one, at the same sizes and
 * tolerances, with three sets of random data. Run by `make check-cuda`. */
#include <stdio.h>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/kernels.h"
#include "kernels/ref/ref.h"
#include "tests/emulator/backend_checks.h"
#include "tests/unit/check.h"

int main(void)
{
    struct kernels *ref, *cuda;
    struct error error;
    if (ref_open(&ref, 0, &error) != STATUS_OK ||
        clipipe_cuda_open(&cuda, sizeof *cuda, &error) != STATUS_OK) {
        fprintf(stderr, "check_cuda: %s\n", error.text);
        return error.status;
    }
    for (uint64_t seed = 1; seed <= 3; seed++)
        for (int i = 0; i < BACKEND_CHECKS; i++) {
            char first[256];
            size_t passed = 0;
            const size_t failed = backend_check_run((enum backend_check)i, ref, cuda,
                                                    SIZES_LARGE, 100 * seed + (uint64_t)i,
                                                    &passed, first);
            check_passed += (int)passed;
            CHECK(failed == 0, "%s, seed %d: %zu failed, the first: %s", backend_check_names[i],
                  (int)seed, failed, first);
            const enum status status = cuda->check(cuda, &error);
            CHECK(status == STATUS_OK, "%s: %s", backend_check_names[i], error.text);
        }
    cuda->close(cuda);
    ref->close(ref);
    return check_report("cuda");
}
