#!/bin/bash
# timeout: 420 (the first time Azurite is installed)
# A node and the partner that has its replicas lose their power at once, with all that they had: the job goes on from what is
# in Blob storage (Azurite, on the login node), and ends with the right values. A third launch, all nodes new, does it too.
set -u
# shellcheck source=tests/cluster/own_cluster.sh
. "$(dirname "${BASH_SOURCE[0]}")/own_cluster.sh"
azurite=$here/../azurite/azurite.sh

clean_up_more() {
    bash "$azurite" stop "$CLUSTER_DIR/azurite"
}

export DCACHE_MEMORY_STORE=/dev/shm/dcache DCACHE_JOB=blob
readonly HOSTS=h0,h1,h2,h3

fail() {
    echo "FAILED: $*"
    tail -n 30 ./*.log
    exit 1
}

start() { # LOG STEPS STEP_MS
    timeout -k 5 180 bash "$cluster" run -np 4 --host $HOSTS "$bin/program_phases" --steps "$2" --every 10 --kib 2048 \
        --step-ms "$3" >"$1.log" 2>&1
}

newest_durable() { # 0: none
    bash "$cluster" in head "$bin/dcache" ls --store "$DCACHE_STORE" --memory-store "$scratch/none" 2>ls.log |
        awk '$2 == "DURABLE" && $1 > newest { newest = $1 } END { print newest + 0 }'
}

wait_for_durable() { # sets `safe`
    local i
    for ((i = 0; i < 600; i++)); do
        safe=$(newest_durable)
        [ "$safe" -eq 0 ] || return 0
        sleep 0.1
    done
    fail "nothing became durable in a minute"
}

check() { # LOG LEAST STEPS: it went on from a step no older than that, and came to its end
    local from
    from=$(sed -n 's/^restarted from step //p' "$1.log")
    [ "${from:--1}" -ge "$2" ] || fail "$1: it went on from ${from:-nothing}, and step $2 is in Blob storage"
    grep -q "^step $3: all values are right" "$1.log" || fail "$1: its values are not right"
    echo "$1: went on from step $from ($2 was known to be in Blob storage)"
}

[ -x "$bin/program_phases" ] || {
    echo "skipped: the tests' programs are not built"
    exit 77
}
bash "$cluster" up 4 --shm 256m || exit $?
settings=$(bash "$cluster" in head env AZURITE_HOST=10.99.0.1 bash "$azurite" start "$CLUSTER_DIR/azurite") || exit $?
eval "$settings"
export DCACHE_STORE=$TEST_AZURE_URL
bash "$cluster" in head "$bin/dcache" store create >create.log 2>&1 || fail "the container cannot be made"

start first 6000 20 & # more than it comes to
wait_for_durable
bash "$cluster" kill h0 h1 || fail "cannot kill h0 and h1"
! wait $! || fail "it ended well without two nodes"
for host in h0 h1; do bash "$cluster" boot $host || fail "cannot boot $host"; done
start partners $((safe + 100)) 0 || fail "the launch after the loss of two partners ended with $?"
check partners "$safe" $((safe + 100))

# The last step is durable when a job has ended: that is where all new nodes begin.
bash "$cluster" kill h0 h1 h2 h3 || fail "cannot kill all hosts"
for host in h0 h1 h2 h3; do bash "$cluster" boot $host || fail "cannot boot $host"; done
start all $((safe + 110)) 0 || fail "the launch after the loss of all nodes ended with $?"
check all $((safe + 100)) $((safe + 110))
