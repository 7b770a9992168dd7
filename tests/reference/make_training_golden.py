"""make_training_golden.py - training steps of open_clip, for tests/unit/test_open_clip_golden.c.

    python make_training_golden.py [DIRECTORY]      (tests/reference/training)

Needs torch, open_clip_torch 3.3 and safetensors. For each configuration below it writes
DIRECTORY/NAME.safetensors: what open_clip computes, in double precision, from parameters and
batches that a hash gives, so that the file need not hold them. As metadata: the configuration
as JSON, versions and settings. As tensors, all F64:

    loss            [STEPS]    before each step
    image, text     [COUNT,E]  embeddings before the first step
    T.start         [2]        tensor T begins as centre + spread * (uniform in [-1,1))
    T.gradient      [SKETCH]   a sketch of its first gradient
    T.change        [SKETCH]   and of how far STEPS steps of AdamW moved it
    T.gradients     [SEVERAL,1+PROJECTIONS]  norm and projections of its gradient for the first
                               SEVERAL batches, with the first parameters
    T.bf16          [1]        how far autocast to bfloat16 takes its gradient from that: norm of
                               the error by norm of the gradient, the root of the mean square
                               over BATCHES batches
    bf16.loss       [BATCHES]  the loss of these batches with the first parameters
    bf16.loss_error, bf16.embedding_error   [1] root mean square errors of autocast in them

A sketch of n values is their norm, PROJECTIONS sums of the values with random signs, and
SAMPLES of the values. The mean square of the projections of an error is the square of its
norm, on average, which is how a test sees errors between the samples.
"""
import json
import math
import os
import sys

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

COUNT, STEPS, WARMUP, LEARNING_RATE = 6, 20, 5, 1e-3
BETA1, BETA2, EPS, WEIGHT_DECAY = 0.9, 0.98, 1e-6, 0.2
PROJECTIONS, SAMPLES = 16, 8
BATCHES, SEVERAL = 16, 4  # to measure what bfloat16 does
STREAM_PIXELS, STREAM_POSITIONS, STREAM_TOKENS, STREAM_LENGTHS = 1, 2, 3, 4
STREAM_SIGNS, STREAM_SAMPLES = 5, 6  # these two and a tensor's values: plus its name's hash

VISION = dict(image_size=32, patch_size=8, layers=2, width=32, head_width=8)
TEXT = dict(context_length=9, vocab_size=61, width=24, heads=3, layers=2)
CLIPA_VISION = dict(no_ln_pre=True, pool_type="avg", final_ln_after_pool=True)
CLIPA_TEXT = dict(pool_type="last", no_causal_mask=True)
TANH = dict(approximate="tanh")

# name: changes to the image tower, the text tower and the model; largest gradient norm
CASES = {
    "openai": ({}, {}, dict(quick_gelu=True), 0),
    "logit-bias": (dict(mlp_ratio=2.3), {}, dict(init_logit_bias=-10.0, init_logit_scale=math.log(10)), 0),
    "clipa": (CLIPA_VISION, CLIPA_TEXT, {}, 0),
    "clipa-dropout": (dict(**CLIPA_VISION, patch_dropout=0.6), CLIPA_TEXT, {}, 0),
    "norm-then-mean": (dict(pool_type="avg", act_kwargs=TANH, norm_kwargs=dict(eps=1e-6)),
                       dict(pool_type="first", no_causal_mask=True, act_kwargs=TANH,
                            norm_kwargs=dict(eps=1e-3)), {}, 0),
    "layer-scale": (dict(image_size=35, ls_init_value=0.1, head_width=16),
                    dict(pool_type="eos", eos_id=60, ls_init_value=1e-5), {}, 0),
    "fixed-positions": (dict(pos_embed_type="sin_cos_2d", no_ln_pre=True),
                        dict(proj_bias=True, hf_tokenizer_name="t5-small", pad_id=0),
                        dict(custom_text=True), 0),
    "no-projection": (dict(layers=1), dict(proj_type="none", layers=3, final_ln_after_pool=True),
                      dict(nonscalar_logit_scale=True), 0),
    "gap-with-class": (dict(pool_type="avg_all", final_ln_after_pool=True), {}, {}, 0.5),
}

