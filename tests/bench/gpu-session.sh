#!/bin/sh
# gpu-session.sh pack DIR                here, after `make gpu-programs`: what is to travel
# gpu-session.sh run DIR OUT [STEP...]   there: runs the steps, writes what they say to OUT
#
# For a machine that has a GPU, a driver, CUDA's libraries and perhaps PyTorch, but not this
# project's packages and perhaps an older C library: programs are built here and travel with the
# shared objects that they need, the C library and its loader among them, which are taken where
# the programs do not start by themselves. The sources travel too: `run` is started in the tree.
#
# Steps, each with a limit of its own, all in this order unless some are named:
#   device     nvidia-smi and what cuDNN says of the GPU
#   check      check_cuda, 240 s
#   bench      bench_cuda, 360 s
#   torch      bench_torch.py, 540 s
#   memcheck, racecheck   compute-sanitizer on check_cuda --quick, 280 s each
# Exit 0 where every step passed, 1 where one failed, 69 where the GPU cannot be used.
set -u
here=$(cd "$(dirname "$0")/../.." && pwd)
programs="check_cuda bench_cuda check_graphs"
all_steps="device check bench torch memcheck racecheck"

usage() {
    sed -n '2,4s/^# //p' "$0" >&2
    exit 64
}

# Libraries that the GPU machine has in versions of its own, or that are part of the driver.
not_packed='libcublas|libcudart|libcuda[.]|linux-vdso'

pack() {
    rm -rf "$1" && mkdir -p "$1/lib" "$1/libc" || exit 71
    for program in $programs; do
        cp "$here/build/tests/emulator/$program" "$1/" && strip "$1/$program" || exit 66
        ldd "$1/$program" | awk '$2 == "=>" && $3 ~ /^\// {print $3} $1 ~ /^\// {print $1}'
    done | sort -u | grep -Ev "$not_packed" | while read -r library; do
        case $library in
        *ld-linux* | */libc.so* | */libm.so* | */libpthread* | */libdl* | */librt*)
            cp -L "$library" "$1/libc/" ;;
        *)
            cp -L "$library" "$1/lib/" ;;
        esac
    done
    du -sh "$1"
}

# Directories with CUDA's and cuDNN's libraries: the toolkit's, and those of Python packages.
cuda_directories() {
    packages=$(python3 -c 'import nvidia; print(" ".join(nvidia.__path__))' 2>/dev/null)
    for directory in /usr/local/cuda/lib64 /usr/local/cuda/lib /usr/local/nvidia/lib64; do
        [ -d "$directory" ] && printf '%s:' "$directory"
    done
    [ -z "$packages" ] ||
        find $packages \( -name 'libcublasLt.so.*' -o -name 'libcudnn.so.*' \
            -o -name 'libcudart.so.*' -o -name 'libnvrtc.so.*' \) -printf '%h:' 2>/dev/null
}

# Sets `start`, what is put before a program's name.
choose_start() {
    libraries=$dir/lib:$(cuda_directories)
    start="env LD_LIBRARY_PATH=$libraries"
    $start "$dir/check_cuda" --version >/dev/null 2>&1
    [ $? -eq 64 ] && return # it is started: it knows no such option
    start="$dir/libc/ld-linux-x86-64.so.2 --library-path $dir/libc:$libraries"
    $start "$dir/check_cuda" --version >/dev/null 2>"$out/start.txt"
    [ $? -eq 64 ] && return
    cat "$out/start.txt" >&2
    exit 69
}

# step NAME FILE COMMAND...: the last lines are shown, all is in the file.
step() {
    name=$1 file=$2
    shift 2
    case " $steps " in *" $name "*) ;; *) return ;; esac
    begin=$(date +%s)
    "$@" >"$out/$file" 2>"$out/$name.err"
    status=$?
    cat "$out/$name.err" >>"$out/$file"
    rm -f "$out/$name.err"
    echo "== $name: exit $status, $(($(date +%s) - begin)) s, $out/$file"
    tail -n 15 "$out/$file"
    [ "$status" -eq 0 ] || failed="$failed $name"
    [ "$status" -ne 69 ] || [ "$name" = torch ] || exit 69
}

device() {
    date -u
    nvidia-smi
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
    $start "$dir/check_graphs" --device || true
}

# sanitize TOOL, where the tool is.
sanitize() {
    case " $steps " in *" $1 "*) ;; *) return ;; esac
    if command -v compute-sanitizer >/dev/null 2>&1; then
        step "$1" "$1.txt" timeout 280 compute-sanitizer --tool "$1" --error-exitcode 9 \
            --target-processes all $start "$dir/check_cuda" --quick
    else
        echo "== $1: no compute-sanitizer here"
    fi
}

run() {
    failed=
    mkdir -p "$out" || exit 71
    cd "$here" || exit 66
    choose_start
    step device device.txt device
    step check check.txt timeout 240 $start "$dir/check_cuda"
    step bench bench.md timeout 360 $start "$dir/bench_cuda"
    step torch torch.md timeout 540 python3 tests/bench/bench_torch.py
    sanitize memcheck
    sanitize racecheck
    [ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
}

[ $# -ge 2 ] || usage
case $1 in
pack)
    [ $# -eq 2 ] || usage
    pack "$2" ;;
run)
    [ $# -ge 3 ] || usage
    dir=$(cd "$2" && pwd) || exit 66
    mkdir -p "$3" && out=$(cd "$3" && pwd) || exit 71
    shift 3
    steps=${*:-$all_steps}
    run ;;
*)
    usage ;;
esac
