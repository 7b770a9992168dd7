#!/bin/sh
# rec: looking at streams (view) and at programs (conform). What the other verbs do with bad
# input is checked by conform.sh.
name=rec
. tests/library.sh

{
    scene-shards -q --count 12 --test-count 2 --size 32 --seed 7 --out "$work/scenes"
    shard-reader -q --batch 5 "$work/scenes/train/0.tar.zst" | image-decode -q --size 32 \
        >"$work/image.rec"
    tokenize -q --learn 600 <"$work/image.rec" >"$work/vocab.txt.gz"
    tokenize -q --vocab "$work/vocab.txt.gz" "$work/image.rec" >"$work/tokens.rec"
    token-reduce -q --image random:4 --patch 8 --text truncate:6 "$work/tokens.rec" >"$work/a.rec"
    token-reduce -q --image block:4 --patch 8 --text block:6 "$work/tokens.rec" >"$work/b.rec"
} >"$work/setup.out" 2>&1 || {
    cat "$work/setup.out"
    fail "the inputs cannot be made"
}

# ---- view ----

# size FILE: "WIDTHxHEIGHT" of a PNG; nothing where it is none.
size() {
    [ "$(head -c 8 "$1" | od -An -tx1 | tr -d ' ')" = 89504e470d0a1a0a ] || return
    od -An -j16 -N8 -tu1 "$1" | awk '{ print (($1 * 256 + $2) * 256 + $3) * 256 + $4 "x" \
                                             (($5 * 256 + $6) * 256 + $7) * 256 + $8 }'
}

rec view -q --columns 4 --cell 120 "$work/a.rec" >"$work/a.png"
check "a sheet of four columns is 4 x 120 pixels wide, and its gaps" \
    [ "$(size "$work/a.png" | sed 's/x.*//')" = $((4 * 120 + 3 * 12 + 32)) ]
rec view -q --columns 7 --cell 96 "$work/a.rec" >"$work/wide.png"
check "and one of seven columns of 96" \
    [ "$(size "$work/wide.png" | sed 's/x.*//')" = $((7 * 96 + 6 * 12 + 32)) ]
rec view -q --columns 4 --cell 120 --out "$work/out.png" <"$work/a.rec" >"$work/nothing"
check "--out writes a sheet" [ -n "$(size "$work/out.png")" ]
check "and nothing else" [ ! -s "$work/nothing" ]
rec view -q --columns 4 --cell 120 "$work/a.rec" >"$work/again.png"
check "the same sheet again" cmp "$work/a.png" "$work/again.png"
rec view -q --columns 4 --cell 120 -n 3 "$work/a.rec" >"$work/three.png"
check "fewer samples, fewer rows" \
    [ "$(size "$work/three.png" | sed 's/.*x//')" -lt "$(size "$work/a.png" | sed 's/.*x//')" ]
cat "$work/a.rec" "$work/b.rec" | rec view -q --columns 12 --cell 64 >"$work/both.png"
rec view -q --columns 12 --cell 64 "$work/a.rec" >"$work/one.png"
check "streams that are joined make sections" \
    [ "$(size "$work/both.png" | sed 's/.*x//')" -gt "$(size "$work/one.png" | sed 's/.*x//')" ]
for input in image read tokens; do
    [ "$input" = read ] && shard-reader -q "$work/scenes/train/0.tar.zst" >"$work/read.rec"
    rec view -q "$work/$input.rec" >"$work/other.png"
    check "a sheet of $input.rec" [ -n "$(size "$work/other.png")" ]
done
head -c 3000 "$work/a.rec" >"$work/cut.rec"
expect 76 "a stream that ends early" rec view -q --out "$work/cut.png" "$work/cut.rec"
check "leaves no sheet" [ ! -e "$work/cut.png" ]
expect 74 "a sheet in no directory" rec view -q --out "$work/none/a.png" "$work/a.rec"
expect 64 "a sheet that is too high" rec view -q -n 12 --columns 1 --cell 4096 "$work/a.rec"
said "do not fit"
if command -v script >/dev/null; then
    # It gives the program a terminal as stdout.
    script -qec "rec view -q '$work/a.rec'; echo status \$?" /dev/null >"$work/terminal" 2>&1
    check "a picture is not written to a terminal" grep -q 'status 64' "$work/terminal"
else
    skip "script is not installed"
fi
mv "$work/vocab.txt.gz" "$work/gone.txt.gz"
expect 0 "without the vocabulary" rec view -q --out "$work/plain.png" "$work/a.rec"
said "dropped tokens are not shown: cannot open"
mv "$work/gone.txt.gz" "$work/vocab.txt.gz"

# ---- conform ----

# Whether conform says that this fails: says "line in its output".
says() {
    if grep -q -e "$1" "$work/expect.out"; then pass; else
        fail "no line matches '$1': $(grep '^not ok' "$work/expect.out")"
    fi
}

