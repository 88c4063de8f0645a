#!/bin/bash
# The tool `dcache`, on node stores filled by program_fill_store and a file:// object store: what it says, its JSON, its
# exit codes. Two nodes of a job of four ranks; node 0 holds the replicas of node 1 and the other way round.
# timeout: 120
# slots: 1
set -u
umask 077
# shellcheck source=tests/tools/run_tool.sh
. "$TEST_SOURCE_DIR/tests/tools/run_tool.sh"
fill=$TEST_BUILD_DIR/bin/program_fill_store
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
export DCACHE_MEMORY_STORE=$scratch/memory

# fill_step ROOT JOB STEP SEQUENCE: all four ranks with own copies and replicas.
fill_step() {
    "$fill" "$1" "$2" 0 4 "$3" "$4" 1500000 own-0 own-1 replica-2 replica-3 || exit 1
    "$fill" "$1" "$2" 1 4 "$3" "$4" 1500000 own-2 own-3 replica-0 replica-1 || exit 1
}

store_dir() { echo "$DCACHE_MEMORY_STORE/$1/node-$2"; }

write_plan() { # write_plan JOB NODE URL RANKS
    printf '{"format": "dcache-plan", "version": 1, "store_url": "%s", "world_size": 4, "drain_every": 1, "ranks": [%s]}\n' \
        "$3" "$4" >"$(store_dir "$1" "$2")/plan.json"
    chmod 600 "$(store_dir "$1" "$2")/plan.json"
}

write_run() { # write_run JOB NODE URL
    printf '{"format": "dcache-run", "version": 1, "job": "%s", "world_size": 4, "node_count": 2, "node": %d,
"node_name": "host-a", "pid": 4711, "transport": "one-sided", "transport_reason": "all ranks are on one host",
"store_url": "%s", "started": 1700000000}\n' "$1" "$2" "$3" >"$(store_dir "$1" "$2")/run.json"
    chmod 600 "$(store_dir "$1" "$2")/run.json"
}

flip() { # flip FILE OFFSET: change one byte
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1") || exit 1
    # shellcheck disable=SC2059 # the format is the byte
    printf "\\x$(printf %x $((byte ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

echo "- usage"
run 0 --version
matches "$out" '^dcache [0-9]+\.[0-9]+\.[0-9]+$'
run 0 --help
matches "$out" '^  ls ' '^  drain ' '--memory-store' 'exit codes'
run 0 help drain
matches "$out" 'usage: dcache drain' '--plan-only'
run 0 drain --help
matches "$out" 'usage: dcache drain'
run 0 help options
matches "$out" 'memory_store' 'drain_every'
run 0 help options --markdown
matches "$out" '^\|'
run 2
matches "$err" 'usage:'
run 2 lss
run 2 ls --nonsense
run 2 ls --json=1
run 2 ls 5
run 2 show
run 2 show five
run 2 show -- -5
run 2 show 9223372036854775808
run 2 ls --plan-only
run 2 drain --markdown
run 2 ls --job ../etc
run 2 ls --job ''
run 2 ls --memory-store relative
run 2 ls --store ftp://x
DCACHE_STORR=x run 2 ls
matches "$err" 'DCACHE_STORR'
DCACHE_SLOTS=1 run 2 ls
echo "job = a b" >bad.ini
run 2 ls --config bad.ini
run 2 drain --no-store
if "$dcache" --version >/dev/full 2>/dev/null; then fail "a full disk looks like success"; fi

echo "- nothing there"
run 3 ls
matches "$err" 'no checkpoints'
run 3 verify
run 3 show 5
run 3 drain
run 3 ls --job heat
run 3 ls --json
json 'd["jobs"] == []'
[ -e dcache-store ] && fail "looking made a directory"
[ -e "$DCACHE_MEMORY_STORE" ] && fail "looking made a node store"

echo "- ls"
url=file://$scratch/objects
fill_step "$DCACHE_MEMORY_STORE" heat 100 1
fill_step "$DCACHE_MEMORY_STORE" heat 200 2
write_run heat 0 "$url"
run 0 ls
matches "$out" 'job heat: 4 ranks on 2 nodes, transport one-sided \(all ranks are on one host\)' 'pid 4711' \
    '^ 200 +REPLICATED +4/4/4 +5\.[0-9] MiB .* 2$' '^ 100 +REPLICATED +4/4/4 .* 1$'
[ "$(grep -nE '^ 200' out.txt | cut -d: -f1)" -lt "$(grep -nE '^ 100' out.txt | cut -d: -f1)" ] || fail "not newest first"
run 0 ls --json --no-store
json 'd["jobs"][0]["job"] == "heat" and [s["step"] for s in d["jobs"][0]["steps"]] == [200, 100]'
json 'd["jobs"][0]["steps"][0] | {"modified": 0, "bytes": 0} == {"step": 200, "sequence": 2, "own": 4, "replica": 4,
    "epoch": "000000000000004d", "level": "REPLICATED", "held": 4, "ranks": 4, "bytes": 0, "modified": 0}'
