#!/usr/bin/env python3
"""Compares the ids of `tokenize` with a WordPiece vocabulary with those of Hugging Face's
tokenizers, on lines of the files given and on lines made here: every character in context, mixed
scripts, marks in odd orders, controls, long words, special entries.

    python3 tests/reference/check_wordpiece.py --vocab FILE [--tokenize PROGRAM] [TEXT]...

needs tokenizers. Ends with 1 where a line differs.
"""
import argparse
import os
import random
import subprocess
import sys
import tempfile

from tokenizers import BertWordPieceTokenizer

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "bench"))
from bench_tokenizers import read_tokens, write_stream  # noqa: E402

BLOCKS = [(0x20, 0x7F), (0x20, 0x7F), (0, 0x20), (0x7F, 0x250), (0x250, 0x370), (0x300, 0x370),
          (0x370, 0x530), (0x590, 0x900), (0x900, 0xE00), (0xE00, 0x1200), (0x1100, 0x1200),
          (0x1A00, 0x1E00), (0x1E00, 0x2070), (0x2070, 0x2C00), (0x3000, 0x3100),
          (0x4E00, 0xA000), (0xA800, 0xAC00), (0xAC00, 0xD7A4), (0xF900, 0xFE00),
          (0xFE00, 0x10000), (0x10000, 0x20000), (0x1D100, 0x1D200), (0x1F300, 0x1FA00),
          (0x20000, 0x20100), (0xE0100, 0xE01F0)]
SPECIALS = ["[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]", "[cls]", "[CLS", "[[SEP]]", "##ing"]


def characters(count):
    block = random.choice(BLOCKS)
    return "".join(chr(random.randrange(*block)) for _ in range(count))


def piece(words):
    kind = random.randrange(8)
    word = random.choice(words)
    if kind == 0:
        return "".join(characters(1) for _ in range(random.randint(1, 8)))
    if kind == 1:
        return characters(random.randint(1, 15))
    if kind == 2:
        return random.choice(SPECIALS)
    if kind == 3:
        return "".join(random.choices(words, k=random.randint(2, 40)))
    if kind == 4:
        at = random.randint(0, len(word))
        return word[:at] + characters(1) + word[at:]
    if kind == 5:
        letter = random.choice("aZ\u00e9\u5b57\ud55c\u03a3\u0130\u00df\ufb01")
        return letter * random.choice([1, 99, 100, 101])
    return word.upper() if kind == 6 else word


def made_lines(words, count):
    random.seed(20240903)
    for _ in range(count):
        between = random.choice([" ", " ", "", "\t", "\u3000"])
        yield between.join(piece(words) for _ in range(random.randint(0, 10)))
    for code in [*range(0xD800), *range(0xE000, 0x30000), *range(0xE0000, 0xE0200)]:
        c = chr(code)
        yield f"the{c}s x{c} {c}a\u0323{c}\u0301b"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vocab", required=True)
    parser.add_argument("--tokenize", default="build/bin/tokenize")
    parser.add_argument("--count", type=int, default=40000)
    parser.add_argument("texts", nargs="*")
    options = parser.parse_args()
    lines = []
    for path in options.texts:
        with open(path, encoding="utf-8") as file:
            lines += file.read().split("\n")
    words = sorted({word for line in lines for word in line.split()}) or ["unaffable", "Cats"]
    given = len(lines)
    lines += made_lines(words, options.count)
    with tempfile.TemporaryDirectory() as work:
        stream = os.path.join(work, "lines.rec")
        write_stream(stream, lines)
        output = subprocess.run([options.tokenize, "-q", "--clean", "none", "--vocab",
                                 options.vocab, stream], stdout=subprocess.PIPE, check=True)
    tokenizer = BertWordPieceTokenizer(options.vocab, lowercase=True)
    wanted = tokenizer.encode_batch(lines, add_special_tokens=False)
    ids = read_tokens(output.stdout)
    different = [i for i, encoding in enumerate(wanted) if encoding.ids != ids[i]]
    for i in different[:20]:
        print(f"{ascii(lines[i])}\n  {ids[i]}\n  {wanted[i].ids}")
    print(f"{given} lines of text, {len(lines) - given} made, {len(different)} differ")
    return 1 if different or len(ids) != len(lines) else 0


if __name__ == "__main__":
    sys.exit(main())
