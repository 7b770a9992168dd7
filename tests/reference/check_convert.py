#!/usr/bin/env python3
"""check_convert.py - checkpoints of open_clip in every form, against open_clip itself.

    pip install open_clip_torch safetensors numpy
    python3 check_convert.py BIN DIRECTORY

BIN holds the programs; DIRECTORY is for scratch. Random open_clip models are saved as training
checkpoints, state dicts, TorchScript archives and safetensors, in both namings and in fp32, fp16
and bf16. Safetensors go to embed as they are, and all forms through convert-checkpoint.py; each
must give open_clip's embeddings to 1e-4. Half precision is no exception: open_clip computes in
fp32 with the rounded weights, too, and how far these move the embeddings is printed beside. What
convert-checkpoint.py makes is opened by open_clip as well, and must be the same model. Last,
what cannot be converted must be refused in one line, with the right status.
"""
import copy
import json
import os
import pathlib
import struct
import subprocess
import sys

import numpy as np
import open_clip
import torch
from open_clip.model import convert_to_custom_text_state_dict, convert_weights_to_lp
from safetensors.numpy import save
from safetensors.torch import load_file, save_file

TOLERANCE = 1e-4
SAMPLES, SIZE, LENGTH, VOCABULARY = 20, 32, 12, 500
CONVERT = str(pathlib.Path(__file__).parents[2] / "pipelines/convert-checkpoint.py")

VISION = dict(image_size=SIZE, layers=2, width=128, head_width=64, patch_size=8)
TEXT = dict(context_length=LENGTH, vocab_size=VOCABULARY, width=64, heads=1, layers=3)
MODELS = {
    "openai": dict(embed_dim=40, quick_gelu=True, vision_cfg=VISION, text_cfg=TEXT),
    "clipa": dict(embed_dim=40, text_cfg=dict(TEXT, pool_type="last", no_causal_mask=True),
                  vision_cfg=dict(VISION, no_ln_pre=True, pool_type="avg", ls_init_value=0.5,
                                  final_ln_after_pool=True)),
    "siglip": dict(embed_dim=64, custom_text=True, init_logit_bias=-10, init_logit_scale=2.3,
                   vision_cfg=VISION, nonscalar_logit_scale=True,
                   text_cfg=dict(TEXT, proj_bias=True, pool_type="last")),
}
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
failed = []


# ---- models and inputs ----

def make_model(config, seed):
    torch.manual_seed(seed)
    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    model = kind(**{k: v for k, v in config.items() if k != "custom_text"}).eval()
    with torch.no_grad():
        for p in model.parameters():  # so that biases and norms matter
            p.add_(torch.randn_like(p) * 0.02)
    return model


def flat(state):
    return {k[5:] if k.startswith("text.") else k: v for k, v in state.items()}


def custom(state):
    if "text_projection" in state:
        return convert_to_custom_text_state_dict(state)
    mark = {"text_projection": None, **state}  # which open_clip looks for, linear or not
    return {k: v for k, v in convert_to_custom_text_state_dict(mark).items() if v is not None}


def in_type(state, dtype):
    return {k: v.to(dtype) for k, v in state.items()}


