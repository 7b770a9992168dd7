#!/bin/sh
# parity.sh - our model against open_clip on fresh random configurations and inputs.
#
#     [PARITY_SEED=N] [PARITY_COUNT=12] [PARITY_DEVICE=cpu] sh tests/reference/parity.sh
#
# Makes a virtual environment with torch and open_clip in build/parity the first time, some
# gigabytes from the package index; PARITY_PYTHON names an interpreter that has both, instead.
# Needs the library: `make` first. Prints a line for each configuration and way; status 1 where
# the two differ.
set -eu

build=${BUILD:-build}
parity=$build/parity
python=${PARITY_PYTHON:-$parity/venv/bin/python}
seed=${PARITY_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}

mkdir -p "$parity"
if [ -z "${PARITY_PYTHON:-}" ] && [ ! -e "$parity/venv/ready" ]; then
    python3 -m venv "$parity/venv"
    "$parity/venv/bin/pip" install --quiet open_clip_torch==3.3.0 safetensors
    touch "$parity/venv/ready"
fi

${CC:-cc} -std=c11 -D_GNU_SOURCE -Icommon -I. -O2 -pthread -fopenmp -o "$parity/dump_clip" \
    tests/reference/dump_clip.c "$build/libclipipe.a" \
    $(pkg-config --libs jansson libzstd zlib libutf8proc) -ldnnl -lm

rm -rf "$parity/files"
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} "$python" tests/reference/check_open_clip.py \
    "$parity/dump_clip" "$parity/files" --device "${PARITY_DEVICE:-cpu}" --seed "$seed" \
    --count "${PARITY_COUNT:-12}"

rm -rf "$parity/convert"
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} "$python" tests/reference/check_convert.py "$build/bin" \
    "$parity/convert"