json 'd["jobs"][0]["run"]["transport"] == "one-sided" and d["jobs"][0]["object_store"] == ""'

"$fill" "$DCACHE_MEMORY_STORE" partial 0 4 7 3 1000 own-0 own-1 writing-2 || exit 1
"$fill" "$DCACHE_MEMORY_STORE" staged 0 2 8 1 1000 own-0 own-1 || exit 1
run 0 ls
matches "$out" '^   7 +partial 2/4 +2/0/4' '^   8 +STAGED +2/0/2' 'only this host'
run 0 ls --job staged
lacks 'heat'
run 2 verify # several jobs: which one?
matches "$err" 'heat, partial, staged'
run 0 verify --job staged
rm -rf "$DCACHE_MEMORY_STORE/partial" "$DCACHE_MEMORY_STORE/staged"

echo "- the tool's own name is no default job"
printf '[dcache]\njob = heat\n' >good.ini
run 0 verify --config good.ini
DCACHE_JOB=heat run 0 verify
DCACHE_JOB=dcache run 3 verify

echo "- show"
run 0 show 100
matches "$out" '^   0 +0 +own +complete' '^   0 +1 +replica +complete' '^   3 +1 +own ' 'field/grid +float64 +4x8 +16x8 +0,0' \
    'data +uint8 +1500000 '
run 0 show 100 --json
json 'd["step"] == 100 and len(d["copies"]) == 8 and d["regions"]["list"][1]["global"] == [16, 8]'
run 3 show 101

echo "- drain: busy, plan, second pass"
write_plan heat 0 "$url" "0, 2"
write_plan heat 1 "$url" "1, 3"
flock "$(store_dir heat 1)/lock" "$dcache" drain >out.txt 2>err.txt
code=$?
[ $code = 4 ] || fail "drain of a locked store: exit code $code, not 4: $(cat err.txt)"
[ -e objects ] && fail "drain of a locked store stored something"
mkdir -p "$scratch/other"
mv "$DCACHE_MEMORY_STORE/heat/node-1" "$scratch/other/"
run 0 drain --plan-only
matches "$out" 'step 200: 2 shards stored .*not durable yet: ranks 1, 3 missing' 'step 100: 2 shards stored'
ls objects/heat/200/part-tool-*.json >/dev/null || fail "no part"
[ -e objects/heat/200/manifest.json ] && fail "a manifest too early"
run 0 ls
matches "$out" '^ 200 +REPLICATED|^ 200 +STAGED'
run 0 drain # ranks 1 and 3 are here, too: own and replica
matches "$out" 'step 200: 2 shards stored .*DURABLE' 'step 100: 2 shards stored .*DURABLE'
mv "$scratch/other/node-1" "$DCACHE_MEMORY_STORE/heat/"
matches "$out" '^  2 shards, .* MB/s, .* 0 retries, 0 throttled, 0 hedged'
run 0 drain --json
json 'all(s[k] == 0 for s in d["steps"] for k in ("requests", "retries", "throttled", "hedged", "bytes_sent"))'
json '[s["durable"] for s in d["steps"]] == [True, True] and d["steps"][0]["shards_stored"] == 0'
run 0 ls
matches "$out" '^ 200 +DURABLE +4/4/4' '^ 100 +DURABLE'
cmp -s objects/heat/200/shard-3-2.h5 "$(store_dir heat 1)/own-3-0.h5" || fail "object and slot differ"
run 0 show 200
matches "$out" '^   0 +0 +own +complete .* yes$'
run 0 verify
matches "$out" '16 copies in node stores and 8 objects verified, .*all good'

