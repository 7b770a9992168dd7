#!/usr/bin/env python3
"""check_embed.py - embed against open_clip, from its weights and from ours.

    pip install open_clip_torch safetensors numpy 'pillow<13'
    python3 check_embed.py BIN DIRECTORY

BIN holds the programs; DIRECTORY is for scratch. From here: random open_clip models of several
kinds are saved as open_clip_config.json and open_clip_model.safetensors, and embed runs over
encoded images and tokens that open_clip embeds, too. From there: train-step trains a model on
scenes, and open_clip opens its checkpoint. Prints the largest difference of any number of an
embedding; status 1 where it is more than 1e-4.
"""
import json
import os
import struct
import subprocess
import sys

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file

TOLERANCE = 1e-4
SAMPLES = 70  # more than a batch of embed
TYPES = {"U8": np.uint8, "I32": np.int32, "I64": np.int64, "F32": np.float32}
NAMES = {np.dtype(v): k for k, v in TYPES.items()}

VISION = dict(image_size=32, layers=2, width=64, head_width=16, patch_size=8)
TEXT = dict(context_length=12, vocab_size=500, width=48, heads=3, layers=2)
CASES = [
    ("openai", {}, {}, dict(quick_gelu=True), {}),
    ("clipa", dict(no_ln_pre=True, pool_type="avg", final_ln_after_pool=True),
     dict(pool_type="last", no_causal_mask=True), {},
     dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], interpolation="bilinear",
          resize_mode="squash")),
    ("wide", dict(width=192, layers=3, patch_size=16), dict(width=128, heads=8), {}, {}),
]


def write_stream(path, tensors):
    header, at = {}, 0
    tensors = dict(sorted(tensors.items(), key=lambda item: -item[1].itemsize))
    for name, value in tensors.items():
        header[name] = {"dtype": NAMES[value.dtype], "shape": list(value.shape),
                        "data_offsets": [at, at + value.nbytes]}
        at += value.nbytes
    count = len(next(iter(tensors.values())))
    end = {"__metadata__": {"clipipe": "end", "records": "1", "samples": str(count),
                            "dropped": "0"}}
    with open(path, "wb") as file:
        for part, payload in ((header, tensors.values()), (end, [])):
            text = json.dumps(part).encode()
            text += b" " * (-(8 + len(text)) % 64)
            file.write(struct.pack("<Q", len(text)) + text)
            for value in payload:
                file.write(value.tobytes())


def read_stream(data):
    """All records of a stream, their tensors joined; fixed-size tensors only."""
    out, at = {}, 0
    while at < len(data):
        size = struct.unpack("<Q", data[at:at + 8])[0]
        header = json.loads(data[at + 8:at + 8 + size])
        header.pop("__metadata__", None)
        start, at = at + 8 + size, at + 8 + size
        for name, t in header.items():
            begin, end = (start + x for x in t["data_offsets"])
            at = max(at, end)
            if t["dtype"] in TYPES:
                value = np.frombuffer(data[begin:end], TYPES[t["dtype"]]).reshape(t["shape"])
                out.setdefault(name, []).append(value)
    return {name: np.concatenate(values) for name, values in out.items()}


def run(program, *arguments, **options):
    return subprocess.run([program, "-q", *arguments], check=True, stdout=subprocess.PIPE,
                          **options).stdout


