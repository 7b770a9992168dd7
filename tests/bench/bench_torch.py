#!/usr/bin/env python3
"""The rows of tests/emulator/bench_cuda.cu from PyTorch, on the first GPU, as Markdown.

The same operations at the same sizes in bfloat16: attention by scaled_dot_product_attention as
it chooses itself and as cuDNN does it, norms and activations by torch.compile, the contrastive
loss as open_clip writes it, AdamW fused; and training of the same three models under autocast
with torch.compile. The models are open_clip's where it can be imported, else the ones below,
which have the same towers. Medians by CUDA events, warmed up, each run on other inputs that are
together larger than the cache.

  bench_torch.py           all rows
  bench_torch.py --quick   no models
  bench_torch.py --check   tiny sizes on the CPU: that the script runs, not how fast
"""
import argparse
import datetime
import math
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

RUNS, WARM_UP, STEPS, WARM_UP_STEPS = 11, 3, 8, 4
ROTATED_BYTES = 512 << 20  # more than the cache of any GPU so far
MOST_SETS = 64

TOWERS = [(4096, 8, 512, 8), (4096, 16, 512, 8), (4096, 8, 1024, 16), (2048, 37, 1024, 16),
          (2048, 37, 1280, 16), (4096, 50, 768, 12), (1024, 77, 512, 8), (512, 197, 768, 12),
          (256, 257, 1280, 16)]
PRODUCTS = [(4096 * 50, 768), (4096 * 16, 512), (2048 * 37, 1024), (2048 * 8, 768),
            (1024 * 37, 1280)]
LOSSES = [(4096, 512), (32768, 512), (65536, 512), (32768, 1024)]
PARAMETERS = [150_000_000, 428_000_000]
MODELS = [
    ("B/16, 112 pixels, 16 tokens", 4096, dict(
        embed=512, pixels=112, patch=16, width=768, layers=12, heads=12, tokens=16,
        text_width=512, text_layers=12, text_heads=8)),
    ("L/16, 96 pixels, 8 tokens", 2048, dict(
        embed=768, pixels=96, patch=16, width=1024, layers=24, heads=16, tokens=8,
        text_width=768, text_layers=12, text_heads=12)),
    ("H/14, 84 pixels, 8 tokens", 1024, dict(
        embed=1024, pixels=84, patch=14, width=1280, layers=32, heads=16, tokens=8,
        text_width=1024, text_layers=24, text_heads=16)),
]
VOCABULARY = 49408


