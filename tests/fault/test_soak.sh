#!/bin/bash
# Half a minute of the soak: nothing grows. (Memory with some room: sanitizers keep what is freed for a while.)
# timeout: 300
set -u
tolerance=1536
grep -q 'DCACHE_SANITIZE:[A-Z]*=ON' "$TEST_BUILD_DIR/CMakeCache.txt" && tolerance=200000
exec python3 "$TEST_SOURCE_DIR/tests/soak" --minutes 0.4 --tolerance $tolerance
