#!/bin/sh
# A stage that is killed in the middle: no later stage may report success, with nothing but a
# plain shell pipeline (no pipefail), and within two seconds.
name=kill
. tests/library.sh

tiny_model >"$work/model.json"
scene-shards -q --count 200 --test-count 20 --size 16 --out "$work/scenes" 2>/dev/null
shard=$work/scenes/train/0.tar.zst
shard-reader -q "$shard" | tokenize -q --learn 600 >"$work/vocab.txt.gz" 2>/dev/null

# start: an endless pipeline in the background, its stages one by one, their exit codes in files.
start() {
    rm -rf "$work/run" "$work"/*.code "$work"/*.pid "$work/metrics.jsonl"
    for pipe in a b c d; do
        rm -f "$work/$pipe" && mkfifo "$work/$pipe"
    done
    stage 1 shard-reader --epochs 0 --batch 32 --shuffle --window 64 "$shard" >"$work/a" &
    stage 2 image-decode --size 16 -j 1 <"$work/a" >"$work/b" &
    stage 3 tokenize --vocab "$work/vocab.txt.gz" -j 1 <"$work/b" >"$work/c" &
    stage 4 token-reduce --image random:2 --patch 8 --text truncate:8 <"$work/c" >"$work/d" &
    stage 5 train-step --model "$work/model.json" --batch-size 16 --steps 1000000 --warmup 10 \
        --save-every 20 -j 1 --out "$work/run" <"$work/d" >"$work/metrics.jsonl" &
}

# stage N PROGRAM...: runs it, leaving its process in N.pid and its status in N.code.
stage() {
    number=$1
    shift
    sh -c 'echo $$ >"$0.pid"; exec "$@"' "$work/$number" "$@" 2>"$work/$number.err"
    echo $? >"$work/$number.code"
}

# await SECONDS FILE: until it exists and is not empty.
await() {
    tries=$(($1 * 20))
    while [ ! -s "$2" ] && [ $tries -gt 0 ]; do
        sleep 0.05
        tries=$((tries - 1))
    done
    [ -s "$2" ]
}

# trained: a pipeline that has saved a checkpoint.
trained() {
    start
    await 20 "$work/metrics.jsonl" || fail "no training before the kill"
    tries=400
    while ! ls "$work"/run/step-*[0-9]/MANIFEST >/dev/null 2>&1 && [ $tries -gt 0 ]; do
        sleep 0.05
        tries=$((tries - 1))
    done
}

for victim in 1 2 3 4; do
    trained
    kill -KILL "$(cat "$work/$victim.pid")"
    check "the last stage ends soon after stage $victim is killed" await 2 "$work/5.code"
    for later in $(seq $((victim + 1)) 5); do
        await 2 "$work/$later.code"
        if [ "$(cat "$work/$later.code")" = 76 ]; then pass; else
            fail "stage $later after a killed stage $victim: $(cat "$work/$later.code"), not 76"
        fi
    done
    for saved in "$work"/run/step-*; do
        check "the checkpoint is whole" rec check -q "$saved"
    done
    wait
done

# The last stage is killed: those before it end by SIGPIPE, silently.
trained
kill -KILL "$(cat "$work/5.pid")"
for earlier in 4 3 2 1; do
    check "stage $earlier ends after its reader is killed" await 3 "$work/$earlier.code"
    [ "$(cat "$work/$earlier.code")" = 141 ] && pass || fail "stage $earlier does not end by SIGPIPE"
    [ -s "$work/$earlier.err" ] && fail "stage $earlier says: $(cat "$work/$earlier.err")" || pass
done
wait

# A decoder killed under an evaluation: no result.
train=$(ls -d "$work"/run/step-*[0-9] 2>/dev/null | tail -n 1)
if [ -n "$train" ]; then
    rm -f "$work/a" && mkfifo "$work/a"
    stage 2 image-decode --size 16 -j 1 <"$work/a" >"$work/decoded.rec" &
    shard-reader -q --batch 4 "$work/scenes/test/0.tar.zst" | head -c 4000 >"$work/a"
    wait
    expect 76 "an evaluation of a stream that was cut" sh -c \
        "eval-zeroshot --model '$train' --dataset '$work/scenes' '$work/decoded.rec' \
            >'$work/result.json'"
    [ -s "$work/result.json" ] && fail "a result was printed" || pass
else
    fail "no checkpoint to evaluate"
fi

# An early reader is no error: the writer dies silently.
check "| head -c" sh -c "shard-reader -q '$shard' 2>'$work/err' | head -c 100 >/dev/null && \
    [ ! -s '$work/err' ]"
report