class Bench:
    """A device, how to time on it, and the two ceilings."""

    def __init__(self, check):
        self.check = check
        self.device = torch.device("cpu" if check else "cuda")
        self.copy_rate = self.product_rate = math.nan

    def compile(self, function):
        return torch.compile(function, backend="eager" if self.check else "inductor")

    def random(self, *shape, dtype=torch.bfloat16, grad=False):
        return torch.randn(*shape, device=self.device, dtype=dtype).requires_grad_(grad)

    def sets(self, count_bytes, make):
        """Enough inputs to turn the cache over."""
        count = 2 if self.check else min(MOST_SETS, max(2, ROTATED_BYTES // count_bytes + 1))
        return [make() for _ in range(count)]

    def seconds(self, run, sets):
        """The median time of run(*set)."""
        times = []
        runs, warm_up = (2, 1) if self.check else (RUNS, WARM_UP)
        for i in range(-warm_up, runs):
            arguments = sets[i % len(sets)]
            if self.check:
                begin = time.perf_counter()
                run(*arguments)
                elapsed = time.perf_counter() - begin
            else:
                begin = torch.cuda.Event(enable_timing=True)
                end = torch.cuda.Event(enable_timing=True)
                begin.record()
                run(*arguments)
                end.record()
                end.synchronize()
                elapsed = begin.elapsed_time(end) / 1e3
            if i >= 0:
                times.append(elapsed)
        return statistics.median(times)

    def row(self, name, shape, run, sets, count_bytes=0.0, operations=0.0):
        size = " x ".join(str(n) for n in shape)
        try:
            seconds = self.seconds(run, sets)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if self.check:
                raise
            print(f"| {name} | {size} | {str(error).splitlines()[0][:60]} | | | | |", flush=True)
            return
        floor = max(count_bytes / self.copy_rate, operations / self.product_rate)
        print(f"| {name} | {size} | {1e3 * seconds:.3f} | {count_bytes / seconds / 1e9:.0f} "
              f"| {operations / seconds / 1e12:.0f} | {1e3 * floor:.3f} "
              f"| {100 * floor / seconds:.0f}% |", flush=True)


def table(title):
    print(f"\n{title}\n\n| operation | shape | ms | GB/s | TFLOP/s | floor, ms | of the floor's "
          "rate |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |")


# ---- operations between products ----

def add_norm(residual, delta, weight, bias):
    total = residual + delta
    return total, F.layer_norm(total, weight.shape, weight, bias)


def run_backward(output, gradient, *leaves):
    """Only the backward pass of what a set holds."""
    torch.autograd.grad(output, leaves, gradient, retain_graph=True)


def split_heads(qkv, heads):
    B, T, C3 = qkv.shape
    return qkv.view(B, T, 3, heads, C3 // 3 // heads).permute(2, 0, 3, 1, 4)


def attention(qkv, heads):
    q, k, v = split_heads(qkv, heads)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(
        qkv.shape[0], qkv.shape[1], -1)


def bench_attention(bench, B, T, C, H):
    n, products = B * T * C, 2.0 * B * T * T * C
    backends = [("default", None)] + ([] if bench.check else [
        ("cudnn", SDPBackend.CUDNN_ATTENTION)])
    for name, backend in backends:
        def forward(qkv, backend=backend):
            if backend is None:
                return attention(qkv, H)
            with sdpa_kernel(backend):
                return attention(qkv, H)

        def prepared():
            qkv = bench.random(B, T, 3 * C, grad=True)
            return forward(qkv), bench.random(B, T, C), qkv

        bench.row(f"attention, {name}", (B, T, C), forward,
                  bench.sets(8 * n, lambda: (bench.random(B, T, 3 * C),)), 8 * n, 2 * products)
        try:
            sets = bench.sets(16 * n, prepared)
        except RuntimeError as error:
            if bench.check:
                raise
            print(f"| attention backward, {name} | {B} x {T} x {C} | "
                  f"{str(error).splitlines()[0][:60]} | | | | |")
            continue
        bench.row(f"attention backward, {name}", (B, T, C), run_backward, sets, 16 * n,
                  5 * products)


def bench_tower(bench, B, T, C, H):
    n = B * T * C
    shape = (B, T, C)
    pair = bench.sets(4 * n, lambda: (bench.random(B * T, C), bench.random(B * T, C)))
    bench.row("add", shape, torch.add, pair, 6 * n)
    one = [(x,) for x, _ in pair]
    bench.row("GELU", shape, bench.compile(F.gelu), one, 4 * n)
    slope = bench.compile(lambda x, dy: torch.ops.aten.gelu_backward(dy, x))
    bench.row("GELU backward", shape, slope, pair, 6 * n)
    weight, bias = bench.random(C), bench.random(C)
    norm = bench.compile(add_norm)
    plain = bench.compile(lambda x, w, b: F.layer_norm(x, (C,), w, b))
    bench.row("add + norm", shape, lambda a, b: norm(a, b, weight, bias), pair, 8 * n)

    def prepared():
        x = bench.random(B * T, C, grad=True)
        w, b = bench.random(C, grad=True), bench.random(C, grad=True)
        return plain(x, w, b), bench.random(B * T, C), x, w, b

    bench.row("norm backward", shape, run_backward, bench.sets(8 * n, prepared), 8 * n)
    bench.row("sum of rows", shape, lambda x: x.sum(0, dtype=torch.float32), one, 2 * n)
    bench_attention(bench, B, T, C, H)


# ---- products ----

def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = [("GELU", F.gelu), ("GELU tanh", lambda x: F.gelu(x, approximate="tanh")),
               ("quick GELU", quick_gelu)]


def bench_products(bench, R, C):
    large = 4 * C
    small_bytes, large_bytes = 2.0 * R * C + 2 * C * large, 2.0 * R * large
    flops = 2.0 * R * C * large
    fc = bench.sets(int(small_bytes + large_bytes),
                    lambda: (bench.random(R, C), bench.random(large, C), bench.random(large)))
    shape = (R, large, C)
    bench.row("product", shape, lambda x, w, b: F.linear(x, w), fc, small_bytes + large_bytes,
              flops)
    for name, function in ACTIVATIONS:
        def forward(x, w, b, function=function):
            before = F.linear(x, w, b)
            return before, function(before)
        bench.row(f"product, bias, {name}", shape, bench.compile(forward), fc,
                  small_bytes + 2 * large_bytes, flops)
    before = bench.random(R, large)
    for name, function in ACTIVATIONS:
        def backward(dy, w, b, before, function=function):
            d = dy @ w.t()
            _, slope = torch.func.vjp(function, before)
            return slope(d)[0]
        compiled = bench.compile(backward)
        bench.row(f"product, {name} backward", shape, lambda x, w, b: compiled(x, w, b, before),
                  fc, small_bytes + 2 * large_bytes, flops)
    for rows, columns in ((C, large), (3 * C, C)):
        linear = bench.sets(2 * R * (rows + columns), lambda: (
            bench.random(R, columns), bench.random(rows, columns), bench.random(rows)))
        bench.row("product, bias", (R, rows, columns), F.linear, linear,
                  2.0 * R * (rows + columns) + 2 * rows * columns, 2.0 * R * rows * columns)
    gradients = bench.sets(2 * R * (C + large),
                           lambda: (bench.random(R, large), bench.random(R, C)))
    bench.row("gradient of a weight, of a bias", shape,
              lambda dy, x: (dy.t() @ x, dy.sum(0)), gradients,
              2.0 * R * (C + large) + 2 * C * large, flops)


# ---- loss and optimiser ----

def contrastive(image, text, scale):
    """open_clip's, on one GPU: both products, cross entropy each way."""
    labels = torch.arange(image.shape[0], device=image.device)
    by_image, by_text = scale * image @ text.t(), scale * text @ image.t()
    return (F.cross_entropy(by_image, labels) + F.cross_entropy(by_text, labels)) / 2


def bench_loss(bench, N, E):
    image = F.normalize(torch.randn(N, E, device=bench.device), dim=-1).requires_grad_()
    text = F.normalize(torch.randn(N, E, device=bench.device), dim=-1).requires_grad_()
    scale = torch.tensor(14.3, device=bench.device, requires_grad=True)

    def run():
        with torch.autocast(bench.device.type, torch.bfloat16):
            loss = contrastive(image, text, scale)
        torch.autograd.grad(loss, (image, text, scale))

    bench.row("contrastive loss", (N, 1, E), run, [()], 0, 8.0 * N * N * E)


def bench_adamw(bench, count):
    parameter = torch.randn(count, device=bench.device, requires_grad=True)
    parameter.grad = torch.randn(count, device=bench.device)
    optimizer = torch.optim.AdamW([parameter], lr=1e-6, fused=True)
    bench.row("AdamW", (1, 1, count), optimizer.step, [()], 28.0 * count)


# ---- models ----

class Block(nn.Module):
    def __init__(self, width, heads, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.projection = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        q, k, v = split_heads(self.qkv(self.norm_1(x)), self.heads)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.projection(F.gelu(self.fc(self.norm_2(x))))


class Towers(nn.Module):
    """CLIP's two towers: class token, pre-norm blocks, end-of-text pooling."""

    def __init__(self, s):
        super().__init__()
        width, places = s["width"], (s["pixels"] // s["patch"]) ** 2
        self.patches = nn.Conv2d(3, width, s["patch"], s["patch"], bias=False)
        self.class_token = nn.Parameter(width ** -0.5 * torch.randn(width))
        self.place = nn.Parameter(width ** -0.5 * torch.randn(places + 1, width))
        self.norm_pre, self.norm_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.image_blocks = nn.Sequential(
            *(Block(width, s["heads"], False) for _ in range(s["layers"])))
        self.image_projection = nn.Parameter(width ** -0.5 * torch.randn(width, s["embed"]))
        text = s["text_width"]
        self.words = nn.Embedding(VOCABULARY, text)
        self.order = nn.Parameter(0.01 * torch.randn(s["tokens"], text))
        self.text_blocks = nn.Sequential(
            *(Block(text, s["text_heads"], True) for _ in range(s["text_layers"])))
        self.norm_final = nn.LayerNorm(text)
        self.text_projection = nn.Parameter(text ** -0.5 * torch.randn(text, s["embed"]))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images, tokens):
        x = self.patches(images).flatten(2).transpose(1, 2)
        first = self.class_token.to(x.dtype).expand(len(x), 1, -1)
        x = self.image_blocks(self.norm_pre(torch.cat([first, x], 1) + self.place.to(x.dtype)))
        image = self.norm_post(x[:, 0]) @ self.image_projection
        y = self.text_blocks(self.words(tokens) + self.order)
        y = self.norm_final(y)[torch.arange(len(y), device=y.device), tokens.argmax(-1)]
        text = y @ self.text_projection
        return F.normalize(image, dim=-1), F.normalize(text, dim=-1), self.logit_scale.exp()


def make_model(s):
    """And the name of where it is from."""
    try:
        from open_clip.model import CLIP
    except ImportError:
        return Towers(s), "own towers"
    model = CLIP(
        s["embed"],
        dict(image_size=s["pixels"], layers=s["layers"], width=s["width"],
             head_width=s["width"] // s["heads"], patch_size=s["patch"]),
        dict(context_length=s["tokens"], vocab_size=VOCABULARY, width=s["text_width"],
             heads=s["text_heads"], layers=s["text_layers"]))
    return model, "open_clip"


def model_flops(s):
    """Of one sample's training: 3 forward passes."""
    def tower(tokens, width, layers):
        return layers * tokens * (24.0 * width * width + 4.0 * tokens * width)
    places = (s["pixels"] // s["patch"]) ** 2
    image = tower(places + 1, s["width"], s["layers"])
    image += 2.0 * places * 3 * s["patch"] ** 2 * s["width"] + 2.0 * s["width"] * s["embed"]
    text = tower(s["tokens"], s["text_width"], s["text_layers"])
    return 3 * (image + text + 2.0 * s["text_width"] * s["embed"])


def train(bench, model, optimizer, images, tokens):
    """Seconds of a step, from a batch in pinned host memory to new parameters."""
    compiled = bench.compile(model)
    steps, warm_up = (1, 1) if bench.check else (STEPS, WARM_UP_STEPS)
    begin = 0.0
    for i in range(-warm_up, steps):
        if i == 0:
            if not bench.check:
                torch.cuda.synchronize()
            begin = time.perf_counter()
        batch = images.to(bench.device, non_blocking=True).float().div_(255).sub_(0.5)
        words = tokens.to(bench.device, non_blocking=True)
        with torch.autocast(bench.device.type, torch.bfloat16):
            image, text, scale = compiled(batch, words)[:3]
            loss = contrastive(image, text, scale)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
    if not bench.check:
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) / steps


def bench_model(bench, name, batch, s):
    """At the batch of the other bench, or the largest half of it that fits."""
    while batch > 0:
        model, source = make_model(s)
        model = model.to(bench.device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.98), eps=1e-6,
                                      weight_decay=0.2, fused=True)
        images = torch.randint(0, 256, (batch, 3, s["pixels"], s["pixels"]), dtype=torch.uint8)
        tokens = torch.randint(0, VOCABULARY - 2, (batch, s["tokens"]))
        tokens[:, -1] = VOCABULARY - 1
        if not bench.check:
            images, tokens = images.pin_memory(), tokens.pin_memory()
        try:
            seconds = train(bench, model, optimizer, images, tokens)
        except torch.OutOfMemoryError:
            del model, optimizer
            torch.cuda.empty_cache()
            batch //= 2
            continue
        rate = batch * model_flops(s) / seconds
        print(f"| {name}, {source} | {batch} | {1e3 * seconds:.1f} | {batch / seconds:.0f} "
              f"| {rate / 1e12:.0f} | {100 * rate / 989e12:.1f}% |", flush=True)
        del model, optimizer
        if not bench.check:
            torch.cuda.empty_cache()
        torch._dynamo.reset()
        return


# ---- all of it ----

def measure_ceilings(bench, side, copy_bytes):
    source = torch.empty(copy_bytes, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    bench.copy_rate = 2.0 * copy_bytes / bench.seconds(target.copy_, [(source,)])
    a, b = bench.random(side, side), bench.random(side, side)
    bench.product_rate = 2.0 * side ** 3 / bench.seconds(F.linear, [(a, b)])
    print(f"\nCeilings: copy {bench.copy_rate / 1e9:.0f} GB/s, read and written; bf16 product "
          f"{side} x {side} x {side} on random data {bench.product_rate / 1e12:.0f} TFLOP/s")


def shrink(bench):
    """Tiny sizes of everything."""
    global TOWERS, PRODUCTS, LOSSES, PARAMETERS, MODELS
    if not bench.check:
        return 8192, 4 << 30
    TOWERS, PRODUCTS, LOSSES, PARAMETERS = [(2, 5, 16, 2)], [(8, 16)], [(9, 8)], [1000]
    MODELS = [("tiny", 3, dict(embed=16, pixels=32, patch=16, width=64, layers=2, heads=2,
                               tokens=8, text_width=32, text_layers=2, text_heads=2))]
    return 64, 1 << 16


def check_towers(bench):
    """Own towers and open_clip's have as many parameters."""
    model, source = make_model(MODELS[0][2])
    count = sum(p.numel() for p in model.parameters())
    own = sum(p.numel() for p in Towers(MODELS[0][2]).parameters())
    if count != own:
        sys.exit(f"bench_torch.py: own towers have {own} parameters, those of {source} {count}")
    images, tokens = torch.rand(3, 3, 32, 32), torch.randint(0, 99, (3, 8))
    image, text, scale = Towers(MODELS[0][2])(images, tokens)
    if image.shape != (3, 16) or text.shape != (3, 16) or not torch.isfinite(
            contrastive(image, text, scale)):
        sys.exit("bench_torch.py: own towers give no loss")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="no models")
    parser.add_argument("--check", action="store_true", help="tiny sizes on the CPU")
    options = parser.parse_args()
    if not options.check and not torch.cuda.is_available():
        print("bench_torch.py: PyTorch sees no GPU", file=sys.stderr)
        return 69
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("highest")
    bench = Bench(options.check)
    side, copy_bytes = shrink(bench)
    name = "cpu" if options.check else torch.cuda.get_device_name()
    print(f"PyTorch {torch.__version__} on {name}, cuDNN "
          f"{torch.backends.cudnn.version() or 'none'}; {datetime.date.today()}")
    if options.check:
        check_towers(bench)
    measure_ceilings(bench, side, copy_bytes)
    table("Attention, norms and what is left alone between products: B x T x C")
    for shape in TOWERS:
        bench_tower(bench, *shape)
        torch._dynamo.reset()
    table("Products: rows x columns x inner")
    for shape in PRODUCTS:
        bench_products(bench, *shape)
        torch._dynamo.reset()
    table("Contrastive loss with both gradients: N x 1 x E. AdamW: parameters")
    for shape in LOSSES:
        bench_loss(bench, *shape)
    for count in PARAMETERS:
        bench_adamw(bench, count)
    if not options.quick:
        print("\nTraining from records in pinned host memory, autocast, torch.compile, fused "
              "AdamW with clipping; MFU by 989 TFLOP/s\n\n"
              "| model | batch | ms a step | samples/s | TFLOP/s | MFU |\n"
              "| --- | ---: | ---: | ---: | ---: | ---: |")
        for model in MODELS:
            bench_model(bench, *model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
