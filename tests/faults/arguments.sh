#!/bin/sh
# Command lines that cannot be followed and data that does not fit: every one ends with its
# documented code and one line that names what was found and what was expected.
name=arguments
. tests/library.sh

data=$work/scenes
tiny_model >"$work/model.json"
{
    scene-shards -q --count 24 --test-count 8 --size 16 --seed 3 --out "$data"
    shard=$data/train/0.tar.zst
    shard-reader -q --batch 8 "$shard" >"$work/read.rec"
    tokenize -q --learn 560 "$work/read.rec" >"$work/vocab.txt.gz"
    image-decode -q --size 16 "$work/read.rec" >"$work/image.rec"
    tokenize -q --vocab "$work/vocab.txt.gz" "$work/image.rec" >"$work/tokens.rec"
    token-reduce -q --text truncate:8 "$work/tokens.rec" >"$work/train.rec"
    shard-reader -q "$data/test/0.tar.zst" | image-decode -q --size 16 --crop squash \
        >"$work/test.rec"
    train-step -q --model "$work/model.json" --batch-size 8 --steps 2 --warmup 0 \
        --out "$work/trained" "$work/train.rec"
} >"$work/setup.out" 2>&1 || {
    cat "$work/setup.out"
    fail "the inputs cannot be made"
}

# refuse CODE PATTERN COMMAND...: it ends with that code, and its message has one line, which
# matches, and perhaps a hint.
refuse() {
    code=$1 pattern=$2
    shift 2
    expect "$code" "refusing" "$@"
    said "^$1[^:]*: .*$pattern"
    lines=$(grep -c -v ': hint: ' "$work/expect.err")
    if [ "$lines" -eq 1 ]; then pass; else fail "$lines lines of message: $*"; fi
}

# refuse_training CODE PATTERN OPTION...; with the tiny model.
refuse_training() {
    code=$1 pattern=$2
    shift 2
    refuse "$code" "$pattern" train-step -q --batch-size 8 --steps 2 --warmup 0 \
        --out "$work/out" --model "$work/model.json" "$@"
}

# refuse_model CODE PATTERN SED: with the tiny model, edited.
refuse_model() {
    sed "$3" "$work/model.json" >"$work/edited.json"
    refuse "$1" "$2" train-step -q --batch-size 8 --steps 2 --warmup 0 --out "$work/out" \
        --model "$work/edited.json" "$work/train.rec"
}

# refuse_evaluation CODE PATTERN OPTION...; nothing is printed on stdout.
refuse_evaluation() {
    code=$1 pattern=$2
    shift 2
    refuse "$code" "$pattern" eval-zeroshot -q --model "$work/trained" --dataset "$data" "$@"
    if [ -s "$work/expect.out" ]; then fail "a result was printed: $*"; else pass; fi
}

