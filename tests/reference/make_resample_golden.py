#!/usr/bin/env python3
"""Writes resample_golden.h: checksums of what Pillow's Image.resize makes of a fixed picture.

    pip install 'pillow<13'    (13 changed the order of the passes for tall images)
    python3 make_resample_golden.py > resample_golden.h
"""
import zlib

import PIL
from PIL import Image

SHAPES = [
    (1, 1, 5, 3),
    (7, 5, 7, 5),
    (32, 32, 224, 224),
    (106, 150, 64, 64),
    (125, 94, 64, 64),
    (250, 188, 112, 112),
    (281, 500, 64, 64),
    (320, 685, 87, 112),
    (500, 375, 224, 224),
    (500, 375, 298, 224),
    (375, 500, 112, 149),
    (640, 480, 17, 13),
    (1000, 3, 4, 60),
    (3, 1000, 60, 4),
    (1021, 613, 336, 336),
]


def picture(size):
    out = bytearray(size)
    for i in range(size):
        x = i * 2654435761 & 0xFFFFFFFF
        out[i] = (x >> 24 ^ x >> 13) & 0xFF
    return bytes(out)


def main():
    assert int(PIL.__version__.split(".")[0]) < 13
    print("/* Made by make_resample_golden.py with Pillow %s. */" % PIL.__version__)
    print("#ifndef TESTS_RESAMPLE_GOLDEN_H\n#define TESTS_RESAMPLE_GOLDEN_H\n")
    print("#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n")
    print("static const struct resample_golden {")
    print("    size_t width, height, out_width, out_height;")
    print("    bool bilinear;\n    uint32_t crc32; /* zlib's, of the RGB pixels */")
    print("} resample_golden[] = {")
    for width, height, out_width, out_height in SHAPES:
        image = Image.frombytes("RGB", (width, height), picture(width * height * 3))
        for bilinear, name in ((0, Image.BICUBIC), (1, Image.BILINEAR)):
            crc = zlib.crc32(image.resize((out_width, out_height), name).tobytes())
            print("    {%d, %d, %d, %d, %d, 0x%08x}," %
                  (width, height, out_width, out_height, bilinear, crc))
    print("};\n\n#endif")


main()
