/* resample_passes.h - the resampler's two inner loops, by instruction set; private to it. */
#ifndef FORMATS_RESAMPLE_PASSES_H
#define FORMATS_RESAMPLE_PASSES_H

#include <stddef.h>
#include <stdint.h>

enum {
    WEIGHT_BITS = 22,      /* 8 bits of pixel, 22 of weight, 2 for overshoot and sign */
    TAPS_IN_GROUP = 4,     /* weights come in groups of four ... */
    GROUP_BYTES = 16,      /* ... of this size, in the instruction set's own form */
    ROWS_AT_ONCE = 4,
    ROW_READ_BEYOND = 4,   /* bytes that resize_rows may read after a row's last tap */
    ROW_WRITE_BEYOND = 1,  /* and write after the last pixel */
};

/* The weights of one axis: output i is the sum over taps t of input first[i] + t times its
 * weight. Weights of zero pad `taps` to a multiple of TAPS_IN_GROUP. */
struct resample_weights {
    size_t count, taps;
    const int32_t *first;  /* [count], ascending */
    const uint8_t *groups; /* [count, taps / TAPS_IN_GROUP, GROUP_BYTES] */
};

struct resample_passes {
    const char *name;

    /* Turns groups of four int32 weights into the form that the passes read. */
    void (*pack)(int32_t *weights, size_t groups);

    /* Resizes ROWS_AT_ONCE rows of RGB; all pointers may be the same. */
    void (*resize_rows)(const struct resample_weights *weights,
                        const uint8_t *const in[ROWS_AT_ONCE],
                        uint8_t *const out[ROWS_AT_ONCE]);

    /* out[size] = the sum of `taps` rows that lie `pitch` bytes apart, times their weights. */
    void (*blend_rows)(const uint8_t *rows, size_t pitch, size_t size, const uint8_t *groups,
                       size_t taps, uint8_t *out);
};

/* Variant number `index` of those that this machine can run, the fastest first, or NULL. */
const struct resample_passes *resample_passes_get(size_t index);

#endif
