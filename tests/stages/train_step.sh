#!/bin/sh
# train-step: what a run would be, against the published numbers of its models; locks, averages
# and weight decay seen in the checkpoints; what the stream says about its images.
name=train_step
. tests/library.sh

models=pipelines/models

# ---- dry runs ----

# plan MODEL [OPTION]...: a dry run in $work/plan, from where nothing can be read or written.
plan() {
    model=$1
    shift
    mkdir -p "$work/empty"
    file=$PWD/$models/$model.json
    (cd "$work/empty" && train-step --dry-run --model "$file" --warmup 0 "$@" <&- \
        >"$work/plan" 2>"$work/plan.err")
    status=$?
    run="$model $*"
    [ $status -eq 0 ] || fail "$run: status $status: $(cat "$work/plan.err")"
    check "$run: nothing is written" rmdir "$work/empty"
}

# says NAME VALUE: the plan has this value, to all digits that are given, and unit, if one is.
says() {
    found=$(sed -n "s/^$1: *//p" "$work/plan")
    if echo "$found" | awk -v wanted="$2" '{
            split(wanted, want, " ")
            digits = index(want[1], ".") ? length(want[1]) - index(want[1], ".") : 0
            same = $1 == want[1] || sprintf("%." digits "f", $1) == want[1]
            exit !(same && (want[2] == "" || want[2] == $2))
        }'; then pass; else fail "$run: $1 is '$found', expected $2"; fi
}

# parameters IMAGE TEXT TOTAL; flops IMAGE TEXT TOTAL
parameters() {
    says parameters.image "$1 M"
    says parameters.text "$2 M"
    says parameters.total "$3 M"
}
flops() {
    says flops.image "$1 GFLOP"
    says flops.text "$2 GFLOP"
    says flops.forward "$3 GFLOP"
}

# open_clip's docs/model_profile.csv.
plan ViT-B-32 --steps 10
parameters 87.85 63.43 151.28
flops 8.82 5.96 14.78
plan ViT-B-16 --steps 10
parameters 86.19 63.43 149.62
flops 35.13 5.96 41.09
plan ViT-L-16 --steps 10
parameters 304.09 123.65 427.74
flops 123.11 13.30 136.41
plan ViT-L-14 --steps 10
parameters 303.97 123.65 427.62
flops 162.03 13.30 175.33
plan ViT-H-14 --steps 10
parameters 632.08 354.03 986.11
flops 334.59 47.09 381.68
plan ViT-L-14-CLIPA --steps 10
parameters 303.96 110.25 414.21
flops 162.03 5.47 167.50
plan ViT-L-14-CLIPA --steps 10 --force-image-size 336
parameters 304.29 110.25 414.54
flops 381.92 5.47 387.39
plan ViT-H-14-CLIPA --steps 10
parameters 632.07 336.16 968.24
flops 334.59 19.43 354.02
plan ViT-bigG-14-CLIPA --steps 10
parameters 1844.90 672.32 2517.22
says flops.forward 1007.9

# Zhai et al.'s and CLIPA's reduced tokens: forward multiply-adds by sample, in G.
macs() {
    says flops.forward "$(echo "$1" | awk '{ printf "%.1f", 2 * $1 }') GFLOP"
}
plan ViT-H-14-CLIPA --steps 10 --force-image-size 70 --force-context-length 8
says model.image.tokens 26
macs 18.85
plan ViT-H-14-CLIPA --steps 10 --force-image-size 84 --force-context-length 8
says model.image.tokens 37
macs 25.84
plan ViT-H-14-CLIPA --steps 10
macs 177.0
plan ViT-H-14-CLIPA --steps 10 --force-patch-dropout 0.3
says model.image.tokens 180
says flops.forward 252

# The paper's runs on 8 A100s: G of operations by sample in training, and the whole of it for 6
# epochs of LAION-400M, taken as 2.19e9 samples, and the fine-tuning.
plan ViT-B-16-CL16 --samples 2190000000 --batch-size 8192 --accum-freq 8 \
    --force-image-size 112 --force-context-length 16
