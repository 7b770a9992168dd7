/* Made by make_resample_golden.py with Pillow 12.0.0. */
#ifndef TESTS_RESAMPLE_GOLDEN_H
#define TESTS_RESAMPLE_GOLDEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static const struct resample_golden {
    size_t width, height, out_width, out_height;
    bool bilinear;
    uint32_t crc32; /* zlib's, of the RGB pixels */
} resample_golden[] = {
    {1, 1, 5, 3, 0, 0x6aea6ba3},
    {1, 1, 5, 3, 1, 0x6aea6ba3},
    {7, 5, 7, 5, 0, 0xd7078642},
    {7, 5, 7, 5, 1, 0xd7078642},
    {32, 32, 224, 224, 0, 0x7dc1546a},
    {32, 32, 224, 224, 1, 0x88b6ba46},
    {106, 150, 64, 64, 0, 0xbe9ff6dd},
    {106, 150, 64, 64, 1, 0x89a9205b},
    {125, 94, 64, 64, 0, 0xb8b45a1b},
    {125, 94, 64, 64, 1, 0xf27e79a3},
    {250, 188, 112, 112, 0, 0x6542091f},
    {250, 188, 112, 112, 1, 0x67db4a2e},
    {281, 500, 64, 64, 0, 0xfab3ae3f},
    {281, 500, 64, 64, 1, 0x39054d6a},
    {320, 685, 87, 112, 0, 0x2a20bf2e},
    {320, 685, 87, 112, 1, 0x49b8dfea},
    {500, 375, 224, 224, 0, 0x23bbdabd},
    {500, 375, 224, 224, 1, 0x3c9119d4},
    {500, 375, 298, 224, 0, 0xab610872},
    {500, 375, 298, 224, 1, 0x687d2ffa},
    {375, 500, 112, 149, 0, 0x07417c54},
    {375, 500, 112, 149, 1, 0x31d3d386},
    {640, 480, 17, 13, 0, 0xf0343bcc},
    {640, 480, 17, 13, 1, 0x55ac08ff},
    {1000, 3, 4, 60, 0, 0xb9338359},
    {1000, 3, 4, 60, 1, 0x4030f5a1},
    {3, 1000, 60, 4, 0, 0xd57be74d},
    {3, 1000, 60, 4, 1, 0x7511e66a},
    {1021, 613, 336, 336, 0, 0x3e1cf6a7},
    {1021, 613, 336, 336, 1, 0x9b6a780d},
};

#endif
