#!/bin/sh
# A run that is stopped at 20 random steps, by SIGKILL and by SIGTERM in turn, and resumed each
# time: its weights, moments and average are bitwise those of a run that was not. SEED=N repeats.
name=resume
. tests/library.sh

steps=300 batch=16 stops=20
seed=${SEED:-$(date +%s)}
echo "resume: SEED=$seed"

tiny_model | sed 's/"layers": 1/"layers": 2/' >"$work/model.json"
scene-shards -q --count 200 --test-count 2 --size 16 --shard-size 100 --out "$work/scenes"
shards=$work/scenes/train/{0..1}.tar.zst
shard-reader -q "$shards" | tokenize -q --learn 600 >"$work/vocab.txt.gz" 2>/dev/null

# feed [OPTION]...: the run's data.
feed() {
    {
        shard-reader -q --shuffle --window 60 --batch 24 --epochs 0 --limit "$samples" "$@" \
            "$shards" |
            image-decode -q --size 16 -j 1 |
            tokenize -q --vocab "$work/vocab.txt.gz" -j 1 |
            token-reduce -q --text truncate:8
    } 2>"$work/feed.err"
}

# train NAME [OPTION]...: to end a pipeline with, so that $! is train-step.
train() {
    run=$work/$1
    shift
    # shellcheck disable=SC2086
    exec train-step --model "$work/model.json" --batch-size $batch --steps $steps --warmup 20 \
        --lr 1e-3 --save-every 7 --log-every-n-steps 1 -j 1 --out "$run" $extra "$@" \
        >>"$run.jsonl" 2>>"$run.err"
}

# reached STEP: whether the run has come so far, or is over.
reached() {
    now=$(tail -n 1 "$run.jsonl" | sed -n 's/^{"step":\([0-9]*\),.*}$/\1/p')
    [ "${now:-0}" -ge "$1" ] || ! kill -0 $pid 2>/dev/null
}

last_step() { printf 'step-%08d' $steps; }

# stop_and_go NAME STEPS: stops the run at each of the steps, then lets it end.
stop_and_go() {
    run=$work/$1
    signal=KILL
    for step in $2; do
        : >"$run.jsonl"
        feed --start "$run" | train "$1" --resume &
        pid=$!
        tries=1000
        until reached "$step" || [ $tries -eq 0 ]; do
            sleep 0.01
            tries=$((tries - 1))
        done
        kill -$signal $pid 2>/dev/null
        wait $pid 2>/dev/null
        status=$?
        case $signal:$status in
        KILL:137 | TERM:75) stopped=$((stopped + 1)) ;;
        *:0) late=$((late + 1)) ;;
        *) fail "SIG$signal at step $step of '$extra': status $status: $(tail -n 2 "$run.err")" ;;
        esac
        [ $signal = KILL ] && signal=TERM || signal=KILL
    done
    (feed --start "$run" | train "$1" --resume)
    status=$?
    [ $status -eq 0 ] && pass || fail "the end of '$extra': status $status: $(tail -n 2 "$run.err")"
}

# kind NAME OPTIONS STEPS [FILE]: one kind of run, whole and in pieces; FILE is compared, too.
kind() {
    kind=$1 extra=$2 at=$3
    (feed | train "$kind-whole")
    stop_and_go "$kind" "$at"
    for file in open_clip_model train_state ${4:-}; do
        check "$kind, stopped near steps $at: $file" \
            cmp "$work/$kind/$(last_step)/$file.safetensors" \
            "$work/$kind-whole/$(last_step)/$file.safetensors"
    done
    check "$kind: the last two checkpoints are left, and nothing else" sh -c \
        "[ \$(find '$work/$kind' -mindepth 1 -maxdepth 1 | wc -l) -eq 2 ]"
}

# random_steps COUNT PART: ascending, of this part of the seed.
random_steps() {
    awk -v seed="$seed" -v part="$2" -v count="$1" -v steps=$steps 'BEGIN {
        srand(seed % 1000000 * 16 + part)
        for (i = 0; i < count; i++) print 1 + int(rand() * (steps - 40))
    }' | sort -n | tr '\n' ' '
}

stopped=0 late=0
samples=$((steps * batch))
kind plain "" "$(random_steps 8 1)"
kind averaged "--ema 0.99 --grad-checkpointing" "$(random_steps 6 2)" open_clip_model_ema
samples=$((steps * batch * 2))
kind locked "--ema 0.9 --accum-freq 2 --lock-image --lock-image-unlocked-groups 2
    --grad-clip-norm 0.1" "$(random_steps 6 3)" open_clip_model_ema
check "$stopped of $stops stops came in time, $late too late" [ $stopped -ge $((stops * 3 / 4)) ]
report
