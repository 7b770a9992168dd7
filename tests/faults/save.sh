#!/bin/sh
# Checkpoints: whatever ends a run (a signal, a kill, a full disk, a loss that is no number), the
# last checkpoint is whole, and what resumes from it ends with the bits of a run that was never
# interrupted.
name=save
. tests/library.sh

steps=1000 batch=16
tiny_model >"$work/model.json"
scene-shards -q --count 200 --test-count 2 --size 16 --shard-size 100 --out "$work/scenes"
shards=$work/scenes/train/{0..1}.tar.zst
shard-reader -q "$shards" | tokenize -q --learn 600 >"$work/vocab.txt.gz" 2>/dev/null

# feed [OPTION]...: the data of the whole run, but for what the options to shard-reader change.
feed() {
    {
        shard-reader -q --shuffle --window 60 --batch 40 --epochs 0 --limit $((steps * batch)) \
            "$@" "$shards" |
            image-decode -q --size 16 -j 1 |
            tokenize -q --vocab "$work/vocab.txt.gz" -j 1 |
            token-reduce -q --image random:3 --patch 8 --text truncate:8
    } 2>"$work/feed.err"
}

# train NAME [OPTION]...: to end a pipeline with, so that $! is train-step.
train() {
    run=$work/$1
    shift
    exec train-step --model "$work/model.json" --batch-size $batch --steps $steps --warmup 20 \
        --lr 1e-3 --save-every 50 -j 1 --out "$run" "$@" >"$run.jsonl" 2>"$run.err"
}

# resume NAME [OPTION]...: with the data that is left.
resume() {
    feed --start "$work/$1" | train "$@" --resume
}

# part NAME STEPS: a run whose data ends early. It leaves a checkpoint.
part() {
    feed --limit $(($2 * batch)) | train "$1"
    ended $? 65 "$1: a stream that is too short"
    says "$1" "the stream ended after $2 of $steps steps"
}

# ended STATUS WANTED WHAT
ended() {
    if [ "$1" -eq "$2" ]; then pass; else
        fail "$3: status $1, expected $2: $(tail -n 2 "$run.err" "$work/feed.err")"
    fi
}

# says NAME PATTERN
says() {
    if grep -q -e "$2" "$work/$1.err"; then pass; else
        fail "$1: message does not match '$2': $(tail -n 3 "$work/$1.err")"
    fi
}

# await SECONDS COMMAND...: until it succeeds.
await() {
    tries=$(($1 * 50))
    shift
    until "$@" 2>/dev/null; do
        [ $tries -gt 0 ] || return 1
        sleep 0.02
        tries=$((tries - 1))
    done
}

step() { printf '%s/%s/step-%08d' "$work" "$1" "$2"; }

newest() {
    for directory in "$work/$1"/step-*[0-9]; do :; done
    echo "$directory"
}

# completes NAME: its last checkpoint is the uninterrupted run's.
completes() {
    for file in open_clip_model train_state; do
        check "$1: the same $file" cmp "$(step "$1" $steps)/$file.safetensors" \
            "$(step whole $steps)/$file.safetensors"
    done
    check "$1: nothing is left behind" sh -c \
        "[ -z \"\$(find '$work/$1' -name '*.tmp' -o -name '*.old')\" ]"
}

feed | (train whole)
ended $? 0 "an uninterrupted run"
check "its checkpoint is whole" rec check -q "$(step whole $steps)"
check "two checkpoints are kept" sh -c "[ \$(ls '$work/whole' | grep -c step-) -eq 2 ]"

# ---- signals ----

# While it trains.
run=$work/term
feed | train term &
pid=$!
await 20 test -s "$work/term.jsonl" || fail "no training before SIGTERM"
kill -TERM $pid
wait $pid
ended $? 75 "SIGTERM in the middle"
says term "stopped by a signal after step"
check "its checkpoint is whole" rec check -q "$(newest term)"
(resume term)
ended $? 0 "resuming after SIGTERM"
says term "resumed"
completes term

# While it waits for data that does not come.
run=$work/stalled
mkfifo "$work/pipe"
train stalled <"$work/pipe" &
pid=$!
exec 3>"$work/pipe"
feed | head -c 100000 >&3
await 20 test -s "$work/stalled.jsonl" || fail "no training before the stall"
kill -INT $pid
wait $pid
ended $? 75 "SIGINT during a stall"
exec 3>&-
(resume stalled)
ended $? 0 "resuming after a stall"
completes stalled

# Three kills, at other moments each: before a checkpoint, perhaps, or while one is written.
run=$work/killed
for delay in 0.05 0.21 0.37; do
    rm -f "$work/killed.jsonl"
    resume killed &
    pid=$!
    await 20 test -s "$work/killed.jsonl" || fail "no training before SIGKILL"
    sleep $delay
    kill -KILL $pid || fail "the run ended before SIGKILL"
    wait $pid 2>/dev/null
done
mkdir -p "$(step killed 77).tmp" "$(step killed 78).old"
echo leftover >"$(step killed 77).tmp/open_clip_model.safetensors"
(resume killed)
ended $? 0 "resuming after three kills"
completes killed
report