# blob JSON BYTES: a record with that header over so many zero bytes, and no END.
blob() {
    size=$((${#1} + (64 - (8 + ${#1}) % 64) % 64))
    printf "$(printf '\\%03o\\%03o' $((size % 256)) $((size / 256)))\\0\\0\\0\\0\\0\\0%-*s" \
        "$size" "$(echo "$1" | sed 's/%/%%/g')"
    head -c "$2" /dev/zero
}

# ---- token-reduce ----
reduce() { refuse "$1" "$2" token-reduce "$3" "$4" --patch "${5:-8}" "$work/tokens.rec"; }
for word in random random: random:0 random:x random:-3 random:1.5 random:99999999; do
    reduce 64 "'$word': expected random:N, N from 1 to 67108864, or N%" --image "$word"
done
for word in foo grids:3 ' none' RANDOM:3 ''; do
    reduce 64 "'$word' is not one of none, resize:N, random:N, grid:N, block:N" --image "$word"
done
reduce 64 "'resize:4,4': expected resize:N" --image resize:4,4
for word in truncate truncate:1 truncate:1e3; do
    reduce 64 "'$word': expected truncate:N, N from 2 to 4096" --text "$word"
done
reduce 64 "'syntaxes:8' is not one of none, truncate:N" --text syntaxes:8
reduce 65 "no tensor 'tokens.priority'" --text syntax:8
reduce 64 "--patch: 0 is not in the range" --image random:2 0
reduce 65 "cannot keep 5 of 4 patches" --image random:5
reduce 65 "16 x 16 pixels do not divide into patches of 7" --image random:2 7
refuse 65 "no tensor 'image', found .*image_bytes" token-reduce --image resize:8 \
    "$work/read.rec"
refuse 65 "no tensor 'tokens'\|does not name its vocabulary" token-reduce --text truncate:8 \
    "$work/image.rec"

# ---- image-decode ----
refuse 64 "--size is required" image-decode "$work/read.rec"
refuse 64 "--size: 0 is not in the range" image-decode --size 0 "$work/read.rec"
refuse 64 "'1,0.5' is not two ascending" image-decode --size 8 --scale 1,0.5 "$work/read.rec"
refuse 64 "'oval' is not one of random, center, squash" image-decode --size 8 --crop oval
refuse 64 "'101%'" image-decode --size 8 --max-bad 101% "$work/read.rec"
refuse 64 "unexpected operand 'b'" image-decode --size 8 a b
refuse 66 "nothing.rec" image-decode --size 8 "$work/nothing.rec"
refuse 65 "no tensor 'image_bytes', found" image-decode --size 8 "$work/image.rec"
refuse 65 "[0-9]* bytes of data, at most 100 allowed" \
    image-decode --size 8 --max-record-bytes 100 "$work/read.rec"

# ---- tokenize ----
refuse 64 "either --vocab or --learn" tokenize "$work/image.rec"
refuse 64 "either --vocab or --learn" tokenize --learn 600 --vocab "$work/vocab.txt.gz"
refuse 64 "3 is not in the range 514" tokenize --learn 3 "$work/image.rec"
refuse 66 "nothing.gz" tokenize --vocab "$work/nothing.gz" "$work/image.rec"
refuse 65 "model.json: .*'#version'" tokenize --vocab "$work/model.json" "$work/image.rec"
blob '{"other":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}' 8 >"$work/other.rec"
refuse 65 "no tensor 'text', found other" tokenize --vocab "$work/vocab.txt.gz" "$work/other.rec"

# ---- shard-reader ----
refuse 64 "--rank 2 is not below --world 2" shard-reader --rank 2 --world 2 "$shard"
refuse 64 "--batch: 0 is not in the range" shard-reader --batch 0 "$shard"
refuse 64 "standard input can be read once" shard-reader --epochs 2 -
refuse 65 "0,5,0: no sample of 1 shards" shard-reader --start 0,5,0 "$shard"
refuse 65 "has no sample 900" shard-reader --start 0,0,900 "$shard"
refuse 64 "--start: '0,7' .*EPOCH,SHARD,INDEX" shard-reader --start 0,7 "$shard"

# ---- train-step: the command line ----
refuse_training 64 "--steps and --samples exclude each other" --samples 16 "$work/train.rec"
refuse 64 "--steps or --samples is required" train-step --model "$work/model.json" \
    --out "$work/out" "$work/train.rec"
refuse 64 "--out is required" train-step --model "$work/model.json" "$work/train.rec"
refuse_training 64 "warmup .*not shorter than the run" --warmup 2 "$work/train.rec"
refuse_training 64 "cooldown-steps is for" --cooldown-steps 3 "$work/train.rec"
refuse_training 64 "cooldown-steps 3 are longer" --lr-scheduler const-cooldown \
    --cooldown-steps 3 "$work/train.rec"
refuse_training 64 "--lr: -1 is not in the range" --lr -1 "$work/train.rec"
refuse_training 64 "--lr: 'nan' is not a number" --lr nan "$work/train.rec"
refuse_training 64 "'tpu' is not one of cpu, ref" --device tpu "$work/train.rec"
refuse_training 64 "'1,2' is not three numbers" --image-mean 1,2 "$work/train.rec"
refuse_training 64 "--keep: 1 is not in the range" --keep 1 "$work/train.rec"
refuse 66 "nothing.json" train-step --model "$work/nothing.json" --steps 2 --warmup 0 \
    --out "$work/out" "$work/train.rec"
refuse 74 "cannot create /proc/none" train-step --model "$work/model.json" --steps 2 \
    --warmup 0 --out /proc/none "$work/train.rec"

# ---- train-step: a model that is none ----
refuse_model 65 "edited.json: vision_cfg.depth is not supported" 's/"patch_size"/"depth": 3, &/'
refuse_model 65 "edited.json: .*layers.* is .*expected" 's/"layers": 1/"layers": "one"/'
refuse_model 65 "edited.json: .*vision_cfg.*missing" 's/"vision_cfg"/"vision_cfg_old"/'
refuse_model 65 "edited.json: line 4, column 0" 's/}$/,/'
refuse_model 65 "edited.json: .*image_size\|edited.json: .*patch_size" 's/"patch_size": 8/"patch_size": 0/'
refuse_model 65 "edited.json: .*head" 's/"heads": 2/"heads": 3/'

# ---- train-step: data for another model ----
refuse_training 65 "no tensor 'text_tokens', found" "$work/tokens.rec"
refuse_training 65 "no tensor 'image', found" "$work/read.rec"
refuse_training 65 "images of 16 x 16 pixels, the model takes 32 x 32" --force-image-size 32 \
    "$work/train.rec"
refuse_training 65 "captions of 8 tokens, the model takes 16" --force-context-length 16 \
    "$work/train.rec"
refuse_training 65 "model.json has checksum" --vocab "$work/model.json" "$work/train.rec"
refuse_model 65 "vocabulary of 560 ids, the model has 300" 's/1000/300/'
for patch in 4 16; do
    token-reduce -q --image random:1 --patch $patch "$work/train.rec" >"$work/patches.rec"
    refuse_training 65 "patches of $((patch * patch * 3)) bytes, the model takes 8 x 8" \
        "$work/patches.rec"
done
# Of an image twice as large: positions that the model's grid does not have, or too many patches.
for keep in 3 12; do
    image-decode -q --size 32 "$work/read.rec" | tokenize -q --vocab "$work/vocab.txt.gz" |
        token-reduce -q --image random:$keep --patch 8 --text truncate:8 >"$work/patches.rec"
    refuse_training 65 "expected 0 to 3\|12 .*4" "$work/patches.rec"
done
blob '{"image":{"dtype":"F32","shape":[1,16,16,3],"data_offsets":[0,3072]}}' 3072 >"$work/f32.rec"
refuse_training 65 "'image' is F32 .*, expected U8 of rank 4" "$work/f32.rec"
blob '{"image":{"dtype":"U8","shape":[1,16,16],"data_offsets":[0,256]}}' 256 >"$work/rank.rec"
refuse_training 65 "'image' is U8 .*, expected U8 of rank 4" "$work/rank.rec"

# ---- eval-zeroshot ----
refuse_evaluation 65 "8 images, expected 9" --expect 9 "$work/test.rec"
refuse_evaluation 65 "no tensor 'image', found" "$work/read.rec"
image-decode -q --size 32 "$work/read.rec" >"$work/large.rec"
refuse_evaluation 65 "images of 32 x 32 pixels, the model takes 16 x 16" "$work/large.rec"
shard-reader -q --label-key none "$data/test/0.tar.zst" | image-decode -q --size 16 \
    >"$work/unlabelled.rec"
refuse_evaluation 65 "no tensor 'label', found" "$work/unlabelled.rec"
refuse_evaluation 66 "nothing: no checkpoint" --model "$work/nothing" "$work/test.rec"
refuse_evaluation 66 "nothing/classnames.txt" --dataset "$work/nothing" "$work/test.rec"
refuse_evaluation 66 "nothing.gz" --vocab "$work/nothing.gz" "$work/test.rec"

mkdir "$work/other"
cp "$data/classnames.txt" "$work/other"
refuse_evaluation 66 "other/zeroshot_classification_templates.txt" --dataset "$work/other" \
    "$work/test.rec"
echo 'a {d}' >"$work/other/zeroshot_classification_templates.txt"
refuse_evaluation 65 "template 'a {d}': '{' is neither" --dataset "$work/other" "$work/test.rec"
cp "$data/zeroshot_classification_templates.txt" "$work/other"
: >"$work/other/classnames.txt"
refuse_evaluation 65 "classnames.txt: no lines" --dataset "$work/other" "$work/test.rec"
head -n 3 "$data/classnames.txt" >"$work/other/classnames.txt"
refuse_evaluation 65 "label [0-9]*, the data set has 3 classes" --dataset "$work/other" \
    "$work/test.rec"
echo nonsense >"$work/subset.txt"
refuse_evaluation 65 "subset.txt: 'nonsense' is not a class" --subset "$work/subset.txt" \
    "$work/test.rec"

# A sample that a stage dropped is missing from the figure.
mkdir "$work/one-bad"
(
    cd "$work/one-bad" || exit
    zstd -qdc "$data/test/0.tar.zst" | tar -xf -
    rm -f s0000004.jpg && echo text >s0000004.jpg
    tar -cf ../one-bad.tar $(ls)
)
shard-reader -q "$work/one-bad.tar" | image-decode -q --size 16 --max-bad 1 \
    >"$work/dropped.rec" 2>/dev/null
refuse_evaluation 65 "1 samples were dropped upstream, 0 allowed" "$work/dropped.rec"
expect 0 "a dropped sample that is allowed" eval-zeroshot -q --model "$work/trained" \
    --dataset "$data" --allow-dropped 1 --expect 7 "$work/dropped.rec"

# ---- rec and scene-shards ----
refuse 64 "unknown verb 'look'" rec look
refuse 66 "nothing.rec" rec stat "$work/nothing.rec"
refuse 65 "header of [0-9]* bytes, expected" rec check "$work/model.json"
refuse 65 "not a stage's statistics" rec times "$work/model.json"
refuse 66 "nothing" rec times "$work/nothing"
refuse 64 "--count is required" scene-shards --out "$work/none"
refuse 64 "--size: 1 is not in the range" scene-shards --count 1 --size 1 --out "$work/none"
refuse 74 "cannot create directory /proc/none" scene-shards --count 1 --out /proc/none
report
