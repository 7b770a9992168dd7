#!/bin/sh
# The whole of it, small: scenes to shards to a trained model to its accuracy; and that the parts
# can be swapped, packed, joined and divided as the README says.
name=end_to_end
. tests/library.sh

# 16 patches, and captions that fit, for a model that learns in seconds.
batch=32 steps=250
tiny_model | sed 's/"width": 16/"width": 64/g; s/"embed_dim": 16/"embed_dim": 32/
    s/"image_size": 16/"image_size": 32/; s/"context_length": 8/"context_length": 16/' \
    >"$work/model.json"
scene-shards -q --count 600 --test-count 64 --size 32 --shard-size 200 --seed 5 \
    --out "$work/scenes"
shards=$work/scenes/train/{0..2}.tar.zst
shard-reader -q "$shards" | tokenize -q --learn 800 >"$work/vocab.txt.gz" 2>/dev/null

# The stages, with the options that all runs share.
read_shards() {
    shard-reader -q --shuffle --window 100 --epochs 0 --limit $((steps * batch)) "$@" "$shards"
}
decode() {
    image-decode -q --size 32 --scale 0.8,1 "$@" | tokenize -q --vocab "$work/vocab.txt.gz"
}
reduce() { token-reduce -q --image "$1" --patch 8 --text truncate:16; }

# train NAME [OPTION]...
train() {
    run=$1
    shift
    train-step --model "$work/model.json" --batch-size $batch --steps $steps --warmup 5 \
        --lr 4e-3 --beta2 0.95 --log-every-n-steps 1 -j 1 --out "$work/$run" "$@" \
        >"$work/$run.jsonl" 2>"$work/$run.err"
}

checkpoint() { printf '%s/%s/step-%08d' "$work" "$1" $steps; }

# same_model A B: the runs end with the same bytes.
same_model() {
    for file in open_clip_model train_state; do
        check "$1 and $2 end with the same $file" cmp "$(checkpoint "$1")/$file.safetensors" \
            "$(checkpoint "$2")/$file.safetensors"
    done
}

# ---- training and evaluation ----

CLIPIPE_STATS=$work/stats.jsonl
export CLIPIPE_STATS
read_shards | decode -j 1 | reduce random:8 | train masked
check "training" [ $? -eq 0 ]
unset CLIPIPE_STATS
check "a line of metrics for every step" [ "$(grep -c '^{"step":[0-9]*,"samples":[0-9]*,"loss":[0-9.]*,"logit_scale":[0-9.]*,"lr":[0-9.e-]*,"grad_norm":[0-9.]*,"flops":[0-9.e+]*,"samples_per_second":[0-9.e+]*,"data_wait":[0-9.]*}$' \
    "$work/masked.jsonl")" -eq $steps ]
# A loss of log(32) = 3.47 is chance.
check "the loss falls clearly below chance" sh -c "
    sed -n 's/.*\"loss\":\([^,]*\),.*/\1/p' '$work/masked.jsonl' | tail -n 20 |
        awk '{ sum += \$1 } END { print sum / NR; exit !(NR == 20 && sum / NR < 2.9) }'"
check "its checkpoint is whole" rec check -q "$(checkpoint masked)/open_clip_model.safetensors"
check "and so is its training state" rec check -q "$(checkpoint masked)/train_state.safetensors"
check "it tells how it was made" grep -q 'token-reduce 0.1.0 --image=random:8' \
    "$(checkpoint masked)/clipipe.json"

check "every stage tells its times, and one is the bottleneck" sh -c "
    rec times -q '$work/stats.jsonl' >'$work/times' &&
    for stage in shard-reader image-decode tokenize token-reduce train-step; do
        grep -q \"^\$stage  *$((steps * batch)) \" '$work/times' || exit 1
    done && tail -n 1 '$work/times' | grep -q '^bottleneck: [a-z-]*, [0-9]*% of its time at work$'"

shard-reader -q --on-error fail "$work/scenes/test/0.tar.zst" |
    image-decode -q --size 32 --crop squash --on-error fail >"$work/test.rec"
evaluate() {
    eval-zeroshot -q --model "$work/masked" --dataset "$work/scenes" --name scenes --expect 64 \
        --subset "$work/scenes/seen.txt,$work/scenes/unseen.txt" "$work/test.rec" "$@"
}
evaluate >"$work/result" 2>"$work/eval.err"
check "evaluation" [ $? -eq 0 ]
share='\(0\.[0-9]*\(e-[0-9]*\)\{0,1\}\|1\.0\)'
for set in '' /seen /unseen; do
    check "the result of scenes$set has its keys, in order" grep -q \
        "^{\"dataset\": \"scenes$set\", \"model\": \"masked\", \"pretrained\": \"[^\"]*\", \"task\": \"zeroshot_classification\", \"metrics\": {\"acc1\": $share, \"acc5\": $share, \"mean_per_class_recall\": $share}, \"language\": \"en\"}$" \
        "$work/result"
