#!/bin/sh
# inverse-scaling.sh - the inverse scaling law in miniature: models of three sizes are trained at
# equal samples seen with fewer and fewer image and text tokens, by every strategy, then
# fine-tuned at full length and asked to classify images they never saw.
#
#     sh pipelines/inverse-scaling.sh [--quick] [--data DIR] [--device cpu|cuda] [--out DIR]
#
#     --quick     a subset that takes ten minutes on two cores
#     --data DIR  CIFAR-10 in CLIP_benchmark's layout, in place of drawn scenes
#     --device D  where to train [cpu]
#     --out DIR   where all goes [run/inverse-scaling]; what is done there is not done again
#     --sizes, --image-tokens, --image-strategies, --text-tokens, --text-strategies, --seeds
#                 lists, as --sizes "S L", in place of all
#     --samples N, --fine-tune N    samples seen in training and in fine-tuning
#
# Ends with DIR/table.md, table.json and two plots: accuracy against tokens, and against FLOPs.
set -eu
cd "$(dirname "$0")/.."
. pipelines/library.sh

sizes="S M L" seeds="0 1 2" samples=60000 fine=6000 device=cpu data= out=run/inverse-scaling
image_tokens="25 16 9 4" image_strategies="resize random grid block"
text_tokens="8 6 4" text_strategies="truncate random block syntax"
while [ $# -gt 0 ]; do
    case $1 in
    --quick)
        sizes="S L" seeds=0 samples=30000 fine=3000 image_tokens="16 4"
        image_strategies="resize random" text_tokens=4 text_strategies="truncate syntax"
        ;;
    --data) data=$2 out=run/inverse-scaling-cifar10 && shift ;;
    --device) device=$2 && shift ;;
    --out) out=$2 && shift ;;
    --sizes) sizes=$2 && shift ;;
    --seeds) seeds=$2 && shift ;;
    --samples) samples=$2 && shift ;;
    --fine-tune) fine=$2 && shift ;;
    --image-tokens) image_tokens=$2 && shift ;;
    --image-strategies) image_strategies=$2 && shift ;;
    --text-tokens) text_tokens=$2 && shift ;;
    --text-strategies) text_strategies=$2 && shift ;;
    *) usage inverse-scaling.sh ;;
    esac
    shift
done

PATH=$PWD/build/bin:$PATH
make -s -j"$(nproc)"
mkdir -p "$out/cells"
if [ -n "$data" ]; then # 32 pixels, 64 patches; captions of up to 16 tokens
    side=32 patch=4 full_image=64 full_text=16 vocabulary=2000 crop=0.6,1
    test_shards=$(shards "$data/test" tar)
else                    # 60 pixels, 36 patches; captions of up to 12 tokens
    side=60 patch=10 full_image=36 full_text=12 vocabulary=640 crop=0.8,1
    data=$out/scenes
    [ -e "$data/classnames.txt" ] ||
        scene-shards -q --count 60000 --test-count 2560 --size 64 --seed 1 --out "$data"
    test_shards=$(shards "$data/test" tar.zst)
fi
train_shards=$(shards "$data/train" tar.zst)
[ -s "$out/vocab.txt.gz" ] || {
    shard-reader -q "$train_shards" | tokenize -q --learn $vocabulary >"$out/vocab.tmp"
    mv "$out/vocab.tmp" "$out/vocab.txt.gz"
}
[ -s "$out/test.rec" ] || {
    shard-reader -q "$test_shards" --text-key none --on-error fail |
        image-decode -q --size $side --crop squash --on-error fail >"$out/test.tmp"
    mv "$out/test.tmp" "$out/test.rec"
}

# model NAME WIDTH LAYERS
model() {
    cat >"$out/$1.json" <<JSON
{"embed_dim": 128,
 "vision_cfg": {"image_size": $side, "patch_size": $patch, "width": $2, "layers": $3, "head_width": 32},
 "text_cfg": {"context_length": $full_text, "vocab_size": $vocabulary, "width": $2,
              "layers": $(($3 / 2)), "heads": $(($2 / 32))}}
JSON
}
model S 64 2
model M 96 3
model L 128 4

# The cells: SIZE IMAGE:TOKENS TEXT:TOKENS SEED. Text is reduced on top of a quarter of the image.
cells() {
    for seed in $seeds; do
        for size in $sizes; do
            echo "$size none:$full_image truncate:$full_text $seed"
            for tokens in $image_tokens; do
                for strategy in $image_strategies; do
                    echo "$size $strategy:$tokens truncate:$full_text $seed"
                done
            done
            for tokens in $text_tokens; do
                for strategy in $text_strategies; do
                    echo "$size resize:$((full_image / 4)) $strategy:$tokens $seed"
                done
            done
        done
    done
}
jobs=$(nproc)
[ "$device" = cpu ] || jobs=1
export out data train_shards side patch crop full_text samples fine device
say "$(cells | wc -l) cells, $jobs at a time; those with a result are skipped"
cells | xargs -P "$jobs" -L 1 sh pipelines/inverse-scaling-cell.sh
sh pipelines/inverse-scaling-report.sh "$out"
