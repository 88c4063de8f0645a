#!/bin/bash
# timeout: 600
# mlperf-checkpoint, run tiny: files and bytes of all models against the workload's table and against a second program's
# arithmetic, the layout of the results, every sum computed again, the load generator killed and launched again, and bad
# input. Times are not looked at.
set -u
export LC_ALL=C
program=$TEST_BUILD_DIR/bin/mlperf-checkpoint
bench=$TEST_SOURCE_DIR/benchmarks/mlperf
[ -x "$program" ] || { echo "skipped: the benchmarks are not built"; exit 77; }
export DCACHE_NODE_SIZE=2
[ -d "$DCACHE_MEMORY_STORE" ] || mkdir -m 700 "$DCACHE_MEMORY_STORE"

fail() {
    echo "FAILED: $*"
    exit 1
}

run() { # OPTION...
    mpirun -q --oversubscribe -n 8 "$program" --results results --scale 20000 --writes 2 --reads 1 --pause 0 "$@" \
        >out 2>err || fail "$*: exit status $?: $(cat err)"
}

leaf() { # the results of the last run
    sed -n 's/^results: //p' out
}

check() {
    python3 "$bench/check.py" "$@" || fail "$* is wrong"
}

left_behind() {
    find "$DCACHE_MEMORY_STORE" store directory objects -mindepth 1 2>/dev/null | head -n 3
}

refused() { # WORD OPTION...: exit status 2 and one line about it
    local word=$1
    shift
    "$program" "$@" >out 2>err
    local status=$?
    [ $status -eq 2 ] || fail "$*: exit status $status instead of 2: $(cat err)"
    [ ! -s out ] || fail "$*: wrote to standard output: $(cat out)"
    grep '^mlperf-checkpoint: ' err >lines
    [ "$(wc -l <lines)" -eq 1 ] || fail "$*: not one line: $(cat err)"
    grep -qF -- "$word" lines || fail "$*: nothing about '$word' in: $(cat lines)"
}

to_azurite() { # the second half of this script, inside with-azurite.sh
    DCACHE_STORE=$TEST_AZURE_URL "$TEST_BUILD_DIR/bin/dcache" store create >/dev/null || fail "no container"
    run --model llama3-1t --subset 8 --way blob --url "$TEST_AZURE_URL"
    check "$(leaf)"
    DCACHE_STORE=$TEST_AZURE_URL run --model llama3-8b --level durable --read blob --writes 1
    check "$(leaf)"
    grep -q 'load blob *loaded *1 ' out || fail "nothing was read from Blob: $(cat out)"
}

if [ "${1:-}" = azurite ]; then
    to_azurite
    exit
fi

echo "== every file of every rank"
for model in llama3-8b llama3-70b llama3-405b llama3-1t; do
    "$program" --model $model --list >$model.list || fail "--list"
    check --list $model <$model.list
done
"$program" --model llama3-70b --list --subset 8 --scale 1000 | check --list llama3-70b
sed -i '7s/ [0-9]* / 1 /' llama3-405b.list
python3 "$bench/check.py" --list llama3-405b <llama3-405b.list 2>/dev/null && fail "a wrong number of bytes is not noticed"
python3 - <<'EOF2' || fail "the table differs"
# Bytes of model and optimizer files per rank, as the workload's table has them.
EXPECTED = {
    "llama3-8b": ([(8, 2007565312)], 12045637632, 16),
    "llama3-70b": ([(64, 2184120320)], 13103482368, 128),
    "llama3-405b": ([(8, 3713269760), (240, 3187933184), (248, 2390949888), (256, 2916319232), (512, 0)],
                    9513171840, 1544),
    "llama3-1t": ([(8, 5425047936), (504, 4595488128), (512, 5425099680), (1024, 0)], 13865244924, 2072),
}
import subprocess, os
for model, (parts, optimizer, files) in EXPECTED.items():
    lines = subprocess.run([os.environ["TEST_BUILD_DIR"] + "/bin/mlperf-checkpoint", "--model", model, "--list"],
                           capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split() for line in lines if line[0] != "#"]
    assert len(rows) == files, (model, len(rows))
    ranks, first = parts[-1][0], 0
    sums = [[0, 0] for _ in range(ranks)]
    for rank, size, name in rows:
        sums[int(rank)][name.endswith("optim_states.pt")] += int(size)
    for end, size in parts:
        assert all(s == [size, optimizer] for s in sums[first:end]), (model, first, end, sums[first])
        first = end
names = {line.split()[2] for line in lines if line[0] != "#"}
assert {"layer_0-model_7_model_states.pt", "layer_130-model_511_model_states.pt",
        "zero_pp_rank_1_mp_rank_511_optim_states.pt"} <= names
EOF2

echo "== through dcache: all levels, all sources"
DCACHE_STORE=file://$PWD/store run --model llama3-8b --read replica,own,blob
check "$(leaf)"
for row in 'save *staged *2 ' 'save *replicated *2 ' 'save *durable *2 ' 'load own *loaded *1 ' 'load replica *loaded *1 ' \
    'load blob *loaded *1 ' 'scale 1/20000'; do
    grep -q "$row" out || fail "no row '$row' in: $(cat out)"
done
[ "$(find results/checkpointing/llama3-8b -name '*_per_epoch_stats.json' | wc -l)" -eq 8 ] || fail "files of ranks"
[ -z "$(left_behind)" ] || fail "left behind: $(left_behind)"

