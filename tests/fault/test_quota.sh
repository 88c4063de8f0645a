#!/bin/bash
# An object store in a directory whose quota is used up, a real one: EDQUOT, which no look at the free space announces. The
# step stays on its nodes, closing says why, and with room it is drained. (Node stores are not tried: a mapped page of this
# file system needs more of the quota when it is written to, whatever was allocated before; docs/operations.md.)
# timeout: 180
# slots: 1
# shellcheck source=tests/fault/runs.sh
. "$TEST_SOURCE_DIR/tests/fault/runs.sh"
PATH=$PATH:/usr/sbin:/sbin

# Mounted in a name space of this test alone: nothing of it stays, whatever happens.
if [ "${1:-}" != inside ]; then
    for tool in mkfs.btrfs btrfs losetup; do
        command -v $tool >/dev/null || skip "$tool is not there"
    done
    [ "$(id -u)" -eq 0 ] || skip "root may mount a file system, others may not"
    unshare -m --propagation private true 2>/dev/null || skip "unshare -m is not allowed here"
    unshare -m --propagation private bash "${BASH_SOURCE[0]}" inside
    exit
fi

ranks=4
disk=$TEST_SCRATCH_DIR/disk
limited=$disk/limited
export DCACHE_NODE_SIZE=2 DCACHE_JOB=values DCACHE_LOG=warning
values=("$bin/program_values" --kib 1024) # a step takes 2.1 MB of own copy and replica for each rank

limit() { # SIZE
    btrfs qgroup limit "$1" "$limited" || fail "no quota of $1"
    sync
}

on_all_ranks() { # LOG REGULAR_EXPRESSION
    [ "$(grep -cE "^rank [0-9]+ $2" "$1")" -eq $ranks ] || fail "not all ranks say '$2': $(cat "$1")"
}

truncate -s 300M disk.img
mkfs.btrfs -q disk.img >mkfs.log 2>&1 || fail "no file system: $(cat mkfs.log)"
mkdir "$disk"
mount -o loop disk.img "$disk" 2>/dev/null || skip "btrfs cannot be mounted here"
btrfs quota enable "$disk" || skip "no quotas here"
btrfs subvolume create "$limited" >/dev/null || fail "no subvolume"
chmod 700 "$limited"

export DCACHE_STORE=file://$limited/objects DCACHE_MEMORY_STORE=$PWD/memory
limit 3M
run_ranks drain.log $ranks "${values[@]}" 1
on_all_ranks drain.log 'step 1 status 0:'
grep -q 'step 1 is not durable: .*Disk quota exceeded' drain.log || fail "it is not said: $(cat drain.log)"
[ ! -e "$limited/objects/values/1/manifest.json" ] || fail "half a step is durable"
limit 100M
"$bin/dcache" drain --job values >tool.log 2>&1 || fail "dcache drain: $(cat tool.log)"
[ -e "$limited/objects/values/1/manifest.json" ] || fail "step 1 is not durable: $(cat tool.log)"
rm -rf "$DCACHE_MEMORY_STORE"
must_run again.log $ranks "${values[@]}" --restart
on_all_ranks again.log 'restarted from step 1, good'