says flops.training 29.6
says run.batch 65536
says run.steps 33416
says run.compute 64.8
plan ViT-B-16-CL16 --samples 131072000 --batch-size 8192 --force-context-length 16
says flops.training 109.0
says run.steps 16000
says run.samples 131072000
says run.compute 14.3
plan ViT-L-16-CL16-Syntax-GAP --steps 10 --force-image-size 64
says flops.training 39.2
plan ViT-L-16-CL16-Syntax-GAP --steps 10
says flops.training 377.5
plan ViT-L-16-CL8-Syntax-GAP --steps 10 --force-image-size 96
says flops.training 71.7
plan ViT-L-16-CL32-GAP --steps 10
says flops.training 385.8

# Memory: parameters, as many gradients, two moments, an average.
plan ViT-B-16 --steps 10 --batch-size 64
says memory.parameters "0.5985 GB"
says memory.gradients "0.5985 GB"
says memory.moments "1.197 GB"
says memory.average 0
large=$(sed -n 's/^memory.total: *\([^ ]*\).*/\1/p' "$work/plan")
plan ViT-B-16 --steps 10 --batch-size 64 --grad-checkpointing --ema 0.999
says memory.average "0.5985 GB"
says option.ema 0.999
small=$(sed -n 's/^memory.total: *\([^ ]*\).*/\1/p' "$work/plan")
check "checkpointing saves memory" awk "BEGIN { exit !($small < $large / 2) }"
plan ViT-B-16 --steps 10 --lock-image
says parameters.trained 63.43
says flops.training "$(awk 'BEGIN { printf "%.1f", 35.127 + 3 * 5.9595 }')"
plan ViT-B-16 --steps 10 --lock-image --lock-image-unlocked-groups 1
says parameters.trained "$(awk 'BEGIN { printf "%.2f", 63.43 + 768 * 512e-6 }')"
check "every option is in the plan" sh -c "train-step --help | sed -n 's/^ *\(-j,\)* *--\([a-z0-9-]*\).*/\2/p' |
    grep -v -e '^max-record' -e '^stats' -e '^progress' -e '^quiet' -e '^help' -e '^version' |
    while read option; do grep -q \"^option.\$option: \" '$work/plan' || exit 1; done"
expect 64 "a dry run has the run's mistakes" train-step --dry-run --model $models/ViT-B-16.json \
    --steps 10
said "warmup 10000 is not shorter"
expect 74 "a full disk" sh -c \
    "train-step --dry-run --model $models/ViT-B-16.json --steps 20000 >/dev/full"

# ---- what is trained ----

tiny_model | sed "s/\"layers\": 1/\"layers\": 2/g" >"$work/model.json"
scene-shards -q --count 60 --test-count 2 --size 16 --shard-size 100 --out "$work/scenes"
shards=$work/scenes/train/0.tar.zst
shard-reader -q "$shards" | tokenize -q --learn 600 >"$work/vocab.txt.gz" 2>/dev/null

# stream [OPTION OF IMAGE-DECODE]...
stream() {
    shard-reader -q --epochs 0 --limit 400 "$shards" | image-decode -q --size 16 -j 1 "$@" |
        tokenize -q --vocab "$work/vocab.txt.gz" -j 1 | token-reduce -q --text truncate:8
}
stream >"$work/plain.rec"

# train NAME [OPTION]...: four steps.
train() {
    out=$work/$1
    shift
    train-step -q --model "$work/model.json" --batch-size 16 --steps 4 --warmup 0 --lr 1e-2 -j 1 \
        --out "$out" "$@" "$work/plain.rec" >"$out.jsonl"
}
weights() { echo "$work/$1/step-00000004/open_clip_model.safetensors"; }

# differs A B: the number of bytes of their weights that do.
differs() { cmp -l "$(weights "$1")" "$(weights "$2")" | wc -l; }

expect 0 "training" train plain
expect 0 "no learning" train still --lr 0
expect 0 "both towers locked" train locked --lock-image --lock-text \
    --lock-text-freeze-layer-norm
