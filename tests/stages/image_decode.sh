#!/bin/sh
# image-decode --like, its facts, colours, and the options that do not go together. What pixels
# come out is tests/unit/test_image_square.c.
name=image_decode
. tests/library.sh

scene-shards -q --count 60 --test-count 2 --size 40 --out "$work/scenes" 2>"$work/err" ||
    fail "no scenes: $(cat "$work/err")"
shard-reader -q "$work/scenes/train/0.tar.zst" >"$work/read.rec"
mkdir "$work/model" "$work/run" "$work/run/step-00000007"
model=$(tiny_model)
cat >"$work/model/open_clip_config.json" <<JSON
{"model_cfg": $model,
 "preprocess_cfg": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
                    "interpolation": "bilinear", "resize_mode": "squash", "fill_color": 3}}
JSON
sed 's/squash/longest/' "$work/model/open_clip_config.json" \
    >"$work/run/step-00000007/open_clip_config.json"
echo "$model" >"$work/model.json"

# decode FILE [OPTION]...: the samples without metadata, so that streams can be compared.
decode() {
    out=$1
    shift
    image-decode -q "$@" "$work/read.rec" >"$work/$out.rec" 2>"$work/$out.err" &&
        rec stat -q "$work/$out.rec" >"$work/$out.stat" &&
        rec dump -q --values 100000 "$work/$out.rec" >"$work/$out"
}
# same WHAT A B, differ WHAT A B
same() { check "$1" cmp "$work/$2" "$work/$3"; }
differ() {
    if cmp -s "$work/$2" "$work/$3"; then fail "$1"; else pass; fi
}
fact() { check "$1 says $2" grep -q "^$2$" "$work/$1.stat"; }

# ---- a model's preparation ----
check "a checkpoint" decode like --like "$work/model"
decode squash --size 16 --crop squash --interpolation bilinear
same "size, squash and bilinear come from the checkpoint" like squash
fact like "image.size: 16"
fact like "image.crop: squash"
fact like "image.interpolation: bilinear"
fact like "image.mean: 0.485,0.456,0.406"
fact like "image.std: 0.229,0.224,0.225"
if grep -q '^image.mean' "$work/squash.stat"; then fail "a mean from nowhere"; else pass; fi
check "a file" decode file --like "$work/model/open_clip_config.json"
same "the same from the file" like file
check "a bare model" decode bare --like "$work/model.json"
decode center --size 16 --crop center
same "open_clip's defaults" bare center
fact bare "image.mean: 0.48145466,0.4578275,0.40821073"
check "an output directory" decode newest --like "$work/run"
fact newest "image.crop: longest"

check "options beside it" decode over --like "$work/model" --size 12 --crop center \
    --mean 0.5,0.5,0.5
decode plain --size 12 --crop center --interpolation bilinear
same "win" over plain
fact over "image.mean: 0.5,0.5,0.5"
fact over "image.std: 0.229,0.224,0.225"
check "a random crop like a model" decode random --like "$work/model" --crop random
decode bicubic --size 16
same "is bicubic, as open_clip trains" random bicubic

# ---- padding ----
decode pad0 --size 20 --crop longest
decode pad9 --size 20 --crop longest --fill-color 9
same "a square image is not padded" pad0 pad9

# ---- colours ----
jitter="--size 16 --color-jitter 0.32,0.32,0.32,0.08 --color-jitter-prob 0.8"
# shellcheck disable=SC2086 # a list of words
{
    decode plain --size 16
    decode jitter $jitter --gray-scale-prob 0.2 -j 1
    decode again $jitter --gray-scale-prob 0.2 -j 3
    decode seed $jitter --gray-scale-prob 0.2 --seed 4
    decode gray --size 16 --gray-scale-prob 1
    decode never --size 16 --color-jitter 1,1,1,0.5 --color-jitter-prob 1e-12
    decode mixed --size 16 --interpolation random
}
differ "colours change" plain jitter
same "the same with any number of threads" jitter again
differ "another seed, other colours" jitter seed
same "a probability of nearly 0 changes nothing" plain never
differ "random interpolation" plain mixed
check "about one image in five stays" awk '
    NR == FNR { plain[NR] = $0; next } { same += plain[FNR] == $0 }
    END { print same; exit !(FNR == 60 && same >= 2 && same <= 20) }' \
    "$work/plain" "$work/jitter"
check "gray images have three equal channels" sh -c "
    sed -n 's/.*\"image\":\[\([^a-z]*\)\].*/\1/p' '$work/gray' | tr -d '[]' | tr ',' '\n' |
    awk '{ v[NR % 3] = \$1 } NR % 3 == 0 && (v[0] != v[1] || v[1] != v[2]) { exit 1 }
        END { exit !(NR == 60 * 16 * 16 * 3) }'"

# ---- what is refused ----
bad() { image-decode -q "$@" "$work/read.rec" >/dev/null; }
expect 64 "neither size nor model" bad
said "--size is required without --like"
expect 64 "jitter without its probability" bad --size 8 --color-jitter 0.1,0.1,0.1,0.1
said "go together"
expect 64 "a probability without jitter" bad --size 8 --color-jitter-prob 0.5
expect 64 "three amounts" bad --size 8 --color-jitter 0.1,0.1,0.1 --color-jitter-prob 1
said "expected four numbers"
expect 64 "more than half a turn" bad --size 8 --color-jitter 0,0,0,0.6 --color-jitter-prob 1
expect 64 "less than nothing" bad --size 8 --color-jitter 0,-1,0,0 --color-jitter-prob 1
expect 64 "not a number" bad --size 8 --color-jitter 0,nan,0,0 --color-jitter-prob 1
expect 64 "a mean of two" bad --size 8 --mean 0.5,0.5
said "mean: expected three numbers"
expect 64 "a deviation of zero" bad --size 8 --std 0,1,1
expect 66 "no such model" bad --like "$work/nothing"
expect 66 "a directory without a model" bad --like "$work/scenes"
expect 65 "a file that is no model" bad --like "$work/read.rec"
report
