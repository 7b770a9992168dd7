/* kernel_data.h - random arrays for the kernel tests, all freed at once by data_free_all. */
#ifndef TESTS_KERNELS_KERNEL_DATA_H
#define TESTS_KERNELS_KERNEL_DATA_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

static void *data_blocks[256];
static size_t data_block_count;
static struct rng data_rng;

/* Exactly `bytes` long, so that a sanitizer sees a read past the end. */
static inline void *data_allocate(size_t bytes)
{
    void *block = malloc(bytes == 0 ? 1 : bytes);
    if (block == NULL || data_block_count == sizeof data_blocks / sizeof data_blocks[0]) {
        fprintf(stderr, "test data: no memory for %zu bytes\n", bytes);
        exit(71);
    }
    data_blocks[data_block_count++] = block;
    return block;
}

static inline void data_free_all(void)
{
    while (data_block_count > 0)
        free(data_blocks[--data_block_count]);
}

/* n values from a normal distribution of this standard deviation. */
static inline float *data_normal(size_t n, double deviation)
{
    float *x = data_allocate(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(deviation * rng_normal(&data_rng));
    return x;
}

static inline float data_float_of_bf16(uint16_t value)
{
    const uint32_t bits = (uint32_t)value << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

/* n floats as bfloat16, cut off: values to test with, no rounding under test. */
static inline uint16_t *data_bf16(const float *x, size_t n)
{
    uint16_t *narrow = data_allocate(n * sizeof *narrow);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        narrow[i] = (uint16_t)(bits >> 16);
    }
    return narrow;
}

/* n integers in [0, bound). */
static inline int32_t *data_integers(size_t n, size_t bound)
{
    int32_t *x = data_allocate(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (int32_t)rng_below(&data_rng, bound);
    return x;
}

/* rows x count integers in [0, bound) that do not repeat within a row. */
static inline int32_t *data_distinct(size_t rows, size_t count, size_t bound)
{
    int32_t *x = data_allocate(rows * count * sizeof *x);
    uint32_t *order = data_allocate(bound * sizeof *order);
    for (size_t r = 0; r < rows; r++) {
        rng_permutation(&data_rng, order, bound);
        for (size_t i = 0; i < count; i++)
            x[r * count + i] = (int32_t)order[i];
    }
    return x;
}

/* n rows of unit length. */
static inline float *data_unit_rows(size_t n, size_t E)
{
    float *x = data_normal(n * E, 1);
    for (size_t r = 0; r < n; r++) {
        double squares = 1e-30;
        for (size_t e = 0; e < E; e++)
            squares += (double)x[r * E + e] * x[r * E + e];
        for (size_t e = 0; e < E; e++)
            x[r * E + e] = (float)(x[r * E + e] / __builtin_sqrt(squares));
    }
    return x;
}

#endif
