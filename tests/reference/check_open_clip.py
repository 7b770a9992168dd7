"""check_open_clip.py - our model against open_clip, in double precision, both ways.

    check_open_clip.py DUMP_CLIP DIRECTORY [--device cpu] [--seed N] [--count N]

DUMP_CLIP is the program made from dump_clip.c, DIRECTORY is for its files; parity.sh makes both.
Configurations and inputs are drawn from the seed. For each of them

    ours:   we draw the parameters and write a checkpoint, which open_clip loads (local-dir:);
    theirs: open_clip draws the parameters and writes a directory, which we load;

and either way the same batch goes through both: embeddings, loss, the gradient of every
tensor, and the parameters after three steps of AdamW. A line says the largest difference of
each, absolute for embeddings, relative to the norm of a tensor for gradients and for the change
that training made. Our first parameters must have the mean and spread of
open_clip's. Status 1 where anything is too far off; the seed repeats it.
Needs torch, open_clip_torch and safetensors.
"""
import argparse
import json
import os
import random
import subprocess
import sys

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

TOLERANCE = 1e-4
TRAINED_TOLERANCE = 1e-2  # Adam makes whole steps of gradients that are all rounding error
LEARNING_RATE, STEPS = 1e-3, 3


def draw_tower(rng, width, layers):
    """What image and text towers have in common."""
    cfg = dict(width=width, layers=layers)
    if rng.random() < 0.3:
        cfg["mlp_ratio"] = rng.choice([1.3, 2.0, 2.7, 4.9231])
    if rng.random() < 0.3:
        cfg["ls_init_value"] = rng.choice([1e-5, 0.1, 1.0])
    if rng.random() < 0.3:
        cfg["norm_kwargs"] = dict(eps=rng.choice([1e-6, 1e-3]))
    return cfg


def draw_config(rng):
    head_width, patch = rng.choice([4, 7, 8, 16]), rng.choice([3, 4, 8])
    vision = dict(draw_tower(rng, head_width * rng.choice([1, 2, 4]), rng.randint(1, 3)),
                  head_width=head_width, patch_size=patch,
                  image_size=patch * rng.randint(1, 5) + rng.randrange(patch),
                  no_ln_pre=rng.random() < 0.5, pool_type=rng.choice(["tok", "avg"]),
                  final_ln_after_pool=rng.random() < 0.5)
    if vision["width"] % 4 == 0 and rng.random() < 0.3:
        vision["pos_embed_type"] = "sin_cos_2d"
    heads = rng.choice([1, 2, 3])
    vocabulary = rng.randint(20, 150)
    text = dict(draw_tower(rng, heads * rng.choice([4, 5, 8]), rng.randint(1, 3)), heads=heads,
                context_length=rng.randint(2, 14), vocab_size=vocabulary,
                pool_type=rng.choice(["argmax", "last", "first", "eos"]),
                no_causal_mask=rng.random() < 0.5, eos_id=rng.randrange(vocabulary))
    model = dict(embed_dim=rng.randint(4, 40), vision_cfg=vision, text_cfg=text)
    projection = rng.choice(["matrix", "matrix", "linear", "none"])
    if text["pool_type"] == "first":  # under a mask it would see itself alone: no gradient
        text["no_causal_mask"] = True
    if projection == "linear":
        text["proj_bias"] = True
    if projection == "none":
        text["proj_type"], model["embed_dim"] = "none", text["width"]
    if rng.random() < 0.3:
        model["quick_gelu"] = True
    else:
        for cfg in vision, text:
            if rng.random() < 0.4:
                cfg["act_kwargs"] = dict(approximate="tanh")
    if rng.random() < 0.3:
        model["init_logit_bias"], model["init_logit_scale"] = -10, 2.302585
    if rng.random() < 0.2:
        model["nonscalar_logit_scale"] = True
    if projection != "linear" and rng.random() < 0.3:
        model["custom_text"] = True
    return model


class Keep(torch.nn.Module):
    """In the place of patch dropout: the class token and the patches at `position`."""

    def __init__(self, position):
        super().__init__()
        self.rows = torch.cat([torch.zeros_like(position[:, :1]), position + 1], dim=1).long()

    def forward(self, x):
        return torch.gather(x, 1, self.rows[:, :, None].expand(-1, -1, x.shape[2]))


def images_of(batch, preprocess, size, patch):
    """Whole images [B,3,S,S] with the given patches in place and nothing elsewhere."""
    count, kept, _ = batch["patches"].shape
    grid = size // patch
    image = torch.zeros(count, 3, size, size, dtype=torch.float64)
    patches = batch["patches"].double().reshape(count, kept, patch, patch, 3)
    mean = torch.tensor(preprocess["mean"], dtype=torch.float64)
    std = torch.tensor(preprocess["std"], dtype=torch.float64)
    patches = ((patches / 255 - mean) / std).permute(0, 1, 4, 2, 3)
    for i in range(count):
        for j in range(kept):
            y, x = divmod(int(batch["position"][i, j]), grid)
            image[i, :, y * patch:(y + 1) * patch, x * patch:(x + 1) * patch] = patches[i, j]
    return image


def loss_of(model, image, tokens):
    a = model.encode_image(image, normalize=True)
    b = model.encode_text(tokens, normalize=True)
    logits = model.logit_scale.exp() * a @ b.T
    if model.logit_bias is not None:
        logits = logits + model.logit_bias
    labels = torch.arange(len(image))
    loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    return a, b, loss


def relative(got, expected, least=0):
    """The norm of the error by the norm of what is expected, or by `least` if that is more: the
    gradient of the logit scale is a difference of sums that are as large as the loss."""
    return float((got.double() - expected).norm()) / max(float(expected.norm()), least, 1e-12)


