#!/bin/sh
# tokenize as a stage: both kinds of vocabulary, their facts, cleaning, threads, records, odd
# captions and mistakes. Which ids a text has is tests/unit/test_bpe.c and test_wordpiece.c.
name=tokenize
. tests/library.sh

# ---- captions, and a vocabulary of each kind ----
mkdir "$work/samples"
n=0
# shellcheck disable=SC2059 # a caption is a format, for the sake of its escapes
caption() {
    n=$((n + 1))
    printf "$1" >"$work/samples/$(printf %04d $n).txt"
}
caption 'A photo of a caf\303\251, two Cats!'
caption '\342\200\213\342\200\213'
caption '[MASK] cats &amp; [sep]'
caption '\360\237\230\200\344\270\255\346\226\207'
caption 'snake_case: x'
head -c 60000 /dev/zero | tr '\0' x >"$work/samples/0006.txt"
yes cats photo | head -n 10000 >"$work/samples/0007.txt"
for i in $(seq 8 300); do
    echo "a photo of $i cats" >"$work/samples/$(printf %04d "$i").txt"
done
tar -C "$work/samples" --sort=name -cf "$work/0.tar" .
shard-reader -q --image-key none "$work/0.tar" >"$work/text.rec"
shard-reader -q --image-key none --batch 7 "$work/0.tar" >"$work/sevens.rec"
tokenize -q --learn 520 "$work/text.rec" >"$work/bpe.gz" 2>/dev/null
{
    printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' '[MASK]' a photo of cafe cat '##s' ',' '!' two
    printf '%s\n' '&' '[' sep ']' x '##x' snake _ case : '\344\270\255'
    for i in 0 1 2 3 4 5 6 7 8 9; do printf '%s\n' $i "##$i"; done
} >"$work/pieces.txt"
gzip -c "$work/pieces.txt" >"$work/pieces.gz"
[ -s "$work/bpe.gz" ] && [ -s "$work/text.rec" ] || fail "the input cannot be made"

# encode OUT [OPTION]...: leaves OUT.rec, OUT (its samples, in full) and OUT.stat.
encode() {
    out=$1
    shift
    tokenize -q --checksum off "$@" >"$work/$out.rec" &&
        rec dump -q --values 100000 "$work/$out.rec" >"$work/$out" &&
        rec stat -q "$work/$out.rec" >"$work/$out.stat"
}
shows() { check "$1 shows '$2'" grep -q "$2" "$work/$1.stat"; }
# sample OUT N TEXT: sample N of OUT has that in its line.
sample() { check "$1, sample $2: $3" [ "$(sed -n "$2p" "$work/$1" | grep -cF "$3")" -eq 1 ]; }

# ---- facts ----
check "BPE" encode bpe --vocab "$work/bpe.gz" "$work/text.rec"
shows bpe '^tokenizer.type: clip$'
shows bpe "^tokenizer.path: $work/bpe.gz$"
shows bpe '^tokenizer.size: 520$'
shows bpe '^tokenizer.start: 518$'
shows bpe '^tokenizer.end: 519$'
shows bpe '^tokenizer.padding: 0$'
shows bpe '^tokenizer.clean: lower$'
check "WordPiece" encode pieces --vocab "$work/pieces.txt" "$work/text.rec"
shows pieces '^tokenizer.type: wordpiece$'
shows pieces "^tokenizer.size: $(wc -l <"$work/pieces.txt")$"
shows pieces '^tokenizer.start: 2$'
shows pieces '^tokenizer.end: 3$'
shows pieces '^tokenizer.padding: 0$'
shows pieces '^tokenizer.clean: whitespace$'

# ---- ids: a=5 photo=6 of=7 cafe=8 cat=9 ##s=10 ,=11 !=12 two=13 &=14 [=15 sep=16 ]=17 ----
sample pieces 1 '"tokens":[5,6,7,5,8,11,13,9,10,12],"tokens.word":[0,1,2,3,4,5,6,7,7,8]'
sample pieces 2 '"tokens":[]'
sample pieces 3 '"tokens":[4,9,10,14,15,16,17],"tokens.word":[0,1,1,2,3,3,3]'
sample pieces 4 '"tokens":[1,'
sample pieces 5 '"tokens":[20,21,22,23,18],"tokens.word":[0,1,2,3,4]'
sample pieces 6 '"tokens":[1]'
check "20,000 words" [ "$(sed -n 7p "$work/pieces" |
    sed 's/.*"tokens":\[\([^]]*\)\].*/\1/' | tr ',' '\n' | grep -c '^[69]$')" -eq 20000 ]

# ---- files, cleaning, threads, records ----
check "a packed vocabulary" encode packed --vocab "$work/pieces.gz" "$work/text.rec"
check "gives the same tokens" cmp "$work/pieces" "$work/packed"
for mode in lower whitespace canonicalize none; do
    for kind in bpe.gz pieces.gz; do
        check "--clean $mode, $kind" encode "$mode" --clean $mode --vocab "$work/$kind" \
            "$work/text.rec"
        shows $mode "^tokenizer.clean: $mode$"
    done
done
sample none 3 '"tokens":[4,9,10,14,1,1,15,16,17]'
sample canonicalize 5 '"tokens":[20,22,18]'
for kind in bpe.gz pieces.gz; do
    encode one -j 1 --vocab "$work/$kind" "$work/text.rec"
    encode three -j 3 --vocab "$work/$kind" "$work/text.rec"
    check "one thread or three: the same bytes of $kind" cmp "$work/one.rec" "$work/three.rec"
    encode seven --vocab "$work/$kind" "$work/sevens.rec"
    check "records of any size: the same samples of $kind" cmp "$work/one" "$work/seven"
done
check "learning from other cleaning" sh -c \
    "tokenize -q --learn 520 --clean none '$work/text.rec' 2>/dev/null | gzip -t"

# ---- mistakes ----
expect 64 "an unknown mode" tokenize --vocab "$work/bpe.gz" --clean upper "$work/text.rec"
expect 66 "no such vocabulary" tokenize --vocab "$work/nothing" "$work/text.rec"
said "nothing"
expect 65 "a stream as vocabulary" tokenize --vocab "$work/text.rec" "$work/text.rec"
said "text.rec: no vocabulary: expected a first line with '#version' or lines \[PAD\]"
head -n 3 "$work/pieces.txt" >"$work/short"
expect 65 "a vocabulary without [SEP]" tokenize --vocab "$work/short" "$work/text.rec"
said "short: vocabulary: no line \[SEP\] among 3"
{
    cat "$work/pieces.txt"
    echo A
} >"$work/cased"
expect 65 "a vocabulary for cased text" tokenize --vocab "$work/cased" "$work/text.rec"
said "cased: vocabulary: line 46: 'A' is for cased text"
report
