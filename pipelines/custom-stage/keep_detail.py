#!/usr/bin/env python3
"""keep_detail.py - keeps the K patches of each image with the largest variance.

    ... | image-decode ... | keep_detail.py K P | token-reduce --text ... | train-step ...

In: `image` U8 [B,H,W,3]. Out: `patches` U8 [B,K,P*P*3], `patches.position` I32 [B,K]. Needs
numpy and safetensors. A record is a safetensors blob behind its own length."""
import json, struct, sys
import numpy
import safetensors.numpy

K, P = int(sys.argv[1]), int(sys.argv[2])
source, sink = sys.stdin.buffer, sys.stdout.buffer
ended = False
while prefix := source.read(8):
    length = struct.unpack("<Q", prefix)[0]
    header = source.read(length)
    if len(header) < length:
        sys.exit(76)
    fields = json.loads(header)
    metadata = fields.pop("__metadata__", {})
    for sums in "checksum", "crc32c":                  # of what was read, not of what is written
        metadata.pop(sums, None)
    size = max((t["data_offsets"][1] for t in fields.values()), default=0)
    data = source.read(size)
    if len(data) < size:
        sys.exit(76)
    tensors = safetensors.numpy.load(prefix + header + data)
    tensors.pop("crc32c", None)
    ended = metadata.get("clipipe") == "end"
    if not ended:
        images = tensors.pop("image")
        B, H, W, _ = images.shape
        patches = images.reshape(B, H // P, P, W // P, P, 3).swapaxes(2, 3).reshape(B, -1, P * P * 3)
        position = numpy.sort(numpy.argsort(-patches.var(axis=2), axis=1, kind="stable")[:, :K], axis=1)
        tensors["patches"] = numpy.take_along_axis(patches, position[:, :, None], axis=1)
        tensors["patches.position"] = position.astype(numpy.int32)
    sink.write(safetensors.numpy.save(tensors, metadata))
sink.flush()
sys.exit(0 if ended else 76)
