#!/bin/sh
# token-reduce as a stage: counts, facts, what is dropped and kept, threads and records, layouts,
# what syntax needs, odd captions and mistakes. Which patches and tokens remain is
# tests/unit/test_reduce_image.c and test_reduce_text.c.
name=token_reduce
. tests/library.sh

scene-shards -q --count 60 --test-count 2 --size 32 --seed 3 --out "$work/scenes"
shard-reader -q --batch 25 "$work/scenes/train/0.tar.zst" >"$work/read.rec"
tokenize -q --learn 560 <"$work/read.rec" >"$work/vocab.txt.gz" 2>/dev/null
image-decode -q --size 32 "$work/read.rec" | tokenize -q --vocab "$work/vocab.txt.gz" \
    >"$work/tokens.rec"
[ -s "$work/tokens.rec" ] || fail "the input cannot be made"

# reduce OUT [OPTION]...: leaves OUT.rec, OUT (its samples, in full) and OUT.stat.
reduce() {
    out=$1
    shift
    token-reduce --patch 8 --checksum off "$@" "$work/tokens.rec" >"$work/$out.rec" \
        2>"$work/$out.err" &&
        rec dump -q --values 100000 "$work/$out.rec" >"$work/$out" &&
        rec stat -q "$work/$out.rec" >"$work/$out.stat"
}
same() { check "$1" cmp "$work/$2" "$work/$3"; }
differ() {
    if cmp -s "$work/$2" "$work/$3"; then fail "$1"; else pass; fi
}
shows() { check "$1 shows '$2'" grep -q "$2" "$work/$1.stat"; }
lacks() {
    if grep -q "$2" "$work/$1.stat"; then fail "$1 shows '$2'"; else pass; fi
}

# ---- images ----
for strategy in random grid block; do
    check "$strategy:4" reduce k4 --image $strategy:4
    shows k4 '^patches  *U8  *\[B,4,192\]'
    shows k4 '^patches.position  *I32  *\[B,4\]'
    shows k4 "^image.strategy: $strategy:4$"
    shows k4 '^image.patch: 8$'
    shows k4 '^image.grid: 4x4$'
    lacks k4 '^image  *U8'
    check "$strategy:25%" reduce share --image $strategy:25%
    same "25% of 16 patches are 4 under $strategy" k4 share
    reduce three --image $strategy:4 -j 3
    same "one thread or three: the same bytes of $strategy" k4.rec three.rec
    token-reduce -q --patch 8 --image $strategy:4 --seed 1 "$work/tokens.rec" |
        rec dump -q --values 100000 >"$work/seeded"
    differ "another seed draws anew under $strategy" k4 seeded
done
reduce corner --image grid:4 --grid-choice fixed
check "fixed corners are the windows' first" [ "$(grep -c \
    '"patches.position":\[0,2,8,10\]' "$work/corner")" -eq 60 ]
reduce kept --image random:4 --keep
shows kept '^image  *U8  *\[B,32,32,3\]'
reduce small --image resize:16
shows small '^image  *U8  *\[B,16,16,3\]'
shows small '^image.size: 16$'
lacks small '^image.grid'
reduce linear --image resize:16 --interpolation bilinear
differ "the interpolation matters" small linear
token-reduce -q --image resize:16 "$work/tokens.rec" | token-reduce -q --image block:2 --patch 8 |
    rec stat -q >"$work/twice.stat"
shows twice '^image.grid: 2x2$'

# Records of another size, and two epochs.
shard-reader -q --batch 7 "$work/scenes/train/0.tar.zst" | image-decode -q --size 32 |
    tokenize -q --vocab "$work/vocab.txt.gz" |
    token-reduce -q --patch 8 --image random:5 --text random:6 | rec dump -q --values 100000 \
    >"$work/sevens"
reduce both --image random:5 --text random:6
same "records of any size: the same samples" sevens both
shard-reader -q --epochs 2 "$work/scenes/train/0.tar.zst" | image-decode -q --crop squash \
    --size 32 | token-reduce -q --patch 8 --image random:5 | rec dump -q --values 100000 |
    sed 's/"position":\[[0-9]*,[0-9]*,\([0-9]*\)\]/"index":\1/' >"$work/epochs"
check "two epochs: each sample twice, masked anew" [ "$(sort -u "$work/epochs" | wc -l)" -gt 110 ]

# ---- texts ----
for strategy in truncate random shuffle block; do
    check "$strategy:6" reduce text --text $strategy:6
    shows text '^text_tokens  *I32  *\[B,6\]'
    shows text "^text.strategy: $strategy:6$"
    shows text '^text.layout: clip$'
    lacks text '^tokens'
    reduce three --text $strategy:6 -j 3
    same "one thread or three: the same bytes of $strategy" text.rec three.rec
    check "all begin with start and end with end or padding" [ "$(grep -c \
        '"text_tokens":\[558,[0-9,]*,\(559\|0\)\]' "$work/text")" -eq 60 ]
    check "$strategy tells how many were shortened" grep -q \
        '^token-reduce: [0-9.]*% of the captions have more than 4 tokens and were shortened$' \
        "$work/text.err"
done
reduce kept --text truncate:6 --keep
shows kept '^tokens.word'
reduce long --text shuffle:200
if grep -q shortened "$work/long.err"; then fail "none is longer than 198"; else pass; fi
token-reduce -q --image random:5 --patch 8 "$work/tokens.rec" |
    token-reduce -q --text random:6 | rec dump -q --values 100000 >"$work/row"
same "two processes in a row do as one" row both

