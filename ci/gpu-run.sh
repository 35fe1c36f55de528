#!/usr/bin/env bash
# Runs the bundle that ci/gpu-bundle.sh laid out, on a machine with a GPU.
#   run.sh test [PATTERN]   every test whose name matches, each in a process of its own under a deadline
#   run.sh bench [ARG...]   the latency bench
# Results go to $OUT, or to the current folder: gpu-tests.json and test.log, or latency.json and latency.log.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "${OUT:-.}" && pwd)

# The tests that drive the GPU; the others run wherever the sources are.
pattern_default='gpu|cuda|bounded_'
# A kernel that never ends is ended by ending its process; this is far more than any test takes.
test_seconds=90
# The checker slows a kernel down by a factor of ten to fifty.
memcheck_seconds=180
bench_seconds=420
# Says so in one word when what it needs is not there; the harness shows it because output is not captured.
skip_mark=SKIPPED
# What the memory checker says where the GPU is virtualised in a way that it does not know.
refusal='Device not supported'

export CUDA_MODULE_LOADING=EAGER

for packed in "$here"/bin/*.gz "$here"/tests/*.gz; do
    [ -e "$packed" ] && gunzip --force "$packed"
done

find_sanitizer() {
    command -v compute-sanitizer && return
    ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -n 1
}

# quoted NAME... : a JSON list of strings; names of tests need no escapes.
quoted() {
    local list='' name
    for name in "$@"; do list="$list, \"$name\""; done
    printf '[%s]' "${list:2}"
}

write_results() {
    cat > "$out/gpu-tests.json" <<JSON
{"gpu": "$gpu", "commit": "$(cat "$here/commit")", "passed": ${#passed[@]}, "failed": ${#failed[@]}, "skipped": ${#skipped[@]},
 "failures": $(quoted "${failed[@]}"), "skips": $(quoted "${skipped[@]}"), "seconds": $SECONDS}
JSON
}

# one NAME SECONDS COMMAND... : runs one test and notes how it ended.
one() {
    local name=$1 seconds=$2 began=$SECONDS code
    shift 2
    timeout --kill-after=5 "$seconds" "$@" < /dev/null > "$work/test" 2>&1
    code=$?
    { echo "=== $name: exit $code after $((SECONDS - began)) s"; cat "$work/test"; } >> "$out/test.log"
    if grep -q "$refusal" "$work/test"; then
        skipped+=("$name")
        echo "skipped $name: $refusal"
    elif [ "$code" -ne 0 ]; then
        failed+=("$name")
        echo "FAILED  $name (exit $code, $((SECONDS - began)) s)"
        tail -n 15 "$work/test"
    elif grep -q "$skip_mark" "$work/test"; then
        skipped+=("$name")
        echo "skipped $name"
    else
        passed+=("$name")
        echo "passed  $name ($((SECONDS - began)) s)"
    fi
    write_results
}

run_tests() {
    local pattern=${1:-$pattern_default} program name sanitizer
    passed=() failed=() skipped=()
    gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
    gpu=${gpu:-none}
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    : > "$out/test.log"
    sanitizer=$(find_sanitizer)
    for program in "$here"/tests/*; do
        "$program" --list --format=terse 2>/dev/null | sed -n 's/: test$//p' > "$work/names"
        while read -r name; do
            local label="${program##*/}::$name"
            [[ $label =~ $pattern ]] || continue
            one "$label" "$test_seconds" "$program" --exact "$name" --include-ignored --nocapture --test-threads=1
            [[ $name == *bounded_* && $name == *gpu* ]] || continue
            if [ -n "$sanitizer" ]; then
                one "memcheck $label" "$memcheck_seconds" \
                    env TOURBILLON_TEST_SECONDS="$memcheck_seconds" "$sanitizer" --tool memcheck --error-exitcode 99 \
                    "$program" --exact "$name" --include-ignored --nocapture --test-threads=1
            else
                skipped+=("memcheck $label")
                echo "skipped memcheck $label: no compute-sanitizer"
            fi
        done < "$work/names"
    done
    write_results
    cat "$out/gpu-tests.json"
    [ "${#failed[@]}" -eq 0 ] && [ "${#passed[@]}" -gt 0 ]
}

case ${1:-} in
    test)
        run_tests "${2:-}"
        ;;
    bench)
        shift
        timeout --kill-after=5 "$bench_seconds" "$here/bin/latency" --backend cuda --out "$out/latency.json" "$@" 2>&1 \
            | tee "$out/latency.log"
        exit "${PIPESTATUS[0]}"
        ;;
    *)
        sed -n '2,5s/^# //p' "$0"
        exit 2
        ;;
esac
