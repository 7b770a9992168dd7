#!/usr/bin/env python3
"""Writes color_golden.h: checksums of what torchvision's colour changes make of fixed pictures.

    pip install torchvision pillow
    python3 make_color_golden.py > color_golden.h

The first picture is noise of an odd size; the second has every third value of red, green and
blue with each other; the third, for the hue alone, has all 16,777,216 colours.
"""
import random
import zlib

import numpy as np
import PIL
import torchvision
import torchvision.transforms.functional as F
from PIL import Image

STEPS = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
NOISE = (37, 29)


def pictures():
    size = NOISE[0] * NOISE[1] * 3
    x = np.arange(size, dtype=np.uint64) * 2654435761 & 0xFFFFFFFF
    yield (x >> 24 ^ x >> 13).astype(np.uint8).reshape(NOISE[1], NOISE[0], 3)
    for step in (3, 1):
        values = np.arange(0, 256, step, dtype=np.uint8)
        count = len(values)
        cube = np.stack(np.meshgrid(values, values, values, indexing="ij"), axis=-1)
        yield cube.reshape(count * count, count, 3)


def cases():
    """(picture, order, factors, gray)"""
    for picture in (0, 1):
        yield picture, [], [1, 1, 1, 0], False
        yield picture, [], [1, 1, 1, 0], True
        for step, factors in enumerate([(0, 0.68, 1, 1.32, 3), (0, 0.8, 1, 1.2, 9),
                                        (0, 0.8, 0.9, 1, 1.2, 2.5),
                                        (-0.5, -0.08, -0.001, 0, 0.003, 0.0799, 0.25, 0.5)]):
            for factor in factors:
                values = [1, 1, 1, 0]
                values[step] = factor
                yield picture, [step], values, False
    draw = random.Random(5)
    for i in range(48):
        order = draw.sample(range(4), 4 if i % 4 else draw.randrange(1, 4))
        values = [draw.uniform(0.68, 1.32) for _ in range(3)] + [draw.uniform(-0.08, 0.08)]
        yield i % 2, order, values, i % 5 == 0
    yield 2, [3], [1, 1, 1, 0.0625], False


def main():
    print("/* Made by make_color_golden.py with torchvision %s and Pillow %s. */" %
          (torchvision.__version__, PIL.__version__))
    print("#ifndef TESTS_COLOR_GOLDEN_H\n#define TESTS_COLOR_GOLDEN_H\n")
    print("#include <stdint.h>\n\n#include \"formats/color_jitter.h\"\n")
    print("static const struct color_golden {")
    print("    int picture;\n    struct color_change change;")
    print("    uint32_t crc32; /* zlib's, of the RGB pixels */")
    print("} color_golden[] = {")
    images = [Image.fromarray(p, "RGB") for p in pictures()]
    for picture, order, factors, gray in cases():
        image = images[picture]
        for step in order:
            image = STEPS[step](image, factors[step])
        if gray:
            image = F.to_grayscale(image, 3)
        print("    {%d, {{%s}, %d, {%s}, %d}, 0x%08x}," %
              (picture, ", ".join(map(str, order or [0])), len(order),
               ", ".join(repr(float(f)) for f in factors), gray, zlib.crc32(image.tobytes())))
    print("};\n\n#endif")


main()
