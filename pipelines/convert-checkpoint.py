#!/usr/bin/env python3
"""convert-checkpoint.py - weights of open_clip and OpenAI as a directory that clipipe opens.

INPUT is one of
    a training checkpoint of open_clip (epoch_K.pt), with or without "module." before its names;
    a plain state dict (.pt, .pth, .bin), from torch.save;
    OpenAI's TorchScript archive (ViT-B-32.pt);
    a .safetensors file, or the .safetensors.index.json of one in pieces.
Pickles are loaded with weights_only=True: nothing in them is run.

OUT becomes a directory with open_clip_config.json and open_clip_model.safetensors, which
open_clip opens as local-dir:OUT and clipipe as --model OUT or --init OUT. Averaged weights of a
training checkpoint (state_dict_ema) become open_clip_model_ema.safetensors, for --ema.

The architecture is that of --model, a name of open_clip's, or of --config, a file with
{"embed_dim": ...} or a whole open_clip_config.json. An archive of OpenAI's needs neither.
Values keep their type, but for F64, which becomes F32; --dtype makes all the same.
A vocabulary is not converted: the programs take it by --vocab.

Needs torch and safetensors; --model needs open_clip_torch, too.
Exit status: 0, or 64 usage, 65 bad data, 66 no input, 69 a package is absent, 74 cannot write.
"""
import argparse
import contextlib
import fnmatch
import json
import math
import os
import pickle
import re
import sys
import warnings
import zipfile

USAGE, DATA, NO_INPUT, UNAVAILABLE, IO = 64, 65, 66, 69, 74
MODEL, AVERAGE = "open_clip_model.safetensors", "open_clip_model_ema.safetensors"
OPENAI_NUMBERS = {"input_resolution", "context_length", "vocab_size"}
BUFFERS = ["attn_mask", "text.attn_mask", "*transformer.embeddings.position_ids",
           "visual.*.num_batches_tracked", *OPENAI_NUMBERS]
TEXT = ("positional_embedding", "text_projection", "token_embedding.", "transformer.", "ln_final.")
PREPROCESSING = {"mean": [0.48145466, 0.4578275, 0.40821073],  # open_clip's defaults
                 "std": [0.26862954, 0.26130258, 0.27577711],
                 "interpolation": "bicubic", "resize_mode": "shortest"}


def fail(status, message):
    line = " ".join(message.split())
    print(f"convert-checkpoint: {line}", file=sys.stderr)
    sys.exit(status)


def note(message):
    print(f"convert-checkpoint: note: {message}", file=sys.stderr)


try:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file
except ImportError as problem:
    if not {"-h", "--help"} & set(sys.argv):
        fail(UNAVAILABLE, f"{problem}: pip install torch safetensors")


# ---- what the input holds ----

def load_pieces(path):
    """All files that an index names."""
    with open(path, encoding="utf-8") as file:
        index = json.load(file)
    state = {}
    for name in sorted(set(index["weight_map"].values())):
        if os.path.basename(name) != name:
            fail(DATA, f"{path}: '{name}' is not the name of a file beside it")
        piece = os.path.join(os.path.dirname(path), name)
        if not os.path.exists(piece):
            fail(NO_INPUT, f"{piece}: no such file, which {os.path.basename(path)} names")
        state.update(load_file(piece))
    lacking = set(index["weight_map"]) - set(state)
    if lacking:
        fail(DATA, f"{path}: no piece has {min(lacking)}")
    return state


