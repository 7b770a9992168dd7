#!/usr/bin/env python3
"""Makes text_reduction_golden.tsv: what open_clip's own reductions make of captions.

    cd tests/reference
    python3 make_text_reduction_golden.py > text_reduction_golden.tsv

needs open_clip_torch. A caption is a list of words with given tags and given tokens, so that no
vocabulary and no tagger is needed. What open_clip draws is replaced by what clipipe draws for
the same sample (common/base/rng.h, common/formats/index_set.c, written again here), and numpy's
argsort is made stable; everything else is open_clip's.

A line: strategy, L, seed, epoch, sample, tokens, word of each, priority of each, and the
expected L ids; fields are divided by tabs, numbers by spaces.
"""
import random
import sys
import types
from unittest import mock

import numpy
import torch
from open_clip import tokenizer

START, END = 49406, 49407
TAGS = ["NN", "NNS", "NNP", "JJ", "JJR", "VB", "VBG", "VBZ", "IN", "DT", "CC", ".", "PRP", "CD"]
GOLDEN, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1
TEXT_TOKENS = 5


def mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


class Rng:
    def __init__(self, *key):
        self.state = 0
        for i, part in enumerate(key):
            self.state = mix(self.state ^ (part + (i + 1) * GOLDEN & MASK))

    def below(self, bound):
        uneven = (1 << 64) % bound
        while True:
            self.state = (self.state + GOLDEN) & MASK
            product = mix(self.state) * bound
            if product & MASK >= uneven:
                return product >> 64


def draw_set(rng, count, size):
    def draw(some):
        chosen = set()
        for last in range(count - some, count):
            drawn = rng.below(last + 1)
            chosen.add(last if drawn in chosen else drawn)
        return chosen
    if size <= count // 2:
        return sorted(draw(size))
    return sorted(set(range(count)) - draw(count - size))


def draw_order(rng, count, size):
    order = draw_set(rng, count, size)
    for i in range(size, 1, -1):
        j = rng.below(i)
        order[i - 1], order[j] = order[j], order[i - 1]
    return order


def reduce(strategy, length, rng, words, tags, pieces):
    """The ids that open_clip gives the caption."""
    room = length - 2

    def encode(text):
        return [piece for word in text.split() for piece in pieces[word]]

    def permutation(n):
        order = draw_order(rng, n, room) if strategy == "shuffle" else draw_set(rng, n, room)
        return torch.tensor(order + [i for i in range(n) if i not in order], dtype=torch.long)

    arguments = dict(context_length=length, sot_token_id=START, eot_token_id=END,
                     encode_fn=encode)
    text = [" ".join(words)]
    nltk = types.SimpleNamespace(
        tokenize=types.SimpleNamespace(word_tokenize=lambda _: list(words)),
        pos_tag=lambda _: list(zip(words, tags)))
    argsort = numpy.argsort
    with mock.patch.object(torch, "randperm", permutation), \
         mock.patch.object(random, "randint", lambda a, b: a + rng.below(b - a + 1)), \
         mock.patch.object(numpy, "argsort", lambda x: argsort(x, kind="stable")), \
         mock.patch.dict(sys.modules, nltk=nltk), \
         mock.patch.object(tokenizer, "_nltk_init", True, create=True):
        if strategy == "truncate":
            plain = types.SimpleNamespace(context_length=length, reduction_fn=None,
                                          sot_token_id=START, eot_token_id=END, encode=encode)
            out = tokenizer.SimpleTokenizer.__call__(plain, text)
        elif strategy in ("random", "shuffle"):
            out = tokenizer.random_mask_tokenize(text, shuffle=strategy == "shuffle",
                                                 **arguments)
        elif strategy == "block":
            out = tokenizer.simple_mask_tokenize(text, **arguments)
        else:
            out = tokenizer.syntax_mask_tokenize(text, **arguments)
    return out[0].tolist()


def line(values):
    return " ".join(str(value) for value in values)


def main():
    choose = random.Random(20230511)
    for sample in range(150):
        strategy = ["truncate", "random", "shuffle", "block", "syntax", "syntax"][sample % 6]
        length = choose.choice([4, 6, 8, 8, 12, 16, 16, 32])
        epoch, seed = choose.randrange(3), choose.choice([0, 7, 1 << 40])
        words = [f"w{i}" for i in range(choose.choice([1, 3, 6, 9, 14, 20, 40]))]
        sizes = [choose.choice([1, 1, 1, 2, 4]) for _ in words]
        pieces = {word: [choose.randrange(1, START) for _ in range(size)]
                  for word, size in zip(words, sizes)}
        tags = [choose.choice(TAGS) for _ in words]
        priority = [{"NN": 1, "JJ": 2, "VB": 3}.get(tag[:2], 4) for tag in tags]
        rng = Rng(seed, epoch, sample, TEXT_TOKENS)
        expected = reduce(strategy, length, rng, words, tags, pieces)
        print("\t".join([
            strategy, str(length), str(seed), str(epoch), str(sample),
            line(piece for word in words for piece in pieces[word]),
            line(i for i, n in enumerate(sizes) for _ in range(n)),
            line(priority[i] for i, n in enumerate(sizes) for _ in range(n)), line(expected)]))


if __name__ == "__main__":
    main()
