#!/usr/bin/env python3
"""CLIP's tokenizer three times, on the same captions and one thread: open_clip's SimpleTokenizer,
Hugging Face's tokenizers and `tokenize -j 1`. Prints a Markdown table.

    python3 tests/bench/bench_tokenizers.py [--tokenize PROGRAM] [--vocab FILE] [--captions FILE]

FILE has one caption a line; without, captions are drawn from the vocabulary's words. Needs
open_clip_torch, which brings the vocabulary, and tokenizers. `tokenize` is timed as a process,
less its start; reading the stream and writing the tokens count. The others are timed on lists
of strings in memory.
"""
import argparse
import gzip
import json
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

BATCH = 512
PATTERN = (r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|"
           r"[^\s\p{L}\p{N}]+")


def read_merges(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    return [tuple(line.split()) for line in lines[1:48894 + 1] if line]


def draw_captions(merges, count):
    """Words as rare as Zipf's law has them, in the order in which BPE found them."""
    words = ["".join(merge)[:-4] for merge in merges if merge[1].endswith("</w>")]
    words = [word for word in words if word.isascii()]
    weights = [1 / (rank + 10) for rank in range(len(words))]
    chosen = iter(random.Random(0).choices(words, weights, k=16 * count))
    lengths = random.Random(1).choices(range(4, 17), k=count)
    return [" ".join(next(chosen) for _ in range(length)).capitalize() + "."
            for length in lengths]


def write_record(file, metadata, tensors):
    header, at = {"__metadata__": metadata}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    file.write(struct.pack("<Q", len(text)) + text)
    for _, _, data in tensors.values():
        file.write(data)


def write_stream(path, captions):
    records = 0
    with open(path, "wb") as file:
        for start in range(0, max(len(captions), 1), BATCH):
            texts = [caption.encode() for caption in captions[start:start + BATCH]]
            ends = [0]
            for text in texts:
                ends.append(ends[-1] + len(text))
            write_record(file, {}, {
                "text.offsets": ("I64", [len(ends)], struct.pack(f"<{len(ends)}q", *ends)),
                "text": ("U8", [ends[-1]], b"".join(texts))})
            records += 1
        write_record(file, {"clipipe": "end", "records": str(records),
                            "samples": str(len(captions)), "dropped": "0"}, {})


def read_tokens(data):
    """The ids of each caption in a stream."""
    at, captions = 0, []
    while at < len(data):
        size, = struct.unpack_from("<Q", data, at)
        header = json.loads(data[at + 8:at + 8 + size])
        header.pop("__metadata__", None)
        body = at + 8 + size
        at = body + max([tensor["data_offsets"][1] for tensor in header.values()], default=0)
        if not header:
            continue
        begin, end = header["tokens.offsets"]["data_offsets"]
        offsets = struct.unpack(f"<{(end - begin) // 8}q", data[body + begin:body + end])
        begin, end = header["tokens"]["data_offsets"]
        ids = struct.unpack(f"<{(end - begin) // 4}i", data[body + begin:body + end])
        captions += [list(ids[a:b]) for a, b in zip(offsets, offsets[1:])]
    return captions


def run(command, path):
    start = time.perf_counter()
    output = subprocess.run(command + [path], stdout=subprocess.PIPE, check=True).stdout
    return time.perf_counter() - start, output


def time_tokenize(program, vocab, captions, repeats):
    command = [program, "-q", "-j", "1", "--vocab", vocab]
    with tempfile.TemporaryDirectory() as work:
        empty, full = os.path.join(work, "empty.rec"), os.path.join(work, "full.rec")
        write_stream(empty, [])
        write_stream(full, captions)
        starts = [run(command, empty)[0] for _ in range(repeats)]
        runs = [run(command, full) for _ in range(repeats)]
    seconds = statistics.median(run[0] for run in runs) - statistics.median(starts)
    return seconds, read_tokens(runs[0][1])


def time_open_clip(vocab, captions):
    from open_clip.tokenizer import SimpleTokenizer
    tokenizer = SimpleTokenizer(vocab)
    start = time.perf_counter()
    ids = [tokenizer.encode(caption) for caption in captions]
    return time.perf_counter() - start, ids


def time_hugging_face(merges, captions):
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    alphabet = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - 188)]
    symbols = alphabet + [letter + "</w>" for letter in alphabet]
    symbols += ["".join(merge) for merge in merges]
    tokenizer = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(symbols)}, merges,
                                     continuing_subword_prefix="", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERN), "removed", invert=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False)])
    start = time.perf_counter()
    encodings = tokenizer.encode_batch_fast(captions)
    return time.perf_counter() - start, [encoding.ids for encoding in encodings]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokenize", default="build/bin/tokenize")
    parser.add_argument("--vocab")
    parser.add_argument("--captions")
    parser.add_argument("--count", type=int, default=40000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    try:
        import open_clip
        import tokenizers  # noqa: F401
    except ImportError as missing:
        print(f"tokenizers: skipped: {missing}")
        return
    vocab = options.vocab or os.path.join(os.path.dirname(open_clip.__file__),
                                          "bpe_simple_vocab_16e6.txt.gz")
    merges = read_merges(vocab)
    captions = draw_captions(merges, options.count)
    if options.captions:
        with open(options.captions, encoding="utf-8") as file:
            captions = file.read().split("\n")[:options.count]
    hugging_face = statistics.median(
        time_hugging_face(merges, captions)[0] for _ in range(options.repeats))
    rows = [("open_clip SimpleTokenizer", *time_open_clip(vocab, captions)),
            ("Hugging Face tokenizers", hugging_face, time_hugging_face(merges, captions)[1]),
            ("tokenize -j 1", *time_tokenize(options.tokenize, vocab, captions,
                                             options.repeats))]
    reference, ours = rows[0][2], rows[2][1]
    print(f"| {len(captions)} captions, one thread | captions/s | tokenize is | other ids |")
    print("| --- | ---: | ---: | ---: |")
    for name, seconds, ids in rows:
        other = sum(a != b for a, b in zip(ids, reference))
        print(f"| {name} | {len(captions) / seconds:.0f} | {seconds / ours:.1f}x | {other} |")


if __name__ == "__main__":
    sys.exit(main())
