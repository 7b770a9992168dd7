#!/bin/sh
# Checkpoints: whatever ends a run (a signal, a kill, a full disk, a loss that is no number), the
# last checkpoint is whole, and what resumes from it ends with the bits of a run that was never
# interrupted.
name=save
. tests/library.sh

steps=600 batch=16
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

# pace: about ten steps' data every 20 ms, so that a run is in the middle when it is hit.
pace() {
    while dd bs=100000 count=1 iflag=fullblock of="$work/chunk" 2>/dev/null &&
        [ -s "$work/chunk" ]; do
        cat "$work/chunk" && sleep 0.02
    done
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
feed | pace | train term &
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
feed | head -c 400000 >&3
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
for delay in 0.05 0.17 0.31; do
    rm -f "$run.jsonl"
    feed --start "$run" | pace | train killed --resume &
    pid=$!
    await 20 test -s "$run.jsonl" || fail "no training before SIGKILL"
    sleep $delay
    kill -KILL $pid 2>/dev/null || fail "the run ended before SIGKILL"
    wait $pid 2>/dev/null
done
mkdir -p "$(step killed 77).tmp" "$(step killed 78).old"
echo leftover >"$(step killed 77).tmp/open_clip_model.safetensors"
(resume killed)
ended $? 0 "resuming after three kills"
completes killed

# ---- no room ----

# Files that may not grow: the model's fits not.
run=$work/limited
(part limited 120)
ended $? 65 "a stream that is too short"
says limited "the stream ended after 120 of $steps steps"
cp -r "$run" "$work/before"
(
    trap '' XFSZ
    ulimit -f 100
    resume limited
)
ended $? 74 "a file that may not grow"
says limited "step-00000150.tmp/.*File too large"
check "the checkpoint before is untouched" diff -r "$work/before" "$run"
(resume limited)
ended $? 0 "resuming once there is room"
completes limited

# A file system that holds one checkpoint and not two.
if unshare -m true 2>/dev/null; then
    run=$work/full
    mkdir "$run"
    (part full 120)
    bytes=$(du -sk "$run" | cut -f 1)
    mv "$run" "$work/one"
    mkdir "$run"
    cat >"$work/mounted" <<SCRIPT
mount -t tmpfs -o size=$((bytes * 5 / 4))k none '$run' && cp -r '$work/one/.' '$run' || exit 99
train-step --model '$work/model.json' --batch-size $batch --steps $steps --warmup 20 --lr 1e-3 \\
    --save-every 50 -j 1 --out '$run' --resume >'$run.jsonl' 2>'$run.err'
status=\$?
cp -r '$run/.' '$work/after'
exit \$status
SCRIPT
    mkdir "$work/after"
    feed --start "$work/one" | unshare -m sh "$work/mounted"
    status=$?
    if [ $status -eq 99 ]; then skip "no tmpfs can be mounted"; else
        ended $status 74 "a disk that is full"
        says full "step-00000150.tmp/.*No space left on device"
        check "the checkpoint before is untouched" diff -r "$work/one" "$work/after"
    fi
else
    skip "a full disk needs a mount namespace"
fi

# ---- a checkpoint that is damaged, an output that is in use ----


# The newest checkpoint has a byte that changed: the one before serves, and says so.
run=$work/damaged
cp -r "$work/whole" "$run"
rm -rf "$(step damaged $steps)"
(part spare 570)
run=$work/damaged
cp -r "$(step spare 570)" "$run"
printf '\377' | dd of="$(step damaged 570)/train_state.safetensors" bs=1 seek=5000 \
    conv=notrunc 2>/dev/null
feed --start "$run" | (train damaged --resume)
ended $? 0 "resuming beside a damaged checkpoint"
says damaged "warning: .*step-00000570"
says damaged "resumed .*step-00000550 after 550 steps"
completes damaged
for damage in model state; do
    run=$work/wrecked
    rm -rf "$run" && cp -r "$work/before" "$run"
    for file in "$run"/step-*/*"$damage.safetensors"; do : >"$file"; done
    feed 2>/dev/null | (train wrecked --resume)
    ended $? 65 "no good checkpoint, an empty $damage"
    says wrecked "step-00000120"
done

run=$work/whole
feed 2>/dev/null | (train whole)
ended $? 64 "--out is in use"
says whole "already holds checkpoints"

# ---- resuming what is not the same ----

run=$work/changed
cp -r "$work/before" "$run"
(resume changed --lr 2e-3)
ended $? 64 "another learning rate"
says changed "lr"
feed | (train changed --resume)
ended $? 65 "data from the beginning"
says changed "the stream starts at the beginning, the checkpoint ends at position"
check "the checkpoint is untouched" diff -r "$work/before" "$run"
(resume changed --lr 2e-3 --resume-changed)
ended $? 0 "--resume-changed"
if cmp -s "$(step changed $steps)/open_clip_model.safetensors" \
    "$(step whole $steps)/open_clip_model.safetensors"; then
    fail "another learning rate gives the same model"
else
    pass
fi

# ---- a loss that is no number ----

run=$work/nan
feed | (train nan --lr 100 --warmup 0 --wd 100 --save-every 1)
ended $? 65 "a loss that is no number"
says nan "^train-step: step [0-9]*: loss is .*samples s0000"
keys=$(echo "$run"/step-*.bad-keys.txt)
last=$(newest nan)
check "the keys of the batch are written" sh -c "[ \$(grep -c '^s0000[0-9]*$' '$keys') -eq $batch ]"
check "it is the step after the last checkpoint" [ \
    "$(basename "$keys" .bad-keys.txt)" = "$(printf 'step-%08d' $(($(basename "$last" |
        sed 's/step-0*//') + 1)))" ]
check "the last checkpoint is finite" rec check -q "$last"
report