for layout in clip bert clipa-jax bert-sep; do
    check "layout $layout" reduce layout --text truncate:6 --layout $layout
    shows layout "^text.layout: $layout$"
done
reduce jax --text truncate:6 --layout clipa-jax
check "clipa-jax has room for one more" grep -q 'more than 5 tokens' "$work/jax.err"
reduce bert --text truncate:6 --layout bert
check "bert ends with padding" [ "$(grep -c '"text_tokens":\[558,[0-9,]*,0\]' "$work/bert")" \
    -eq 60 ]

# BERT's vocabulary brings its layout and its own ids.
{
    printf '[PAD]\n[UNK]\n[CLS]\n[SEP]\n'
    printf '%s\n' a e i o u b c d f g h j k l m n p q r s t v w x y z |
        sed 'p; s/^/##/'
} >"$work/pieces.txt"
tokenize -q --vocab "$work/pieces.txt" "$work/read.rec" >"$work/pieces.rec"
token-reduce -q --text truncate:6 "$work/pieces.rec" | rec stat -q >"$work/wordpiece.stat"
shows wordpiece '^text.layout: bert$'
check "its start is [CLS], its padding [PAD]" [ "$(token-reduce -q --text truncate:6 \
    "$work/pieces.rec" | rec dump -q | grep -c '"text_tokens":\[2,[0-9,]*,0\]')" -eq 60 ]

# ---- syntax ----
expect 65 "syntax without tags" token-reduce --text syntax:6 "$work/tokens.rec"
said "no tensor 'tokens.priority'"
said "hint: put pos-tag before token-reduce"
pos-tag -q "$work/tokens.rec" >"$work/tagged.rec"
check "syntax" sh -c "token-reduce --text syntax:6 '$work/tagged.rec' 2>'$work/err' |
    rec stat -q >'$work/syntax.stat'"
shows syntax '^text.strategy: syntax:6$'
shows syntax '^text.syntax: words$'
shows syntax '^text_tokens  *I32  *\[B,6\]'
lacks syntax '^tokens'
check "it tells how many were shortened" grep -q 'more than 4 tokens' "$work/err"
check "syntax by pieces" reduce pieces --text syntax:6 --syntax pieces
shows pieces '^text.syntax: pieces$'
reduce three --text syntax:6 --syntax pieces -j 3
same "one thread or three: the same bytes of syntax" pieces.rec three.rec
cp "$work/vocab.txt.gz" "$work/vocab.kept"
echo >>"$work/vocab.txt.gz"
expect 65 "another vocabulary" token-reduce --text syntax:6 --syntax pieces "$work/tokens.rec"
said "the tokens were made with"
rm "$work/vocab.txt.gz"
expect 66 "no vocabulary" token-reduce --text syntax:6 --syntax pieces "$work/tokens.rec"
said "hint: the stream's metadata tokenizer.path"
cp "$work/vocab.kept" "$work/vocab.txt.gz"

# ---- captions: nothing but a control character, one word, emoji, 10,000 words ----
mkdir "$work/odd"
tar -xf "$work/scenes/train/0.tar.zst" -C "$work/odd" --zstd 2>/dev/null ||
    zstd -dc "$work/scenes/train/0.tar.zst" | tar -xf - -C "$work/odd"
image=$(find "$work/odd" -name '*.jpg' | sort | head -n 1)
mkdir "$work/captions"
for caption in a b c d; do cp "$image" "$work/captions/$caption.jpg"; done
printf '\007' >"$work/captions/a.txt"
printf 'dog' >"$work/captions/b.txt"
printf '\360\237\230\200\360\237\221\215 \342\235\244' >"$work/captions/c.txt"
yes 'a big red dog' | head -n 2500 | tr '\n' ' ' >"$work/captions/d.txt"
(cd "$work/captions" && tar -cf "$work/captions.tar" -- *)
shard-reader -q "$work/captions.tar" | tokenize -q --vocab "$work/vocab.txt.gz" >"$work/odd.rec"
for text in truncate:8 random:8 shuffle:8 block:8 'syntax:8 --syntax pieces' random:2 block:16; do
    # shellcheck disable=SC2086 # a strategy and options
    check "odd captions under $text" sh -c "token-reduce -q --text $text '$work/odd.rec' |
        rec dump -q | grep -c '\"text_tokens\":\[558,' | grep -qx 4"
done
check "an empty caption is start, end, padding" sh -c "token-reduce -q --text random:8 \
    '$work/odd.rec' | rec dump -q | sed -n 1p | grep -q '\[558,559,0,0,0,0,0,0\]'"

# ---- mistakes ----
expect 64 "an unknown strategy" token-reduce --image blur:3 "$work/tokens.rec"
said "none, resize:N, random:N, grid:N, block:N"
expect 64 "a share of a side" token-reduce --image resize:50% "$work/tokens.rec"
expect 64 "an unknown layout" token-reduce --layout gpt "$work/tokens.rec"
expect 65 "too many patches" token-reduce --image grid:17 --patch 8 "$work/tokens.rec"
said "cannot keep 17 of 16 patches (4 x 4 patches of 8 pixels)"
expect 65 "patches that do not divide the image" token-reduce --image block:3 --patch 5 \
    "$work/tokens.rec"
said "images of 32 x 32 pixels do not divide into patches of 5"
expect 65 "no images" token-reduce --image random:3 "$work/read.rec"
said "no tensor 'image'"
expect 65 "no tokens" token-reduce --text truncate:8 "$work/read.rec"
said "the stream does not name its vocabulary"
report