echo "- verify: bad copies, bad objects"
flip "$(store_dir heat 0)/own-1-0.h5" 1200000
run 1 verify 200
matches "$out" '^BAD .*/heat/node-0/own-1-0.h5 \(step 200, rank 1\): chunk 1 does not match' '1 bad$'
run 0 verify 100
run 1 verify --no-store --json
json 'len(d["bad"]) == 1 and d["bad"][0]["rank"] == 1 and d["bad"][0]["chunks"] == "1" and d["objects"] == 0'
flip "$(store_dir heat 0)/own-1-0.h5" 1200000
flip "$(store_dir heat 0)/own-0-1.h5" 40 # a header
run 1 verify
matches "$out" '^BAD .*/own-0-1.h5: '
flip "$(store_dir heat 0)/own-0-1.h5" 40
flip objects/heat/100/shard-2-1.h5 700000
run 1 verify
matches "$out" '^BAD heat/100/shard-2-1.h5 \(step 100, rank 2\): chunk 0 does not'
flip objects/heat/100/shard-2-1.h5 700000
rm objects/heat/100/shard-0-1.h5
run 1 verify 100
matches "$out" '^BAD heat/100/shard-0-1.h5 .*missing'
cp objects/heat/100/shard-1-1.h5 objects/heat/100/shard-0-1.h5
run 1 verify 100
matches "$out" '^BAD heat/100/shard-0-1.h5 .*another shard'
cp "$(store_dir heat 0)/own-0-1.h5" objects/heat/100/shard-0-1.h5
run 0 verify

echo "- only the object store is left"
mv "$DCACHE_MEMORY_STORE" memory.kept
run 0 ls --store "$url"
matches "$out" '^ 200 +DURABLE +0/0/4 +5\.[0-9] MiB'
DCACHE_STORE=$url run 0 show 200
matches "$out" '^   3 +- +- +- .* yes$' 'field/grid'
DCACHE_STORE=$url run 0 verify
matches "$out" '0 copies in node stores and 8 objects'
run 3 drain --store "$url"
mv memory.kept "$DCACHE_MEMORY_STORE"

echo "- bad manifest, hostile names"
cp objects/heat/100/manifest.json kept.json
printf '{"format": "dcache-manifest", "version": 1, "job": "\\u001b[31mheat"}' >objects/heat/100/manifest.json
run 1 ls
matches "$err" 'bad manifest'
matches "$out" '^ 200 +DURABLE' '^ 100 +REPLICATED'
run 1 verify
matches "$out" 'BAD heat/100/manifest.json'
run 1 drain
lacks $'\033'
cp kept.json objects/heat/100/manifest.json
printf '{"format": "dcache-run", "version": 1, "job": "heat", "world_size": 4, "node_count": 2, "node": 0, "node_name":
"\\u009b31m\\u001b[2J", "pid": 1, "transport": "x", "transport_reason": "", "store_url": "", "started": 1}' \
    >"$(store_dir heat 0)/run.json"
run 0 ls --store "$url"
lacks $'\033'
lacks $'\302\233'
write_run heat 0 "$url"

echo "- another run's manifest, a bad copy, another attempt"
fill_step "$DCACHE_MEMORY_STORE" heat 200 4
run 1 drain
matches "$err" 'step 200 is in the object store already'
fill_step "$DCACHE_MEMORY_STORE" heat 300 5
flip "$(store_dir heat 0)/own-0-1.h5" 1000000
run 1 drain --plan-only --job heat
matches "$err" 'own-0-1.h5' 'chunk 0'
run 1 drain # the replica on node 1 is good; step 200 stays as it is
matches "$out" 'step 300: .*DURABLE'

echo "- the object store cannot be asked"
mkdir closed && touch closed/file
run 1 ls --store "file://$scratch/closed/file"
matches "$out" '^ 300 +REPLICATED'
matches "$err" 'cannot be asked'
run 1 drain --store "file://$scratch/closed/file"
run 0 ls --store none
run 0 drain --store none

