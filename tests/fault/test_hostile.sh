#!/bin/bash
# Out of descriptors, of memory, a read-only store, clocks that jump, a stopped drainer, a newer version's store.
# timeout: 400
set -u
scratch=$(mktemp -d /tmp/dcache-fault-XXXXXX) || exit 1
trap 'rm -rf "$scratch"' EXIT
python3 "$TEST_SOURCE_DIR/tests/fault/hostile.py" "$scratch"
