#!/bin/bash
# Instructions per byte of digesting, and of copying and digesting in one pass, counted by callgrind: the difference
# between runs of three passes and of one, so that nothing else counts. What valgrind's CPU lacks (VPCLMULQDQ as of 3.19)
# is said to be missing.
set -euo pipefail

[ $# -le 1 ] || { echo "usage: $0 [BUILD-DIRECTORY]" >&2; exit 2; }
program=${1:-build}/bin/bench-digest
bytes=4194304
[ -x "$program" ] || { echo "$0: there is no $program: build the benchmarks first" >&2; exit 2; }
command -v valgrind > /dev/null || { echo "$0: valgrind is needed" >&2; exit 2; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

count() { # IMPLEMENTATION OPERATION PASSES: instructions of a run
    valgrind --tool=callgrind --callgrind-out-file="$scratch/out" "$program" "$1" "$2" $bytes "$3" \
        > "$scratch/log" 2>&1 || return 1
    awk '/^(summary|totals):/ { print $2; exit }' "$scratch/out"
}

printf '%-12s %-8s %s\n' digest pass 'instructions per byte'
for digest in vpclmulqdq pclmulqdq table; do
    for pass in update copy stream; do
        if ! one=$(count $digest $pass 1) || ! three=$(count $digest $pass 3); then
            printf '%-12s %-8s not on this CPU\n' $digest $pass
            continue
        fi
        awk -v name=$digest -v pass=$pass -v n=$((three - one)) -v bytes=$((2 * bytes)) \
            'BEGIN { printf "%-12s %-8s %.3f\n", name, pass, n / bytes }'
    done
done
