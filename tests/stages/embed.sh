#!/bin/sh
# Embeddings of a stream: of unit length, the same bits whatever the records, batches and
# threads, of images, patches and captions; and what is refused.
name=embed
. tests/library.sh

# ---- a model, and images and captions for it ----
tiny_model | sed 's/"width": 16/"width": 64/g; s/"embed_dim": 16/"embed_dim": 24/' \
    >"$work/model.json"
{
    scene-shards -q --count 150 --test-count 8 --size 24 --seed 3 --out "$work/scenes"
    shard-reader -q "$work/scenes/train/0.tar.zst" >"$work/read.rec"
    tokenize -q --learn 700 "$work/read.rec" >"$work/vocab.txt.gz"
    image-decode -q --size 16 "$work/read.rec" |
        tokenize -q --vocab "$work/vocab.txt.gz" |
        token-reduce -q --text truncate:8 |
        train-step -q --model "$work/model.json" --batch-size 50 --steps 3 --warmup 0 \
            --out "$work/run" >/dev/null
} 2>"$work/setup.err" || {
    cat "$work/setup.err"
    fail "the inputs cannot be made"
}
decode() { image-decode -q --like "$work/run" "$@"; }
embed_with() { embed -q --model "$work/run" "$@"; }
decode "$work/read.rec" | tokenize -q --vocab "$work/vocab.txt.gz" >"$work/images.rec"
token-reduce -q --text truncate:8 "$work/images.rec" >"$work/both.rec"

# numbers FILE TENSOR: the values of a tensor, one a line, samples in order.
numbers() {
    rec dump -q --values 100000 "$1" 2>/dev/null |
        sed -n "s/.*\"$2\":\[\([^]]*\)\].*/\1/p" | tr ',' '\n'
}

# ---- what comes out ----
expect 0 "images and text tokens" sh -c "embed -q --model '$work/run' '$work/both.rec' \
    >'$work/out.rec'"
rec stat -q "$work/out.rec" >"$work/stat"
check "image embeddings" grep -q '^image_embedding *F32 *\[B,24\]' "$work/stat"
check "text embeddings" grep -q '^text_embedding *F32 *\[B,24\]' "$work/stat"
check "facts" grep -q '^embedding.size: 24' "$work/stat"
for gone in image text_tokens; do
    if grep -q "^$gone  " "$work/stat"; then fail "$gone is still there"; else pass; fi
done
check "captions stay" grep -q '^text  ' "$work/stat"
for kind in image text; do
    numbers "$work/out.rec" ${kind}_embedding >"$work/$kind.txt"
    check "$kind embeddings have length 1" awk -v want=$((150 * 24)) '
        { sum += $1 * $1 }
        NR % 24 == 0 { if (!(sum > 0.99999 && sum < 1.00001)) exit 1; sum = 0 }
        END { exit !(NR == want) }' "$work/$kind.txt"
    check "$kind embeddings are not all the same" \
        [ "$(sort -u "$work/$kind.txt" | wc -l)" -gt 1000 ]
done
expect 0 "--keep" sh -c "embed -q --keep --model '$work/run' '$work/both.rec' |
    rec stat -q >'$work/kept'"
check "keeps the images" grep -q '^image  ' "$work/kept"
check "keeps the tokens" grep -q '^text_tokens  ' "$work/kept"

# ---- the same bits in other pieces ----
same() { # WHAT COMMAND...: prints records whose embeddings are those of out.rec
    what=$1
    shift
    "$@" >"$work/other.rec" 2>"$work/same.err" || cat "$work/same.err"
    for kind in image text; do
        numbers "$work/other.rec" ${kind}_embedding >"$work/other.txt"
        check "$kind embeddings $what" cmp "$work/$kind.txt" "$work/other.txt"
    done
}
same "again" embed_with "$work/both.rec"
same "by one thread" embed_with -j 1 "$work/both.rec"
for batch in 1 7 33 150 200; do
    same "by batches of $batch" embed_with --batch-size $batch "$work/both.rec"
