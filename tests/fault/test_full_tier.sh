#!/bin/bash
# A memory tier that is too small, a real one: the checkpoint that does not fit fails on every rank alike, with a text
# that has numbers, before a byte of it is written; nobody gets a SIGBUS, the program goes on, and the checkpoint before
# it is what a restart finds. With room it works again.
# timeout: 180
# shellcheck source=tests/fault/runs.sh
. "$TEST_SOURCE_DIR/tests/fault/runs.sh"

# The file systems are mounted in a name space of this test alone: nothing of them stays, whatever happens.
if [ "${1:-}" != inside ]; then
    [ "$(id -u)" -eq 0 ] || skip "root may mount a file system, others may not"
    unshare -m --propagation private true 2>/dev/null || skip "unshare -m is not allowed here"
    unshare -m --propagation private bash "${BASH_SOURCE[0]}" inside
    exit
fi

tier=$TEST_SCRATCH_DIR/tier
ranks=4
kib=1024
no_space=-6 # DCACHE_ERR_NO_SPACE
export DCACHE_NODE_SIZE=2 DCACHE_JOB=values DCACHE_MEMORY_STORE=$tier/stores DCACHE_STORE=none
values=("$bin/program_values" --kib "$kib")

# A step takes 2.1 MB of own copy and replica for each rank: 17 MB in the two slots of four ranks.
mount_tier() { # SIZE
    mkdir -p "$tier"
    mount -t tmpfs -o "size=$1,mode=700" dcache-test "$tier" || skip "a tmpfs cannot be mounted here"
}

unmount_tier() {
    umount "$tier" || fail "the tier is in use"
}

fill_tier() {
    head -c 64m /dev/zero >"$tier/filler" 2>/dev/null
    [ "$(stat -f -c %f "$tier")" -eq 0 ] || fail "the tier is not full"
}

expect_status() { # LOG STEP STATUS: on every rank
    local count
    count=$(grep -cE "^rank [0-9]+ step $2 status $3:" "$1")
    [ "$count" -eq $ranks ] || fail "step $2 has status $3 on $count of $ranks ranks: $(cat "$1")"
}

expect_restart() { # LOG STEP
    local count
    count=$(grep -cE "^rank [0-9]+ restarted from step $2, good" "$1")
    [ "$count" -eq $ranks ] || fail "$count of $ranks ranks have restarted from step $2: $(cat "$1")"
}

# The failure has the same text on every rank, and it has what it should.
expect_no_space() { # LOG STEP REGULAR_EXPRESSION
    local texts
    expect_status "$1" "$2" $no_space
    texts=$(sed -nE "s/^rank [0-9]+ step $2 status $no_space: //p" "$1" | sort -u)
    grep -qE "$3" <<<"$texts" || fail "step $2 failed with the text: $texts"
    [ "$(wc -l <<<"$texts")" -eq 1 ] || fail "not all ranks say the same: $texts"
}

# All slots together have no room: this is refused before anything is allocated.
too_small() {
    local text="^rank [0-9]: node [^ ]+ needs 1[67][0-9]{6} bytes .*$tier/stores/values/node-[01] has 1[0-9]{7} bytes free"
    mount_tier 13m
    must_run small.log $ranks "${values[@]}" --restart 1 2
    expect_no_space small.log 1 "$text.*(option slots)"
    expect_no_space small.log 2 "$text"
    grep -q 'error: dcache_checkpoint: no space left on a storage tier' small.log || fail "no log line: $(cat small.log)"
    [ -z "$(find "$tier" -name '*.h5')" ] || fail "there are slots: $(ls -lR "$tier")"
    mount -o remount,size=32m "$tier" || fail "the tier cannot be made larger"
    must_run larger.log $ranks "${values[@]}" 1
    expect_status larger.log 1 0
    unmount_tier
}

# There was room in the beginning, and others take it before the second slot is made.
filled_by_others() {
    local step text="^rank [0-9]: cannot allocate 1[0-9]{6} bytes for $tier/stores/values/node-[01]/[a-z]+-[0-3]-1.h5, where [0-9]+ bytes are free"
    mount_tier 32m
    start_ranks others.log $ranks "${values[@]}" 1 @full 2 3 @room 4 5 6
    wait_for_line "$session" others.log '^rank 0 step 1 status 0'
    fill_tier
    touch full
    wait_for_line "$session" others.log '^rank 0 step 3 status'
    rm "$tier/filler"
    touch room
    finish_ranks "$session" others.log || fail "it did not go on: $(cat others.log)"
    expect_status others.log 1 0
    expect_no_space others.log 2 "$text.*memory_store"
    expect_no_space others.log 3 "$text"
    for step in 4 5 6; do
        expect_status others.log $step 0
    done
    must_run restart.log $ranks "${values[@]}" --restart
    expect_restart restart.log 6
    unmount_tier
}

# The step before a failed one is not only said to be there: a run that ends right then can be continued from it, also
# while the tier has no free byte.
continued() {
    mount_tier 32m
    rm -f full
    start_ranks ended.log $ranks "${values[@]}" 1 @full 2
    wait_for_line "$session" ended.log '^rank 0 step 1 status 0'
    fill_tier
    touch full
    finish_ranks "$session" ended.log || fail "it did not end well: $(cat ended.log)"
    expect_status ended.log 2 $no_space
    fill_tier
    must_run full.log $ranks "${values[@]}" --restart 3
    expect_restart full.log 1
    expect_status full.log 3 $no_space
    rm "$tier/filler"
    must_run continued.log $ranks "${values[@]}" --restart 4
    expect_restart continued.log 1
    expect_status continued.log 4 0
    unmount_tier
}

# heat2d comes to its end with no checkpoint at all, and to the right one.
without_checkpoints() {
    "$bin/heat2d-make-field" field.h5 1024 512 || fail "no field"
    mount_tier 3m
    DCACHE_JOB=heat must_run heat.log $ranks "$bin/heat2d" --input field.h5 --steps 20 --every 5 --output result.h5
    [ "$(grep -c '^heat2d: step [0-9]* not checkpointed: .*bytes free' heat.log)" -eq 4 ] || fail "$(cat heat.log)"
    unmount_tier
    mount_tier 64m
    DCACHE_JOB=heat must_run room.log $ranks "$bin/heat2d" --input field.h5 --steps 20 --every 5 --output expected.h5
    [ "$(grep -c '^heat2d: step [0-9]* checkpointed' room.log)" -eq 4 ] || fail "$(cat room.log)"
    unmount_tier
    must_be_equal expected.h5 result.h5
}

too_small
filled_by_others
continued
without_checkpoints
