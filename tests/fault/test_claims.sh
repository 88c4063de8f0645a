#!/bin/bash
# Two runs of one name on different nodes, which only the claim in the object store keeps apart: the living are left
# alone, the dead are taken over from, and one that was thought dead and is not stores nothing any more.
# timeout: 300
# shellcheck source=tests/fault/runs.sh
. "$TEST_SOURCE_DIR/tests/fault/runs.sh"
ranks=2
busy=-7 # DCACHE_ERR_BUSY
export DCACHE_NODE_SIZE=1 DCACHE_JOB=shared DCACHE_STORE=file://$PWD/objects
claim=objects/shared/claim.json
values=("$bin/program_values" --kib 100)

on_nodes() { # NAME: so many other nodes
    export DCACHE_MEMORY_STORE=$PWD/memory-$1
}

expect() { # LOG REGULAR_EXPRESSION: a line of every rank
    [ "$(grep -cE "^rank [0-9]+ $2" "$1")" -eq $ranks ] || fail "not all ranks say '$2': $(cat "$1")"
}

claim_says() { # FIELD
    "$bin/dcache" ls --job shared --json |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["jobs"][0]["claim"][sys.argv[1]])' "$1"
}

edit_claim() { # FIELD=VALUE...: numbers where they are ones
    PYTHONPATH=$TEST_SOURCE_DIR/tests/tools python3 - "$claim" "$@" <<'END'
import json, os, sys
from read_shard import crc64
path = sys.argv[1]
with open(path, encoding="utf-8") as file:
    document = json.load(file)
for field, value in (text.split("=", 1) for text in sys.argv[2:]):
    document[field] = int(value) if isinstance(document[field], int) else value
def digest_of(names):
    return "%016x" % crc64("".join(f"{document[name]}\n" for name in names.split()).encode())
document["digest"] = digest_of("run generation renewals owner state host slurm_job pid process written lease_seconds")
document["origin_digest"] = digest_of("run machine boot slurm_cluster slurm_restarts")
with open(path + "~", "w", encoding="utf-8") as file:
    json.dump(document, file)
os.rename(path + "~", path)
END
}

# Shards that only these nodes have, for `dcache drain` later.
on_nodes left
DCACHE_STORE=none must_run left.log $ranks "${values[@]}" 1
expect left.log 'close status 0$'

# A second run, on other nodes, while the first one lives. It is seen to renew its claim, long before its lease ends.
export DCACHE_CLAIM_LEASE=15s
on_nodes first
export SLURM_JOB_ID=4711 SLURM_CLUSTER_NAME=alps # the second one is a step of the same Slurm job
start_ranks first.log $ranks "${values[@]}" 2 @go 3
first=$session
wait_for_line "$first" first.log '^rank 0 step 2 status 0'
on_nodes second
must_run second.log $ranks "${values[@]}" 6
expect second.log "open status $busy$"
grep -q "the name shared is in use in this object store by a run on host $(hostname) (process [0-9]*, Slurm job 4711)" second.log ||
    fail "the text does not say who: $(cat second.log)"
unset SLURM_JOB_ID SLURM_CLUSTER_NAME
grep -q 'give this run a name of its own' second.log || fail "no remedy: $(cat second.log)"
on_nodes left
"$bin/dcache" drain --job shared --store "$DCACHE_STORE" >drain.log 2>&1
status=$?
[ $status -eq 4 ] || fail "dcache drain beside a living run ended with status $status: $(cat drain.log)"
grep -q 'in use in this object store by a run on host' drain.log || fail "dcache drain does not say why: $(cat drain.log)"
"$bin/dcache" prune --job shared --store "$DCACHE_STORE" --keep-last 9 --unfinished >prune.log 2>&1
status=$?
[ $status -eq 4 ] || fail "dcache prune --unfinished beside a living run ended with status $status: $(cat prune.log)"
"$bin/dcache" ls --job shared --store "$DCACHE_STORE" >ls.log 2>&1
grep -q "^claim: held by a run on host $(hostname) (process [0-9]*, Slurm job 4711), renewed " ls.log ||
    fail "dcache ls does not say who holds it: $(cat ls.log)"
touch go
finish_ranks "$first" first.log || fail "the first run was disturbed: $(cat first.log)"
expect first.log 'step 3 status 0:'
expect first.log 'close status 0$'
on_nodes first
[ "$(claim_says held)" = False ] || fail "the claim is not given back: $(cat $claim)"