MASK = (1 << 64) - 1
GOLDEN_RATIO = 0x9E3779B97F4A7C15


def mix(x):
    """The finaliser of SplitMix64, on numpy's uint64 or Python's int."""
    if isinstance(x, int):
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
        x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
        return x ^ x >> 31
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)


def hashes(stream, count):
    """`count` 64-bit numbers of a stream."""
    return mix(np.uint64(mix(stream)) + np.arange(count, dtype=np.uint64) * np.uint64(GOLDEN_RATIO))


def name_hash(name):
    """FNV-1a."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 & MASK
    return h


def step_stream(stream, step):
    return stream + 16 * (step + 1)


def uniform(stream, count):
    """In [-1, 1)."""
    return 2 * ((hashes(stream, count) >> np.uint64(11)).astype(np.float64) * 2.0 ** -53) - 1


def start_of(name, p, model):
    """Centre and spread: near open_clip's start, but with no tensor constant or zero."""
    width = p.shape[-1] if p.ndim else 1
    if name in ("logit_scale", "logit_bias"):
        return float(p.flatten()[0]), 0.0
    if name.endswith(".gamma"):
        return float(p[0]), 0.3 * float(p[0])
    if p.ndim == 1 and name.endswith("weight"):
        return 1.0, 0.2
    if p.ndim == 1:
        return 0.0, 0.05 if name.endswith("bias") else 0.3
    if "embedding" in name and not name.startswith("visual"):
        return 0.0, 0.05
    if p.ndim == 4:
        width = p[0].numel()
    return 0.0, math.sqrt(3 / width)


def sketch(name, values):
    x = values.detach().double().flatten().numpy()
    bits = hashes((name_hash(name) + STREAM_SIGNS) & MASK, len(x))
    sums = []
    for k in range(PROJECTIONS):
        signs = 1 - 2 * (bits >> np.uint64(k) & np.uint64(1)).astype(np.float64)
        sums.append(math.fsum(signs * x))
    picks = hashes((name_hash(name) + STREAM_SAMPLES) & MASK, SAMPLES) % np.uint64(len(x))
    return np.array([math.sqrt(math.fsum(x * x)), *sums, *x[picks.astype(np.int64)]])


def make_model(vision, text, extra):
    """open_clip's model and its parameters by flat names."""
    vision, extra = dict(vision), dict(extra)
    mean_of_all = vision.get("pool_type") == "avg_all"
    if mean_of_all:  # what CLIPA's first code did; open_clip leaves the class token out
        vision["pool_type"] = "avg"
    kind = open_clip.CustomTextCLIP if extra.pop("custom_text", False) else open_clip.CLIP
    model = kind(embed_dim=24, vision_cfg=vision, text_cfg=text, **extra)
    if mean_of_all:
        model.visual._global_pool = lambda x: (x.mean(dim=1), x)
    named = {name.removeprefix("text."): p for name, p in model.named_parameters()}
    return model, named


def set_start(model, named):
    starts = {}
    for name, p in named.items():
        centre, spread = start_of(name, p.detach(), model)
        starts[name] = np.array([centre, spread])
        if p.requires_grad:  # fixed positions stay as open_clip made them
            values = centre + spread * uniform(name_hash(name), p.numel())
            p.data = torch.from_numpy(values.astype(np.float32)).reshape(p.shape)
    model.double()
    return starts


