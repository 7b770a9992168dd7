#!/bin/sh
# swap.sh - the same pipeline with eight token reductions, one word changed each time.
#
#     sh pipelines/swap.sh [DIR]          DIR: where all goes [run/swap]
#
# Trains a small model briefly on drawn scenes by each and prints what it costs and where the loss
# stands; DIR/NAME.png shows what the model saw. About a minute and a half on two cores.
set -eu
cd "$(dirname "$0")/.."
out=${1:-run/swap}
make -s -j"$(nproc)" CUDA=0
PATH=$PWD/build/bin:$PATH
. pipelines/library.sh
begin_run "$out"

scene-shards -q --count 10000 --test-count 1 --size 64 --seed 1 --out "$out/scenes"
train=$(shards "$out/scenes/train" tar.zst)
shard-reader -q "$train" | tokenize -q --learn 640 >"$out/vocab.txt.gz"
samples=${SAMPLES:-9600}

# reduce NAME IMAGE TEXT [TRAINING OPTION]...
reduce() {
    name=$1 image=$2 text=$3
    shift 3
    shard-reader -q "$train" --shuffle --limit "$samples" |
        image-decode -q --size 60 --scale 0.8,1 |
        tokenize -q --vocab "$out/vocab.txt.gz" |
        pos-tag -q |
        token-reduce -q --image "$image" --patch 10 --text "$text" |
        tee "$out/stream.rec" |
        train-step -q --model pipelines/models/ViT-Ti-10-scenes.json --force-image-size 60 \
            --force-context-length "${text#*:}" --batch-size 64 --samples "$samples" \
            --warmup 20 --lr 1e-3 --log-every-n-steps 50 --out "$out/$name" "$@" \
            >"$out/$name.jsonl"
    rec view -q -n 8 --columns 4 "$out/stream.rec" >"$out/$name.png"
    tail -n 1 "$out/$name.jsonl" | sed 's/.*"loss":\([^,]*\),.*"flops":\([^,]*\),.*/\1 \2/' |
        { read -r loss flops; printf '%-11s --image %-11s --text %-11s loss %-8s %s FLOPs\n' \
            "$name" "$image" "$text" "$loss" "$flops"; }
}
reduce full     none      truncate:12
reduce resize   resize:30 truncate:12 --force-image-size 30
reduce random   random:9  truncate:12
reduce grid     grid:9    truncate:12
reduce block    block:9   truncate:12
reduce truncate resize:30 truncate:6  --force-image-size 30
reduce text     resize:30 block:6     --force-image-size 30
reduce syntax   resize:30 syntax:6    --force-image-size 30
rm -f "$out/stream.rec"
echo "what each model saw: $out/*.png"
