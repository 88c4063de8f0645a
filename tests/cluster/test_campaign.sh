#!/bin/bash
# timeout: 300
# A few runs of tests/cluster/campaign: a node powered off while shards are staged, replicated and drained, and while the
# job restarts from what is left.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec bash "$here/campaign" --build "${TEST_BUILD_DIR:?}" --scratch "${TEST_SCRATCH_DIR:?}" --seed 11 \
    --phases staging,replication,restart,resync
