#!/bin/bash
# Two runs of one job on the same nodes: the second is told who is there, and the first goes on undisturbed.
# timeout: 180
# shellcheck source=tests/fault/runs.sh
. "$TEST_SOURCE_DIR/tests/fault/runs.sh"
export DCACHE_NODE_SIZE=1 DCACHE_JOB=shared
heat=("$bin/heat2d" --input field.h5 --steps 120 --every 10)

"$bin/heat2d-make-field" field.h5 64 64 || fail "no field"
DCACHE_JOB=alone must_run alone.log 3 "${heat[@]}" --output expected.h5

start_ranks first.log 3 "${heat[@]}" --output first.h5 --sleep-ms 50
first=$session
wait_for_line "$first" first.log '^heat2d: step 10 checkpointed'

run_ranks second.log 3 "${heat[@]}" --output second.h5
status=$?
[ $status -eq 2 ] || fail "the second run ended with status $status: $(cat second.log)"
[ ! -e second.h5 ] || fail "the second run wrote a result"
grep -q 'the node store is in use by another process' second.log || fail "no such text: $(cat second.log)"
pid=$(sed -nE 's/.*in use by process ([0-9]+) \(heat2d\).*/\1/p' second.log | head -n 1)
[ -n "$pid" ] || fail "the text names no process: $(cat second.log)"
[[ " $(session_pids "$first")" == *" $pid "* ]] || fail "process $pid is none of the first run"

# The tool looks, and does not take what is in use.
"$bin/dcache" ls --job shared >ls.log 2>&1 || fail "dcache ls beside a run: $(cat ls.log)"
"$bin/dcache" drain --job shared >drain.log 2>&1
status=$?
[ $status -eq 4 ] || fail "dcache drain beside a run ended with status $status: $(cat drain.log)"
grep -q "in use by process $pid" drain.log || fail "dcache drain names no process: $(cat drain.log)"

kill -0 "$first" || fail "the first run ended too early for this test"
finish_ranks "$first" first.log || fail "the first run was disturbed: $(tail first.log)"
must_be_equal expected.h5 first.h5
for ((step = 10; step <= 120; step += 10)); do
    grep -q "^heat2d: step $step checkpointed" first.log || fail "the first run has no checkpoint of step $step"
done

# When nobody holds it any more, it can be had.
must_run third.log 3 "${heat[@]}" --output third.h5
grep -q '^heat2d: restarted from step 120' third.log || fail "the third run did not restart: $(cat third.log)"
must_be_equal expected.h5 third.h5
