#!/bin/sh
# Bad data is named, counted and dropped, or it ends the stage; never anything in between.
name=bad_samples
. tests/library.sh

scene-shards -q --count 6 --test-count 2 --size 24 --out "$work/scenes" 2>/dev/null
mkdir "$work/files"
tar -xf "$work/scenes/train/0.tar.zst" -C "$work/files" --zstd 2>/dev/null ||
    zstd -dc "$work/scenes/train/0.tar.zst" | tar -xf - -C "$work/files"
cd "$work/files" || exit 70
image=$(find . -name '*.jpg' | sort | head -n 1)

# A shard with two good samples between six bad ones.
mkdir "$work/mixed"
good() { cp "$image" "$work/mixed/$1.jpg" && echo "a good one" >"$work/mixed/$1.txt"; }
good a-good
good z-good
echo "no image here" >"$work/mixed/b-no-image.txt"
cp "$image" "$work/mixed/c-no-caption.jpg"
printf '' >"$work/mixed/d-blank.txt" && cp "$image" "$work/mixed/d-blank.jpg"
printf 'caf\351' >"$work/mixed/e-latin1.txt" && cp "$image" "$work/mixed/e-latin1.jpg"
echo "<html>404</html>" >"$work/mixed/f-html.jpg" && echo "a page" >"$work/mixed/f-html.txt"
# SOI, SOF0 of 65500 x 65500 with three components, and a scan that has not begun.
printf '\377\330\377\300\0\021\010\377\334\377\334\003\001\021\0\002\021\0\003\021\0\377\332\0\014\003\001\0\002\0\003\0\0\077\0' \
    >"$work/mixed/g-huge.jpg" && echo "a bomb" >"$work/mixed/g-huge.txt"
head -c 300 "$image" >"$work/mixed/h-cut.jpg" && echo "cut short" >"$work/mixed/h-cut.txt"
(cd "$work/mixed" && tar -cf "$work/mixed.tar" $(ls | sort))
cd - >/dev/null || exit 70

# ---- samples that the reader drops ----
expect 0 "bad samples are dropped" sh -c \
    "shard-reader --max-bad 100% '$work/mixed.tar' >'$work/mixed.rec'"
said "mixed.tar.*sample 'b-no-image': it has no image"
said "sample 'c-no-caption': it has no caption"
said "sample 'd-blank'"
said "sample 'e-latin1'"
check "five samples stay and four are counted" sh -c \
    "rec stat -q '$work/mixed.rec' | grep -q 'complete: 1 records, 5 samples, 4 dropped'"
expect 65 "--on-error fail ends at the first" sh -c \
    "shard-reader --on-error fail '$work/mixed.tar' >/dev/null"
expect 65 "five percent are not enough" sh -c "shard-reader '$work/mixed.tar' >/dev/null"
said "4 of 9 samples are bad, more than --max-bad 5% allows"
expect 65 "a limit of three" sh -c "shard-reader --max-bad 3 '$work/mixed.tar' >/dev/null"
expect 0 "a limit of four" sh -c "shard-reader --max-bad 4 '$work/mixed.tar' >/dev/null"
expect 65 "nothing good at all" sh -c "shard-reader --image-key gif '$work/mixed.tar' >/dev/null"
said "none of .* samples"
said "hint: found.*\.jpg"

# ---- samples that the decoder drops ----
expect 0 "images that are none are dropped" sh -c \
    "image-decode --size 16 --max-bad 100% '$work/mixed.rec' >'$work/image.rec'"
said "sample 'f-html': .*expected JPEG, WebP or PNG"
said "sample 'g-huge': JPEG of 65500 x 65500 pixels, at most"
said "sample 'h-cut'.*ends early"
check "two samples stay and seven are counted" sh -c \
    "rec stat -q '$work/image.rec' | grep -q '2 samples, 7 dropped'"
check "they are the good ones" sh -c \
    "[ \"\$(rec dump -q '$work/image.rec' | grep -c -e '\"[az]-good\"')\" -eq 2 ]"
expect 65 "--on-error fail ends at the first image" sh -c \
    "image-decode --size 16 --on-error fail '$work/mixed.rec' >'$work/abort.rec'"
expect 76 "and the next stage knows why" sh -c \
    "rec cat '$work/abort.rec' >/dev/null"
said "image-decode failed upstream.*f-html"
expect 65 "too many bad images" sh -c "image-decode --size 16 '$work/mixed.rec' >/dev/null"

# ---- shards that end early ----
for kind in tar tar.gz tar.zst; do
    case $kind in
    tar) cp "$work/mixed.tar" "$work/whole.$kind" ;;
    tar.gz) gzip -c "$work/mixed.tar" >"$work/whole.$kind" ;;
    tar.zst) zstd -q -c "$work/mixed.tar" >"$work/whole.$kind" ;;
    esac
    size=$(stat -c %s "$work/whole.$kind")
    for percent in 10 50 90; do
        head -c $((size * percent / 100)) "$work/whole.$kind" >"$work/cut.$kind"
        expect 65 "$kind cut at $percent%" sh -c \
            "shard-reader --on-error fail --max-bad 100% --text-key none '$work/cut.$kind' \
                >/dev/null"
        said "cut.$kind"
        "$BUILD/bin/shard-reader" -q --max-bad 100% --text-key none "$work/cut.$kind" \
            >"$work/cut.rec" 2>/dev/null
        case $? in 0 | 65) pass ;; *) fail "$kind cut at $percent%, skipping: status $?" ;; esac
    done
done
good_shard=$work/scenes/train/0.tar.zst
expect 0 "a cut shard beside a good one" sh -c \
    "shard-reader --max-bad 100% '$work/cut.tar::$good_shard' | rec stat -q"

# ---- shards that are none ----
expect 66 "a shard that is missing" sh -c "shard-reader '$work/nothing.tar' >/dev/null"
said "nothing.tar"
expect 66 "a directory" sh -c "shard-reader --on-error fail '$work/files' >/dev/null"
expect 65 "a text" sh -c "shard-reader README.md >/dev/null"
expect 64 "no shard" sh -c "shard-reader >/dev/null"
expect 64 "a brace that is open" sh -c "shard-reader '{0..3.tar' >/dev/null"
report
