#!/bin/sh
# The contract of a stage, on every stage: conform.h says what is checked.
name=conform
. tests/library.sh

tiny_model >"$work/model.json"
{
    scene-shards -q --count 4 --test-count 2 --size 16 --seed 7 --out "$work/scenes"
    shard-reader -q --batch 2 "$work/scenes/train/0.tar.zst" >"$work/read.rec"
    tokenize -q --learn 600 <"$work/read.rec" >"$work/vocab.txt.gz"
    image-decode -q --size 16 -j 1 <"$work/read.rec" >"$work/image.rec"
    tokenize -q --vocab "$work/vocab.txt.gz" <"$work/image.rec" >"$work/tokens.rec"
    pos-tag -q <"$work/tokens.rec" >"$work/tagged.rec"
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

# count FILE: adds the count in the last line of what rec conform printed; false where something
# failed.
count() {
    counts=$(sed -n 's/^[^:]*: \([0-9]*\) passed, \([0-9]*\) failed, [0-9]* left out$/\1 \2/p' "$1")
    if [ -z "$counts" ]; then
        failed=$((failed + 1))
        return 1
    fi
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
    [ "${counts#* }" = 0 ]
}

# run TITLE [OPTION]... [INPUT] -- PROGRAM [ARGUMENT]...
run() {
    title=$1
    shift
    rec conform -q --strict --seconds 1 "$@" >"$work/conform.out" 2>&1
    count "$work/conform.out" || sed -n "/^ok/!s/^/$title: /p" "$work/conform.out"
}

cd "$work" || exit
run shard-reader --source -- shard-reader --batch 2 --shuffle scenes/train/0.tar.zst
run scene-shards --only-options -- scene-shards
run image-decode --threads -j read.rec -- image-decode --size 16
run tokenize --threads -j image.rec -- tokenize --vocab vocab.txt.gz
run pos-tag --threads -j tokens.rec -- pos-tag
run token-reduce --threads -j tagged.rec -- token-reduce --image grid:2 --patch 8 --text syntax:8
run token-reduce-resize --threads -j tokens.rec -- token-reduce --image resize:8
run train-step --sink --varies train.rec -- ./train
run embed image.rec -- embed --model model
run eval-zeroshot --sink image.rec -- eval-zeroshot --model model --dataset scenes
run rec-cat train.rec -- rec cat
run rec-head train.rec -- rec head --samples 100
run rec-stat --sink train.rec -- rec stat
run rec-dump --sink train.rec -- rec dump
run rec-check --sink train.rec -- rec check
run rec-view --sink train.rec -- rec view
cd "$OLDPWD" || exit
report
