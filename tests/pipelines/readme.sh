#!/bin/sh
# The two stages that README.md shows, as they stand there: they compile and run, and give the
# same stream.
name=readme
. tests/library.sh

# block LANGUAGE: the first code block of that language in README.md that has a record loop.
block() {
    awk -v want="$1" '
        /^```/ { if (inside) { if (text ~ /stage_read|yield/) { printf "%s", text; exit } inside = 0 }
                 else { inside = ($0 == "```" want); text = "" } next }
        inside { text = text $0 "\n" }' README.md
}

scene-shards -q --count 40 --test-count 2 --size 24 --out "$work/scenes" 2>/dev/null
shard-reader -q --batch 16 "$work/scenes/train/0.tar.zst" >"$work/in.rec"

block c >"$work/drop-labels.c"
check "the C stage compiles" sh -c "${CC:-cc} -std=c11 -D_GNU_SOURCE -Icommon ${CFLAGS:-} \
    $(test "$BUILD" = build/asan && echo -fsanitize=address,undefined) \
    -o $work/drop-labels $work/drop-labels.c $BUILD/libclipipe.a -fopenmp \
    $(pkg-config --libs libarchive libjpeg libwebp libpng libzstd zlib jansson \
        libutf8proc) -ldnnl -lm -pthread"
check "the C stage runs" sh -c "'$work/drop-labels' -q '$work/in.rec' | rec dump -q >'$work/c.txt'"
check "labels are gone, the rest is there" sh -c \
    "! grep -q label '$work/c.txt' && [ \$(grep -c position '$work/c.txt') -eq 40 ]"
check "the C stage conforms" rec conform -q --seconds 3 "$work/in.rec" -- "$work/drop-labels"

if command -v python3 >/dev/null; then
    block python >"$work/drop-labels.py"
    check "the Python stage runs" sh -c \
        "python3 '$work/drop-labels.py' <'$work/in.rec' | rec dump -q >'$work/py.txt'"
    check "both stages give the same samples" cmp "$work/c.txt" "$work/py.txt"
else
    skip "python3 is not installed"
fi
report