def batch_of(step, vision, text, kept):
    """Patches [COUNT,kept,P,P,3], their positions, tokens."""
    patch, grid = vision["patch_size"], vision["image_size"] // vision["patch_size"]
    length, vocabulary = text["context_length"], text["vocab_size"]
    places = grid * grid
    pixels = hashes(step_stream(STREAM_PIXELS, step), COUNT * kept * patch * patch * 3)
    patches = (pixels >> np.uint64(56)).astype(np.float64).reshape(COUNT, kept, patch, patch, 3)
    first = hashes(step_stream(STREAM_POSITIONS, step), COUNT) % np.uint64(places)
    position = (first.astype(np.int64)[:, None] + np.arange(kept) * (places - 1)) % places
    words = hashes(step_stream(STREAM_TOKENS, step), COUNT * length) % np.uint64(vocabulary - 3)
    tokens = 1 + words.astype(np.int64).reshape(COUNT, length)
    lengths = 3 + hashes(step_stream(STREAM_LENGTHS, step), COUNT) % np.uint64(length - 2)
    for row, n in zip(tokens, lengths.astype(np.int64)):
        row[0], row[n - 1], row[n:] = vocabulary - 2, vocabulary - 1, 0
    return patches, position, torch.from_numpy(tokens)


def images_of(patches, position, vision):
    """Whole images [COUNT,3,S,S] with the given patches in place and zeros elsewhere."""
    size, patch = vision["image_size"], vision["patch_size"]
    grid = size // patch
    mean = np.array(open_clip.OPENAI_DATASET_MEAN, dtype=np.float32).astype(np.float64)
    std = np.array(open_clip.OPENAI_DATASET_STD, dtype=np.float32).astype(np.float64)
    images = np.zeros((COUNT, 3, size, size))
    normal = ((patches / 255 - mean) / std).transpose(0, 1, 4, 2, 3)
    for i in range(COUNT):
        for j, place in enumerate(position[i]):
            y, x = divmod(int(place), grid)
            images[i, :, y * patch:(y + 1) * patch, x * patch:(x + 1) * patch] = normal[i, j]
    return torch.from_numpy(images)


def loss_of(model, images, tokens, position):
    """open_clip's loss in training mode. Its PatchDropout keeps the patches that have the
    largest of random numbers: here they are largest where we want them, in our order."""
    places = model.visual.positional_embedding.shape[0] - 1
    wanted = torch.zeros(COUNT, places)
    for i in range(COUNT):
        for j, place in enumerate(position[i]):
            wanted[i, place] = places - j
    true_randn, torch.randn = torch.randn, lambda *shape: wanted
    try:
        out = model(images, tokens)
    finally:
        torch.randn = true_randn
    a, b, scale = out[:3]
    bias = out[3] if len(out) > 3 else None
    return a, b, open_clip.ClipLoss()(a, b, scale, logit_bias=bias)


def learning_rate(step):
    if step < WARMUP:
        return LEARNING_RATE * (step + 1) / WARMUP
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP))) * LEARNING_RATE


def excluded(name, p):
    """From weight decay, by open_clip_train/main.py of 3.3."""
    return p.ndim < 2 or "bn" in name or "ln" in name or "bias" in name or "logit_scale" in name


def root_mean_square(values):
    return np.array([math.sqrt(np.mean(np.square(values)))])


def gradients_of(model, named, images, tokens, position, autocast):
    """Embeddings, loss and gradients, in double."""
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        a, b, loss = loss_of(model, images, tokens, position)
    loss.backward()
    embeddings = torch.cat([a, b]).detach().double().numpy()
    gradients = {n: p.grad.double().clone() for n, p in named.items() if p.grad is not None}
    return embeddings, loss.item(), gradients


