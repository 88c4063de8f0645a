#!/bin/bash
# Fuzz: tests/fuzz/run.sh [--afl] [--build DIRECTORY] TARGET|all SECONDS [CORPUS_DIRECTORY...]
#
# Builds the targets with the fuzzer of clang (libFuzzer) or AFL++ and with AddressSanitizer and
# UndefinedBehaviorSanitizer, and runs one of them, or all, for so many seconds each, from corpus/TARGET and what else is
# named. What is found by the way that is of interest is kept in DIRECTORY/corpus/TARGET (default: build/fuzz or
# build/afl), and a crash in DIRECTORY/crashes/. Status 0: nothing was found; 1: something was; 77: there is no such
# fuzzer here.
#
# A crash becomes a file of corpus/TARGET when its cause is mended: every build replays the corpora.
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
compiler=clang
build=
while [ $# -gt 0 ]; do
    case $1 in
    --afl) compiler=afl-clang-fast ;;
    --build)
        build=$2
        shift
        ;;
    *) break ;;
    esac
    shift
done
if [ $# -lt 2 ] || ! [ "$2" -gt 0 ] 2>/dev/null; then
    echo "usage: tests/fuzz/run.sh [--afl] [--build DIRECTORY] TARGET|all SECONDS [CORPUS_DIRECTORY...]"
    exit 2
fi
target=$1
seconds=$2
shift 2
extra=()
for directory in "$@"; do
    extra+=("$(cd "$directory" && pwd)") || exit 2
done
if [ -z "$build" ]; then
    build=$root/build/fuzz
    [ $compiler = clang ] || build=$root/build/afl
fi

has_fuzzer() {
    echo 'int LLVMFuzzerTestOneInput(const char *data, long size); int LLVMFuzzerTestOneInput(const char *data, long size)
        { return size > 0 && data[0] == 0 ? 0 : 0; }' |
        $compiler -fsanitize=fuzzer,address -x c -o /dev/null - 2>/dev/null
}

configure_and_build() {
    cmake -S "$root" -B "$build" -DCMAKE_C_COMPILER=$compiler -DDCACHE_FUZZ=ON -DDCACHE_SANITIZE=ON \
        -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_FLAGS_RELWITHDEBINFO="-O1 -g" >"$build.log" 2>&1 &&
        cmake --build "$build" --target fuzz_targets --parallel 2 >>"$build.log" 2>&1
}

run_libfuzzer() { # TARGET
    local status
    mkdir -p "$build/corpus/$1" "$build/crashes"
    "$build/tests/fuzz/fuzz_$1" -max_total_time="$seconds" -max_len=16384 -timeout=25 -rss_limit_mb=2048 \
        -print_final_stats=1 -verbosity=1 -artifact_prefix="$build/crashes/$1-" \
        "$build/corpus/$1" "$root/tests/fuzz/corpus/$1" "${extra[@]}" >"$build/crashes/$1.log" 2>&1
    status=$?
    grep -aE '^(stat::number_of_executed_units|SUMMARY|broken promise|artifact_prefix)|Test unit written' \
        "$build/crashes/$1.log" | sed "s/^/$1: /"
    return $status
}

# AFL++ goes on after a crash, so what counts is what it kept.
run_afl() { # TARGET
    local output=$build/output/$1 found
    rm -rf "$build/input/$1"
    mkdir -p "$build/input/$1" "$output"
    cp "$root/tests/fuzz/corpus/$1"/* "$build/input/$1"
    for directory in "${extra[@]}"; do
        cp "$directory"/* "$build/input/$1"
    done
    ASAN_OPTIONS=abort_on_error=1:symbolize=0:detect_leaks=0:max_allocation_size_mb=256 AFL_NO_UI=1 AFL_SKIP_CPUFREQ=1 \
        AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_NO_AFFINITY=1 \
        afl-fuzz -V "$seconds" -m none -i "$build/input/$1" -o "$output" -- "$build/tests/fuzz/fuzz_$1" \
        >"$output/log" 2>&1 || { tail -n 20 "$output/log"; return 1; }
    found=$(find "$output" -path '*crashes*' -name 'id:*' | wc -l)
    echo "$1: $(grep -h execs_done "$output"/default/fuzzer_stats), $found crashes in $output/default/crashes"
    [ "$found" -eq 0 ]
}

has_fuzzer || {
    echo "there is no $compiler with a fuzzer here: install clang (libFuzzer) or afl++ and clang (AFL++)"
    exit 77
}
mkdir -p "$(dirname "$build")"
configure_and_build || {
    tail -n 40 "$build.log"
    exit 1
}
targets=("$target")
if [ "$target" = all ]; then
    targets=()
    for source in "$root"/tests/fuzz/target_*.c; do
        name=${source##*/target_}
        targets+=("${name%.c}")
    done
fi
failed=0
for name in "${targets[@]}"; do
    if [ ! -x "$build/tests/fuzz/fuzz_$name" ]; then
        echo "there is no target $name"
        exit 2
    fi
    if [ $compiler = clang ]; then
        run_libfuzzer "$name" || failed=1
    else
        run_afl "$name" || failed=1
    fi
done
exit $failed
