"""check_open_clip.py - our model against open_clip, in double precision.

    check_open_clip.py DUMP_CLIP DIRECTORY [DEVICE]

DUMP_CLIP is the program made from dump_clip.c:

    cc -std=c11 -D_GNU_SOURCE -Icommon -I. -fopenmp -pthread -o dump_clip \\
       tests/reference/dump_clip.c build/libclipipe.a -ljansson -ldnnl -lm

For several small configurations it writes a checkpoint, the embeddings, loss and gradients of
a batch, and the checkpoint after three steps. open_clip loads the first through local-dir:,
computes the same, and the largest differences are printed: absolute for embeddings, relative
to the largest entry of a tensor for gradients and for the change that training made.
Needs torch, open_clip_torch and safetensors; DIRECTORY is for the dumps. Status 1 on failure.
"""
import json
import os
import subprocess
import sys

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

TOLERANCE = 1e-4
TRAINED_TOLERANCE = 2e-3  # Adam divides by small gradients, and the change itself is small
LEARNING_RATE, STEPS = 1e-3, 3

VISION = dict(image_size=32, patch_size=8, layers=2, width=48, head_width=16)
TEXT = dict(context_length=12, vocab_size=101, width=32, heads=4, layers=2)

# name, vision changes, text changes, model changes, samples, samples at once, kept patches
CASES = [
    ("openai", {}, {}, dict(quick_gelu=True), 8, 8, 16),
    ("erf", {}, {}, {}, 6, 6, 16),
    ("accumulated", {}, {}, {}, 8, 3, 16),
    ("clipa", dict(no_ln_pre=True, pool_type="avg", final_ln_after_pool=True),
     dict(pool_type="last", no_causal_mask=True), {}, 8, 8, 16),
    ("clipa reduced", dict(no_ln_pre=True, pool_type="avg", final_ln_after_pool=True),
     dict(pool_type="last", no_causal_mask=True), {}, 8, 4, 5),
    ("norm then mean",
     dict(pool_type="avg", act_kwargs=dict(approximate="tanh"), mlp_ratio=2.3),
     dict(pool_type="first", no_causal_mask=True, norm_kwargs=dict(eps=1e-6)), {}, 7, 7, 9),
    ("eos", dict(image_size=35), dict(pool_type="eos", eos_id=42), {}, 5, 5, 16),
]


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
    labels = torch.arange(len(image))
    loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    return a, b, loss


def relative(got, expected):
    return float((got.double() - expected).abs().max() / expected.abs().max().clamp_min(1e-12))


def train(model, image, tokens):
    """What open_clip_train does with --grad-clip-norm 0.5."""
    named = list(model.named_parameters())
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


def check(program, directory, device, case):
    name, vision, text, extra, count, at_once, kept = case
    out = os.path.join(directory, name.replace(" ", "-"))
    os.makedirs(out, exist_ok=True)
    config_path = os.path.join(out, "model.json")
    with open(config_path, "w") as file:
        json.dump({"embed_dim": 24, "vision_cfg": {**VISION, **vision},
                   "text_cfg": {**TEXT, **text}, **extra}, file)
    subprocess.run([program, config_path, device, str(count), str(at_once), str(kept), out],
                   check=True)

    first = os.path.join(out, "step-00000000")
    batch = load_file(os.path.join(out, "batch.safetensors"))
    model = open_clip.create_model("local-dir:" + first, precision="fp32").double()
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    with open(os.path.join(first, "open_clip_config.json")) as file:
        preprocess = json.load(file)["preprocess_cfg"]
    size, patch = {**VISION, **vision}["image_size"], VISION["patch_size"]
    image = images_of(batch, preprocess, size, patch)
    if kept < (size // patch) ** 2:
        model.visual.patch_dropout = Keep(batch["position"])
    tokens = batch["tokens"].long()

    a, b, loss = loss_of(model, image, tokens)
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters()}
    a, b, loss = a.detach(), b.detach(), loss.detach()
    embedding = max(float((batch["image"] - a).abs().max()),
                    float((batch["text"] - b).abs().max()))
    gradient, worst = max((relative(batch[n + ".grad"], g), n) for n, g in gradients.items())
    train(model, image, tokens)
    ours = load_file(os.path.join(out, "step-00000003", "open_clip_model.safetensors"))
    change, moved = max((relative(ours[n].double() - start[n], p.detach() - start[n]), n)
                        for n, p in model.named_parameters())
    loss_error = abs(float(batch["loss"]) - float(loss)) / float(loss)
    print(f"{name}: embeddings {embedding:.1e}, loss {loss_error:.1e}, "
          f"gradients {gradient:.1e} ({worst}), after {STEPS} steps {change:.1e} ({moved})")
    return (max(embedding, loss_error, gradient) <= TOLERANCE and change <= TRAINED_TOLERANCE
            and check_start(start, {**VISION, **vision}, {**TEXT, **text}, extra))


def check_start(ours, vision, text, extra):
    """Our initial values have the mean and spread of open_clip's, tensor by tensor."""
    torch.manual_seed(0)
    theirs = open_clip.CLIP(24, open_clip.CLIPVisionCfg(**vision),
                            open_clip.CLIPTextCfg(**text), **extra)
    good = True
    for name, p in theirs.named_parameters():
        if p.numel() < 2:
            continue
        spread, wanted = float(ours[name].std()), float(p.detach().std())
        slack = 5 / p.numel() ** 0.5  # five standard errors of a standard deviation, about
        centre = abs(float(ours[name].mean()) - float(p.detach().mean()))
        if abs(spread - wanted) > slack * wanted or centre > slack * wanted + 1e-9:
            print(f"  {name}: standard deviation {spread:.4g}, expected {wanted:.4g}")
            good = False
    return good


def main():
    program, directory = sys.argv[1:3]
    device = sys.argv[3] if len(sys.argv) > 3 else "cpu"
    results = [check(program, directory, device, case) for case in CASES]
    sys.exit(0 if all(results) else 1)


main()
