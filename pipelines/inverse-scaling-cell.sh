#!/bin/sh
# inverse-scaling-cell.sh - one point of inverse-scaling.sh, which calls it and exports what it
# needs: SIZE IMAGE:TOKENS TEXT:TOKENS SEED. Trains, fine-tunes at full length, evaluates, and
# leaves result.json when all of it is done.
set -eu
size=$1 image=$2 text=$3 seed=$4
cell=$out/cells/$size-$image-$text-$seed
[ ! -e "$cell/result.json" ] || exit 0
rm -rf "$cell"
mkdir -p "$cell"
began=$(date +%s)

# What a number of tokens means to each strategy, and the side of the image that it leaves.
image_tokens=${image#*:} small=$side
case $image in
none:*) reduction=none ;;
resize:*)
    small=$(awk "BEGIN { print $patch * sqrt($image_tokens) }")
    reduction=resize:$small
    ;;
*) reduction=$image ;;
esac
tagger=cat
[ "${text%:*}" != syntax ] || tagger="pos-tag -q -j 1"

# stream SAMPLES SEED: all that both trainings share
stream() {
    shard-reader -q "$train_shards" --shuffle --seed "$2" --epochs 0 --limit "$1" |
        image-decode -q -j 1 --size "$side" --scale "$crop" --seed "$2" |
        tokenize -q -j 1 --vocab "$out/vocab.txt.gz"
}
train() {
    train-step -q --device "$device" -j 1 --batch-size 64 --beta2 0.95 --wd 0.1 --seed "$seed" \
        --save-every 1000000 --log-every-n-steps 50 "$@"
}

stream "$samples" "$seed" | $tagger |
    token-reduce -q --image "$reduction" --patch "$patch" --text "$text" --seed "$seed" |
    train --model "$out/$size.json" --force-image-size "$small" \
        --force-context-length "${text#*:}" --samples "$samples" --warmup 50 --lr 1e-3 \
        --out "$cell/short" >"$cell/short.jsonl"
stream "$fine" $((seed + 1000)) |
    token-reduce -q --text truncate:"$full_text" |
    train --init "$cell/short" --force-image-size "$side" --force-context-length "$full_text" \
        --samples "$fine" --warmup 10 --lr 3e-4 --out "$cell/full" >"$cell/full.jsonl"
eval-zeroshot -q -j 1 --model "$cell/full" --dataset "$data" "$out/test.rec" >"$cell/eval.json"

last() { tail -n 1 "$cell/$1" | sed "s/.*\"$2\": *\([^,}]*\).*/\1/"; }
printf '{"size": "%s", "image": "%s", "image_tokens": %d, "text": "%s", "text_tokens": %d, "seed": %d, "samples": %d, "fine_tune_samples": %d, "flops": %s, "fine_tune_flops": %s, "acc1": %s, "acc5": %s, "seconds": %d}\n' \
    "$size" "${image%:*}" "$image_tokens" "${text%:*}" "${text#*:}" "$seed" "$samples" "$fine" \
    "$(last short.jsonl flops)" "$(last full.jsonl flops)" "$(last eval.json acc1)" \
    "$(last eval.json acc5)" $(($(date +%s) - began)) >"$cell/result.tmp"
rm -rf "$cell/short" "$cell/full"
mv "$cell/result.tmp" "$cell/result.json"
printf '%s: acc1 %s after %d s\n' "$*" "$(last eval.json acc1)" $(($(date +%s) - began))
