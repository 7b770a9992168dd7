#!/bin/sh
# The two stages of pipelines/custom-stage, as an outside author builds and runs them.
name=custom_stage
. tests/library.sh
sources=$PWD/pipelines/custom-stage
variant=${BUILD#build} variant=${variant#/} flags=
case $variant in
asan) flags=-fsanitize=address,undefined ;;
tsan) flags=-fsanitize=thread ;;
esac

make -s install CUDA=0 VARIANT="${variant:-release}" PREFIX="$work/prefix" >"$work/install.out" 2>&1 ||
    { cat "$work/install.out"; fail "make install"; report; }
scene-shards -q --count 60 --test-count 1 --size 40 --seed 3 --out "$work/scenes"
shard-reader -q --batch 16 "$work/scenes/train/0.tar.zst" | image-decode -q --size 40 >"$work/in.rec"

kept() { # FILE: the positions of the first sample
    rec dump -q --values 100 "$1" | head -n 1 | sed 's/.*"patches.position":\[\([^]]*\)\].*/\1/'
}

(
    cd "$work" || exit
    PKG_CONFIG_PATH=$work/prefix/lib/pkgconfig
    export PKG_CONFIG_PATH
    # shellcheck disable=SC2046,SC2086 # lists of words
    ${CC:-cc} "$sources/checkerboard.c" $flags $(pkg-config --cflags --libs clipipe) \
        -o "$work/checkerboard"
) >"$work/cc.out" 2>&1
check "checkerboard.c is built outside the tree: $(cat "$work/cc.out")" [ -x "$work/checkerboard" ]
"$work/checkerboard" -q --patch 10 "$work/in.rec" >"$work/c.rec"
check "checkerboard runs" [ $? -eq 0 ]
check "and keeps every other patch" [ "$(kept "$work/c.rec")" = "0,2,5,7,8,10,13,15" ]
rec conform -q --seconds 5 "$work/in.rec" -- "$work/checkerboard" --patch 10 >"$work/conform.out" 2>&1
check "checkerboard conforms: $(tail -n 3 "$work/conform.out")" [ $? -eq 0 ]

if python3 -c 'import numpy, safetensors.numpy' 2>/dev/null; then
    python3 "$sources/keep_detail.py" 5 10 <"$work/in.rec" >"$work/p.rec"
    check "keep_detail.py runs" [ $? -eq 0 ]
    check "its stream is whole, and every image keeps 5" sh -c \
        "rec stat -q '$work/p.rec' | grep -q '^patches  *U8  *\[B,5,300\]'"
    head -c 3000 "$work/in.rec" | python3 "$sources/keep_detail.py" 5 10 >"$work/cut.rec" 2>/dev/null
    check "a cut stream is told by 76" [ $? -eq 76 ]
else
    skip "keep_detail.py: python3 has no numpy and safetensors"
fi
report
