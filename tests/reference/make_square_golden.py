#!/usr/bin/env python3
"""Writes square_golden.h: what open_clip makes of fixed pictures, and how torchvision crops.

    pip install open_clip_torch 'pillow<13'    (13 changed the order of the passes)
    python3 make_square_golden.py > square_golden.h

Checksums of image_transform(is_train=False) before ToTensor, by resize mode, interpolation,
size and shape; and for RandomResizedCrop the mean and standard deviation of the box and the
nine deciles of its width, over DRAWS draws with torch's seed 0.
"""
import zlib

import numpy as np
import open_clip
import open_clip.transform
import PIL
import torch
import torchvision
from PIL import Image

SHAPES = [(64, 64), (61, 97), (97, 61), (200, 31), (31, 200), (9, 300), (300, 9), (5, 4),
          (333, 250)]
SIZES = [16, 35, 64, 112]
MODES = [("SQUARE_CENTER", "shortest"), ("SQUARE_SQUASH", "squash"),
         ("SQUARE_LONGEST", "longest")]
CROPS = [((500, 375), (0.4, 1.0)), ((500, 375), (0.9, 1.0)), ((375, 500), (0.08, 1.0)),
         ((160, 120), (0.4, 1.0)), ((640, 320), (0.4, 1.0)), ((300, 900), (0.4, 1.0)),
         ((64, 64), (0.9, 1.0)), ((40, 17), (0.4, 1.0))]
DRAWS = 200000


def picture(width, height):
    x = np.arange(width * height * 3, dtype=np.uint64) * 2654435761 & 0xFFFFFFFF
    return Image.fromarray((x >> 24 ^ x >> 13).astype(np.uint8).reshape(height, width, 3), "RGB")


def squares():
    print("static const struct square_golden {")
    print("    size_t width, height, side;\n    enum square_crop crop;")
    print("    enum square_filter filter;\n    uint8_t fill;")
    print("    uint32_t crc32; /* zlib's, of the RGB pixels */")
    print("} square_golden[] = {")
    fill = 0
    for width, height in SHAPES:
        for crop, mode in MODES:
            for size in SIZES:
                # Pillow cannot make an image without pixels
                if mode == "longest" and round(min(width, height) * size / max(width, height)) < 1:
                    continue
                fill = (fill + 37) % 256
                name = ("bicubic", "bilinear", "random")[fill % 3]
                image = picture(width, height)
                for step in open_clip.transform.image_transform(
                        size, is_train=False, resize_mode=mode, interpolation=name,
                        fill_color=fill).transforms[:-2]:
                    image = step(image)
                filter_name = {"bicubic": "SQUARE_BICUBIC", "bilinear": "SQUARE_BILINEAR",
                               "random": "SQUARE_EITHER"}[name]
                print("    {%d, %d, %d, %s, %s, %d, 0x%08x}," %
                      (width, height, size, crop, filter_name, fill, zlib.crc32(image.tobytes())))
    print("};\n")


def crops():
    print("static const struct crop_golden {")
    print("    size_t width, height;\n    double scale[2];")
    print("    double mean[4], deviation[4]; /* width, height, x, y */")
    print("    int deciles[9];               /* of the width ... */")
    print("    double below[9];              /* ... and the share of boxes not wider */")
    print("} crop_golden[] = {")
    torch.manual_seed(0)
    for (width, height), scale in CROPS:
        image = Image.new("L", (width, height))
        boxes = np.array([torchvision.transforms.RandomResizedCrop.get_params(
            image, scale, (3 / 4, 4 / 3)) for _ in range(DRAWS)])[:, [3, 2, 1, 0]]
        deciles = np.quantile(boxes[:, 0], np.arange(1, 10) / 10).astype(int)
        numbers = lambda values: ", ".join("%.6g" % v for v in values)
        print("    {%d, %d, {%g, %g}, {%s}, {%s}," % (width, height, *scale,
              numbers(boxes.mean(0)), numbers(boxes.std(0))))
        print("     {%s},\n     {%s}}," % (numbers(deciles),
              numbers((boxes[:, 0] <= d).mean() for d in deciles)))
    print("};\n")


def main():
    assert int(PIL.__version__.split(".")[0]) < 13
    print("/* Made by make_square_golden.py with open_clip %s, torchvision %s and Pillow %s. */" %
          (open_clip.__version__, torchvision.__version__, PIL.__version__))
    print("#ifndef TESTS_SQUARE_GOLDEN_H\n#define TESTS_SQUARE_GOLDEN_H\n")
    print("#include <stddef.h>\n#include <stdint.h>\n\n#include \"formats/image_square.h\"\n")
    squares()
    crops()
    print("#endif")


main()
