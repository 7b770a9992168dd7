#!/bin/sh
# cifar10.sh - trains on real photographs of 32 pixels and classifies the test split zero-shot.
#
#     sh pipelines/cifar10.sh DATA [DIR]      DATA: CIFAR-10 in CLIP_benchmark's layout, with
#                                             captions in the training split
# About twelve minutes on two cores, in fp32: 32 of 64 image tokens, 16 text tokens.
set -eu
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { echo "usage: cifar10.sh DATA [DIR]" >&2; exit 64; }
data=$1 out=${2:-run/cifar10}
PATH=$PWD/build/bin:$PATH
make -s -j"$(nproc)" CUDA=0
. pipelines/library.sh
begin_run "$out"

steps=${STEPS:-3000} batch=128
train=$(shards "$data/train" tar.zst)
test=$(shards "$data/test" tar)

say "learning a vocabulary from the captions"
shard-reader -q "$train" | tokenize -q --learn 2000 >"$out/vocab.txt.gz"

say "training: 32 of 64 image tokens, 16 text tokens, $steps steps of $batch"
CLIPIPE_STATS=$out/stats.jsonl
export CLIPIPE_STATS
shard-reader "$train" --shuffle --epochs 0 --limit $((steps * batch)) |
    image-decode --size 32 --scale 0.6,1 -j 1 |
    tokenize --vocab "$out/vocab.txt.gz" |
    token-reduce --image random:32 --patch 4 --text truncate:16 |
    train-step --model pipelines/models/ViT-Ti-4-cifar.json --batch-size $batch \
        --steps "$steps" --warmup 200 --lr 1e-3 --wd 0.1 --out "$out/model" >"$out/metrics.jsonl"
rec times -q "$CLIPIPE_STATS"
unset CLIPIPE_STATS

say "classifying the test split"
shard-reader -q "$test" --text-key none --on-error fail |
    image-decode -q --size 32 --crop squash --on-error fail |
    eval-zeroshot -q --model "$out/model" --dataset "$data" | tee "$out/result.jsonl"
plot_loss "$out"
