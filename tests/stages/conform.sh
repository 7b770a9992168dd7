#!/bin/sh
# The contract of a stage, on every stage: conform.c says what is checked.
name=conform
. tests/library.sh
conform=$BUILD/tests/stages/conform

tiny_model >"$work/model.json"
{
    scene-shards -q --count 4 --test-count 2 --size 16 --seed 7 --out "$work/scenes"
    shard-reader -q --batch 2 "$work/scenes/train/0.tar.zst" >"$work/read.rec"
    tokenize -q --learn 600 <"$work/read.rec" >"$work/vocab.txt.gz"
    image-decode -q --size 16 -j 1 <"$work/read.rec" >"$work/image.rec"
    tokenize -q --vocab "$work/vocab.txt.gz" <"$work/image.rec" >"$work/tokens.rec"
    token-reduce -q --image random:3 --patch 8 --text truncate:8 <"$work/tokens.rec" \
        >"$work/train.rec"
    train-step -q --model "$work/model.json" --batch-size 2 --steps 1 --warmup 0 \
        --out "$work/model" <"$work/train.rec"
} >"$work/setup.out" 2>&1 || {
    cat "$work/setup.out"
    fail "the inputs cannot be made"
}

# Training refuses an output directory that is in use, so each run gets a fresh one.
cat >"$work/train" <<SCRIPT
#!/bin/sh
rm -rf "$work/out"
exec train-step --model "$work/model.json" --batch-size 2 --steps 2 --warmup 0 -j 1 \\
    --log-every-n-steps 1 --out "$work/out" "\$@"
SCRIPT
chmod +x "$work/train"

# Programs under a sanitizer start ten times slower: fewer cuts.
fewer=
[ "$BUILD" = build ] || fewer="--cut-step 53"

# run NAME INPUT [OPTION]... -- PROGRAM [ARGUMENT]...
run() {
    title=$1 input=$2 options=
    shift 2
    while [ "$1" != -- ]; do
        options="$options $1"
        shift
    done
    shift
    # shellcheck disable=SC2086 # a list of words
    "$conform" $options $fewer "$title" "$input" "$@" >"$work/conform.out" 2>&1
    counts=$(tail -n 1 "$work/conform.out" |
        sed -n 's/^[^:]*: \([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p')
    if [ -z "$counts" ]; then
        fail "$title: conform gave no count"
    else
        passed=$((passed + ${counts% *}))
        failed=$((failed + ${counts#* }))
    fi
    [ "${counts#* }" = 0 ] || sed "s/^/$title: /" "$work/conform.out"
}

run shard-reader - --source -- shard-reader --batch 2 --shuffle "$work/scenes/train/0.tar.zst"
run scene-shards - --words -- scene-shards
run image-decode "$work/read.rec" --threads -j -- image-decode --size 16
run tokenize "$work/image.rec" --threads -j -- tokenize --vocab "$work/vocab.txt.gz"
run token-reduce "$work/tokens.rec" --threads -j --cut-step 5 -- token-reduce --image random:2 --patch 8 --text truncate:8
run token-reduce-resize "$work/tokens.rec" --threads -j --cut-step 31 -- token-reduce --image resize:8
run train-step "$work/train.rec" --sink --loose --cut-step 41 -- "$work/train"
run eval-zeroshot "$work/image.rec" --sink --cut-step 41 -- eval-zeroshot \
    --model "$work/model" --dataset "$work/scenes"
run pos-tag "$work/tokens.rec" --threads -j -- pos-tag
run embed "$work/train.rec" --threads -j --cut-step 41 -- embed --model "$work/model"
run image-decode-color "$work/read.rec" --threads -j --cut-step 41 -- image-decode --size 16 \
    --color-jitter .3,.3,.3,.1 --color-jitter-prob .8 --gray-scale-prob .2
run rec-cat "$work/train.rec" -- rec cat
run rec-head "$work/train.rec" --cut-step 31 -- rec head --samples 100
run rec-stat "$work/train.rec" --sink --cut-step 31 -- rec stat
run rec-dump "$work/train.rec" --sink --cut-step 31 -- rec dump
run rec-check "$work/train.rec" --sink --cut-step 31 -- rec check
report