def without_keys(name, x):
    """A bias of all keys changes no softmax: its gradient is zero, and Adam makes steps of
    rounding errors there."""
    if name.endswith("attn.in_proj_bias"):
        width = len(x) // 3
        return torch.cat([x[:width], x[2 * width:]])
    return x


def train(model, image, tokens):
    """What open_clip_train does with --grad-clip-norm 0.5."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [{"params": [p for n, p in named if p.ndim < 2], "weight_decay": 0.0},
         {"params": [p for n, p in named if p.ndim >= 2], "weight_decay": 0.2}],
        lr=LEARNING_RATE, betas=(0.9, 0.98), eps=1e-6)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, image, tokens)[2].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.605170185988092)


def write_theirs(config, path, rng):
    """A directory as open_clip's push_to_hf_hub makes it, with no tensor constant."""
    torch.manual_seed(rng.getrandbits(32))
    model = open_clip.CLIP(**{k: v for k, v in config.items() if k != "custom_text"})
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1 and p.numel() > 1:
                p += 0.1 * torch.randn_like(p)
    os.makedirs(path, exist_ok=True)
    save_file(model.state_dict(), os.path.join(path, "open_clip_model.safetensors"))
    with open(os.path.join(path, "open_clip_config.json"), "w") as file:
        json.dump({"model_cfg": config, "preprocess_cfg": {
            "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "interpolation": "bilinear"}}, file)


def compare(out, config):
    """Embeddings, loss, gradients, change by training: largest differences; the first
    parameters."""
    first = os.path.join(out, "step-00000000")
    batch = load_file(os.path.join(out, "batch.safetensors"))
    model = open_clip.create_model("local-dir:" + first, precision="fp32").double()
    named = dict(model.named_parameters())
    start = {n: p.detach().clone() for n, p in named.items()}
    with open(os.path.join(first, "open_clip_config.json")) as file:
        preprocess = json.load(file)["preprocess_cfg"]
    vision = config["vision_cfg"]
    image = images_of(batch, preprocess, vision["image_size"], vision["patch_size"])
    model.visual.patch_dropout = Keep(batch["position"])
    tokens = batch["tokens"].long()

    a, b, loss = loss_of(model, image, tokens)
    loss.backward()
    gradient = max(relative(batch[n + ".grad"], p.grad, loss.item() if n == "logit_scale" else 0)
                   for n, p in named.items() if p.requires_grad and n != "logit_bias")
    fixed = max([0.0] + [float(batch[n + ".grad"].abs().max()) for n, p in named.items()
                         if not p.requires_grad or n == "logit_bias"])
    embedding = max(float((batch["image"] - a.detach()).abs().max()),
                    float((batch["text"] - b.detach()).abs().max()))
    loss_error = abs(batch["loss"].item() - loss.item()) / loss.item()
    train(model, image, tokens)
    ours = load_file(os.path.join(out, "step-00000003", "open_clip_model.safetensors"))
    change = max(relative(without_keys(n, ours[n].double() - start[n]),
                          without_keys(n, p.detach() - start[n]))
                 for n, p in named.items() if n != "logit_bias")
    return embedding, loss_error, max(gradient, fixed), change, start


def check_start(ours, config):
    """Our initial values have the mean and spread of open_clip's, tensor by tensor."""
    torch.manual_seed(0)
    theirs = open_clip.CLIP(**{k: v for k, v in config.items() if k != "custom_text"})
    good = True
    for name, p in theirs.named_parameters():
        if p.numel() < 32:  # whose spread says nothing
            continue
        spread, wanted = float(ours[name].std()), float(p.detach().double().std())
        slack = 6 / p.numel() ** 0.5  # standard errors of a standard deviation, and more
        centre = abs(float(ours[name].mean()) - float(p.detach().double().mean()))
        if abs(spread - wanted) > slack * wanted + 1e-9 or centre > slack * wanted + 1e-9:
            print(f"  {name}: standard deviation {spread:.4g}, expected {wanted:.4g}")
            good = False
    return good


def check(options, number, rng):
    config = draw_config(rng)
    vision = config["vision_cfg"]
    places = (vision["image_size"] // vision["patch_size"]) ** 2
    count = rng.randint(2, 9)
    at_once, kept = rng.randint(1, count), rng.choice([places, rng.randint(1, places)])
    good = True
    for way in "ours", "theirs":
        out = os.path.join(options.directory, f"{number}-{way}")
        os.makedirs(out, exist_ok=True)
        source = os.path.join(out, "given")
        if way == "ours":
            with open(source, "w") as file:
                json.dump(config, file)
        else:
            write_theirs(config, source, rng)
        subprocess.run([options.program, source, options.device, str(count), str(at_once),
                        str(kept), str(rng.getrandbits(31)), out], check=True)
        embedding, loss, gradient, change, start = compare(out, config)
        fine = max(embedding, loss, gradient) <= TOLERANCE and change <= TRAINED_TOLERANCE
        if way == "ours":
            fine = check_start(start, config) and fine
        print(f"{number} {way}: embeddings {embedding:.1e}, loss {loss:.1e}, gradients "
              f"{gradient:.1e}, after {STEPS} steps {change:.1e}: {'good' if fine else 'FAILED'}")
        if not fine:
            print(f"  {count} samples, {at_once} at once, {kept} of {places} patches, "
                  + json.dumps(config))
        good = good and fine
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("directory")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=random.getrandbits(31))
    parser.add_argument("--count", type=int, default=12)
    options = parser.parse_args()
    print(f"open_clip {open_clip.__version__}, torch {torch.__version__}, seed {options.seed}")
    rng = random.Random(options.seed)
    results = [check(options, number, rng) for number in range(options.count)]
    print(f"{sum(results)} of {len(results)} configurations are the same in both")
    sys.exit(0 if all(results) else 1)


main()
