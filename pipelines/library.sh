# library.sh - what the pipelines share; read with `. pipelines/library.sh`.

say() { printf '\n== %s\n' "$*"; }

# begin_run DIR: an empty directory for a run, with statistics that `rec times` reads.
begin_run() {
    rm -rf "$1"
    mkdir -p "$1"
    CLIPIPE_STATS=$1/stats.jsonl
    export CLIPIPE_STATS
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
