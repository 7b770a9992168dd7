/* backend_checks.h - every operation of a backend against the reference, with the backend's
 * memory apart from the host's: the emulated CUDA backend and the real one run the same. */
#ifndef TESTS_BACKEND_CHECKS_H
#define TESTS_BACKEND_CHECKS_H

#ifdef __cplusplus
extern "C" {
#endif

#include <stddef.h>
#include <stdint.h>

struct kernels;

/* The groups that checks come in; a test of barriers runs one at a time. */
enum backend_check {
    CHECK_MATMUL,
    CHECK_ELEMENTWISE,
    CHECK_SUMS,
    CHECK_NORM,
    CHECK_ATTENTION,
    CHECK_LONG_HEADS,
    CHECK_PATCHES,
    CHECK_TOKENS,
    CHECK_LOSS,
    CHECK_SPECIAL_VALUES,
    CHECK_COPIES,
    CHECK_FAILURE,
    BACKEND_CHECKS
};

extern const char *const backend_check_names[BACKEND_CHECKS];

/* How much: TINY just passes every barrier of the kernels, SMALL most lines of them, MEDIUM all
 * sizes that there are kernels for, LARGE the sizes of real models as well, too many for an
 * emulator. From SMALL on, all of it with and without alignment. */
enum backend_sizes { SIZES_TINY, SIZES_SMALL, SIZES_MEDIUM, SIZES_LARGE };

/* Runs one group on two backends of the same precision. Returns how many checks failed; *first,
 * 256 bytes or NULL, is then the first one's message. Nothing is printed. *passed += the
 * others. */
size_t backend_check_run(enum backend_check which, struct kernels *ref, struct kernels *device,
                         enum backend_sizes sizes, uint64_t seed, size_t *passed, char *first);

#ifdef __cplusplus
}
#endif

#endif
