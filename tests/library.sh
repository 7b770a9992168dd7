# library.sh - what the test scripts share; read with `name=NAME; . tests/library.sh`.
#
# Makes $work, an empty directory that goes away, puts the built programs first in PATH, and
# counts: `check "what" command...` passes where the command succeeds, `expect N "what"
# command...` where it exits with N. End with `report`.
BUILD=${BUILD:-build}
PATH=$PWD/$BUILD/bin:$PATH
export PATH
work=$(mktemp -d) || exit 70
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0

pass() { passed=$((passed + 1)); }

fail() {
    failed=$((failed + 1))
    echo "$name: failed: $*"
}

skip() {
    skipped=$((skipped + 1))
    echo "$name: skipped: $*"
}

check() {
    what=$1
    shift
    if "$@" >"$work/check.out" 2>&1; then pass; else
        fail "$what (status $?): $*"
        tail -n 5 "$work/check.out"
    fi
}

expect() {
    wanted=$1 what=$2
    shift 2
    "$@" >"$work/expect.out" 2>"$work/expect.err"
    status=$?
    if [ "$status" -eq "$wanted" ]; then pass; else
        fail "$what: status $status, expected $wanted: $*"
        tail -n 5 "$work/expect.err"
    fi
}

# Whether the last `expect` said something on stderr that matches a pattern.
said() {
    if grep -q -e "$1" "$work/expect.err"; then pass; else
        fail "message does not match '$1': $(tail -n 3 "$work/expect.err")"
    fi
}

report() {
    if [ "$skipped" -gt 0 ]; then
        echo "$name: $passed passed, $failed failed, $skipped skipped"
    else
        echo "$name: $passed passed, $failed failed"
    fi
    [ "$failed" -eq 0 ]
}

# A model that trains in milliseconds, for images of 16 pixels and captions of 8 tokens.
tiny_model() {
    cat <<'JSON'
{"embed_dim": 16,
 "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
 "text_cfg": {"context_length": 8, "vocab_size": 1000, "width": 16, "heads": 2, "layers": 1}}
JSON
}