def bfloat16(vision, text, extra, kept):
    """What open_clip's amp_bf16 is off by: fp32 parameters under autocast, against double."""
    exact_model, exact_named = make_model(vision, text, extra)
    set_start(exact_model, exact_named)
    model, named = make_model(vision, text, extra)
    set_start(model, named)
    model.float()
    losses, loss_errors, embedding_errors, errors = [], [], [], {n: [] for n in named}
    sketches = {n: np.zeros((SEVERAL, 1 + PROJECTIONS)) for n in named}
    for step in range(BATCHES):
        patches, position, tokens = batch_of(step, vision, text, kept)
        images = images_of(patches, position, vision)
        exact = gradients_of(exact_model, exact_named, images, tokens, position, False)
        rough = gradients_of(model, named, images.float(), tokens, position, True)
        losses.append(exact[1])
        loss_errors.append(rough[1] - exact[1])
        embedding_errors.append((rough[0] - exact[0]).flatten())
        for n, g in exact[2].items():
            if step < SEVERAL:
                sketches[n][step] = sketch(n, g)[:1 + PROJECTIONS]
            errors[n].append(float((rough[2][n] - g).norm() / max(float(g.norm()), 1e-9)))
    tensors = {n + ".bf16": root_mean_square(e or [0]) for n, e in errors.items()}
    tensors.update((n + ".gradients", s) for n, s in sketches.items())
    tensors["bf16.loss"] = np.array(losses)
    tensors["bf16.loss_error"] = root_mean_square(loss_errors)
    tensors["bf16.embedding_error"] = root_mean_square(embedding_errors)
    return tensors


def run(vision, text, extra, clip_norm):
    model, named = make_model(vision, text, extra)
    model.train()
    starts = set_start(model, named)
    places = (vision["image_size"] // vision["patch_size"]) ** 2
    kept = max(1, int(places * (1 - vision.get("patch_dropout", 0))))
    trained = [(n, p) for n, p in named.items() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [{"params": [p for n, p in trained if excluded(n, p)], "weight_decay": 0.0},
         {"params": [p for n, p in trained if not excluded(n, p)], "weight_decay": WEIGHT_DECAY}],
        lr=LEARNING_RATE, betas=(BETA1, BETA2), eps=EPS)
    before = {n: p.detach().clone() for n, p in named.items()}
    tensors = {n + ".start": s for n, s in starts.items()}
    losses = []
    for step in range(STEPS):
        patches, position, tokens = batch_of(step, vision, text, kept)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.zero_grad()
        a, b, loss = loss_of(model, images_of(patches, position, vision), tokens, position)
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            tensors.update(image=a.detach().numpy().copy(), text=b.detach().numpy().copy())
            for n, p in named.items():
                g = p.grad if p.grad is not None else torch.zeros_like(p)
                tensors[n + ".gradient"] = sketch(n, g)
        if clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
    tensors["loss"] = np.array(losses)
    tensors.update(bfloat16(vision, text, extra, kept))
    for n, p in named.items():
        tensors[n + ".change"] = sketch(n, p.detach() - before[n])
    return tensors, kept


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    directory = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "training")
    os.makedirs(directory, exist_ok=True)
    torch.set_num_threads(1)
    for name, (vision, text, extra, clip_norm) in CASES.items():
        vision, text = {**VISION, **vision}, {**TEXT, **text}
        torch.manual_seed(0)  # some layers draw numbers that set_start replaces
        tensors, kept = run(vision, text, extra, clip_norm)
        config = {"embed_dim": 24, **extra, "vision_cfg": vision, "text_cfg": text}
        metadata = dict(
            config=json.dumps(config), count=COUNT, kept=kept, steps=STEPS, warmup=WARMUP,
            lr=LEARNING_RATE, beta1=BETA1, beta2=BETA2, eps=EPS, wd=WEIGHT_DECAY,
            clip_norm=clip_norm, batches=BATCHES, several=SEVERAL, projections=PROJECTIONS, samples=SAMPLES,
            made="open_clip %s, torch %s" % (open_clip.__version__, torch.__version__))
        path = os.path.join(directory, name + ".safetensors")
        save_file({n: np.ascontiguousarray(t) for n, t in tensors.items()}, path,
                  metadata={k: str(v) for k, v in metadata.items()})
        print("%s: loss %.6f to %.6f, %d bytes" %
              (name, tensors["loss"][0], tensors["loss"][-1], os.path.getsize(path)))
        print("    bfloat16: loss off by %.2g, embeddings by %.2g" %
              (tensors["bf16.loss_error"][0], tensors["bf16.embedding_error"][0]))


main()
