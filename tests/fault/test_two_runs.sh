#!/bin/bash
# Two runs of one job on the same nodes: the second is told who is there, and the first goes on undisturbed.
# timeout: 180
# shellcheck source=tests/fault/runs.sh
. "$TEST_SOURCE_DIR/tests/fault/runs.sh"
ranks=3
busy=-7 # DCACHE_ERR_BUSY
export DCACHE_NODE_SIZE=1 DCACHE_JOB=shared
values=("$bin/program_values" --kib 200)

expect() { # LOG REGULAR_EXPRESSION: a line of every rank
    [ "$(grep -cE "^rank [0-9]+ $2" "$1")" -eq $ranks ] || fail "not all ranks say '$2': $(cat "$1")"
}

start_ranks first.log $ranks "${values[@]}" 1 2 @go 3 4 5
first=$session
wait_for_line "$first" first.log '^rank 0 step 2 status 0'

must_run second.log $ranks "${values[@]}" --restart 6
expect second.log "open status $busy$"
grep -q 'the node store is in use by another process' second.log || fail "no such text: $(cat second.log)"
pid=$(sed -nE 's/.*in use by process ([0-9]+) \(program_values\).*/\1/p' second.log | head -n 1)
[ -n "$pid" ] || fail "the text names no process: $(cat second.log)"
[[ " $(session_pids "$first")" == *" $pid "* ]] || fail "process $pid is none of the first run"

# The tool looks, and does not take what is in use.
"$bin/dcache" ls --job shared >ls.log 2>&1 || fail "dcache ls beside a run: $(cat ls.log)"
"$bin/dcache" drain --job shared >drain.log 2>&1
status=$?
[ $status -eq 4 ] || fail "dcache drain beside a run ended with status $status: $(cat drain.log)"
grep -q "in use by process $pid" drain.log || fail "dcache drain names no process: $(cat drain.log)"

touch go
finish_ranks "$first" first.log || fail "the first run was disturbed: $(cat first.log)"
for step in 1 2 3 4 5; do
    expect first.log "step $step status 0:"
done
expect first.log 'close status 0$'

# When nobody holds it any more, it can be had.
must_run third.log $ranks "${values[@]}" --restart 6
expect third.log 'restarted from step 5, good$'
expect third.log 'step 6 status 0:'
