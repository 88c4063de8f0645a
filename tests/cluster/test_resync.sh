#!/bin/bash
# timeout: 240
# What a resync sends, byte by byte, on hosts that really lose their power and keep their SSD: to a node that comes back
# with its store intact nothing; to one that has missed a step that one shard; to an empty one its shard of the newest step
# and nothing more; and when it is interrupted by the loss of a node, the next one sends what is missing then.
set -u
# shellcheck source=tests/cluster/own_cluster.sh
. "$(dirname "${BASH_SOURCE[0]}")/own_cluster.sh"
program=$bin/program_phases

# On the SSD, which is there again after a boot. Rank r is on the r-th host, and its replica on the next one.
export DCACHE_TIER=ssd DCACHE_SSD_STORE=$CLUSTER_DIR/ssd/dcache DCACHE_MEMORY_STORE=/dev/shm/dcache
export DCACHE_STORE=none DCACHE_JOB=resync DCACHE_TRANSPORT=two-sided
readonly KIB=24576 CHUNK=1048576
readonly store=$DCACHE_SSD_STORE/$DCACHE_JOB/node-0
steps=0 launch=0 log='' header=0 data=0

fail() {
    echo "FAILED: $*"
    tail -n 30 ./*.log
    exit 1
}

start() { # HOSTS: from the newest step on to `steps`, every 10th a checkpoint
    launch=$((launch + 1)) log=$launch.log
    timeout -k 5 90 bash "$cluster" run -np 4 --host "$1" "$program" --steps $steps --every 10 --kib $KIB --step-ms 0 \
        --blocking >$log 2>&1
}

at_host() { # HOST COMMAND...
    bash "$cluster" in "$@"
}

wait_until() { # COMMAND...
    local i
    for ((i = 0; i < 500; i++)); do
        ! "$@" || return 0
        sleep 0.1
    done
    fail "never true: $*"
}

reboot() { # HOST
    bash "$cluster" kill "$1" || fail "cannot kill $1"
    bash "$cluster" boot "$1" || fail "cannot boot $1"
}

received() { # HOST: bytes, since its network was made
    at_host "$1" cat /sys/class/net/eth0/statistics/rx_bytes
}

field() { # HOST FILE OFFSET: a number in the header of an image (docs/formats.md)
    at_host "$1" od -An -t u8 -j "$3" -N 8 "$2" | tr -d ' '
}

file_of() { # HOST own|replica RANK STEP
    local name
    for name in $(at_host "$1" ls "$store"); do
        [[ $name == $2-$3-* ]] || continue
        [ "$(field "$1" "$store/$name" 32)" != "$4" ] || echo "$store/$name"
    done
}

first_chunk() { # HOST FILE: its digest
    at_host "$1" dd if="$2" bs=1024 skip=$((header / 1024)) count=1024 status=none | sha256sum
}

have_same_chunk() { # HOST FILE HOST FILE
    [ "$(first_chunk "$1" "$2")" = "$(first_chunk "$3" "$4")" ]
}

# The last launch went on from the step, and each rank has sent so many bytes to replicas then.
check() { # STEP BYTES BYTES BYTES BYTES
    local sent
    grep -q "^restarted from step $1\$" "$log" || fail "$log: it did not go on from step $1"
    sent=$(sed -n 's/^resync sent //p' "$log")
    [ "$sent" = "${*:2}" ] || fail "$log: the ranks have sent $sent and not ${*:2} bytes"
}

# What came over the wire since then is no less than that, and no more than a tenth above.
check_wire() { # HOST BEFORE BYTES
    local bytes=$(($(received "$1") - $2))
    if [ $bytes -lt "$3" ] || [ $bytes -gt $(($3 + $3 / 10 + CHUNK)) ]; then
        fail "$log: $1 has received $bytes bytes where $3 were missing"
    fi
    echo "$1 has received $bytes bytes, $3 were missing"
}

# Rank 0's shard is on its way to the host after it, which has nothing, when a host loses its power.
interrupt() { # HOST
    local from to sent
    reboot h1
    at_host h1 rm -rf "$DCACHE_SSD_STORE" acted
    DCACHE_FAILPOINTS=replicate.put=delay:60000@0#20 DCACHE_FAILPOINTS_LOG=$scratch/acted start h0,h1,h2,h3 &
    launch=$((launch + 1)) # of the log
    wait_until [ -s acted ]
    from=$(file_of h0 own 0 30) to=$store/replica-0-${from##*-}
    wait_until have_same_chunk h0 "$from" h1 "$to"
    bash "$cluster" kill "$1" || fail "cannot kill $1"
    ! wait $! || fail "it ended well without $1"
    bash "$cluster" boot "$1" || fail "cannot boot $1"
    start h0,h1,h2,h3 || fail "the launch after the loss of $1 ended with $?"
    read -r sent _ < <(sed -n 's/^resync sent //p' "$log")
    check 30 "$sent" 0 0 0
    if [ "$sent" -eq 0 ] || [ "$sent" -ge "$data" ]; then fail "of $data bytes $sent were sent again"; fi
    at_host h0 cat "$from" | at_host h1 cmp - "$to" || fail "the replica is not what it should be"
    echo "interrupted by the loss of $1: of $data bytes $sent were sent then"
}

[ -x "$program" ] || {
    echo "skipped: the tests' programs are not built"
    exit 77
}
bash "$cluster" up 5 --shm 256m || exit $?
steps=20
start h0,h1,h2,h3 || fail "the first launch ended with $?"
own=$(file_of h0 own 0 20)
header=$(field h0 "$own" 64)
data=$(($(field h0 "$own" 72) - header))

# A node was away and has what it had: nothing is sent but a word for each chunk.
reboot h1
before=$(received h1)
start h0,h1,h2,h3 || fail "the launch after a reboot ended with $?"
check 20 0 0 0 0
check_wire h1 "$before" 0

# An empty one in its place: its own shard, from its replica, and the one that it keeps for another; not the older step.
bash "$cluster" kill h1 || fail "cannot kill h1"
before=$(received h4)
DCACHE_LOG=debug start h0,h4,h2,h3 || fail "the launch on the spare ended with $?"
check 20 "$data" 0 0 0
check_wire h4 "$before" $((2 * data))
[ "$(grep -c 'resync of step 20: .*; of 1 replicas here 1 were looked at ahead$' "$log")" -eq 4 ] ||
    fail "the restart waited for the network, and nothing was done ahead of the resync"
[ -z "$(file_of h4 replica 0 10)$(file_of h4 own 1 10)" ] || fail "the step before was sent as well"

# The node that was away comes back. It has missed a step: again two shards. Then a single byte of the one that it keeps for
# another is wrong: a chunk.
steps=30
start h0,h4,h2,h3 || fail "the next launch on the spare ended with $?"
check 20 0 0 0 0
bash "$cluster" boot h1 || fail "cannot boot h1"
before=$(received h1)
start h0,h1,h2,h3 || fail "the launch on the node that has missed a step ended with $?"
check 30 "$data" 0 0 0
check_wire h1 "$before" $((2 * data))
printf x | at_host h1 dd of="$(file_of h1 replica 0 30)" bs=1 seek=$((header + 5 * CHUNK + 7)) conv=notrunc status=none
before=$(received h1)
start h0,h1,h2,h3 || fail "the launch with a bad replica ended with $?"
check 30 $CHUNK 0 0 0
check_wire h1 "$before" $CHUNK

interrupt h1 # which is sent to
interrupt h3 # which has nothing to do with it
start h0,h1,h2,h3 || fail "the last launch ended with $?"
check 30 0 0 0 0
