#!/bin/bash
# timeout: 300
# bench-checkpoint and its sweep, run tiny: the documents are whole and their sums right, bad input is told in one
# line, and nothing is left behind, also not by a run that was killed. Times are not looked at.
set -u
export LC_ALL=C
program=$TEST_BUILD_DIR/bin/bench-checkpoint
tier=$TEST_SCRATCH_DIR/tier
mkdir "$tier"
[ -x "$program" ] || { echo "skipped: the benchmarks are not built"; exit 77; }

fail() {
    echo "FAILED: $*"
    exit 1
}

bench() { # RANKS OPTION...
    local ranks=$1
    shift
    mpirun -q --oversubscribe -n "$ranks" "$program" --tier "$tier" "$@" 2>err
}

left_behind() {
    find "$tier" -mindepth 1 | head -n 3
}

check() { # FILE RANKS BYTES ROUNDS
    python3 "$TEST_SOURCE_DIR/tests/bench/check_document.py" "$@" || fail "$1 is wrong"
}

refused() { # WORD OPTION...: exit status 2 and one line about it
    local word=$1
    shift
    bench 2 "$@" >out
    local status=$?
    [ $status -eq 2 ] || fail "$*: exit status $status instead of 2"
    [ ! -s out ] || fail "$*: wrote to standard output: $(cat out)"
    grep '^bench-checkpoint: ' err >lines
    [ "$(wc -l <lines)" -eq 1 ] || fail "$*: not one line: $(cat err)"
    grep -qF -- "$word" lines || fail "$*: nothing about '$word' in: $(cat lines)"
}

echo "== a document to standard output, even and odd rounds, sizes that are no multiple of anything"
bench 2 --bytes 300007 --regions 7 --rounds 2 --json >even.json || fail "exit status $?: $(cat err)"
check even.json 2 300007 2
bench 3 --bytes 3145735 --rounds 3 --json odd.json >table || fail "exit status $?: $(cat err)"
check odd.json 3 3145735 3
grep -q 'staged.*of .*floor_copy' table || fail "no table: $(cat table)"
grep -q 'replicated: .*of .*floor_put' table || fail "no table: $(cat table)"

echo "== several ranks per node, the other transport"
bench 4 --bytes 64KiB --rounds 1 --node-size 2 --transport two-sided --json >two.json || fail "exit status $?: $(cat err)"
python3 - <<'EOF' || fail "two.json is wrong"
import json
document = json.load(open("two.json"))
assert (document["nodes"], document["transport"]) == (2, "two-sided"), document
assert document["bytes"]["rebuild"] == 2 * 65536 and document["bytes"]["staged"] == 4 * 65536, document["bytes"]
EOF

echo "== one node: what needs two is null"
bench 1 --bytes 1KiB --rounds 1 --json >one.json || fail "exit status $?: $(cat err)"
python3 -c 'import json; d = json.load(open("one.json")); assert d["replicated_GBps"] is None and d["staged_GBps"] > 0' ||
    fail "one.json is wrong"
[ -z "$(left_behind)" ] || fail "left behind: $(left_behind)"

echo "== bad input"
refused nonsense --bytes nonsense
refused '--bytes 0' --bytes 0
refused regions --bytes 3 --regions 4
refused --rounds --rounds 0
refused auto --transport pigeon
refused --nope --nope
refused needs --bytes
refused unexpected extra
refused /nowhere --tier /nowhere
refused room --bytes 1TiB
refused /nowhere/x.json --json /nowhere/x.json
DCACHE_SLOTS=1 refused slots --bytes 1KiB
bench 2 --help >out || fail "--help: exit status $?"
grep -q '^usage: ' out || fail "--help says nothing"

echo "== a killed run is cleaned up after by the next one"
bench 2 --bytes 1MiB --rounds 10000 >/dev/null &
until [ -n "$(find "$tier" -name 'own-*')" ]; do
    sleep 0.1
    kill -0 $! 2>/dev/null || fail "the run to be killed has ended by itself: $(cat err)"
done
mapfile -t ranks < <(pgrep -f -- "^$program --tier $tier ")
[ ${#ranks[@]} -eq 2 ] || fail "2 ranks were expected, not ${#ranks[@]}"
kill -9 "${ranks[@]}"
wait
[ -n "$(left_behind)" ] || fail "nothing to clean up: the test tests nothing"
bench 2 --bytes 1KiB --rounds 1 >/dev/null || fail "exit status $?: $(cat err)"
[ -z "$(left_behind)" ] || fail "left behind: $(left_behind)"

echo "== sweep and plot"
python3 "$TEST_SOURCE_DIR/benchmarks/sweep.py" --program "$program" --mpirun "mpirun -q --oversubscribe" --ranks 1,2 \
    --bytes 1KiB,65543 --rounds 1 --repeat 2 --tier "$tier" --output sweep.jsonl --plot sweep.svg || fail "sweep"
[ "$(wc -l <sweep.jsonl)" -eq 8 ] || fail "8 documents were expected: $(wc -l <sweep.jsonl)"
python3 - <<'EOF' || fail "sweep.svg is wrong"
import xml.etree.ElementTree
svg = xml.etree.ElementTree.parse("sweep.svg").getroot()
name = "{http://www.w3.org/2000/svg}"
lines = [len(line.get("points").split()) for line in svg.iter(name + "polyline")]
# One rank: staged, its floor, restart, its floor; two ranks: four figures and their floors. Two sizes each.
assert lines == [2] * 12, lines
words = {text.text for text in svg.iter(name + "text")}
assert {"1 rank", "2 ranks", "1 KiB", "64.01 KiB", "staged", "floor: one copy"} <= words, words
EOF
[ -z "$(left_behind)" ] || fail "left behind: $(left_behind)"
echo "good"
