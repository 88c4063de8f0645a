#!/bin/bash
# Drainers that are killed, jobs' and the tool's, with a restart from Azurite alone each time: drain_kills.py.
# timeout: 400
#
# DRAIN_KILLS_RUNS (5) and DRAIN_KILLS_SEED (1) choose what happens; a hundred runs and more are for the hand.
set -u
if ! grep -q 'DCACHE_FAILPOINTS:BOOL=ON' "$TEST_BUILD_DIR/CMakeCache.txt"; then
    echo "skipped: the library has no failpoints"
    exit 77
fi
if [ "${1:-}" != inside ]; then
    exec bash "$TEST_SOURCE_DIR/tests/azurite/with-azurite.sh" bash "$0" inside
fi
"$TEST_BUILD_DIR/bin/dcache" store create --store "$TEST_AZURE_URL" >/dev/null || exit 1
exec python3 "$TEST_SOURCE_DIR/tests/fault/drain_kills.py" --runs "${DRAIN_KILLS_RUNS:-5}" --seed "${DRAIN_KILLS_SEED:-1}"