echo "== what is wrong in results is noticed"
cp -r "$(leaf)" "$(dirname "$(leaf)")/20250101_000000"
wrong=$(dirname "$(leaf)")/20250101_000000
for change in 's/"replicated": \[/&1e-3,/' 's/"scale": 20000/"scale": 20001/'; do
    cp "$(leaf)/ranks.json" "$wrong/ranks.json"
    sed -zi "$change" "$wrong/ranks.json"
    python3 "$bench/check.py" "$wrong" >/dev/null 2>&1 && fail "$change is not noticed"
done
rm -r "$wrong"

echo "== the report"
python3 "$bench/report.py" --output . "$(leaf)" "$(leaf)" >/dev/null || fail "report.py"
python3 - <<'EOF2' || fail "the report is wrong"
import html.parser, re
document = open("report.html", encoding="utf-8").read()
html.parser.HTMLParser().feed(document)
assert document.count("<svg ") == 3 and document.count("</svg>") == 3, document.count("<svg ")
assert not re.search(r"(src|href)=|url\(|<script", document), "it loads something"
for words in "unofficial", "SCALED: every file has 1/20000", "as the rules of v3.0 count a read":
    assert words in document and words in open("report.md", encoding="utf-8").read(), words
assert "| load replica | loaded | 1 |" in open("report.md", encoding="utf-8").read()
EOF2

echo "== the recipes are what expect.py writes; a column of measured times"
mkdir recipes
python3 "$bench/expect.py" --recipes recipes || fail "expect.py --recipes"
for recipe in recipes/*; do cmp "$recipe" "$bench/$(basename "$recipe")" || fail "run expect.py --recipes $bench"; done
[ "$(find recipes "$bench" -name '*.sbatch' | wc -l)" -eq 16 ] || fail "not 8 recipes"
python3 "$bench/expect.py" llama3-8b hbv4 --measured "$(leaf)" >expected.md || fail "expect.py --measured"
[ "$(grep -cE '^\| (save|load) .* \| [0-9.]+ \| [0-9.]+ \|$' expected.md)" -eq 6 ] || fail "no table: $(cat expected.md)"

echo "== to a directory, and straight to an object store"
mkdir directory
run --model llama3-405b --subset 8 --way posix --directory directory --keep 1 --keep-data --compressible
check "$(leaf)"
[ "$(find directory -type f | cut -d / -f 2 | sort -u)" = global_epoch1_step2 ] || fail "--keep 1 keeps more: $(left_behind)"
"$program" --model llama3-405b --subset 8 --scale 20000 --list | sed -n 's/^[0-9]* //p' | sort >expected
(cd directory/global_epoch1_step2 && stat -c '%s %n' ./*) | sed 's,\./,,' | sort >found
cmp expected found || fail "other files than --list says: $(diff expected found)"
rm -r directory && mkdir objects
run --model llama3-70b --subset 8 --way blob --url "file://$PWD/objects" --keep 1
check "$(leaf)"
[ -z "$(find objects -type f)" ] || fail "left behind: $(left_behind)"

echo "== a load generator that is killed goes on from what was safe"
generate() { # WRITES PAUSE
    mpirun -q --oversubscribe -n 8 "$program" --model llama3-8b --scale 20000 --job load --writes "$1" --pause "$2"
}
generate 250 0 >first.log 2>&1 &
until grep -q 'safe is step [5-9]$' first.log; do
    sleep 0.1
    kill -0 $! 2>/dev/null || fail "the run to be killed has ended by itself: $(cat first.log)"
done
mapfile -t ranks < <(pgrep -f -- "^$program --model llama3-8b --scale 20000 --job load")
kill -9 "${ranks[@]}"
wait
safe=$(sed -n 's/.*: safe is step \([0-9]*\)$/\1/p' first.log | tail -n 1)
generate 2 0 >second.log 2>&1 || fail "the second launch: $(cat second.log)"
again=$(sed -n 's/.*: restarted from step \([0-9]*\), all bytes compared$/\1/p' second.log)
[ "${again:-0}" -ge "$safe" ] || fail "step $safe was safe, and it restarted from ${again:-nothing}"
grep -q "safe is step $((again + 2))\$" second.log || fail "it did not go on: $(cat second.log)"

echo "== bad input"
refused llama3-8b --model llama2
refused '--model' --results x
refused '--results' --model llama3-8b
refused 32768 --model llama3-405b --results x --scale 40000
refused 'mpirun -n 8' --model llama3-8b --results x
refused '--subset 8' --model llama3-70b --results x
refused '--directory' --model llama3-8b --results x --way posix
refused 'own, replica and blob' --model llama3-8b --results x --read own,own
refused --nope --model llama3-8b --nope
"$program" --help | grep -q '^usage: ' || fail "--help says nothing"
mpirun -q --oversubscribe -n 8 "$program" --model llama3-8b --results results --scale 20000 --read blob >out 2>err
status=$?
[ $status -eq 2 ] || fail "--read blob without a store: exit status $status"
grep -q DCACHE_STORE err || fail "--read blob without a store: $(cat err)"

echo "== a Blob service"
bash "$TEST_SOURCE_DIR/tests/azurite/with-azurite.sh" bash "${BASH_SOURCE[0]}" azurite
status=$?
[ $status -eq 0 ] || [ $status -eq 77 ] || fail "exit status $status"
echo "good"