def is_torchscript(path):
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def check_archive(path):
    """torch does not look at the checksums that the archive has."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            fail(DATA, f"{path}: damaged: the checksum of {damaged} is wrong")


def load_any(path):
    if path.endswith(".index.json"):
        return load_pieces(path)
    if path.endswith(".safetensors"):
        return load_file(path)
    check_archive(path)
    if is_torchscript(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.jit.load(path, map_location="cpu").state_dict()
    return torch.load(path, map_location="cpu", weights_only=True)


def load(path):
    """The state dicts of the model and of its average, which may be None."""
    try:
        found = load_any(path)
    except FileNotFoundError as problem:
        fail(NO_INPUT, f"{problem.filename or path}: no such file")
    except IsADirectoryError:
        fail(NO_INPUT, f"{path}: a directory, expected a file")
    except PermissionError as problem:
        fail(NO_INPUT, f"{path}: {problem.strerror}")
    except OSError as problem:  # of what is read, not of opening it
        fail(DATA, f"{path}: cannot be loaded: {problem.strerror or problem}")
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        fail(DATA, f"{path}: not a list of the pieces of a safetensors file")
    except SafetensorError as problem:
        fail(DATA, f"{path}: not a safetensors file: {problem}")
    except pickle.UnpicklingError:  # torch's own text advises to run the pickle
        fail(DATA, f"{path}: no pickle, or one that holds more than weights: not loaded")
    except Exception as problem:  # damaged archives fail in many ways
        first = (str(problem).split(". ")[0].splitlines() or [type(problem).__name__])[0]
        fail(DATA, f"{path}: cannot be loaded: {first}")
    if not isinstance(found, dict):
        fail(DATA, f"{path}: holds a {type(found).__name__}, expected a state dict")
    if "state_dict" in found:
        return found["state_dict"], found.get("state_dict_ema")
    return found, None


# ---- names ----

def flat_name(name):
    return name[5:] if name.startswith("text.") and name[5:].startswith(TEXT) else name


def clean(path, state):
    """Tensors by their flat names, without what follows from the configuration."""
    out = {}
    if not isinstance(state, dict):
        fail(DATA, f"{path}: state_dict is a {type(state).__name__}, expected names and tensors")
    for name, tensor in state.items():
        name = re.sub(r"^((module|_orig_mod)\.)+", "", str(name))
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in BUFFERS):
            continue
        if not isinstance(tensor, torch.Tensor):
            fail(DATA, f"{path}: {name} is a {type(tensor).__name__}, expected a tensor")
        if not tensor.is_floating_point():
            fail(DATA, f"{path}: {name} is {tensor.dtype}, expected floating point")
        if flat_name(name) in out:
            fail(DATA, f"{path}: {flat_name(name)} comes twice")
        out[flat_name(name)] = tensor
    return out


def text_name(name):
    return "text." + name if name.startswith(TEXT) else name


# ---- the architecture ----

def read_config(path):
    """The model's part and the preprocessing's."""
    try:
        with open(path, encoding="utf-8") as file:
            whole = json.load(file)
    except OSError as problem:
        fail(NO_INPUT, f"{path}: {problem.strerror}")
    except ValueError as problem:
        fail(DATA, f"{path}: {problem}")
    model = whole.get("model_cfg", whole) if isinstance(whole, dict) else None
    if not isinstance(model, dict) or "embed_dim" not in model:
        fail(DATA, f"{path}: no embed_dim, expected a configuration of open_clip's")
    return model, whole.get("preprocess_cfg", {})


def named_config(name):
    try:
        from open_clip.factory import get_model_config
    except ImportError as problem:
        fail(UNAVAILABLE, f"--model: {problem}: pip install open_clip_torch, or use --config")
    config = None if ":" in name else get_model_config(name)
    if config is None:
        fail(USAGE, f"--model: open_clip has no model '{name}'")
    return config


def openai_config(path, state):
    """OpenAI's vision transformers follow from their shapes: all heads are 64 wide."""
    def layers(prefix):
        return len({name[len(prefix):].split(".")[0] for name in state if name.startswith(prefix)})

    try:
        width, _, patch, _ = state["visual.conv1.weight"].shape
        vocabulary, text_width = state["token_embedding.weight"].shape
        grid = round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
        return {"embed_dim": state["text_projection"].shape[1], "quick_gelu": True,
                "vision_cfg": {"image_size": grid * patch, "patch_size": patch, "width": width,
                               "layers": layers("visual.transformer.resblocks.")},
                "text_cfg": {"context_length": len(state["positional_embedding"]),
                             "vocab_size": vocabulary, "width": text_width,
                             "heads": text_width // 64,
                             "layers": layers("transformer.resblocks.")}}
    except (KeyError, ValueError):
        fail(DATA, f"{path}: not one of OpenAI's vision transformers")


