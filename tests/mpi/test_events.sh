#!/bin/bash
# A node is to be evicted: Azure's Scheduled Events, from a server that behaves as the instance metadata service does,
# reach a running program, which saves its state and ends; launched again it goes on.
# timeout: 120
set -u
bin=$TEST_BUILD_DIR/bin
export DCACHE_STORE=none DCACHE_LOG=error DCACHE_NODE_SIZE=1
failures=0

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

echo '{"DocumentIncarnation": 1, "Events": []}' >events.json
echo '{"name": "hb_3", "zone": "", "platformFaultDomain": "1"}' >place.json
python3 "$TEST_SOURCE_DIR/tests/tools/instance_metadata.py" . 0 &
server=$!
trap 'kill "$server"' EXIT
for _ in {1..100}; do
    [ -s port ] && break
    sleep 0.1
done
[ -s port ] || exit 1
DCACHE_EVENTS=http://127.0.0.1:$(cat port)
export DCACHE_EVENTS

announce() { # announce NAME TYPE
    printf '{"Events": [{"EventId": "%s", "EventType": "%s", "Resources": ["%s"], "NotBefore": ""}]}' "$2" "$2" "$1" >new
    mv new events.json
}

heat() { # heat OUTPUT OPTION...: in the background
    mpirun --oversubscribe -n 2 "$bin/heat2d" --input field.h5 --auto "${@:2}" >"$1" 2>&1 &
    program=$!
}

await() { # await FILE PATTERN
    for _ in {1..300}; do
        grep -q "$2" "$1" 2>/dev/null && return
        sleep 0.1
    done
    fail "no '$2' in $1: $(cat "$1")"
}

"$bin/heat2d-make-field" field.h5 64 48 >/dev/null || fail "no field"

heat first --steps 100000 --sleep-ms 20
await first 'started from step 0'
sleep 2
grep -q checkpointed first && fail "a checkpoint that nobody asked for"
announce hb_4 Preempt # another node's
sleep 2
grep -q checkpointed first && fail "another machine's event was taken for ours"
announce hb_3 Freeze
await first 'checkpointed'
sleep 1
kill -0 "$program" || fail "it ended because of a freeze"
announce hb_3 Preempt
wait "$program"
code=$?
[ "$code" = 3 ] || fail "exit code $code, not 3: $(cat first)"
grep -q 'stopped after step' first || fail "not stopped: $(cat first)"

last=$(sed -n 's/.*stopped after step \([0-9]*\).*/\1/p' first)
# What a running program was told, `dcache events` tells somebody who is about to launch one.
events() { # events CODE ARGUMENT...: output in $out
    local code
    out=$("$bin/dcache" events "${@:2}" 2>&1)
    code=$?
    [ "$code" = "$1" ] || fail "dcache events: exit code $code, not $1: $out"
}
events 0
[ "$out" = "hb_3 will be taken away now" ] || fail "dcache events: $out"
events 0 --json
grep -q '"machine": "hb_3"' <<<"$out" || fail "no machine in $out"
announce hb_3 Freeze
events 3
announce hb_4 Preempt
events 3
echo '{"name": ""}' >place.json # whose events are these?
events 1
DCACHE_EVENTS=http://127.0.0.1:1 events 1
export DCACHE_EVENTS=none
events 3

heat second --steps $((last + 5))
wait "$program" || fail "the second run failed: $(cat second)"
grep -q "restarted from step $last" second || fail "not restarted from step $last: $(cat second)"

[ "$failures" = 0 ] && echo "all good"
exit "$failures"
