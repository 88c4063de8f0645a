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

cat >metadata.py <<'END'
"""The instance metadata service: `events.json` says what is going to happen; without the header there is no answer."""
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get("Metadata") != "true":
            self.send_error(400)
            return
        name = "events.json" if self.path.startswith("/metadata/scheduledevents?api-version=2020") else "place.json"
        with open(name, "rb") as file:
            body = file.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open("port", "w") as file:
    file.write(f"{server.server_port}\n")
server.serve_forever()
END

echo '{"DocumentIncarnation": 1, "Events": []}' >events.json
echo '{"name": "hb_3", "zone": "", "platformFaultDomain": "1"}' >place.json
python3 metadata.py &
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
export DCACHE_EVENTS=none
heat second --steps $((last + 5))
wait "$program" || fail "the second run failed: $(cat second)"
grep -q "restarted from step $last" second || fail "not restarted from step $last: $(cat second)"

[ "$failures" = 0 ] && echo "all good"
exit "$failures"
