#!/bin/sh
# pos-tag: captions of all kinds, streams that do not fit, learning, testing.
name=pos_tag
. tests/library.sh

# le64 NUMBER: its eight bytes.
le64() {
    n=$1 bytes=
    for _ in 1 2 3 4 5 6 7 8; do
        bytes=$bytes$(printf '\\%03o' $((n % 256)))
        n=$((n / 256))
    done
    # shellcheck disable=SC2059 # octal escapes
    printf "$bytes"
}

# record HEADER: the length and the header, filled up to a multiple of 64 bytes.
record() {
    size=$(((${#1} + 8 + 63) / 64 * 64 - 8))
    le64 $size
    printf "%-${size}s" "$1"
}

# stream CAPTION...: one record with these captions, in which \ooo is a byte, and END. Blank
# captions and such that are not UTF-8 pass, which shard-reader would leave out.
stream() {
    : >"$work/text"
    le64 0 >"$work/offsets"
    for caption; do
        # shellcheck disable=SC2059
        printf "$caption" >>"$work/text"
        le64 "$(wc -c <"$work/text")" >>"$work/offsets"
    done
    offsets=$(wc -c <"$work/offsets") bytes=$(wc -c <"$work/text")
    record "{\"text.offsets\":{\"dtype\":\"I64\",\"shape\":[$(($# + 1))],\"data_offsets\":[0,$offsets]},\
\"text\":{\"dtype\":\"U8\",\"shape\":[$bytes],\"data_offsets\":[$offsets,$((offsets + bytes))]}}"
    cat "$work/offsets" "$work/text"
    record "{\"__metadata__\":{\"clipipe\":\"end\",\"records\":\"1\",\"samples\":\"$#\",\"dropped\":\"0\"}}"
}

# words FILE NUMBER: "word:priority" for each tagged word of caption NUMBER, counted from 1.
words() {
    rec dump -q --values 100000 "$work/$1" | sed -n "$2p" |
        sed -n 's/.*"tokens.word":\[\([^]]*\)\].*"tokens.priority":\[\([^]]*\)\].*/\1 \2/p' |
        awk '{ n = split($1, word, ","); split($2, priority, ",")
               for (i = 1; i <= n; i++) print word[i] ":" priority[i] }' | uniq | tr '\n' ' '
}

# caption FILE NUMBER WANTED
caption() {
    got=$(words "$1" "$2")
    if [ "$got" = "$3" ]; then pass; else fail "caption $2 has '$got', expected '$3'"; fi
}

long=$(yes 'a red dog' | head -n 3334 | tr '\n' ' ')
stream 'a photo of a red dog' '' 'dog' '\360\237\220\266\360\237\220\261 \360\237\220\255' \
    'a \357\277\275 dog' "don't run! it's 3.5 m" "$long" '\304\260stanbul is a big city' \
    'The U.S. president cannot fly' 'caf\303\251 \346\227\245\346\234\254 &amp; \342\200\234tea\342\200\235' \
    >"$work/mixed.rec"
tokenize -q --learn 600 "$work/mixed.rec" >"$work/clip.txt.gz" 2>/dev/null
printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' a photo of red dog don "'" t run '!' it s 3 . 5 m >"$work/bert.txt"

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

# ---- what comes out ----

tokenize -q --vocab "$work/clip.txt.gz" "$work/mixed.rec" >"$work/tokens.rec"
pos-tag -q "$work/tokens.rec" >"$work/tagged.rec"
caption tagged.rec 1 '0:4 1:1 2:4 3:4 4:2 5:1 '
caption tagged.rec 2 ''
caption tagged.rec 3 '0:1 '
caption tagged.rec 6 '0:3 1:4 2:3 3:4 4:4 5:3 6:4 7:1 '
caption tagged.rec 9 '0:4 1:1 2:1 3:4 4:3 '
check "10,002 words are tagged" [ "$(words tagged.rec 7 | wc -w)" -eq 10002 ]
check "and in the same way" [ "$(words tagged.rec 7 | tr ' ' '\n' | sed -n '4,9999s/.*://p' |
    paste -sd '\0' - | grep -o 421 | wc -l)" -gt 3300 ]

tokenize -q --vocab "$work/bert.txt" "$work/mixed.rec" | pos-tag -q >"$work/bert.rec"
caption bert.rec 1 '0:4 1:1 2:4 3:4 4:2 5:1 '
caption bert.rec 6 '0:3 1:4 2:3 3:4 4:4 5:3 6:4 7:1 '

# ---- streams that do not fit ----

# Its words are those that were tagged, no longer tokenize's: "3.5" is one.
expect 65 "tagged twice" pos-tag -q "$work/tagged.rec"
said "sample 5 of the record: 'tokens.word' has 8 words, and the text has more"
expect 65 "no tokens" pos-tag -q "$work/mixed.rec"
said "expected clip or wordpiece"

# ---- models ----

# Sentences of four words, by a counter.
treebank() {
    awk -v count="$1" -v step="$2" 'BEGIN {
        for (i = 0; i < count; i++) {
            k = i * step
            print "the\tDT\n" (k % 2 ? "red" : "old") "\tJJ\n" (k % 3 ? "blick" : "dax") \
                "\tNN\n" (k % 5 ? "runs" : "sits") "\tVBZ\n"
        }
    }'
}
treebank 100 1 >"$work/train.tsv"
treebank 50 7 >"$work/test.tsv"
learn="pos-tag -q --learn --passes 3 --runs 2"
expect 0 "learning" sh -c "$learn <'$work/train.tsv' >'$work/model'"
expect 0 "learning from a file" sh -c "$learn '$work/train.tsv' >'$work/again'"
check "gives the same" cmp "$work/model" "$work/again"
check "the test finds all tags" sh -c "pos-tag -q --model '$work/model' --test '$work/test.tsv' |
    grep -x '{\"words\": 200, \"tag_accuracy\": 1.00000, \"priority_accuracy\": 1.00000}'"
expect 0 "the built-in model, too" pos-tag -q --test "$work/test.tsv"
expect 0 "tagging by a model" sh -c \
    "pos-tag -q --model '$work/model' '$work/tokens.rec' >'$work/own.rec'"
check "it is named in the stream" grep -q "\"tagger\":\"$work/model\"" "$work/own.rec"
check "so is the built-in one" grep -q '"tagger":"english"' "$work/tagged.rec"
head -c 100 "$work/model" >"$work/cut"
expect 65 "a cut model" pos-tag -q --model "$work/cut" "$work/tokens.rec"
said "cut: tagger model has 100 bytes"
expect 65 "no model" pos-tag -q --model "$work/train.tsv" "$work/tokens.rec"
said "no tagger model"
expect 66 "an absent model" pos-tag -q --model "$work/absent" "$work/tokens.rec"
expect 65 "an empty treebank is refused" sh -c "$learn </dev/null >'$work/none'"
said "standard input: the treebank has no word"
printf 'a\tDT\nb\n' >"$work/bad.tsv"
expect 65 "a line without a tag" sh -c "$learn '$work/bad.tsv' >'$work/none'"
said "bad.tsv: line 2: no tab"
expect 74 "a full disk" sh -c "$learn '$work/train.tsv' >/dev/full"
expect 64 "learning and testing" pos-tag --learn --test "$work/test.tsv"
report
