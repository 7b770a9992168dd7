#!/usr/bin/env python3
"""Makes clip_bpe_golden.tsv: captions and the ids that open_clip's SimpleTokenizer gives them.

    python3 tests/reference/make_bpe_golden.py > tests/reference/clip_bpe_golden.tsv

needs open_clip_torch and ftfy. A line is the caption, with \\\\ \\n \\t \\r escaped, a tab and
the ids without start and end.
"""
import html.entities
import random
import sys

import ftfy  # its codecs

PLAIN = [
    "a photo of a cat", "A  Photo of\ta DOG\r\n", "itap of the large great white shark.", "",
    "a black-and-white photo of a 1957 Chevrolet Bel-Air, for sale at $12,500!!",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "I'll say it's what they've wanted, we'd go; you're it. I'm 'tis rock'n'roll 'S 'RE",
    "http://www.example.com/index.php?id=3&page=4#top foo_bar@example.org #nofilter @user",
    "0123456789 3.14159 1,000,000 10x20cm 4th 90s", "--- ... !!! ?!?! *** <<>> {[()]} \\ / | ~ ^",
    "<start_of_text>a<end_of_text>b <START_OF_TEXT> <end_of_text", "aaaaaaaaaa" * 30, "!?" * 100,
]
PIECES = (
    "the of and red Blue GREEN house It's don't I'D 7 42 2,5 $9 50% C++ AT&T R&amp;D &lt;b&gt; "
    "&quot;x&quot; &nbsp; &#39; &#x27; &eacute; &EACUTE; &copy &hellip; &#128; &amp;amp; <b> \u201cq\u201d "
    "\u2018s\u2019 \ufb01n \ufb04 \u0149 \u0132 \uff26\uff35\uff2c\uff2c \uff76\uff9e \u0130stanbul "
    "\u039f\u0394\u039f\u03a3 \u03a3\u03a3. \u00df na\u00efve cafe\u0301 \u212b \u2167 \u00bd \u00b2 \u2460 "
    "\u24b6 \u2014 \u2026 \ud55c\uad6d\uc5b4 \u65e5\u672c\u8a9e\u30c6\u30b9\u30c8 \u4e2d\u6587 "
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22 \u05e2\u05d1\u05e8\u05d9\u05ea "
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u041f\u0440\u0438\u0432\u0435\u0442 "
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd \u2764\ufe0f \U0001f1eb\U0001f1f7 "
    "\x1b[31mred\x1b[0m \x07 \x7f \ufeff \u200b \u00ad \ufffd \u00a0 \u3000 \u2028 \u0345 it'\u017f"
).split(" ")

# Words that, in UTF-8, have bytes of every kind.
LANGUAGES = [
    "café d’été à la crème, œuvre", "Schöne Grüße „aus“ Köln",
    "¿Dónde está el niño? ¡Aquí!", "às três à noite, ação", "Zażółć gęślą jaźń",
    "Příliš žluťoučký kůň", "Árvíztűrő tükör", "Șase țări, încă", "Işıklı İzmir’de gün",
    "Tiếng Việt đẹp", "Съешь ещё булок", "Їжак і ґанок", "Καλημέρα κόσμε", "שלום עולם",
    "مرحبا بكم", "नमस्ते दुनिया", "รูปแมว", "猫的照片！", "ねこの写真", "고양이 사진", "Ąžuolas, šešėlis",
    "Ġģ kķīņa", "Åska, älg & ö", "Þætti ða", "🐱 ❤️ 👍", "“yes” — no… ™",
    "20 °C ± ½ € 5 £ 7 ≤ 9", "• « mot »",
]
ENCODINGS = [
    "latin-1", "cp1252", "sloppy-windows-1252", "sloppy-windows-1251", "sloppy-windows-1250",
    "sloppy-windows-1253", "sloppy-windows-1254", "sloppy-windows-1257", "iso-8859-2",
    "macroman", "cp437", "cp1251", "cp1250", "cp850", "koi8-r",
]


def surrogates(text):
    """UTF-8 of UTF-16, as Java and old databases write it."""
    units = text.encode("utf-16-be")
    return b"".join(chr(256 * high + low).encode("utf-8", "surrogatepass")
                    for high, low in zip(units[::2], units[1::2]))


def misread(text):
    """Text in UTF-8 read as something else, and what then happens to it."""
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        data = surrogates(text) if random.random() < 0.1 else text.encode()
        text = data.decode(random.choice(ENCODINGS), "replace")
        change = random.random()
        if change < 0.15:
            text = text.replace("\xa0", " ")
        elif change < 0.2:
            text = text.replace("\ufffd", "?")
        elif change < 0.25:
            text = text.lower()
    return text


def references():
    """Character references of HTML, right and wrong."""
    name = random.choice(sorted(html.entities.html5)).rstrip(";")
    return random.choice([
        f"&{name};", f"&{name};", f"&{name}", f"&{name.upper()};", f"&{name}x;",
        f"&amp;{name};", f"&#{random.randrange(0x3000)};", f"&#x{random.randrange(0x20000):x};", "&#59;",
        "&" + "amp;" * random.randrange(1, 9),
    ])


def captions():
    """Ordinary captions, pieces of all kinds side by side, mojibake, HTML."""
    random.seed(20240901)
    yield from PLAIN
    for _ in range(240):
        between = random.choice([" ", " ", " ", "", "\n", "\t", "  "])
        yield between.join(random.choices(PIECES, k=random.randint(1, 14)))
    for _ in range(300):
        kinds = random.choices(
            [lambda: misread(random.choice(LANGUAGES)), lambda: random.choice(LANGUAGES),
             references, lambda: misread(references() + "\u00e9"),
             lambda: " ".join(random.choices(PIECES, k=3))],
            weights=[8, 2, 2, 1, 1], k=random.choice([1, 1, 1, 2, 3, 4]))
        caption = random.choice([" ", " ", "", "\n"]).join(kind() for kind in kinds)
        yield caption.replace("\0", "")


def escape(text):
    return (text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
            .replace("\r", "\\r"))


def main():
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    for caption in captions():
        ids = " ".join(str(token) for token in tokenizer.encode(caption))
        sys.stdout.write(f"{escape(caption)}\t{ids}\n")


if __name__ == "__main__":
    main()
