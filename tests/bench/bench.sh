#!/bin/sh
# The throughput of every stage alone, from captured input, as a Markdown table: median of RUNS
# runs, whole processes. Then every kernel.
#
#     make bench        RUNS=3 COUNT=4000 for other numbers
set -eu
BUILD=${BUILD:-build}
PATH=$PWD/$BUILD/bin:$PATH
runs=${RUNS:-3} count=${COUNT:-4000}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
OMP_WAIT_POLICY=passive
export OMP_WAIT_POLICY

model=pipelines/models/ViT-Ti-10-scenes.json
shard=$work/scenes/train/0.tar.zst
scene-shards -q --count "$count" --test-count 64 --out "$work/scenes"
shard-reader -q "$shard" >"$work/read.rec"
tokenize -q --learn 700 <"$work/read.rec" >"$work/vocab.txt.gz" 2>/dev/null
image-decode -q --size 40 <"$work/read.rec" >"$work/image.rec"
tokenize -q --vocab "$work/vocab.txt.gz" <"$work/image.rec" >"$work/tokens.rec"
token-reduce -q --text truncate:12 <"$work/tokens.rec" >"$work/train.rec"
train-step -q --model $model --batch-size 64 --steps 1 --warmup 0 --out "$work/model" \
    "$work/train.rec" >/dev/null 2>&1

# now: nanoseconds since some time.
now() { date +%s%N; }

# bench NAME BYTES COMMAND...: one row of the table; stdin and stdout are the caller's.
bench() {
    title=$1 input=$2 times=
    shift 2
    for _ in $(seq "$runs"); do
        start=$(now)
        sh -c "$*" 2>/dev/null
        times="$times $(($(now) - start))"
    done
    echo "$times" | tr ' ' '\n' | sed '/^$/d' | sort -n |
        awk -v title="$title" -v samples="$count" -v bytes="$(stat -c %s "$input")" '
        { t[NR] = $1 }
        END {
            s = t[int((NR + 1) / 2)] / 1e9
            printf "| %s | %.0f | %.1f | %.2f |\n", title, samples / s, bytes / s / 1e6, s
        }'
}

cat <<TABLE
$(nproc) processors, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(date +%F)

| stage, $count scenes of 64 px | samples/s | MB/s of input | s |
| --- | ---: | ---: | ---: |
TABLE
bench "scene-shards" "$shard" scene-shards -q --count "$count" --test-count 64 \
    --out "$work/again" '&&' rm -rf "$work/again"
bench "shard-reader (tar.zst)" "$shard" shard-reader -q "$shard" '| cat >/dev/null'
bench "image-decode --size 40 -j 1" "$work/read.rec" \
    image-decode -q -j 1 --size 40 "$work/read.rec" '>/dev/null'
bench "image-decode --size 40" "$work/read.rec" \
    image-decode -q --size 40 "$work/read.rec" '>/dev/null'
bench "tokenize -j 1" "$work/read.rec" \
    tokenize -q -j 1 --vocab "$work/vocab.txt.gz" "$work/read.rec" '>/dev/null'
bench "pos-tag -j 1" "$work/tokens.rec" pos-tag -q -j 1 "$work/tokens.rec" '>/dev/null'
bench "token-reduce --image resize:20 -j 1" "$work/tokens.rec" \
    token-reduce -q -j 1 --image resize:20 --text truncate:12 "$work/tokens.rec" '>/dev/null'
for mask in random:8 grid:8 block:8; do
    bench "token-reduce --image $mask -j 1" "$work/tokens.rec" token-reduce -q -j 1 \
        --image $mask --patch 10 --text truncate:12 "$work/tokens.rec" '>/dev/null'
done
bench "train-step, batch 128" "$work/train.rec" \
    train-step -q --model $model --batch-size 128 --steps $((count / 128)) --warmup 0 \
    --out "$work/trained" "$work/train.rec" '>/dev/null; rm -rf' "$work/trained"
bench "eval-zeroshot" "$work/image.rec" \
    eval-zeroshot -q --model "$work/model" --dataset "$work/scenes" "$work/image.rec" \
    '>/dev/null'
bench "rec cat" "$work/image.rec" rec cat -q "$work/image.rec" '| cat >/dev/null'
echo
"$BUILD/tests/bench/bench_kernels"
echo
"$BUILD/tests/bench/bench_reduce"
echo
if command -v python3 >/dev/null; then
    python3 tests/bench/bench_tokenizers.py --tokenize "$BUILD/bin/tokenize"
else
    echo "tokenizers: skipped: no python3"
fi
