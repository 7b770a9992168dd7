#!/usr/bin/env python3
"""Makes text_clean_golden.tsv: captions as open_clip's cleaning functions leave them.

    python3 tests/reference/make_text_clean_golden.py > tests/reference/text_clean_golden.tsv

needs open_clip_torch and ftfy. A line is the caption and what "lower", "whitespace" and
"canonicalize" make of it, with tabs between; \\\\ \\n \\t \\r are escaped.
"""
import sys

from make_bpe_golden import captions, escape
from open_clip.tokenizer import get_clean_fn


def main():
    modes = [get_clean_fn(name) for name in ("lower", "whitespace", "canonicalize")]
    for caption in captions():
        columns = [caption] + [clean(caption) for clean in modes]
        sys.stdout.write("\t".join(escape(column) for column in columns) + "\n")


if __name__ == "__main__":
    main()