expect 0 "the image tower locked" train image --lock-image
expect 0 "all groups unlocked" train unlocked --lock-image --lock-image-unlocked-groups 4 \
    --lock-text --lock-text-unlocked-layers 99
check "of a locked model the logit scale alone moves" [ "$(differs locked still)" -le 4 ]
check "it does" [ "$(differs locked still)" -gt 0 ]
check "a locked tower stays" [ "$(differs image still)" -lt "$(differs plain still)" ]
check "with all groups unlocked nothing is locked" cmp "$(weights plain)" "$(weights unlocked)"
expect 64 "groups of an unlocked tower" train none --lock-image-unlocked-groups 1
said "needs --lock-image"
expect 64 "layers of an unlocked tower" train none --lock-text-unlocked-layers 1
said "needs --lock-text"

for policy in open_clip-4 kernels; do
    expect 0 "--wd-policy $policy" train $policy --wd-policy $policy
    [ "$(differs plain $policy)" -gt 0 ] && pass || fail "--wd-policy $policy changes nothing"
done
check "the policies differ" [ "$(differs open_clip-4 kernels)" -gt 0 ]
expect 0 "--wd 0" train wd-0 --wd 0
expect 0 "--wd 0 with a policy" train wd-0-kernels --wd 0 --wd-policy kernels
check "without decay there is no policy" cmp "$(weights wd-0)" "$(weights wd-0-kernels)"

# ---- the average ----

expect 0 "--ema" train average --ema 0.9
check "an average changes nothing else" cmp "$(weights plain)" "$(weights average)"
averaged=$work/average/step-00000004/open_clip_model_ema.safetensors
check "it is saved" test -s "$averaged"
check "it is none of the weights" sh -c "! cmp -s '$averaged' '$(weights average)'"
check "without --ema there is none" test ! -e "$work/plain/step-00000004/${averaged##*/}"
check "the checkpoint is whole" rec check -q "$work/average/step-00000004"

# embedded NAME DIRECTORY [OPTION]...: the embeddings of a few samples, as text.
embedded() {
    file=$work/$1.txt directory=$work/$2
    shift 2
    rec head -q -n 4 "$work/plain.rec" | embed -q --model "$directory" "$@" 2>/dev/null |
        rec dump -q --values 1000 | grep -o '"[a-z]*_embedding":[^a-z"]*' >"$file"
}
mkdir "$work/foreign"
cp "$work/average/step-00000004/open_clip_config.json" "$work/foreign"
cp "$averaged" "$work/foreign/open_clip_model.safetensors"
embedded last average
embedded averaged average --ema
embedded alone foreign
check "there are embeddings" [ "$(wc -l <"$work/last.txt")" -eq 8 ]
check "embed --ema takes the average" cmp "$work/averaged.txt" "$work/alone.txt"
check "and not the last weights" sh -c "! cmp -s '$work/averaged.txt' '$work/last.txt'"
expect 66 "an average that is not there" embed -q --model "$work/plain" --ema "$work/plain.rec"
expect 64 "another average on resuming" train average --ema 0.5 --resume
said "ema"
expect 64 "--ema 1" train none --ema 1

# ---- how it is computed ----

for level in light block; do
    expect 0 "--recompute $level" train "$level" --recompute $level
    check "--recompute $level gives the same bits" cmp "$(weights plain)" "$(weights "$level")"
done
expect 0 "--grad-checkpointing" train checkpointing --grad-checkpointing
check "--grad-checkpointing gives the same bits" cmp "$(weights plain)" "$(weights checkpointing)"
expect 64 "two levels at once" train none --grad-checkpointing --recompute light
loss() { sed -n 's/.*"loss":\([^,]*\),.*/\1/p' "$work/$1.jsonl" | tail -n 1; }
expect 0 "--precision amp_bf16" train rough --precision amp_bf16
check "it computes otherwise" [ "$(differs plain rough)" -gt 0 ]
check "but not far off" awk "BEGIN { d = $(loss plain) - $(loss rough); exit !(d < 0.1 && d > -0.1) }"
expect 64 "another precision on resuming" train rough --resume
said "precision"
expect 0 "again" train rough2 --precision amp_bf16
check "amp_bf16 has the same bits again" cmp "$(weights rough)" "$(weights rough2)"

