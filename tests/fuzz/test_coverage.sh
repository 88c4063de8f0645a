#!/bin/bash
# timeout: 400
# A short run of every fuzz target, led by coverage (hours: tests/fuzz/run.sh). Skipped where clang has no libFuzzer.
set -u
bash "$TEST_SOURCE_DIR/tests/fuzz/run.sh" --build "$TEST_BUILD_DIR/fuzz" all 1
