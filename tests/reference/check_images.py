#!/usr/bin/env python3
"""check_images.py - image-decode against open_clip's image_transform on real images.

    pip install open_clip_torch 'pillow<13'    (13 changed the order of the passes)
    python3 check_images.py IMAGE_DECODE SHARD.tar... [--most N]

Every .jpg of the shards goes through as it is and encoded anew as WebP and PNG, by all three
resize modes, both interpolations and sizes from 64 to 336. One line for each says how many
values differ and by how much. Then images that are not RGB: gray, palette, CMYK, alpha.
Status 1 where a value differs by more than 1 or more than 0.1% of them differ.
"""
import argparse
import io
import json
import struct
import subprocess
import sys
import tarfile

import numpy as np
import open_clip.transform
import PIL
from PIL import Image

SIZES = [64, 97, 112, 224, 336]
MODES = {"shortest": "center", "squash": "squash", "longest": "longest"}


def write_stream(files):
    """A stream of one record: image_bytes U8 ragged."""
    data = b"".join(files)
    offsets = np.cumsum([0] + [len(f) for f in files]).astype("<i8").tobytes()
    header = {"image_bytes.offsets": {"dtype": "I64", "shape": [len(files) + 1],
                                      "data_offsets": [0, len(offsets)]},
              "image_bytes": {"dtype": "U8", "shape": [len(data)],
                              "data_offsets": [len(offsets), len(offsets) + len(data)]}}
    end = {"__metadata__": {"clipipe": "end", "records": "1", "samples": str(len(files)),
                            "dropped": "0"}}
    out = b""
    for text, payload in ((json.dumps(header), offsets + data), (json.dumps(end), b"")):
        text = text.encode()
        text += b" " * (-(8 + len(text)) % 64)
        out += struct.pack("<Q", len(text)) + text + payload
    return out


def read_images(stream):
    size = struct.unpack("<Q", stream[:8])[0]
    image = json.loads(stream[8:8 + size])["image"]
    begin, end = (8 + size + x for x in image["data_offsets"])
    return np.frombuffer(stream[begin:end], np.uint8).reshape(image["shape"])


def ours(program, files, size, mode, interpolation, fill):
    run = subprocess.run([program, "-q", "--on-error", "fail", "--checksum", "off",
                          "--size", str(size), "--crop", MODES[mode], "--interpolation",
                          interpolation, "--fill-color", str(fill)],
                         input=write_stream(files), capture_output=True, check=True)
    return read_images(run.stdout)


def theirs(images, size, mode, interpolation, fill):
    steps = open_clip.transform.image_transform(
        size, is_train=False, resize_mode=mode, interpolation=interpolation, fill_color=fill)
    out = []
    for image in images:
        for step in steps.transforms[:-2]:  # without ToTensor and Normalize
            image = step(image)
        out.append(np.asarray(image))
    return np.stack(out)


def compare(title, got, want):
    difference = np.abs(got.astype(np.int16) - want)
    worst, share = int(difference.max()), float((difference > 0).mean())
    good = worst <= 1 and share <= 0.001
    print(f"{title}: {len(got)} images, {share:.4%} of the values differ, by at most {worst}"
          f"{'' if good else '  FAILED'}", flush=True)
    return good


def encode(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def other_modes(images):
    """Name and files of images that are not RGB."""
    yield "gray JPEG", [encode(i.convert("L"), "JPEG") for i in images]
    yield "CMYK JPEG", [encode(i.convert("CMYK"), "JPEG") for i in images]
    yield "gray PNG", [encode(i.convert("L"), "PNG") for i in images]
    yield "1-bit PNG", [encode(i.convert("1"), "PNG") for i in images]
    yield "palette PNG", [encode(i.quantize(250), "PNG") for i in images]
    yield "4-bit palette PNG", [encode(i.quantize(16), "PNG") for i in images]
    yield "palette PNG with transparency", [encode(i.quantize(200), "PNG", transparency=7)
                                            for i in images]
    alpha = [Image.merge("RGBA", (*i.split(), i.convert("L"))) for i in images]
    yield "PNG with alpha", [encode(i, "PNG") for i in alpha]
    yield "gray PNG with alpha", [encode(i.convert("LA"), "PNG") for i in alpha]
    yield "WebP with alpha", [encode(i, "WEBP", quality=80) for i in alpha]
    yield "lossless WebP", [encode(i, "WEBP", lossless=True, method=0) for i in images]
    yield "progressive JPEG", [encode(i, "JPEG", progressive=True) for i in images]
    yield "JPEG 4:4:4", [encode(i, "JPEG", subsampling=0) for i in images]
    yield "JPEG 4:2:2", [encode(i, "JPEG", subsampling=1) for i in images]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("shards", nargs="+")
    parser.add_argument("--most", type=int, default=0, help="images; 0: all")
    args = parser.parse_args()
    assert int(PIL.__version__.split(".")[0]) < 13, "Pillow 13 resizes in another order"

    jpegs = []
    for shard in args.shards:
        with tarfile.open(shard) as tar:
            jpegs += [tar.extractfile(m).read() for m in tar if m.name.endswith(".jpg")]
    jpegs = jpegs[:args.most or None]
    decode = lambda files: [Image.open(io.BytesIO(f)).convert("RGB") for f in files]
    pictures = decode(jpegs)
    formats = {"JPEG": jpegs,
               "WebP": [encode(p, "WEBP", quality=80) for p in pictures],
               "PNG": [encode(p, "PNG", compress_level=1) for p in pictures]}
    good, fill = True, 0
    for name, files in formats.items():
        pictures = decode(files)
        for mode in MODES:
            for interpolation in "bicubic", "bilinear":
                for size in SIZES:
                    fill = (fill + 37) % 256
                    rest = (size, mode, interpolation, fill)
                    good &= compare(f"{name}, {mode}, {interpolation}, {size}",
                                    ours(args.program, files, *rest), theirs(pictures, *rest))
    few = [p.crop((0, 0, p.width - i % 3, p.height - i % 2))
           for i, p in enumerate(decode(jpegs[:40]))]
    for name, files in other_modes(few):
        for mode in MODES:
            rest = (112, mode, "bicubic", 128)
            good &= compare(f"{name}, {mode}", ours(args.program, files, *rest),
                            theirs(decode(files), *rest))
    sys.exit(0 if good else 1)


main()