# Killed, and launched again on other nodes: its process was one of this host, so nobody waits for its hour to end.
export DCACHE_CLAIM_LEASE=1h
start_ranks killed.log $ranks "${values[@]}" 4 @never
killed=$session
wait_for_line "$killed" killed.log '^rank 0 step 4 status 0'
kill_session "$killed"
[ "$(claim_says held)" = True ] || fail "the killed run has given its claim back: $(cat $claim)"
"$bin/dcache" ls --job shared | grep -q '^claim: left behind by a run' || fail "dcache ls does not say that it is dead"
on_nodes third
must_run third.log $ranks "${values[@]}" 5
expect third.log 'open status 0$'
expect third.log 'close status 0$'

# Killed, and of another host as far as can be told: known by what it has left on its nodes.
on_nodes first
start_ranks killed.log $ranks "${values[@]}" 6 @never
killed=$session
wait_for_line "$killed" killed.log '^rank 0 step 6 status 0'
kill_session "$killed"
edit_claim process=0000000000000000 host=far-away
must_run again.log $ranks "${values[@]}" --restart 7
expect again.log 'step 7 status 0:'

# The same without anything left on the nodes, but both are one Slurm job, which was queued again. Its hour is not waited for.
edit_claim process=0000000000000000 host=far-away run=00000000000000aa state=held slurm_job=4711 slurm_cluster=alps
on_nodes queued
SLURM_JOB_ID=4711 SLURM_CLUSTER_NAME=alps SLURM_RESTART_COUNT=1 must_run queued.log $ranks "${values[@]}" --restart 8
expect queued.log 'step 8 status 0:'

# The same without any of this: its lease is waited for, and then it is taken.
edit_claim process=0000000000000000 host=far-away run=00000000000000aa state=held lease_seconds=2
on_nodes fourth
must_run waited.log $ranks "${values[@]}" --restart 9
expect waited.log 'step 9 status 0:'
grep -q 'far-away.*waiting for at most that long' waited.log || fail "it does not say what it waits for: $(cat waited.log)"

# Stopped for longer than its lease and taken over from: what it takes afterwards is not stored, and it says so.
export DCACHE_CLAIM_LEASE=2s
on_nodes stopped
start_ranks stopped.log $ranks "${values[@]}" 11 @resume 12
stopped=$session
wait_for_line "$stopped" stopped.log '^rank 0 step 11 status 0'
# shellcheck disable=SC2046 # several words
kill -STOP $(session_pids "$stopped")
on_nodes fifth
must_run fifth.log $ranks "${values[@]}" 20
expect fifth.log 'open status 0$'
expect fifth.log 'close status 0$'
# shellcheck disable=SC2046 # several words
kill -CONT $(session_pids "$stopped")
touch resume
finish_ranks "$stopped" stopped.log || fail "the run that was stopped died of it: $(cat stopped.log)"
expect stopped.log 'step 12 status 0:'
grep -q 'was taken over by a run on host' stopped.log || fail "it does not say that it was replaced: $(cat stopped.log)"
[ -e objects/shared/20/manifest.json ] || fail "the run that took over has stored nothing"
[ ! -e objects/shared/12/manifest.json ] || fail "the run that was replaced has stored a step"

# The store does not answer when the run is opened: the run goes on, and stores as soon as it has got the claim.
if grep -q 'DCACHE_FAILPOINTS:BOOL=ON' "$TEST_BUILD_DIR/CMakeCache.txt"; then
    on_nodes sixth
    DCACHE_FAILPOINTS='claim.take=error#1' start_ranks later.log $ranks "${values[@]}" 30 @stored 31
    later=$session
    wait_for_line "$later" later.log '^rank 0 step 30 status 0'
    until [ -e objects/shared/30/manifest.json ]; do # the test's limit ends this
        kill -0 "$later" 2>/dev/null || fail "the run has ended: $(cat later.log)"
        sleep 0.1
    done
    touch stored
    finish_ranks "$later" later.log || fail "the run has failed: $(cat later.log)"
    expect later.log 'open status 0$'
    expect later.log 'close status 0$'
    grep -q "nothing is stored until the job's claim in the object store can be had" later.log ||
        fail "it does not say why nothing is stored: $(cat later.log)"
fi
