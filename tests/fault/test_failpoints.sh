#!/bin/bash
# Every failpoint with every action that makes sense there: failpoints.py, with an Azurite where there can be one.
# timeout: 900
set -u
"$TEST_BUILD_DIR/bin/dcache" help >/dev/null || exit 1
if ! grep -q 'DCACHE_FAILPOINTS:BOOL=ON' "$TEST_BUILD_DIR/CMakeCache.txt"; then
    echo "skipped: the library has no failpoints"
    exit 77
fi

# What a SIGKILL leaves of Open MPI is in there as well.
scratch=$(mktemp -d /tmp/dcache-fault-XXXXXX) || exit 1
trap 'rm -rf "$scratch"' EXIT

matrix() {
    [ -z "${TEST_AZURE_URL:-}" ] || "$TEST_BUILD_DIR/bin/dcache" store create --store "$TEST_AZURE_URL" || return
    python3 "$TEST_SOURCE_DIR/tests/fault/failpoints.py" "$scratch/matrix"
}

if [ "${1:-}" = matrix ]; then
    matrix
elif command -v node >/dev/null && command -v npm >/dev/null; then
    bash "$TEST_SOURCE_DIR/tests/azurite/with-azurite.sh" bash "$0" matrix
else
    echo "not tried, for there is no node: what speaks HTTP"
    matrix
fi
