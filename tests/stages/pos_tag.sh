#!/bin/sh
# pos-tag: captions of all kinds, streams that do not fit, learning, testing.
name=pos_tag
. tests/library.sh

# shard NAME CAPTION...: a shard with these captions.
shard() {
    out=$1
    shift
    rm -rf "$work/files" && mkdir "$work/files"
    number=0
    for caption; do
        file=$(printf '%s/files/%06d' "$work" $number)
        printf "$caption" >"$file.txt"
        printf x >"$file.jpg"
        number=$((number + 1))
    done
    (cd "$work/files" && tar cf "$work/$out.tar" --sort=name -- *)
    shard-reader -q "$work/$out.tar" >"$work/$out.rec"
}

# values FILE TENSOR: its numbers, a caption to a line.
values() {
    rec dump -q --samples 1000 "$work/$1" 2>/dev/null | sed -n "s/.*\"$2\": *\[\([^]]*\)\].*/\1/p"
}

long=$(yes 'a red dog' | head -n 3334 | tr '\n' ' ')
shard mixed 'a photo of a red dog' '' 'dog' '\360\237\220\266\360\237\220\261 \360\237\220\255' \
    'a \377\376 dog' "don't run! it's 3.5 m" "$long" '\304\260stanbul is a big city' \
    'The U.S. president cannot fly' 'caf\303\251 \346\227\245\346\234\254 &amp; \342\200\234tea\342\200\235'
tokenize -q --learn 600 "$work/mixed.rec" >"$work/clip.txt.gz" 2>/dev/null
printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' a photo of red dog do '##n' "'" t run >"$work/bert.txt"

for vocab in clip.txt.gz bert.txt; do
    for clean in lower whitespace canonicalize none; do
        tokenize -q --vocab "$work/$vocab" --clean $clean "$work/mixed.rec" >"$work/tokens.rec"
        expect 0 "$vocab, $clean" sh -c "pos-tag -q -j 1 '$work/tokens.rec' >'$work/one.rec'"
        expect 0 "$vocab, $clean, threads" sh -c \
            "pos-tag -q -j 4 '$work/tokens.rec' >'$work/four.rec'"
        check "$vocab, $clean: threads change nothing" cmp "$work/one.rec" "$work/four.rec"
        check "$vocab, $clean: a whole stream" rec check -q "$work/one.rec"
    done
done

tokenize -q --vocab "$work/clip.txt.gz" "$work/mixed.rec" >"$work/tokens.rec"
pos-tag -q "$work/tokens.rec" >"$work/tagged.rec"
rec dump -q "$work/tagged.rec" >"$work/dump.txt"
check "priorities and words are there" grep -q 'tokens.priority' "$work/dump.txt"
rec head -q --samples 1 "$work/tagged.rec" >"$work/first.rec"
rec to-npy -q --out "$work/npy" "$work/tagged.rec" >/dev/null 2>&1 || :
report