def embeddings(config, state):
    """By open_clip in fp32, of the weights as they were rounded."""
    model = make_model(config, 0)
    model.load_state_dict({k: v.float() for k, v in state.items()})
    image, tokens = inputs()
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in
                 (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    pixels = (torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.no_grad():
        return torch.cat([model.encode_image(pixels, normalize=True),
                          model.encode_text(torch.from_numpy(tokens).long(), normalize=True)])


def inputs():
    draw = np.random.default_rng(2)
    image = draw.integers(0, 256, (SAMPLES, SIZE, SIZE, 3), dtype=np.uint8)
    tokens = draw.integers(1, VOCABULARY - 2, (SAMPLES, LENGTH), dtype=np.int32)
    tokens[np.arange(SAMPLES), draw.integers(2, LENGTH, SAMPLES)] = VOCABULARY - 1
    return image, tokens


def embed(programs, directory, *options):
    """By ours: one record of images and tokens goes in, one of embeddings comes out."""
    image, tokens = inputs()
    stream = save({"image": image, "text_tokens": tokens})
    stream += save({}, {"clipipe": "end", "records": "1", "samples": str(SAMPLES),
                        "dropped": "0"})
    out = subprocess.run([os.path.join(programs, "embed"), "-q", "--model", directory, *options],
                         input=stream, stdout=subprocess.PIPE, check=True).stdout
    at, values = 0, {}
    while len(values) < 2:
        size = struct.unpack("<Q", out[at:at + 8])[0]
        header = json.loads(out[at + 8:at + 8 + size])
        at += 8 + size
        spans = {k: v for k, v in header.items() if k != "__metadata__"}
        for name, t in spans.items():
            begin, end = (at + x for x in t["data_offsets"])
            if name.endswith("_embedding"):
                values[name] = np.frombuffer(out[begin:end], np.float32).reshape(t["shape"])
        at += max((t["data_offsets"][1] for t in spans.values()), default=0)
    return torch.from_numpy(np.concatenate([values["image_embedding"],
                                            values["text_embedding"]]))


# ---- comparing ----

def report(title, good, text):
    print(f"{title}: {text}{'' if good else '  FAILED'}", flush=True)
    if not good:
        failed.append(title)


def compare(title, programs, directory, config, state, exact, *options):
    try:
        got = embed(programs, directory, *options)
    except subprocess.CalledProcessError as problem:
        return report(title, False, f"embed ends with {problem.returncode}")
    wanted = embeddings(config, state)
    worst = float((got - wanted).abs().max())
    moved = float((wanted - exact).abs().max())
    rounding = f", of rounding {moved:.1e}" if moved else ""
    report(title, worst <= TOLERANCE, f"{worst:.1e}{rounding}")


def new(directory, *parts):
    path = os.path.join(directory, *parts)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def convert(*arguments):
    return subprocess.run([sys.executable, CONVERT, *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)


def check_converted(title, programs, source, out, config, state, exact, *options):
    done = convert(source, out, *options)
    if done.returncode != 0:
        return report(title, False, done.stderr.strip())
    compare(title, programs, out, config, state, exact)
    opened = open_clip.create_model("local-dir:" + out, precision="fp32").state_dict()
    same = opened.keys() == state.keys() and all(
        torch.equal(opened[k], state[k].float()) for k in state)
    report(title + ", in open_clip", same, "the same" if same else "other weights")


# ---- the forms ----

def save_pieces(path, state):
    names, weight_map = sorted(state), {}
    for n in range(3):
        piece = f"model-{n + 1}-of-3.safetensors"
        save_file({k: state[k] for k in names[n::3]}, os.path.join(os.path.dirname(path), piece))
        weight_map.update({k: piece for k in names[n::3]})
    with open(path, "w") as file:
        json.dump({"metadata": {}, "weight_map": weight_map}, file)


def save_torchscript(path, model):
    """As OpenAI's are: matrices in fp16, and three numbers among the weights."""
    model = copy.deepcopy(model)
    for name, value in ("input_resolution", SIZE), ("context_length", LENGTH), \
                       ("vocab_size", VOCABULARY):
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.tensor(value))
    example = torch.zeros(1, 3, SIZE, SIZE), torch.zeros(1, LENGTH, dtype=torch.int)
    traced = torch.jit.trace_module(model, {"forward": example}, check_trace=False)
    convert_weights_to_lp(traced, dtype=torch.float16)
    torch.jit.save(traced, path)
    return {k: v for k, v in traced.state_dict().items() if k in dict(model.named_parameters())}


def check_forms(programs, directory, name, config):
    model = make_model(config, 1)
    average = make_model(config, 2)
    exact = embeddings(config, model.state_dict())
    config_path = new(directory, name, "config.json")
    with open(config_path, "w") as file:
        json.dump({"model_cfg": config}, file)
    named = "--config", config_path

    for kind, dtype in TYPES.items():
        state = in_type(model.state_dict(), dtype)
        for naming, rename in ("flat", flat), ("text.", custom):
            title = f"{name} {naming} {kind}"
            folder = os.path.join(directory, name, f"{naming}{kind}")
            renamed = {k: v.clone() for k, v in rename(state).items()}
            files = [("model.pt", torch.save), ("model.safetensors", save_file)]
            if kind != "fp32":  # one of them will do
                files = files[:1] if naming == "flat" else files[1:]
            for file, write in files:
                write(renamed, new(folder, file))
                check_converted(f"{title} {file}", programs, os.path.join(folder, file),
                                os.path.join(folder, "of-" + file), config, state, exact, *named)
            # as it is: the other program's directory
            raw = dict(renamed, attn_mask=torch.zeros(LENGTH, LENGTH))
            save_file(raw, new(folder, "raw", "open_clip_pytorch_model.safetensors"))
            with open(os.path.join(folder, "raw", "open_clip_config.json"), "w") as file:
                json.dump({"model_cfg": config}, file)
            compare(f"{title} as it is", programs, os.path.join(folder, "raw"), config, state,
                    exact)

    state, folder = model.state_dict(), os.path.join(directory, name)
    training = {"epoch": 3, "name": "run", "optimizer": torch.optim.AdamW(model.parameters())
                .state_dict(), "scaler": {"scale": 65536.0},
                "state_dict": {"module." + k: v for k, v in state.items()},
                "state_dict_ema": average.state_dict()}
    torch.save(training, new(folder, "epoch_3.pt"))
    check_converted(f"{name} epoch_3.pt", programs, folder + "/epoch_3.pt", folder + "/of-epoch",
                    config, state, exact, *named)
    compare(f"{name} epoch_3.pt --ema", programs, folder + "/of-epoch", config,
            average.state_dict(), embeddings(config, average.state_dict()), "--ema")
    save_pieces(new(folder, "pieces", "model.safetensors.index.json"), state)
    check_converted(f"{name} in pieces", programs, folder + "/pieces/model.safetensors.index.json",
                    folder + "/of-pieces", config, state, exact, *named)
    torch.save(in_type(state, torch.float64), folder + "/fp64.pt")
    check_converted(f"{name} fp64", programs, folder + "/fp64.pt", folder + "/of-fp64", config,
                    state, exact, *named)
    mixed = {k: v if v.ndim < 2 else v.bfloat16() for k, v in state.items()}
    torch.save(mixed, folder + "/mixed.pt")
    check_converted(f"{name} mixed", programs, folder + "/mixed.pt", folder + "/of-mixed", config,
                    mixed, exact, *named)
    for kind, dtype in ("F32", "fp32"), ("F16", "fp16"), ("BF16", "bf16"):
        check_converted(f"{name} --dtype {kind}", programs, folder + "/epoch_3.pt",
                        folder + "/of-" + kind, config, in_type(state, TYPES[dtype]), exact,
                        "--dtype", kind, *named)
        written = load_file(f"{folder}/of-{kind}/open_clip_model.safetensors")
        found = {str(v.dtype) for v in written.values()}
        report(f"{name} --dtype {kind} types", found == {str(TYPES[dtype])}, " ".join(found))


def check_openai(programs, directory):
    """The archive says what it is; a plain file with its three numbers, too."""
    config = MODELS["openai"]
    model = make_model(config, 1)
    exact = embeddings(config, model.state_dict())
    path = new(directory, "archive", "ViT.pt")
    state = save_torchscript(path, model)
    check_converted("TorchScript", programs, path, directory + "/archive/of-ViT", config, state,
                    exact)
    numbers = dict(input_resolution=torch.tensor(SIZE), context_length=torch.tensor(LENGTH),
                   vocab_size=torch.tensor(VOCABULARY))
    save_file({**state, **numbers}, directory + "/archive/numbers.safetensors")
    check_converted("its numbers", programs, directory + "/archive/numbers.safetensors",
                    directory + "/archive/of-numbers", config, state, exact)
    without = {k: v for k, v in config.items() if k != "quick_gelu"}
    with open(directory + "/archive/gelu.json", "w") as file:
        json.dump(without, file)
    check_converted("TorchScript, --config without quick_gelu", programs, path,
                    directory + "/archive/of-gelu", config, state, exact, "--config",
                    directory + "/archive/gelu.json")


def check_named(programs, directory):
    """A model of open_clip's own list, with what it says about its pixels."""
    config = open_clip.get_model_config("ViT-S-32-alt")
    model = open_clip.create_model("ViT-S-32-alt")
    path, out = new(directory, "named", "model.pt"), directory + "/named/out"
    torch.save(model.state_dict(), path)
    done = convert(path, out, "--model", "ViT-S-32-alt", "--image-mean", "0.5", "0.4", "0.3",
                   "--image-resize-mode", "squash")
    same = done.returncode == 0
    if same:
        with open(out + "/open_clip_config.json") as file:
            written = json.load(file)
        opened = open_clip.create_model("local-dir:" + out).state_dict()
        same = (written["model_cfg"] == config
                and written["preprocess_cfg"]["mean"] == [0.5, 0.4, 0.3]
                and written["preprocess_cfg"]["resize_mode"] == "squash"
                and all(torch.equal(v, opened[k]) for k, v in model.state_dict().items()))
    report("--model ViT-S-32-alt", same, done.stderr.strip() or "the same")


class Unsafe:
    """Makes a file when it is loaded as a pickle."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def check_refused(directory):
    config = MODELS["openai"]
    folder = new(directory, "refused", "x")[:-2]
    marker = os.path.abspath(os.path.join(folder, "was-run"))
    state = make_model(config, 1).state_dict()

    def put(name, value):
        torch.save(value, os.path.join(folder, name))
        return os.path.join(folder, name)

    def text(name, value):
        with open(os.path.join(folder, name), "w") as file:
            file.write(value)
        return os.path.join(folder, name)

    good = put("good.pt", state)
    named = "--config", text("config.json", json.dumps(config))
    with open(good, "rb") as file:
        whole = file.read()
    with open(folder + "/cut.pt", "wb") as file:
        file.write(whole[:len(whole) // 2])
    save_file(state, folder + "/good.safetensors")
    with open(folder + "/good.safetensors", "rb") as file:
        whole = file.read()
    with open(folder + "/cut.safetensors", "wb") as file:
        file.write(whole[:len(whole) // 2])
    taken = new(folder, "taken", "open_clip_model.safetensors")
    text("taken/open_clip_model.safetensors", "mine")
    thinner = dict(config, vision_cfg=dict(VISION, width=64))
    deeper = dict(config, text_cfg=dict(TEXT, layers=4))
    shallow = dict(config, text_cfg=dict(TEXT, layers=2))
    residual = dict(config, vision_cfg=dict(VISION, layers=[1, 1, 1, 1]))
    timm = dict(config, vision_cfg=dict(timm_model_name="vit_base", image_size=32))
    cases = [
        (66, "no such file", [folder + "/absent.pt", *named]),
        (66, "a directory", [folder, *named]),
        (64, "--model or --config", [good]),
        (64, "no model 'ViT-Z'", [good, "--model", "ViT-Z"]),
        (64, "no model 'hf-hub:x/y'", [good, "--model", "hf-hub:x/y"]),
        (64, "not allowed with", [good, "--model", "ViT-B-32", *named]),
        (64, "invalid choice", [good, "--dtype", "F8", *named]),
        (66, "absent.json", [good, "--config", folder + "/absent.json"]),
        (65, "no embed_dim", [good, "--config", text("list.json", "[]")]),
        (65, "Expecting", [good, "--config", text("broken.json", "{")]),
        (65, "no pickle", [text("text.pt", "no pickle"), *named]),
        (65, "cannot be loaded", [text("empty.pt", ""), *named]),
        (65, "cannot be loaded", [folder + "/cut.pt", *named]),
        (65, "more than weights", [put("unsafe.pt", {"a": Unsafe(marker)}), *named]),
        (65, "more than weights", [put("module.pt", torch.nn.Linear(2, 2)), *named]),
        (65, "not a safetensors", [text("text.safetensors", "no safetensors"), *named]),
        (65, "not a safetensors", [folder + "/cut.safetensors", *named]),
        (65, "expected a state dict", [put("list.pt", [1, 2]), *named]),
        (65, "expected names", [put("number.pt", {"state_dict": 7}), *named]),
        (65, "epoch is a int", [put("epoch.pt", {"epoch": 3, "model": state}), *named]),
        (65, "expected floating point",
         [put("ints.pt", dict(state, logit_scale=torch.tensor(1))), *named]),
        (65, "ln_final.weight comes twice",
         [put("twice.pt", {**state, "text.ln_final.weight": torch.ones(64)}), *named]),
        (65, "visual.conv1.weight is absent", [put("none.pt", {}), *named]),
        (65, "visual.conv1.weight is [128, 3, 8, 8], the configuration has [64, 3, 8, 8]",
         [good, "--config", text("thinner.json", json.dumps(thinner))]),
        (65, "resblocks.3.ln_1.weight is absent",
         [good, "--config", text("deeper.json", json.dumps(deeper))]),
        (65, "fewer layers", [good, "--config", text("shallow.json", json.dumps(shallow))]),
        (65, "own transformers", [good, "--config", text("rn.json", json.dumps(residual))]),
        (65, "own transformers", [good, "--config", text("timm.json", json.dumps(timm))]),
        (65, "list of the pieces", [text("a.index.json", "{}"), *named]),
        (65, "list of the pieces", [text("b.index.json", "[]"), *named]),
        (65, "not the name of a file",
         [text("c.index.json", '{"weight_map": {"a": "../good.safetensors"}}'), *named]),
        (66, "no such file",
         [text("d.index.json", '{"weight_map": {"a": "absent.safetensors"}}'), *named]),
        (65, "no piece has a",
         [text("e.index.json", '{"weight_map": {"a": "good.safetensors"}}'), *named]),
    ]
    for status, message, arguments in cases:
        out = folder + "/never"
        done = convert(arguments[0], out, *arguments[1:])
        fine = (done.returncode == status and message in done.stderr
                and done.stderr.count("\n") == 1 and not os.path.exists(out))
        report(f"refuses {os.path.basename(arguments[0])} {' '.join(arguments[1:2])}", fine,
               f"{done.returncode} {done.stderr.strip()}")
    for out, status in (os.path.dirname(taken), 64), (good, 74), ("/proc/none/out", 74):
        done = convert(good, out, *named)
        report(f"refuses to write {out}", done.returncode == status
               and done.stderr.count("\n") == 1, f"{done.returncode} {done.stderr.strip()}")
    report("runs nothing", not os.path.exists(marker), "of a pickle")


def main():
    programs, directory = sys.argv[1:3]
    print(f"open_clip {open_clip.__version__}, torch {torch.__version__}")
    for name, config in MODELS.items():
        check_forms(programs, directory, name, config)
    check_openai(programs, directory)
    check_named(programs, directory)
    check_refused(directory)
    print(f"{len(failed)} failed" if failed else "all good")
    sys.exit(1 if failed else 0)


main()
