#!/bin/bash
# timeout: 400
# The models hold (docs/model.md), and each deliberate mistake that a model knows (#ifdef NAME) is caught.
set -u
here=$TEST_SOURCE_DIR/tests/model
command -v spin >/dev/null || {
    echo "skipped: needs spin"
    exit 77
}

check() { # MODEL VARIANT
    local output status expected=0
    [ "$2" = as-it-is ] || expected=1
    output=$(bash "$here/check.sh" "$here/$1.pml" "${2#as-it-is}" 2>&1)
    status=$?
    echo "$1, $2: $(head -n 3 <<<"$output" | tr '\n' ';')"
    [ $status -eq $expected ] && return 0
    echo "FAILED: $1, $2: status $status instead of $expected"
    echo "$output"
    return 1
}

# Two at a time.
failed=0
for model in commit restart; do
    mapfile -t variants < <(sed -nE 's/^#ifdef ([A-Z_]+)$/\1/p' "$here/$model.pml" | sort -u)
    [ ${#variants[@]} -ge 4 ] || failed=1
    for variant in as-it-is "${variants[@]}"; do
        check $model "$variant" &
        if [ "$(jobs -rp | wc -l)" -ge 2 ]; then
            wait -n || failed=1
        fi
    done
done
while [ -n "$(jobs -p)" ]; do
    wait -n || failed=1
done
exit $failed
