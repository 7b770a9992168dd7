#!/bin/sh
# quickstart.sh - the whole of clipipe in one command: draws scenes, trains a small CLIP model
# on a third of its image tokens, and lets it classify images it never saw.
#
#     sh pipelines/quickstart.sh [DIR]        DIR: where all goes [run/quickstart]
#
# About five minutes on two cores. Needs no data; installs what is missing.
set -eu
cd "$(dirname "$0")/.."
out=${1:-run/quickstart}

sh pipelines/setup.sh
make -s -j"$(nproc)"
PATH=$PWD/build/bin:$PATH
. pipelines/library.sh
begin_run "$out"

steps=${STEPS:-600} batch=256
model=pipelines/models/ViT-Ti-8-scenes.json

say "drawing 64 kinds of scenes; 6 of them are left out of the training set"
scene-shards -q --count 20000 --test-count 1280 --size 64 --seed 1 --out "$out/scenes"

say "learning a vocabulary from the captions"
shards=$out/scenes/train/{0..1}.tar.zst
shard-reader -q "$shards" | tokenize -q --learn 1000 >"$out/vocab.txt.gz"

say "training: 12 of 36 image tokens, 16 text tokens, $steps steps of $batch"
shard-reader "$shards" --shuffle --epochs 0 --limit $((steps * batch)) |
    image-decode --size 48 --scale 0.6,1 -j 1 |
    tokenize --vocab "$out/vocab.txt.gz" |
    token-reduce --image random:12 --patch 8 --text truncate:16 |
    train-step --model "$model" --batch-size $batch --steps "$steps" --warmup 50 \
        --lr 2e-3 --beta2 0.95 --wd 0.1 --out "$out/model" >"$out/metrics.jsonl"
rec times "$CLIPIPE_STATS"

say "classifying $(nproc)00% unseen images"
shard-reader -q "$out/scenes/test/0.tar.zst" --on-error fail |
    image-decode -q --size 48 --crop squash --on-error fail |
    eval-zeroshot -q --model "$out/model" --dataset "$out/scenes" --expect 1280 \
        --subset "$out/scenes/seen.txt,$out/scenes/unseen.txt" | tee "$out/result.jsonl"

plot_loss "$out"