done
check "and nothing else is printed" [ "$(wc -l <"$work/result")" -eq 3 ]
# Of 64 classes, five guesses hit 0.08.
check "the classes are found more often than by chance" sh -c "
    sed -n '1s/.*\"acc5\": \([^,]*\),.*/\1/p' '$work/result' |
        awk '{ print; exit !(\$1 > 0.12) }'"
evaluate --device ref >"$work/result.ref" 2>/dev/null
check "the reference backend agrees" cmp "$work/result" "$work/result.ref"

# ---- the same bits, whatever the threads and the records ----

read_shards --batch 48 | decode -j 3 | reduce random:8 | train again
sed 's/--batch=48/--batch=256/' "$(checkpoint again)/clipipe.json" >"$work/about"
same_model masked again
check "they are told apart by --batch alone" cmp "$(checkpoint masked)/clipipe.json" "$work/about"

# ---- the other reductions, by one word ----

for strategy in none resize:16 resize:8; do
    side=${strategy#resize:}
    [ "$side" = none ] && side=32
    read_shards --limit $((5 * batch)) | decode | reduce "$strategy" |
        train "$strategy" --steps 5 --warmup 1 --force-image-size "$side"
    check "training with --image $strategy" [ $? -eq 0 ]
done

# ---- fine-tuning at another resolution and length ----

read_shards --limit $((20 * batch)) | decode --size 48 |
    token-reduce -q --text truncate:20 |
    train fine --init "$work/masked" --model "$work/masked/step-00000250/open_clip_config.json" \
        --steps 20 --force-image-size 48 --force-context-length 20 --lr 1e-4
check "fine-tuning from a checkpoint" [ $? -eq 0 ]
check "it says how the image positions were resized" grep -q \
    "image positional embedding resized from 4 x 4 to 6 x 6 patches" "$work/fine.err"
check "and the text's" grep -q "text positional embedding resized from 16 to 20 tokens" \
    "$work/fine.err"
mean_loss() { # NAME: of its first ten steps
    sed -n 's/.*"loss":\([^,]*\),.*/\1/p' "$work/$1.jsonl" | head -n 10 |
        awk '{ sum += $1 } END { print sum / NR }'
}
check "it starts from what was learned" sh -c \
    "awk 'BEGIN { exit !($(mean_loss fine) < $(mean_loss masked) - 0.3) }'"

# ---- patches that the model drops itself, and activations that are computed again ----

for jobs in 1 3; do
    read_shards --limit $((20 * batch)) --batch $((jobs * 40)) | decode |
        token-reduce -q --text truncate:16 |
        train "dropped$jobs" --steps 20 --force-patch-dropout 0.5
done
check "a patch dropout of 0.5 trains on 8 of 16 patches" grep -q ' 9 image tokens' \
    "$work/dropped1.err"
check "and draws the same whatever the records" cmp \
    "$work/dropped1/step-00000020/open_clip_model.safetensors" \
    "$work/dropped3/step-00000020/open_clip_model.safetensors"
read_shards | decode | reduce random:8 | train recomputed --grad-checkpointing
same_model masked recomputed

# ---- streams as files ----

read_shards | decode --zstd 3 | reduce random:8 >"$work/whole.rec"
check "a packed stream between two stages" [ $? -eq 0 ]
check "a file has checksums" sh -c "rec check '$work/whole.rec' | grep -q 'checksums right'"
rec cat -q --zstd 5 "$work/whole.rec" >"$work/packed.rec"
check "a packed file is smaller" sh -c \
    "[ \$(wc -c <'$work/packed.rec') -lt \$(wc -c <'$work/whole.rec') ]"
train packed <"$work/packed.rec"
same_model masked packed

rec dump -q "$work/whole.rec" >"$work/whole.txt"
read_shards --limit 1920 | decode | reduce random:8 >"$work/a.rec"
read_shards --start "$(rec dump -q "$work/a.rec" | tail -n 1 |
    sed 's/.*"position":\[\([0-9,]*\)\].*/\1/')" | decode | reduce random:8 \
    >"$work/b.rec"
check "two parts are the whole" sh -c \
    "cat '$work/a.rec' '$work/b.rec' | rec dump -q | cmp - '$work/whole.txt'"
cat "$work/a.rec" "$work/b.rec" | rec cat -q | train joined
same_model masked joined

# ---- several readers share the samples ----

for world in 1 3; do
    for rank in $(seq 0 $((world - 1))); do
        shard-reader -q --shuffle --window 100 --rank "$rank" --world $world "$shards" |
            rec dump -q | sed 's/.*"position":\(\[[0-9,]*\]\).*/\1/' >"$work/rank.$world.$rank"
    done
    cat "$work/rank.$world".* | sort >"$work/ranks.$world"
done
check "an epoch has every sample" [ "$(sort -u "$work/ranks.1" | wc -l)" -eq 600 ]
check "three ranks share them, each once" cmp "$work/ranks.1" "$work/ranks.3"
check "in equal parts" [ "$(wc -l <"$work/rank.3.0") $(wc -l <"$work/rank.3.2")" = "200 200" ]
report
