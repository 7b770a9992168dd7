#!/bin/sh
# quickstart.sh - the whole of clipipe in one command: draws scenes, trains a small CLIP model
# on reduced tokens, and lets it classify images it never saw.
#
#     sh pipelines/quickstart.sh [DIR]        DIR: where all goes [run/quickstart]
#
# About five minutes on two cores. Needs no data; installs what is missing. STEPS=300 is quicker
# and shows less.
set -eu
cd "$(dirname "$0")/.."
out=${1:-run/quickstart}

sh pipelines/setup.sh
make -s -j"$(nproc)" CUDA=0
PATH=$PWD/build/bin:$PATH
. pipelines/library.sh
begin_run "$out"

steps=${STEPS:-2900} batch=128
model=pipelines/models/ViT-Ti-10-scenes.json

say "drawing scenes of 64 kinds; 6 of the kinds are left out of the training set"
scene-shards -q --count 60000 --test-count 1280 --size 64 --seed 1 --out "$out/scenes"
train=$(shards "$out/scenes/train" tar.zst)
test=$(shards "$out/scenes/test" tar.zst)

say "learning a vocabulary from the captions"
shard-reader -q "$train" | tokenize -q --learn 640 >"$out/vocab.txt.gz"

say "training $steps steps of $batch: 17 image tokens and 12 text tokens"
CLIPIPE_STATS=$out/stats.jsonl
export CLIPIPE_STATS
shard-reader "$train" --shuffle --epochs 0 --limit $((steps * batch)) |
    image-decode --size 40 --scale 0.8,1 -j 1 |
    tokenize --vocab "$out/vocab.txt.gz" -j 1 |
    token-reduce --text truncate:12 |
    train-step --model $model --batch-size $batch \
        --steps "$steps" --warmup 100 --lr 1.5e-3 --beta2 0.95 --wd 0.1 --out "$out/model" \
        >"$out/metrics.jsonl"
rec times -q "$CLIPIPE_STATS"
unset CLIPIPE_STATS

say "zero-shot: all 64 classes, the 58 seen in training, the 6 never seen"
shard-reader -q "$test" --on-error fail |
    image-decode -q --size 40 --crop squash --on-error fail |
    eval-zeroshot -q --model "$out/model" --dataset "$out/scenes" --expect 1280 \
        --subset "$out/scenes/seen.txt,$out/scenes/unseen.txt" >"$out/result.jsonl"
cat "$out/result.jsonl"
plot_loss "$out"
