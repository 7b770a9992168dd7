#!/bin/sh
# inverse-scaling-report.sh - DIR: table.md, table.json, tokens.png and flops.png from the cells
# that are done. Points are means over seeds, bars go from the lowest to the highest seed.
set -eu
out=$1
find "$out/cells" -name result.json | LC_ALL=C sort | xargs cat |
    sed 's/[{}"]//g; s/, /\t/g; s/[a-z0-9_]*: //g' >"$out/results.tsv"
[ -s "$out/results.tsv" ] || { echo "$out has no results" >&2; exit 66; }

# size image K text L -> runs, mean, lowest, highest accuracy, FLOPs of training and fine-tuning
awk -F '\t' '
{
    cell = $1 "\t" $2 "\t" $3 "\t" $4 "\t" $5
    if (!(cell in runs) || $11 < low[cell]) low[cell] = $11
    if (!(cell in runs) || $11 > high[cell]) high[cell] = $11
    runs[cell]++
    sum[cell] += $11
    flops[cell] = $9 + $10
}
END {
    for (cell in runs)
        printf "%s\t%d\t%.4f\t%.4f\t%.4f\t%.6g\n", cell, runs[cell], sum[cell] / runs[cell],
            low[cell], high[cell], flops[cell]
}' "$out/results.tsv" | LC_ALL=C sort -t "$(printf '\t')" -k1,1r -k4,4r -k5,5nr -k2,2 -k3,3nr \
    >"$out/cells.tsv"

awk -F '\t' '
BEGIN {
    print "| model | image tokens | text tokens | runs | training TFLOP | top-1 | lowest to highest |"
    print "| --- | --- | --- | ---: | ---: | ---: | ---: |"
}
{
    image = $2 == "none" ? $3 : $3 " by " $2
    printf "| %s | %s | %s by %s | %d | %.1f | %.1f%% | %.1f to %.1f |\n", $1, image, $5, $4, $6,
        $10 * 1e-12, 100 * $7, 100 * $8, 100 * $9
}' "$out/cells.tsv" >"$out/table.md"

awk -F '\t' '
BEGIN { printf "[" }
{
    printf "%s\n  {\"size\": \"%s\", \"image\": \"%s\", \"image_tokens\": %d, \"text\": \"%s\", " \
        "\"text_tokens\": %d, \"runs\": %d, \"acc1\": %s, \"acc1_low\": %s, \"acc1_high\": %s, " \
        "\"flops\": %s}", (NR > 1 ? "," : ""), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10
}
END { print "\n]" }' "$out/cells.tsv" >"$out/table.json"

# Two files of curves for gnuplot: a block for each curve, its name in the first line. The cell at
# full length belongs to every strategy. The text cells are those at the quarter of the image that
# has them; the longest text is the largest of all.
curves() { # image | text
    sort -t "$(printf '\t')" -k3,3n -k5,5n "$out/cells.tsv" | awk -F '\t' -v kind="$1" '
    { size[NR] = $1; image[NR] = $2; K[NR] = $3; text[NR] = $4; L[NR] = $5; rest[NR] = \
        100 * $7 "\t" 100 * $8 "\t" 100 * $9 "\t" $10
      if ($5 > full_text) full_text = $5
      if ($2 == "none") full_image = $3 }
    END {
        for (i = 1; i <= NR; i++) {
            name = kind == "image" ? image[i] : text[i]
            wanted = kind == "image" ? image[i] != "none" && L[i] == full_text : L[i] < full_text
            if (wanted && !((size[i], name) in seen)) {
                seen[size[i], name]
                curve[++curves] = size[i] SUBSEP name
            }
        }
        for (c = 1; c <= curves; c++) {
            split(curve[c], part, SUBSEP)
            printf "%s\t%s\n", part[1], part[2]
            for (i = 1; i <= NR; i++) {
                if (kind == "image")
                    wanted = L[i] == full_text && (image[i] == part[2] || image[i] == "none")
                else
                    wanted = image[i] == "resize" && K[i] == full_image / 4 && \
                        (text[i] == part[2] || L[i] == full_text)
                if (wanted && size[i] == part[1])
                    printf "%s\t%s\n", (kind == "image" ? K[i] : L[i]), rest[i]
            }
            print ""
            print ""
        }
    }'
}
curves image >"$out/image.dat"
curves text >"$out/text.dat"

# plot KIND: gnuplot's list of one panel for one size
panel() { # image|text SIZE
    awk -F '\t' -v size="$2" -v file="$out/$1.dat" '
    BEGIN { color["resize"] = color["truncate"] = 1; color["random"] = 2; color["grid"] = 3
            color["block"] = 4; color["shuffle"] = 5; color["syntax"] = 6 }
    NF == 2 { if ($1 == size) printf "%s\"%s\" index %d using 1:2:3:4 with yerrorlines linewidth 2 linecolor %d pointtype %d title \"%s\"",
            (n++ ? ", " : "plot "), file, block, color[$2], color[$2] + 4, $2; block++ }' "$out/$1.dat"
}
sizes=$(cut -f 1 "$out/cells.tsv" | uniq)
rows=1
[ ! -s "$out/text.dat" ] || rows=2
{
    cat <<PLOT
set terminal pngcairo size 1200,$((rows * 400 + 40)) font "sans,11"
set output "$out/tokens.png"
set multiplot layout $rows,$(echo "$sizes" | wc -l) title "Zero-shot accuracy after fine-tuning, by tokens in training"
set grid
set key bottom right
set ylabel "top-1, %"
set yrange [0:*]
set logscale x 2
set xlabel "image tokens in training"
PLOT
    for size in $sizes; do
        printf 'set title "model %s"\n%s\n' "$size" "$(panel image "$size")"
    done
    if [ $rows -eq 2 ]; then
        echo 'set xlabel "text tokens in training"'
        for size in $sizes; do
            printf 'set title "model %s, a quarter of the image tokens"\n%s\n' "$size" \
                "$(panel text "$size")"
        done
    fi
    cat <<PLOT
unset multiplot
unset title
set terminal pngcairo size 900,560 font "sans,11"
set output "$out/flops.png"
set xlabel "training FLOPs, fine-tuning included"
set logscale x 10
set key top left
set title "Zero-shot accuracy against training FLOPs; a curve for each model and strategy"
PLOT
    awk -F '\t' -v file="$out/image.dat" '
    BEGIN { color["S"] = 1; color["M"] = 2; color["L"] = 3
            dash["resize"] = 1; dash["random"] = 2; dash["grid"] = 3; dash["block"] = 4 }
    NF == 2 { printf "%s\"%s\" index %d using 5:2:3:4 with yerrorlines linewidth 2 linecolor %d dashtype %d pointtype %d title \"%s %s\"",
        (block ? ", " : "plot "), file, block, color[$1], dash[$2], 4 + dash[$2], $1, $2; block++ }
    END { print "" }' "$out/image.dat"
} | gnuplot
cat "$out/table.md"
echo "$out/table.md, table.json, tokens.png, flops.png"