def embed_by_open_clip(directory, image, tokens):
    model, _, preprocess = open_clip.create_model_and_transforms("local-dir:" + directory,
                                                                 precision="fp32")
    model.eval()
    normalize = preprocess.transforms[-1]
    pixels = torch.from_numpy(image.copy()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        return (model.encode_image(normalize(pixels), normalize=True).numpy(),
                model.encode_text(torch.from_numpy(tokens.copy()).long(), normalize=True).numpy())


def compare(title, got, directory, image, tokens):
    a, b = embed_by_open_clip(directory, image, tokens)
    worst = max(float(np.abs(got["image_embedding"] - a).max()),
                float(np.abs(got["text_embedding"] - b).max()))
    good = worst <= TOLERANCE
    print(f"{title}: {len(image)} samples, largest difference {worst:.1e}"
          f"{'' if good else '  FAILED'}", flush=True)
    return good


def from_open_clip(programs, directory, case):
    name, vision, text, extra, preprocess = case
    out = os.path.join(directory, name)
    os.makedirs(out, exist_ok=True)
    config = {"embed_dim": 40, "vision_cfg": {**VISION, **vision},
              "text_cfg": {**TEXT, **text}, **extra}
    torch.manual_seed(1)
    model = open_clip.CLIP(40, open_clip.CLIPVisionCfg(**config["vision_cfg"]),
                           open_clip.CLIPTextCfg(**config["text_cfg"]), **extra)
    with torch.no_grad():
        for p in model.parameters():  # so that biases and norms matter
            p.add_(torch.randn_like(p) * 0.02)
    weights = {k: v.contiguous() for k, v in model.state_dict().items() if k != "attn_mask"}
    save_file(weights, os.path.join(out, "open_clip_model.safetensors"))
    with open(os.path.join(out, "open_clip_config.json"), "w") as file:
        json.dump({"model_cfg": config, "preprocess_cfg": preprocess}, file)
    draw = np.random.default_rng(2)
    image = draw.integers(0, 256, (SAMPLES, 32, 32, 3), dtype=np.uint8)
    tokens = draw.integers(1, 498, (SAMPLES, 12), dtype=np.int32)
    tokens[np.arange(SAMPLES), draw.integers(2, 12, SAMPLES)] = 499
    stream = os.path.join(out, "in.rec")
    write_stream(stream, {"image": image, "text_tokens": tokens})
    good = True
    for device in "cpu", "ref":
        got = read_stream(run(os.path.join(programs, "embed"), "--model", out, "--device", device,
                              stream))
        good &= compare(f"open_clip's weights, {name}, {device}", got, out, image, tokens)
    return good


def from_ours(programs, directory):
    p = {name: os.path.join(programs, name) for name in os.listdir(programs)}
    out = os.path.join(directory, "ours")
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "model.json"), "w") as file:
        json.dump({"embed_dim": 40, "vision_cfg": VISION, "text_cfg": {**TEXT, "vocab_size": 700}},
                  file)
    run(p["scene-shards"], "--count", "256", "--test-count", "8", "--size", "48", "--out",
        os.path.join(out, "scenes"))
    pipe = os.path.join(out, "read.rec")
    with open(pipe, "wb") as file:
        file.write(run(p["shard-reader"], os.path.join(out, "scenes/train/0.tar.zst")))
    with open(os.path.join(out, "vocab.gz"), "wb") as file:
        file.write(run(p["tokenize"], "--learn", "600", pipe))

    def prepare(*image_options):
        stream = run(p["image-decode"], *image_options, pipe)
        stream = run(p["tokenize"], "--vocab", os.path.join(out, "vocab.gz"), input=stream)
        return run(p["token-reduce"], "--text", "truncate:12", input=stream)

    run(p["train-step"], "--model", os.path.join(out, "model.json"), "--batch-size", "64",
        "--steps", "4", "--warmup", "0", "--out", os.path.join(out, "run"),
        input=prepare("--size", "32"))
    checkpoint = os.path.join(out, "run", "step-00000004")
    stream = prepare("--like", checkpoint)
    got = read_stream(run(p["embed"], "--keep", "--model", checkpoint, input=stream))
    return compare("our weights", got, checkpoint, got["image"], got["text_tokens"])


def main():
    programs, directory = sys.argv[1:3]
    os.makedirs(directory, exist_ok=True)
    results = [from_open_clip(programs, directory, case) for case in CASES]
    results.append(from_ours(programs, directory))
    sys.exit(0 if all(results) else 1)


main()
