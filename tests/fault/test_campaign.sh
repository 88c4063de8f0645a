#!/bin/bash
# Some random runs of the crash campaign, judged by its oracle; and the oracle notices when it is lied to.
# timeout: 900
#
# CAMPAIGN_SEED (the same by default, so that a failure is the change's) and CAMPAIGN_RUNS (20, of which as many as fit into
# 45 s) choose what happens; long campaigns with other seeds are run by hand (tests/README.md).
set -u
if ! grep -q 'DCACHE_FAILPOINTS:BOOL=ON' "$TEST_BUILD_DIR/CMakeCache.txt"; then
    echo "skipped: the library has no failpoints"
    exit 77
fi
campaign=$TEST_SOURCE_DIR/tests/campaign
seed=${CAMPAIGN_SEED:-20261125}

python3 "$campaign" --runs 3 --seed 1 --plant >planted.log 2>&1
if ! tail -n 1 planted.log | grep -qE '^runs 3 lost [1-9]'; then
    cat planted.log
    echo "FAILED: all stores were removed, and the campaign has not noticed"
    exit 1
fi
python3 "$campaign" --runs "${CAMPAIGN_RUNS:-20}" --minutes 0.75 --parallel 2 --seed "$seed" 2>&1 | tee campaign.log
tail -n 1 campaign.log | grep -qE '^runs [1-9][0-9]* lost 0 wrong 0 hung 0 leaked 0$'
