#!/bin/bash
# timeout: 240
# Hosts that really die: heat2d over mpirun and TCP, a host powered off at a random moment, the job launched again on a
# spare, on fewer hosts, or on the same host after a boot. The result has the same bits as without a loss, and no step
# that the job was told is safe is lost.
set -u
# shellcheck source=tests/cluster/own_cluster.sh
. "$(dirname "${BASH_SOURCE[0]}")/own_cluster.sh"

export DCACHE_MEMORY_STORE=/dev/shm/dcache # each host has its own
readonly STEPS=60 EVERY=5
job=

fail() {
    local log
    echo "FAILED: $*"
    for log in "$job"-*.log; do
        [ ! -e "$log" ] || { echo "--- $log" && tail -n 30 "$log"; }
    done
    exit 1
}

heat2d() { # HOST,HOST:RANKS,...
    DCACHE_JOB=$job timeout -k 5 60 bash "$cluster" run -np 4 --host "$1" "$bin/heat2d" \
        --input "$scratch/field.h5" --output "$scratch/$job.h5" --steps $STEPS --every $EVERY --sleep-ms 30
}

last_step() { # LOG: the newest step that the job was told is safe
    sed -n 's/^heat2d: step \([0-9]*\) checkpointed$/\1/p' "$1" | tail -n 1
}

# A random moment after a checkpoint of the first half: the job computes, or takes the next one.
wait_for_moment() { # LOG
    local wanted=$((EVERY * (1 + RANDOM % (STEPS / EVERY / 2)))) step i
    for ((i = 0; i < 1000; i++)); do
        step=$(last_step "$1")
        if [ "${step:-0}" -ge $wanted ]; then
            sleep "0.$((RANDOM % 20 + 10))"
            return
        fi
        sleep 0.03
    done
    fail "no checkpoint of step $wanted"
}

# The newest step that must survive: what the job was told; without any copy on nodes, what the object store has.
safe_step() { # FROM
    local manifest step newest=0
    if [ "$1" = nodes ]; then
        last_step "$job-1.log"
        return
    fi
    for manifest in store/"$job"/*/manifest.json; do
        step=$(basename "$(dirname "$manifest")")
        if [ -e "$manifest" ] && [ $((10#$step)) -gt $newest ]; then newest=$((10#$step)); fi
    done
    echo $newest
}

# A job loses hosts and is launched again.
lose() { # JOB FROM(nodes|store) HOSTS LOST [--silent] [--boot] [--on HOSTS]
    local from=$2 before=$3 lost=$4 after=$3 flags=() boot=0 pid status safe restarted host
    job=$1
    shift 4
    while [ $# -gt 0 ]; do
        case $1 in
        --silent) flags=(--silent) ;;
        --boot) boot=1 ;;
        --on) after=$2 && shift ;;
        esac
        shift
    done
    heat2d "$before" >"$job-1.log" 2>&1 &
    pid=$!
    wait_for_moment "$job-1.log"
    safe=$(safe_step "$from")
    # shellcheck disable=SC2086 # several hosts
    bash "$cluster" kill ${lost//,/ } "${flags[@]}" || fail "cannot kill $lost"
    wait $pid
    status=$?
    [[ $status -ne 0 && $status -ne 124 ]] || fail "$job did not notice that it lost $lost"
    [ "$from" = store ] || safe=$(last_step "$job-1.log")
    if [ $boot -eq 1 ]; then
        # shellcheck disable=SC2086 # several hosts
        for host in ${lost//,/ }; do bash "$cluster" boot "$host" || fail "cannot boot $host"; done
    fi
    heat2d "$after" >"$job-2.log" 2>&1 || fail "$job: the second launch ended with $?"
    restarted=$(sed -n 's/^heat2d: restarted from step \([0-9]*\)$/\1/p' "$job-2.log")
    [ "${restarted:--1}" -ge "$safe" ] || fail "$job: step $safe was safe, went on from ${restarted:-the start}"
    cmp reference.h5 "$job.h5" || fail "$job: another result"
    echo "$job: lost $lost when step $safe was safe, went on from step $restarted on $after"
}

if [ ! -x "$bin/heat2d" ]; then
    echo "skipped: the examples are not built"
    exit 77
fi
bash "$cluster" up 5 --shm 256m || exit $?
"$bin/heat2d-make-field" field.h5 192 256 >/dev/null || fail "cannot write the input"
job=reference
# Its object store is a directory that each host has for itself: that is said, and nothing is drained to it.
DCACHE_STORE=file:///dev/shm/objects heat2d h0,h1,h2,h3 >reference-1.log 2>&1 ||
    fail "the undisturbed run ended with $?"
grep -q 'file:///dev/shm/objects is not the same directory on all hosts: nothing is drained' reference-1.log ||
    fail "nobody has seen that the object store is not shared"
export DCACHE_STORE=none # replicas have it, or nobody

# On the spare, other ranks on other hosts than before; nobody is told of the loss.
lost=h$((RANDOM % 4))
survivors=$(printf '%s\n' h0 h1 h2 h3 h4 | grep -v "$lost" | sort -R | paste -sd ,)
DCACHE_TRANSPORT=two-sided lose spare nodes h0,h1,h2,h3 $lost --silent --on "$survivors"
bash "$cluster" boot $lost || fail "cannot boot $lost"
# On fewer hosts with more ranks each.
DCACHE_TRANSPORT=one-sided lose fewer nodes h0,h1,h2,h3 h2 --on h0:2,h1,h3
bash "$cluster" boot h2 || fail "cannot boot h2"

# h1 keeps the replicas of h0, or the other way round: what they had is in the object store only.
mkdir store || exit 1
export DCACHE_STORE=file://$scratch/store
lose partners store h0,h1,h2,h3 h0,h1 --boot
