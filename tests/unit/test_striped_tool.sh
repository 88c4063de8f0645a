#!/bin/bash
# The tool `dcache` with a job that is spread over three directories: drain, ls, show, verify, rm, prune, store, doctor.
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
export DCACHE_MEMORY_STORE=$scratch/memory DCACHE_JOB=heat

stores() { # stores a b: the option, for the directories of these names
    local name
    DCACHE_STORE=
    for name; do DCACHE_STORE+="file://$scratch/$name "; done
    export DCACHE_STORE
}

fill_step() { # STEP SEQUENCE: eight ranks on this node
    "$fill" "$DCACHE_MEMORY_STORE" heat 0 8 "$1" "$2" 40000 own-{0..7} || exit 1
}

objects() { # objects a STEP: how many there are
    find "$scratch/$1/heat/$2" -type f 2>/dev/null | wc -l
}

count() { # count WANTED STORE STEP
    [ "$(objects "$2" "$3")" = "$1" ] || fail "$(objects "$2" "$3") objects of step $3 in $2, not $1"
}

lose_nodes() {
    mv "$DCACHE_MEMORY_STORE" kept
}

get_back_nodes() {
    mv kept "$DCACHE_MEMORY_STORE"
}

echo "- the stores are made, all of them"
stores a b c
run 0 store create
has "file://$scratch/a file://$scratch/b file://$scratch/c"
for name in a b c; do [ -d "$scratch/$name" ] || fail "store create made no $name"; done

echo "- drain, ls, show, verify"
fill_step 100 1
fill_step 200 2
run 0 drain
has 'step 100: 8 shards stored .*DURABLE' 'step 200: 8 shards stored .*DURABLE'
[ $(($(objects a 100) + $(objects b 100) + $(objects c 100))) = 10 ] || fail "not eight shards, a part and a manifest"
for name in a b c; do # of eight shards two or three are in each
    shards=$(find "$scratch/$name/heat/100" -name 'shard-*' | wc -l)
    case $shards in 2 | 3) ;; *) fail "$shards shards in $name" ;; esac
done
run 0 ls
has '^ 200 +DURABLE' "^object store: file://$scratch/a file://$scratch/b file://$scratch/c$"
lose_nodes
run 0 ls
has '^ 200 +DURABLE' '^ 100 +DURABLE'
run 0 verify
has '16 objects verified, .*all good'
run 0 show 100
has "file://$scratch/b"
run 0 show 100 --json
json 'sorted(s["rank"] for s in d["stored"]) == list(range(8))'
json 'sorted(set(s["store"] for s in d["stored"])) == ["file://'"$scratch"'/%s" % n for n in "abc"]'

echo "- another order, and more of them"
stores a c d b
mkdir -m 700 d
run 0 verify
has '16 objects verified, .*all good'

echo "- a bad byte is found where it is"
bad=$(find "$scratch/b/heat/100" -name 'shard-*' | head -n 1)
printf 'X' | dd of="$bad" bs=1 seek=20000 conv=notrunc status=none
run 1 verify 100
has "$(basename "$bad")" "file://$scratch/b"
run 0 verify 200

echo "- one is missing"
stores a c
run 2 verify 200
has "step 200 of job heat has shards in file://$scratch/b" 'option store'
run 0 ls
has '^ 200 +DURABLE' "has shards in file://$scratch/b"
run 3 rm 100
has "has shards in file://$scratch/b"
run 0 prune --keep-last 1
[ "$(objects b 100)" -ge 2 ] || fail "a step is half removed"
stores a b c e
run 1 ls
has 'cannot be asked' "file://$scratch/e is not there"
[ -e e ] && fail "looking made a directory"

echo "- the first one is the first one"
stores b a c
run 1 ls
has 'cannot be asked' "file://$scratch/b has shards of job heat for another one, file://$scratch/a"
stores b
run 1 rm 100 --force
has "file://$scratch/b has shards of job heat for another one"
run 1 prune --keep-last 1 --unfinished
stores d a b
run 1 ls
has "file://$scratch/a was the first one of job heat"
stores c
get_back_nodes
run 1 drain
has "file://$scratch/c has shards of job heat for another one"

echo "- rm and prune take from all"
stores a b c
fill_step 300 3
run 0 drain
has 'step 300: 8 shards stored .*DURABLE'
run 0 rm 100
has 'step 100: removed \(10 objects\)'
for name in a b c; do count 0 $name 100; done
: >"$scratch/c/heat/100-left"
mkdir -p "$scratch/c/heat/150" && echo x >"$scratch/c/heat/150/pack-left"
run 0 prune --keep-last 1
has 'step 200: removed \(10 objects\)' 'step 300: kept' 'step 150: not finished: left alone'
run 0 prune --keep-last 1 --unfinished
has 'step 150: removed \(1 objects\)'
count 0 c 150
lose_nodes
run 0 verify
has '8 objects verified, .*all good'
get_back_nodes

echo "- what a job's last run used"
printf '{"format": "dcache-plan", "version": 1, "store_url": "file://%s/a", "other_stores": "file://%s/b file://%s/c",
"world_size": 8, "drain_every": 1, "ranks": [0, 1, 2, 3, 4, 5, 6, 7]}\n' "$scratch" "$scratch" "$scratch" \
    >"$DCACHE_MEMORY_STORE/heat/node-0/plan.json"
chmod 600 "$DCACHE_MEMORY_STORE/heat/node-0/plan.json"
unset DCACHE_STORE
fill_step 400 4
run 0 drain
has 'step 400: 8 shards stored .*DURABLE'
[ "$(objects b 400)" -ge 2 ] || fail "the plan's stores are not used"

echo "- doctor"
stores a b c
run 0 doctor
has "file://$scratch/a can be listed, written and read" "file://$scratch/b can be listed" "file://$scratch/c can be listed"
rm -r "$scratch/b"
: >"$scratch/b"
run 1 doctor
has "file://$scratch/b.* failed" "file://$scratch/c can be listed"

echo "- usage"
run 2 ls --store "file:///x file:///x"
has 'named twice'
run 2 ls --store "file:///x https://acc1.blob.core.windows.net/con"
has 'either over directories'

finish
