#!/bin/bash
# Small shards go to a Blob service together: drain, show, verify and rm know where they are, and a program that has
# nothing to do with dcache cuts them out of the pack.
# timeout: 420 (the first time Azurite is installed)
set -u
umask 077
# shellcheck source=tests/tools/run_tool.sh
. "$TEST_SOURCE_DIR/tests/tools/run_tool.sh"
export DCACHE_JOB=heat DCACHE_STORE=azure://dcache-test

fill() { # STEP SEQUENCE
    "$TEST_BUILD_DIR/bin/program_fill_store" "$DCACHE_MEMORY_STORE" heat 0 6 "$1" "$2" 100000 own-0 own-1 own-2 own-3 \
        own-4 own-5 || exit 1
}

# Prints OBJECT OFFSET BYTES of a rank.
place_of() { # STEP RANK
    "$dcache" show "$1" --json 2>/dev/null |
        python3 -c 'import json, sys
shard = json.load(sys.stdin)["stored"][int(sys.argv[1])]
print(shard["object"], shard["offset"], shard["stored_bytes"])' "$2"
}

# How many requests the drain says it has made, those that were sent again left out.
requests() {
    sed -nE 's/.* ([0-9]+) requests, ([0-9]+) retries.*/\1 \2/p' <<<"$out" | { read -r all again && echo $((all - again)); }
}

in_one_object() {
    local rank object offset bytes
    fill 100 2
    run 0 drain
    has 'step 100: 6 shards stored .*DURABLE'
    together=$(requests)
    run 0 show 100
    has '^ *3 .* pack-[0-9a-f]{16}-0-5-6 at [0-9]+$'
    for rank in 0 3 5; do
        read -r object offset bytes <<<"$(place_of 100 $rank)"
        python3 "$TEST_SOURCE_DIR/tests/fault/get_blob.py" dcache-test "heat/100/$object" >pack || fail "no $object"
        tail -c "+$((offset + 1))" pack | head -c "$bytes" |
            cmp - "$DCACHE_MEMORY_STORE/heat/node-0/own-$rank-0.h5" || fail "rank $rank is something else"
    done
    mv "$DCACHE_MEMORY_STORE" kept
    run 0 verify
    has '6 objects verified, .*all good'
    mv kept "$DCACHE_MEMORY_STORE"
}

each_in_its_own() {
    fill 200 3
    DCACHE_PACK_BELOW=0 run 0 drain
    [ "$(requests)" -ge $((together + 5)) ] || fail "one pack took $together requests, six shards $(requests)"
    run 0 show 200
    has '^ *3 .* yes$'
}

nothing_is_left() {
    run 0 rm 100
    python3 "$TEST_SOURCE_DIR/tests/fault/get_blob.py" dcache-test "heat/100/$1" >/dev/null 2>&1 && fail "$1 is left"
    run 0 verify
}

if [ "${1:-}" != azurite ]; then
    bash "$TEST_SOURCE_DIR/tests/azurite/with-azurite.sh" bash "${BASH_SOURCE[0]}" azurite
    exit
fi
run 0 store create
in_one_object
each_in_its_own
read -r pack _ <<<"$(place_of 100 0)"
nothing_is_left "$pack"
finish
