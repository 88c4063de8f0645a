#!/bin/bash
# A rank is killed at each of the moments in which a step gets to the SSD, and then all nodes are rebooted: what was in
# memory is gone. The relaunch goes on from a step that the SSDs have, and the result has the same bits as that of a run
# that nothing happened to.
# timeout: 400
# slots: 1
# shellcheck source=tests/fault/runs.sh
. "$TEST_SOURCE_DIR/tests/fault/runs.sh"
export DCACHE_NODE_SIZE=1 DCACHE_STORE=none DCACHE_LOG=error DCACHE_SSD_STORE=$PWD/ssd
ranks=3
heat=("$bin/heat2d" --input field.h5 --steps 80 --every 10)

last_reported() { # LOG
    sed -nE 's/^heat2d: step ([0-9]+) checkpointed$/\1/p' "$1" | tail -n 1
}

# With tier = ssd no step that was reported is lost; with both, the one before the copy that was killed is there.
kill_and_reboot() { # TIER FAILPOINT LEAST
    local reported from least=$3
    export DCACHE_TIER=$1 DCACHE_JOB=$1
    rm -rf "$DCACHE_MEMORY_STORE" "$DCACHE_SSD_STORE" result.h5
    DCACHE_FAILPOINTS=$2 run_ranks killed.log $ranks "${heat[@]}" --sleep-ms 5 --output result.h5
    if [ -e result.h5 ]; then
        [ "$2" != "$first" ] || skip "the library has no failpoints"
        fail "$2 killed nobody"
    fi
    reported=$(last_reported killed.log)
    [ "$1" = both ] || least=${reported:-0}
    rm -rf "$DCACHE_MEMORY_STORE"
    must_run again.log $ranks "${heat[@]}" --output result.h5
    from=$(sed -nE 's/^heat2d: restarted from step ([0-9]+)$/\1/p' again.log)
    say "tier = $1, $2: step ${reported:-0} was reported, restarted from ${from:-0}"
    [ "${from:-0}" -ge "$least" ] || fail "that should have been step $least at least"
    [ "${from:-0}" -le $((${reported:-0} + 10)) ] || fail "that step was never taken"
    must_be_equal expected.h5 result.h5
}

# What the relaunch has saved since is there, too.
reboot_at_the_end() {
    rm -rf "$DCACHE_MEMORY_STORE"
    must_run third.log $ranks "${heat[@]}" --output result.h5
    grep -q '^heat2d: restarted from step 80$' third.log || fail "the last step is not on the SSDs: $(cat third.log)"
}

"$bin/heat2d-make-field" field.h5 96 80 || fail "no field"
DCACHE_TIER=memory DCACHE_JOB=undisturbed must_run undisturbed.log $ranks "${heat[@]}" --output expected.h5

# Three syncs a step: own data, own header, the guest's replica.
first=slot.sync=kill@1#7
for point in "$first" slot.sync=kill@0#8 slot.sync=kill@2#9 store.sync=kill@1#9 checkpoint.header=kill@2#3; do
    kill_and_reboot ssd "$point" 0
done
reboot_at_the_end
# The third copy, in the middle; before the header; when only the last sync is missing.
for point in ssd.copy=kill@2#3 ssd.header=kill@0#3 slot.sync=kill@1#6 store.sync=kill@0#5; do
    kill_and_reboot both "$point" 20
done
reboot_at_the_end
