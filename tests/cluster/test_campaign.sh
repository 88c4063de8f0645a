#!/bin/bash
# timeout: 600
# A few runs of tests/cluster/campaign: a node powered off while shards are replicated, while the job restarts, and while
# second copies are made again.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec bash "$here/campaign" --build "${TEST_BUILD_DIR:?}" --scratch "${TEST_SCRATCH_DIR:?}" --seed 11 \
    --phases replication,restart,resync
