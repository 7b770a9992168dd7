#!/usr/bin/env python3
"""Makes the tables of common/formats that come from other people's lists.

    python3 tests/reference/make_text_tables.py entities > common/formats/html_entity_table.h
    python3 tests/reference/make_text_tables.py mojibake > common/formats/text_mojibake_table.h

The names of HTML's character references are those of Python's html.entities; the characters of
mojibake, their classes and the code pages are those of ftfy 6.3 and its codecs.
"""
import re
import sys
from html.entities import html5

ENCODINGS = [
    "latin-1", "sloppy-windows-1252", "sloppy-windows-1251", "sloppy-windows-1250",
    "sloppy-windows-1253", "sloppy-windows-1254", "sloppy-windows-1257", "iso-8859-2",
    "macroman", "cp437",
]
# The bits of enum mojibake_class, in order.
CLASSES = [
    "c1", "bad", "common", "law", "currency", "start_punctuation", "end_punctuation", "numeric",
    "kaomoji", "upper_accented", "lower_accented", "upper_common", "lower_common", "box",
    "utf8_first_of_2", "utf8_first_of_3", "utf8_first_of_4", "utf8_continuation",
    "utf8_continuation_strict", "named",
]
# With these begin the sequences that ftfy.badness spells out.
NAMED = "ŒœÂÃÎÐ×ØÙà√≈‚вВГРСβΒΓΞΟā"


def print_entities():
    print("/* The character references of HTML by name, sorted; made by make_text_tables.py.\n"
          " * A row: the name, one code point or two, whether it is known without a semicolon."
          " */")
    rows = []
    for name in sorted(name[:-1] for name in html5 if name.endswith(";")):
        codes = [ord(character) for character in html5[name + ";"]] + [0]
        assert len(codes) <= 3 and html5.get(name, html5[name + ";"]) == html5[name + ";"]
        rows.append(f'{{"{name}", 0x{codes[0]:X}, {codes[1] and hex(codes[1])}, '
                    f"{int(name in html5)}}},")
    print_rows(rows)


def print_rows(rows):
    line = ""
    for row in rows:
        if line and len(line) + 1 + len(row) > 96:
            print(line)
            line = ""
        line += " " * bool(line) + row
    print(line)


def print_mojibake():
    import ftfy.bad_codecs
    from ftfy.badness import MOJIBAKE_CATEGORIES
    from ftfy.chardata import UTF8_CLUES, CHARMAP_ENCODINGS

    assert ENCODINGS == CHARMAP_ENCODINGS
    ftfy.bad_codecs.ok()
    members = {**MOJIBAKE_CATEGORIES, **UTF8_CLUES, "named": NAMED}
    assert set(members) == set(CLASSES)
    patterns = [re.compile(f"[{members[name]}]") for name in CLASSES]
    print("/* The characters of mojibake, sorted; made by make_text_tables.py.\n"
          " * A row: the code point, its classes (enum mojibake_class), its byte in each of\n"
          " * the ten code pages (enum code_page; 0: it has none). */")
    rows = []
    for code in list(range(0x80, 0xD800)) + list(range(0xE000, 0x10000)):
        character = chr(code)
        classes = sum(1 << bit for bit, p in enumerate(patterns) if p.match(character))
        page_bytes = [encode(character, encoding) for encoding in ENCODINGS]
        assert code < 0x100 or page_bytes[0] == 0
        if classes or any(page_bytes):
            text = ",".join(f"0x{byte:02X}" if byte else "0" for byte in page_bytes)
            rows.append(f"{{0x{code:04X}, 0x{classes:05X}, {{{text}}}}},")
    print_rows(rows)


def encode(character, encoding):
    try:
        encoded = character.encode(encoding)
    except UnicodeEncodeError:
        return 0
    assert len(encoded) == 1 and encoded.decode(encoding) == character
    return encoded[0]


if __name__ == "__main__":
    {"entities": print_entities, "mojibake": print_mojibake}[sys.argv[1]]()