def expected_shapes(config):
    """Of the tensors that tell one architecture from another; open_clip's defaults."""
    vision, text, size = config.get("vision_cfg", {}), config.get("text_cfg", {}), {}
    width, patch = vision.get("width", 768), vision.get("patch_size", 16)
    text_width, embedding = text.get("width", 512), config["embed_dim"]
    size["visual.conv1.weight"] = [width, 3, patch, patch]
    size["visual.positional_embedding"] = [(vision.get("image_size", 224) // patch) ** 2 + 1, width]
    size["visual.proj"] = [width, embedding]
    size["positional_embedding"] = [text.get("context_length", 77), text_width]
    size["token_embedding.weight"] = [text.get("vocab_size", 49408), text_width]
    if text.get("proj_bias"):
        size["text_projection.weight"] = [embedding, text_width]
    elif text.get("proj_type", "linear") == "linear":
        size["text_projection"] = [text_width, embedding]
    for tower, cfg, wide in ("visual.", vision, width), ("", text, text_width):
        prefix, layers = tower + "transformer.resblocks.", cfg.get("layers", 12)
        size[f"{prefix}{layers - 1}.ln_1.weight"] = [wide]
        size[f"{prefix}{layers}.ln_1.weight"] = None
    return size


def expected_names(config):
    """Of all tensors of a model of open_clip's own transformers, flat."""
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    names = {"logit_scale", "token_embedding.weight", "positional_embedding",
             "visual.class_embedding", "visual.positional_embedding", "visual.conv1.weight",
             "visual.proj"}
    norms = {"ln_final", "visual.ln_post"} | (set() if vision.get("no_ln_pre") else {"visual.ln_pre"})
    if config.get("init_logit_bias") is not None:
        names.add("logit_bias")
    if text.get("proj_bias"):
        names |= {"text_projection.weight", "text_projection.bias"}
    elif text.get("proj_type", "linear") == "linear":
        names.add("text_projection")
    for tower, cfg in ("visual.", vision), ("", text):
        for layer in range(cfg.get("layers", 12)):
            block = f"{tower}transformer.resblocks.{layer}."
            norms |= {block + part for part in
                      ("ln_1", "ln_2", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")}
            names |= {block + "attn.in_proj_weight", block + "attn.in_proj_bias"}
            if cfg.get("ls_init_value") is not None:
                names |= {block + "ls_1.gamma", block + "ls_2.gamma"}
    return names | {norm + end for norm in norms for end in (".weight", ".bias")}


def check(path, state, config):
    try:
        shapes = expected_shapes(config)
    except (TypeError, AttributeError, ValueError):
        shapes = None
    if shapes is None or "timm_model_name" in config.get("vision_cfg", {}) \
            or "hf_model_name" in config.get("text_cfg", {}):
        fail(DATA, f"{path}: both towers must be open_clip's own transformers")
    for name, shape in shapes.items():
        found = list(state[name].shape) if name in state else None
        if found != shape:
            fail(DATA, f"{path}: {name} is {found or 'absent'}, the configuration has "
                       f"{shape or 'fewer layers'}")
    names = expected_names(config)
    for name in sorted(names - set(state)):
        fail(DATA, f"{path}: {name} is absent, the configuration has it")
    for name in sorted(set(state) - names):
        fail(DATA, f"{path}: {name} is none of the tensors that the configuration has")
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            fail(DATA, f"{path}: {name} holds values that are not finite")


# ---- writing ----

def write_weights(out, name, state, custom, dtype):
    tensors, seen = {}, set()
    for key, tensor in state.items():
        kind = dtype or (torch.float32 if tensor.dtype == torch.float64 else tensor.dtype)
        tensor = tensor.detach().to(kind).contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()  # a file has no views
        seen.add(tensor.untyped_storage().data_ptr())
        tensors[text_name(key) if custom else key] = tensor
    part = os.path.join(out, name + ".part")
    try:
        save_file(tensors, part, metadata={"format": "pt"})
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)  # safetensors makes files for their owner alone
        os.replace(part, os.path.join(out, name))
    except (OSError, SafetensorError) as problem:
        with contextlib.suppress(OSError):
            os.remove(part)
        fail(IO, f"{os.path.join(out, name)}: {problem}")


def write_config(out, config, preprocessing):
    path = os.path.join(out, "open_clip_config.json")
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"model_cfg": config, "preprocess_cfg": preprocessing}, file, indent=4)
            file.write("\n")
    except OSError as problem:
        fail(IO, f"{path}: {problem.strerror}")


class Parser(argparse.ArgumentParser):
    def error(self, message):
        fail(USAGE, f"{message}; --help lists the options")


def finite(text):
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def positive(text):
    value = finite(text)
    if value <= 0:
        raise ValueError
    return value


def parse():
    summary, _, rest = __doc__.partition("\n\n")
    parser = Parser(prog="convert-checkpoint.py", description=summary.split(" - ", 1)[1],
                    epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", metavar="INPUT")
    parser.add_argument("out", metavar="OUT")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--model", metavar="NAME", help="open_clip's name, ViT-B-32")
    source.add_argument("--config", metavar="FILE", help="the model's configuration")
    parser.add_argument("--force-quick-gelu", action="store_true",
                        help="the weights were trained with QuickGELU")
    parser.add_argument("--dtype", choices=["F32", "F16", "BF16"], help="of all that is written")
    parser.add_argument("--image-mean", type=finite, nargs=3, metavar=("R", "G", "B"),
                        help="preprocessing for open_clip_config.json; as these two [OpenAI's]")
    parser.add_argument("--image-std", type=positive, nargs=3, metavar=("R", "G", "B"))
    parser.add_argument("--image-interpolation", choices=["bicubic", "bilinear"])
    parser.add_argument("--image-resize-mode", choices=["shortest", "longest", "squash"])
    return parser.parse_args()


def main():
    options = parse()
    for name in MODEL, AVERAGE, "MANIFEST":
        if os.path.lexists(os.path.join(options.out, name)):
            fail(USAGE, f"{options.out} has a {name} already")
    state, average = load(options.input)
    from_openai = isinstance(state, dict) and OPENAI_NUMBERS <= set(state)
    state = clean(options.input, state)

    preprocessing = dict(PREPROCESSING)
    if options.config:
        config, given = read_config(options.config)
        preprocessing.update(given)
    elif options.model:
        config = named_config(options.model)
    elif from_openai:
        config = openai_config(options.input, state)
    else:
        fail(USAGE, f"{options.input} does not say what model it is: --model or --config")
    if (from_openai or options.force_quick_gelu) and not config.get("quick_gelu"):
        config["quick_gelu"] = True
        note("quick_gelu is set")
    for key in "mean", "std", "interpolation", "resize_mode":
        if getattr(options, "image_" + key) is not None:
            preprocessing[key] = getattr(options, "image_" + key)
    check(options.input, state, config)

    try:
        os.makedirs(options.out, exist_ok=True)
    except OSError as problem:
        fail(IO, f"{options.out}: {problem.strerror}")
    dtype = {None: None, "F32": torch.float32, "F16": torch.float16,
             "BF16": torch.bfloat16}[options.dtype]
    custom = bool(config.get("custom_text"))
    write_config(options.out, config, preprocessing)
    if average is not None:
        average = clean(options.input, average)
        check(options.input, average, config)
        write_weights(options.out, AVERAGE, average, custom, dtype)
    write_weights(options.out, MODEL, state, custom, dtype)


main()