echo "- the SSD tier"
export DCACHE_SSD_STORE=$scratch/ssd
fill_step "$DCACHE_MEMORY_STORE" warm 10 1
"$fill" "$DCACHE_SSD_STORE" warm 0 4 10 1 1500000 own-0 own-1
"$fill" "$DCACHE_SSD_STORE" warm 0 4 9 8 1500000 own-0 own-1 own-2 own-3
"$fill" "$DCACHE_SSD_STORE" cold 0 2 7 3 1500000 own-0 own-1
run 0 ls --no-store --job warm
matches "$out" '^   9 +STAGED +4/0/4' '^  10 +REPLICATED +6/4/4' # two copies on one node are no replication
run 0 show 10 --job warm --no-store
matches "$out" '^   0 +0 +own +complete' '^   0 +0 ssd +own +complete' '^   0 +1 +replica' '^   2 +1 +own '
run 0 show 10 --job warm --no-store --json
json '[(c["node"], c["tier"], c["copy"]) for c in d["copies"][:3]] == [(0, "memory", "own"), (1, "memory", "replica"), (0, "ssd", "own")]'
run 0 ls --no-store # jobs that only the SSD has
matches "$out" 'job cold: 2 ranks' '^   7 +STAGED +2/0/2'
run 0 verify --job warm --no-store
matches "$out" '14 copies in node stores'
flip "$DCACHE_SSD_STORE/warm/node-0/own-1-1.h5" 1200000
run 1 verify --job warm --no-store
matches "$out" '^BAD .*ssd/warm/node-0/own-1-1.h5'
run 0 drain --job cold --store "file://$scratch/cold-objects"
matches "$out" 'step 7: 2 shards stored .*DURABLE'
flock "$DCACHE_SSD_STORE/cold/node-0/lock" "$dcache" drain --job cold >out.txt 2>err.txt
[ $? = 4 ] || fail "drain beside a job that holds the SSD's store: $(cat err.txt)"
DCACHE_SSD_STORE=$DCACHE_MEMORY_STORE run 0 ls --no-store --job warm # the same directory is looked at once
matches "$out" '^  10 +REPLICATED +4/4/4'
unset DCACHE_SSD_STORE
run 0 ls --no-store --job warm
matches "$out" '^  10 +REPLICATED +4/4/4'
rm -rf "$DCACHE_MEMORY_STORE/warm"

echo "- rm and prune"
pruned=$scratch/pruned-objects
for step in 10 20 30 40 50; do
    fill_step "$DCACHE_MEMORY_STORE" old $step $step
    write_plan old 0 "file://$pruned" "0, 2"
    write_plan old 1 "file://$pruned" "1, 3"
    run 0 drain --job old
done
run 2 rm --job old
run 2 rm --job old 10 x
run 2 rm --job old 50 # the newest
run 3 rm --job old 11
run 2 prune --job old
run 2 prune --job old --keep-last 0
run 2 drain --job old --dry-run
run 2 prune --job old --force
run 0 rm --job old 20 --dry-run
matches "$out" '^step 20: would be removed'
[ -e "$pruned/old/20/manifest.json" ] || fail "a dry run removed something"
run 0 rm --job old 20
matches "$out" '^step 20: removed \([0-9]+ objects\)'
[ -z "$(ls -A "$pruned/old/20" 2>/dev/null)" ] || fail "step 20 is still there"
rm "$pruned/old/10/manifest.json"
run 0 prune --job old --keep-last 1 --keep-every 30 --dry-run --json
json '[(s["step"], s["state"]) for s in d["steps"]][:3] == [(30, "kept"), (40, "would be removed"), (50, "kept")]'
run 0 prune --job old --keep-last 1 --keep-every 30
matches "$out" '^step 30: kept' '^step 40: removed' '^step 50: kept' '^step 10: not finished: left alone'
[ -e "$pruned/old/10/shard-0-10.h5" ] || fail "an unfinished step was removed without being asked to"
flock "$(store_dir old 0)/lock" "$dcache" prune --job old --unfinished >out.txt 2>err.txt
[ $? = 4 ] || fail "prune --unfinished beside a running job: $(cat err.txt)"
run 0 prune --job old --unfinished
[ -z "$(ls -A "$pruned/old/10" 2>/dev/null)" ] || fail "step 10 is still there"
for step in 30 50; do
    [ -e "$pruned/old/$step/manifest.json" ] || fail "step $step was removed, too"
done
run 0 rm --job old 50 --force
fill_step "$DCACHE_MEMORY_STORE" old 60 61 # the node stores hold steps 50 and 60, and the job keeps one
printf '{"format": "dcache-plan", "version": 1, "store_url": "file://%s", "world_size": 4, "drain_every": 1, "keep_last": 1, "ranks": [0, 2]}\n' \
    "$pruned" >"$(store_dir old 0)/plan.json"
run 0 drain --job old
matches "$out" '^step 60: .*DURABLE' '^step 50: left out, the object store keeps 1 newer'
[ -e "$pruned/old/50/manifest.json" ] && fail "a drain brought back what is not to be kept"
rm -rf "$DCACHE_MEMORY_STORE/old" "$pruned"

echo "- store create"
run 0 store create --store "file://$scratch/new/deep"
[ -d new/deep ] || fail "no directory"
run 2 store
run 2 store create --store none

finish
