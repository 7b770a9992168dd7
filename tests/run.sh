#!/bin/sh
# run.sh - runs tests and adds up what they counted.
#
#     BUILD=build sh tests/run.sh TEST...
#
# A test is a program or a .sh script whose last line is "NAME: N passed, N failed" (and
# ", N skipped", maybe). One that ends in another way counts as a failure. Prints the lines of
# tests that fail in full, and "N passed, N failed" at the end.
set -u
export BUILD="${BUILD:-build}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
export LSAN_OPTIONS="suppressions=$PWD/tests/lsan.supp:print_suppressions=0"
output=$(mktemp) || exit 70
trap 'rm -f "$output"' EXIT
passed=0 failed=0 skipped=0

for test in "$@"; do
    start=$(date +%s)
    case $test in
    *.sh) sh "$test" >"$output" 2>&1 </dev/null ;;
    *) "$test" >"$output" 2>&1 </dev/null ;;
    esac
    status=$?
    seconds=$(($(date +%s) - start))
    counts=$(tail -n 1 "$output" |
        sed -n 's/^[^:]*: \([0-9]*\) passed, \([0-9]*\) failed\(, \([0-9]*\) skipped\)\{0,1\}$/\1 \2 \4/p')
    if [ -z "$counts" ]; then
        counts="0 1"
        echo "$test: ended with status $status and no count" >>"$output"
    fi
    test_passed=${counts%% *}
    counts=${counts#* }
    test_failed=${counts%% *}
    counts=${counts#"$test_failed"}
    test_skipped=${counts# }
    if [ "$status" -ne 0 ] && [ "$test_failed" -eq 0 ]; then
        test_failed=1
        echo "$test: ended with status $status" >>"$output"
    fi
    passed=$((passed + test_passed))
    failed=$((failed + test_failed))
    skipped=$((skipped + ${test_skipped:-0}))
    if [ "$test_failed" -ne 0 ]; then
        cat "$output"
    fi
    printf '%-44s %5d passed, %d failed  %3d s\n' "${test#"$BUILD"/}" "$test_passed" \
        "$test_failed" "$seconds"
done

if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