expect 0 "cat keeps the contract" rec conform -q --seconds 1 --no-options -- cat
says '^cat: [0-9]* passed, 0 failed, 2 left out$'
expect 0 "so it does on a stream of one's own" \
    rec conform -q --seconds 1 --no-options "$work/a.rec" -- cat -
expect 0 "our own programs keep the built-in stream, too" \
    rec conform -q --seconds 1 token-reduce
expect 65 "but not to the letter" rec conform -q --seconds 1 --strict --no-options -- cat
says '^not ok .*statistics'
says '^not ok .*wrong bit .*expected exit code 65'

# program NAME: stdin is its text.
program() {
    { echo '#!/bin/sh'; cat; } >"$work/$1"
    chmod +x "$work/$1"
}
# fails NAME LINE: the program fails exactly the checks that match.
fails() {
    expect 65 "$1" rec conform -q --seconds 0.2 --no-options "$work/a.rec" -- "$work/$1"
    says "^not ok .*$2"
    others=$(grep '^not ok' "$work/expect.out" | grep -v -c -e "$2")
    check "$1 fails nothing else: $(grep '^not ok' "$work/expect.out" | grep -v -e "$2")" \
        [ "$others" = 0 ]
}

program always-whole <<SCRIPT
cat >/dev/null && cat "$work/b.rec"
SCRIPT
fails always-whole 'cut at\|text as\|noise as\|aborted\|does not know\|without samples\|SIGTERM'
for what in 'cut at' 'text as' 'noise as' aborted 'passes through'; do
    says "^not ok .*$what"
done
program never-the-same <<'SCRIPT'
rec cat --zstd $(($$ % 2 + 1 + $(date +%N | cut -c 6-7 | sed 's/^0//') % 18))
SCRIPT
fails never-the-same 'same bytes'
program forgets-end <<'SCRIPT'
head -c 1000
SCRIPT
fails forgets-end 'ends with END'
program crashes <<'SCRIPT'
rec cat -q || kill -SEGV $$
SCRIPT
fails crashes 'signal 11'
program deaf <<'SCRIPT'
trap '' TERM
rec cat -q || exit
SCRIPT
fails deaf 'SIGTERM'
program never-fails <<'SCRIPT'
rec stat -q || true
SCRIPT
expect 65 "a sink that never fails" \
    rec conform -q --seconds 0.2 --no-options --sink "$work/a.rec" -- "$work/never-fails"
says '^not ok .*cut at [0-9]* places fails: [0-9]* do not; at byte 0: exit code 0'
says '^not ok .*text as'
says '^not ok .*aborted'
program leaves-something <<'SCRIPT'
echo "$@" >>"$0.arguments"
sleep 1000 </dev/null >/dev/null 2>&1 &
echo $! >>"$0.pids"
exec rec cat -q
SCRIPT
expect 0 "a program that leaves something running" \
    rec conform -q --seconds 0.2 --no-options "$work/a.rec" -- "$work/leaves-something" one "two  words"
check "arguments arrive" grep -q '^one two  words$' "$work/leaves-something.arguments"

# runs PID: whether that process is there and no zombie.
runs() {
    grep -q '^State:.[^ZX]' "/proc/$1/status" 2>/dev/null
}
left=0
while read -r pid; do
    ! runs "$pid" || left=$((left + 1))
done <"$work/leaves-something.pids"
check "what it left running is ended ($left of $(wc -l <"$work/leaves-something.pids") are not)" \
    [ "$left" = 0 ]

expect 66 "a program that is not there" rec conform -q "$work/a.rec" -- "$work/none"
said 'cannot execute'
expect 66 "an input that is not there" rec conform -q "$work/none.rec" -- cat
expect 76 "an input that is cut" rec conform -q "$work/cut.rec" -- cat
said 'the input to check with'
expect 64 "no program" rec conform -q "$work/a.rec" --
expect 64 "no operands" rec conform -q
expect 64 "two inputs" rec conform -q "$work/a.rec" "$work/b.rec" -- cat
expect 64 "an input for a source" rec conform -q --source "$work/a.rec" -- cat
check "nothing is left in TMPDIR" sh -c \
    "mkdir '$work/tmp' && TMPDIR='$work/tmp' rec conform -q --seconds 0 --no-options -- cat &&
     rmdir '$work/tmp'"

# Ending rec ends the program that it runs.
program sleeper <<SCRIPT
sleep 1000 &
echo \$! >"$work/sleeper.pid"
wait
SCRIPT
rec conform -q --no-options -- "$work/sleeper" >/dev/null 2>&1 </dev/null &
conform=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -s "$work/sleeper.pid" ] && break
    sleep 0.1
done
kill -TERM $conform
wait $conform 2>/dev/null
check "SIGTERM ends rec" [ $? -eq 143 ]
if runs "$(cat "$work/sleeper.pid")"; then fail "what rec ran goes on"; else pass; fi
report
