#!/usr/bin/env python3
"""Makes wordpiece_golden.tsv: texts and the ids that Hugging Face's tokenizers gives them.

    python3 tests/reference/make_wordpiece_golden.py > tests/reference/wordpiece_golden.tsv

needs tokenizers. The vocabulary is small and made here; the lines that begin with '#' are its
entries in order. A line after them is the text, as JSON writes it in ASCII, a tab and the ids.
"""
import json
import random
import tempfile

from tokenizers import BertWordPieceTokenizer

SPECIALS = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = """a photo of the cat dog cafe naive uber un able ##able ##aff ##affable ##s ##ed
##ing play istanbul \u4e2d \u6587 \u8c48 ##\u1161 ##\u11ab \u1112 \u1100 \u03c3
##\u03c3 \u00df ##\u00df \ufb01 \u0915 ##\u093f ##\u09be \u09c7 ##\u09d7 \u2460
\U0001f600 ##\U0001f600 $ \u20ac 1 ##9 \u2167 \u2170 k ##k ##\u302e ##\u1b44
\U0002b820 \U0002b920 ##\U0002b920 ##\u08d4 ##\u061d \u061d x ##x""".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\u00b7\u3002\uff01\u2014\u201c\u166d\U000111c9"
PIECES = (
    "the cats unaffable UNAFFABLE played playing xyzzy caf\u00e9 cafe\u0301 CAF\u00c9 "
    "na\u00efve \u00dcber \u0130stanbul \u4e2d\u6587 a\u4e2db \uf900 \ud55c \uac04 "
    "\u03a3\u03c3\u03c2 \u1e9e \ufb01t \u0915\u093f \u09cb \u09cc \u24b6 \u2460 "
    "\U0001f600\U0001f600 \u20ac5 \u2167 1999 \u212a [CLS] [SEP]x [MASK] [mask] [Unk] [UNK "
    "[[PAD]] ##able \u2260 \u226e \u1fef \u037e \u0387 x\u0301\u0302y a\u302e\u1b44 "
    "\u1b44\u302e a\u302e\u0901\u1b44 \U0002b820x x\U0002b920 x\u08d4 x\u061dx \u061d "
    "\u1734x x\u1734 x\U000111c9x x\u166dx don't a-b a_b 3.14 a\u00adb a\u200bb a\u200db "
    "a\ufffdb a\x00b a\x0bb a\x0cb a\x85b a\x1cb \ufeffa a\u00a0b a\u2028b a\u3000b \ue000 "
    "a\ue000b \ufdd0 \U0001d15e \u0344 \u0345 \u0f73 \u2329 \U0001f468\u200d\U0001f469 "
    "\u2764\ufe0f a\U000e0100b \u1100\u1161\u11ab").split(" ")


def vocabulary():
    entries = SPECIALS + WORDS + list(LETTERS) + ["##" + letter for letter in LETTERS]
    return list(dict.fromkeys(entries + list(PUNCTUATION)))


def texts():
    random.seed(20240902)
    yield from ["", " ", "a photo of the unaffable cat.", "x" * 100, "x" * 101,
                "x" * 99 + "x\u0301", "x\u0301" * 100, "x\u0301" * 101, "\ud55c" * 34,
                "a\t\r\nb  c ", "\u0301a \u0301 b\u0301"]
    yield from PIECES
    yield from PUNCTUATION
    for _ in range(300):
        between = random.choice([" ", " ", " ", "", "\n", "\t", "  "])
        yield between.join(random.choices(PIECES, k=random.randint(2, 8)))


def main():
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write("\n".join(vocabulary()) + "\n")
        file.flush()
        tokenizer = BertWordPieceTokenizer(file.name, lowercase=True)
    for entry in vocabulary():
        print("#" + json.dumps(entry))
    for text in texts():
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        print(json.dumps(text) + "\t" + " ".join(map(str, ids)))


if __name__ == "__main__":
    main()
