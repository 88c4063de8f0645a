#!/bin/bash
# Check a model with spin: tests/model/check.sh MODEL.pml [VARIANT]
#
# Every state is visited: assertions, invalid end states, then each ltl formula under weak fairness. Prints what was
# found, and ends with 0 (nothing), 1 (an error: with the trail's last steps), or 2 (could not be checked: it did not
# fit). VARIANT is a deliberate mistake that the model knows (-DVARIANT).
set -u
model=$(realpath "$1")
variant=${2:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
define=()
[ -z "$variant" ] || define=("-D$variant")

verify() { # NAME COMPILER_FLAGS... -- PAN_FLAGS...
    local name=$1 flags=() output
    shift
    while [ "$1" != -- ]; do
        flags+=("$1")
        shift
    done
    shift
    ${CC:-cc} -O1 -w -DMEMLIM=1500 "${flags[@]}" -o pan pan.c || exit 2
    output=$(./pan -m200000 -w22 "$@" 2>&1)
    if grep -q 'errors: [1-9]' <<<"$output"; then
        echo "$name: $(grep -m1 '^pan:' <<<"$output")"
        spin "${define[@]}" -k ./*.trail -p "$model" 2>/dev/null | grep -v '^ *$' | tail -n 12
        return 1
    fi
    if ! grep -q 'errors: 0' <<<"$output" || grep -qE 'max search depth too small|out of memory|not completed' <<<"$output"; then
        echo "$output"
        exit 2
    fi
    echo "$name: $(sed -nE 's/^ *([0-9]+) states, stored.*/\1 states/p' <<<"$output"), no error"
}

spin "${define[@]}" -a "$model" >spin.log 2>&1 || {
    cat spin.log
    exit 2
}
status=0
verify safety -DSAFETY -DNOCLAIM -- || status=1
mapfile -t formulas < <(sed -nE 's/^ltl ([a-z_]+) .*/\1/p' "$model")
for formula in "${formulas[@]}"; do
    [ $status -ne 0 ] || verify "$formula" -DNFAIR=4 -- -a -f -N "$formula" || status=1
done
exit $status
