#!/bin/bash
# bench-drain, run tiny: the document is whole and its figures fit its times, the sink's check of digests is on, bad
# input is told in one line, and nothing is left behind. Times are not looked at. With TLS, and with rclone where it is.
set -u
export LC_ALL=C
unset TEST_AZURE_URL
program=$TEST_BUILD_DIR/bin/bench-drain
tier=$TEST_SCRATCH_DIR/tier
mkdir "$tier"
[ -x "$program" ] || { echo "skipped: the benchmarks are not built"; exit 77; }

fail() {
    echo "FAILED: $*"
    exit 1
}

refused() { # STATUS WORD OPTION...
    local expected=$1 word=$2
    shift 2
    "$program" --tier "$tier" "$@" >out 2>err
    local status=$?
    [ $status -eq "$expected" ] || fail "$*: exit status $status instead of $expected"
    [ ! -s out ] || fail "$*: wrote to standard output: $(cat out)"
    grep -q "^bench-drain: .*$word" err || fail "$*: nothing about '$word' in: $(cat err)"
}

echo "== a document: several blocks, one block, digests checked by the sink"
"$program" --tier "$tier" --bytes 3000007 --shards 3 --rounds 2 --block 1M --check --json >many.json || fail "many"
"$program" --tier "$tier" --bytes 1 --shards 1 --rounds 1 --connections 1 --check --json >one.json || fail "one"
"$program" --tier "$tier" --bytes 3000007 --shards 3 --rounds 2 --block 1M --check --tls --json >tls.json || fail "TLS"
"$program" --tier "$tier" --bytes 20K --shards 40 --rounds 1 --check --latency 1 --no-rclone --json >small.json ||
    fail "small"
python3 - <<'EOF' || fail "a document is wrong"
import json, shutil, statistics
for name, shards, rounds in ("many.json", 3, 2), ("one.json", 1, 1), ("tls.json", 3, 2), ("small.json", 40, 1):
    document = json.load(open(name))
    assert document["format"] == "bench-drain" and document["store"] == "sink", document
    assert document["shards"] == shards and document["rounds"] == rounds, document
    assert document["bytes"] >= 3 * 3000007 if shards == 3 else document["bytes"] > 4096, document
    assert document["tls"] == (name == "tls.json") and document["latency_ms"] == (name == "small.json"), document
    rclone = shutil.which("rclone") is not None and name != "small.json"
    assert ("rclone_GBps" in document) == rclone, document
    for way in ("curl", "curl_threads", "drain") + (("rclone",) if rclone else ()):
        times = document[way + "_s"]
        assert len(times) == rounds and min(times) > 0, document
        rate = document["bytes"] / 1e9 / statistics.median(times)
        assert abs(document[way + "_GBps"] / rate - 1) < 0.01, (way, rate, document)
        assert document[way + "_cpu_s_per_GB"] > 0, document
        for what in "_of_curl", "_cpu_of_curl":
            spread = document[way + what]
            assert 0 < spread["least"] <= spread["median"] <= spread["most"], document
    assert document["curl_of_curl"] == {"least": 1, "median": 1, "most": 1}, document
EOF

echo "== the table"
"$program" --tier "$tier" --bytes 64K --shards 2 --rounds 1 >table || fail "exit status $?"
[ "$(grep -cE '^(drain|libcurl, threads|libcurl, one multi loop)  *[0-9.]+ ' table)" -eq 3 ] || fail "no table: $(cat table)"

echo "== a sink for others"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$program" --serve "127.0.0.1:$port" --check &
sink=$!
trap 'kill $sink 2>/dev/null' EXIT
until bash -c "exec 3<>/dev/tcp/127.0.0.1/$port" 2>/dev/null; do
    kill -0 $sink || fail "the sink has ended"
    sleep 0.1
done
AZURE_STORAGE_ACCOUNT=sink AZURE_STORAGE_KEY=a2V5 "$program" --tier "$tier" --bytes 3000007 --shards 2 --rounds 1 --block 1M \
    --no-rclone --json --url "http://127.0.0.1:$port/sink/bench" >served.json || fail "served"
grep -q "\"store\": \"http://127.0.0.1:$port/sink/bench\"" served.json || fail "it was sent elsewhere: $(cat served.json)"
kill $sink
wait $sink 2>/dev/null

echo "== bad input"
refused 2 nonsense --bytes nonsense
refused 2 0 --rounds 0
refused 2 1T --bytes 1T
refused 2 65 --connections 65
refused 2 nope --nope
refused 2 extra extra
refused 1 file --url "file://$PWD/x"
refused 1 nowhere --tier /nowhere
refused 2 tls --tls --url azure://container
refused 2 ADDRESS:PORT --serve nowhere
refused 1 'listen at' --serve 192.0.2.1:80
refused 2 tls --serve 127.0.0.1:80 --tls
"$program" --help | grep -q '^usage: ' || fail "--help says nothing"
[ -z "$(find "$tier" -mindepth 1)" ] || fail "left behind: $(find "$tier" -mindepth 1 | head -n 3)"
echo "good"