done
for batch in 1 3 64; do
    shard-reader -q --batch $batch "$work/scenes/train/0.tar.zst" | decode |
        tokenize -q --vocab "$work/vocab.txt.gz" | token-reduce -q --text truncate:8 \
        >"$work/pieces.rec"
    same "from records of $batch" embed_with "$work/pieces.rec"
done
# The order of patches changes sums, so that only rounding differs.
token-reduce -q --image random:4 --patch 8 "$work/both.rec" | embed_with >"$work/other.rec"
numbers "$work/other.rec" image_embedding >"$work/other.txt"
check "all patches are the image" sh -c "paste '$work/image.txt' '$work/other.txt' |
    awk '{ d = \$1 - \$2; if (!(d * d < 1e-10)) exit 1 } END { exit !(NR == $((150 * 24))) }'"
same "of captions, by the checkpoint's vocabulary" embed_with "$work/images.rec"
same "of captions, by --vocab" embed_with --vocab "$work/vocab.txt.gz" "$work/images.rec"

# ---- one kind alone ----
expect 0 "images only" sh -c "embed -q --modality image --model '$work/run' '$work/both.rec' |
    rec stat -q >'$work/stat'"
check "no captions" [ "$(grep -c '^text_embedding' "$work/stat")" -eq 0 ]
check "and leaves the tokens" grep -q '^text_tokens' "$work/stat"
expect 0 "captions only" sh -c "embed -q --model '$work/run' '$work/read.rec' >'$work/text.rec'"
numbers "$work/text.rec" text_embedding >"$work/other.txt"
check "a stream without images has the same text embeddings" cmp "$work/text.txt" \
    "$work/other.txt"

# ---- what is refused ----
bad() { embed -q --model "$work/run" "$@" >/dev/null; }
expect 64 "no model" embed "$work/both.rec"
expect 66 "a model that is not there" embed --model "$work/nothing" "$work/both.rec"
image-decode -q --size 24 "$work/read.rec" >"$work/large.rec"
expect 65 "images of another size" bad "$work/large.rec"
said "images of 24 x 24 pixels, the model takes 16 x 16"
token-reduce -q --text truncate:5 "$work/images.rec" >"$work/short.rec"
expect 65 "captions of another length" bad "$work/short.rec"
said "captions of 5 tokens, the model takes 8"
tokenize -q --learn 600 "$work/read.rec" >"$work/other.txt.gz" 2>/dev/null
decode "$work/read.rec" | tokenize -q --vocab "$work/other.txt.gz" |
    token-reduce -q --text truncate:8 >"$work/other.rec"
expect 65 "tokens of another vocabulary" bad "$work/other.rec"
said "text_tokens were made with tokenizer.crc32c .*, the model's have"
expect 65 "nothing to embed" bad --modality image "$work/read.rec"
said "nothing to embed: no tensor image or patches"
expect 0 "a random crop is warned of" sh -c "image-decode -q --size 16 '$work/read.rec' |
    embed -q --model '$work/run' >/dev/null"
said "images were prepared by random crop and bicubic interpolation"
mkdir "$work/copy" && cp "$work"/run/step-*/open_clip_config.json "$work/copy"
# All weights NaN: the file's data is as long as the header says, and holds only ones.
model=$(ls -d "$work"/run/step-*)/open_clip_model.safetensors
length=$(od -An -tu8 -N8 "$model" | tr -d ' ')
head -c $((8 + length)) "$model" >"$work/copy/open_clip_model.safetensors"
head -c $(($(stat -c %s "$model") - 8 - length)) /dev/zero | tr '\0' '\377' \
    >>"$work/copy/open_clip_model.safetensors"
expect 65 "weights that are not numbers" sh -c \
    "embed -q --model '$work/copy' '$work/both.rec' >/dev/null"
said "of length -\{0,1\}nan, expected 1"
report