expect 0 "a finished run is resumed on nothing" sh -c "
    shard-reader -q --epochs 0 --limit 64 --start '$work/plain' '$shards' |
    image-decode -q --size 16 | tokenize -q --vocab '$work/vocab.txt.gz' | token-reduce -q --text truncate:8 |
    train-step --model '$work/model.json' --batch-size 16 --steps 4 --warmup 0 --lr 1e-2 -j 1 \
        --out '$work/plain' --resume"
expect 0 "--image-resize-mode" train squash --image-resize-mode squash
check "is in the checkpoint" \
    grep -q '"resize_mode": *"squash"' "$work/squash/step-00000004/open_clip_config.json"

# ---- what goes wrong on the way ----

expect 74 "metrics that nobody can read" sh -c "train-step -q --model '$work/model.json' \
    --batch-size 16 --steps 4 --warmup 0 --log-every-n-steps 2 --out '$work/deaf' \
    '$work/plain.rec' >/dev/full"
check "are no reason to lose the steps" rec check -q "$work/deaf/step-00000002"
expect 141 "nor are metrics that nobody wants" sh -c "{ train-step -q --model '$work/model.json' \
    --batch-size 16 --steps 4 --warmup 0 --log-every-n-steps 2 --out '$work/unheard' \
    '$work/plain.rec'; echo \$? >'$work/status'; } | true; exit \$(cat '$work/status')"
check "they are saved, too" rec check -q "$work/unheard/step-00000002"
expect 74 "a file as large as it may be" sh -c "ulimit -f 16; train-step -q \
    --model '$work/model.json' --batch-size 16 --steps 4 --warmup 0 --out '$work/large' \
    '$work/plain.rec'"
check "leaves nothing behind" [ -z "$(ls "$work/large")" ]
stream | rec head -n 40 >"$work/odd.rec"
stream --size 24 | rec head -n 16 >>"$work/odd.rec"
expect 65 "an image that does not fit" train-step -q --model "$work/model.json" --batch-size 16 \
    --steps 99 --warmup 0 --out "$work/odd" "$work/odd.rec"
check "neither" sh -c "rec check -q '$work'/odd/step-*"

# ---- what the stream says about its images ----

stream --mean 0.5,0.4,0.3 --std 0.2,0.3,0.25 >"$work/plain.rec"
expect 0 "a stream with a mean" train told
train-step --dry-run --init "$work/told" --steps 1 --warmup 0 >"$work/plan"
says model.image.mean 0.5,0.4,0.3
says model.image.std 0.2,0.3,0.25
check "which it is trained with" sh -c "! cmp -s '$(weights told)' '$(weights plain)'"
expect 0 "the same by option" train same --image-mean 0.5,0.4,0.3 --image-std 0.2,0.3,0.25
check "the same weights" cmp "$(weights told)" "$(weights same)"
expect 65 "another mean by option" train other --image-mean 0.5,0.5,0.5
said "image-mean is 0.5,0.5,0.5, the stream's image.mean is 0.5,0.4,0.3"
expect 65 "another deviation by option" train other2 --image-std 0.5,0.5,0.5
said "image-std is 0.5,0.5,0.5, the stream's image.std is 0.2,0.3,0.25"
stream --mean 0.1,0.1,0.1 --std 0.2,0.3,0.25 >"$work/plain.rec"
expect 65 "another mean on resuming" train told --resume
said "mean is 0.1,0.1,0.1, the checkpoint was made with 0.5,0.4,0.3"
expect 65 "another mean by --init" train-step -q --init "$work/told" --batch-size 16 --steps 2 \
    --warmup 0 -j 1 --out "$work/tuned" "$work/plain.rec"
said "image mean is 0.5,0.4,0.3, the stream's image.mean is 0.1,0.1,0.1"
expect 0 "which an option overrides" train-step -q --init "$work/told" --batch-size 16 \
    --steps 2 --warmup 0 -j 1 --out "$work/tuned2" --image-mean 0.1,0.1,0.1 "$work/plain.rec"
report
