# library.sh - what the pipelines share; read with `. pipelines/library.sh`.

say() { printf '\n== %s\n' "$*"; }

# begin_run DIR: an empty directory for a run. One that holds something else stays.
begin_run() {
    if [ -e "$1" ] && [ ! -e "$1/.clipipe-run" ]; then
        echo "$1 exists and is not a run of this script" >&2
        exit 64
    fi
    rm -rf "$1"
    mkdir -p "$1"
    : >"$1/.clipipe-run"
}

# plot_loss DIR: draws DIR/loss.png from DIR/metrics.jsonl.
plot_loss() {
    sed -n 's/.*"step":\([0-9]*\),.*"loss":\([^,]*\),.*/\1 \2/p' "$1/metrics.jsonl" \
        >"$1/loss.dat"
    gnuplot <<PLOT
set terminal pngcairo size 800,500
set output "$1/loss.png"
set xlabel "step"
set ylabel "contrastive loss"
set grid
set yrange [0:*]
unset key
plot "$1/loss.dat" with lines linewidth 2
PLOT
    echo "loss curve: $1/loss.png"
}

# shards DIR SUFFIX: the brace list of all shards in a directory, by its nshards.txt.
shards() {
    if [ ! -s "$1/nshards.txt" ]; then
        echo "$1 has no nshards.txt: not a data set in CLIP_benchmark's layout" >&2
        return 66
    fi
    printf '%s/{0..%d}.%s\n' "$1" $(($(cat "$1/nshards.txt") - 1)) "$2"
}

# usage SCRIPT: its heading, and the exit of a wrong command line.
usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "pipelines/$1" >&2
    exit 64
}
