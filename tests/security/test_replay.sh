#!/bin/bash
# timeout: 300
# A store that gives out older objects for newer ones: each is noticed, none is taken.
# slots: 1
set -u
umask 077
dcache=${TEST_BUILD_DIR:?}/bin/dcache
fill=$TEST_BUILD_DIR/bin/program_fill_store
export DCACHE_MEMORY_STORE=$PWD/memory DCACHE_STORE=file://$PWD/objects
failures=0

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# refused WHAT PATTERN: step 200 does not verify, and this is why
refused() {
    if "$dcache" verify 200 >out.txt 2>&1; then fail "$1: verified"; fi
    grep -qE "$2" out.txt || fail "$1: no '$2' in: $(cat out.txt)"
}

for step in 100 200; do # their sequences are 101 and 200: two slots
    "$fill" "$DCACHE_MEMORY_STORE" job 0 2 $step $((step == 100 ? 101 : step)) 1500000 own-0 own-1 || exit 1
done
"$dcache" drain >out.txt 2>&1 || fail "drain: $(cat out.txt)"
"$dcache" verify 200 >out.txt 2>&1 || fail "what is right does not verify: $(cat out.txt)"
[ -s objects/job/200/manifest.json ] || fail "step 200 is not durable"
cp -r objects kept

echo "- a manifest of another step"
cp kept/job/100/manifest.json objects/job/200/manifest.json
refused "manifest of step 100 as that of 200" 'manifest of another job or step'

echo "- a manifest of another job"
sed 's/"job": *"job"/"job": "other"/' kept/job/200/manifest.json >objects/job/200/manifest.json
refused "manifest of another job" 'manifest of another job or step'

echo "- a shard of another step"
cp kept/job/200/manifest.json objects/job/200/manifest.json
cp kept/job/100/shard-0-101.h5 objects/job/200/shard-0-200.h5
refused "shard of step 100 in step 200" 'BAD .*shard-0-200.h5'

echo "- the shard of another rank"
cp kept/job/200/shard-1-200.h5 objects/job/200/shard-0-200.h5
refused "shard 1 as shard 0" 'BAD .*shard-0-200.h5'

echo "- an earlier attempt at the same step, whole, while this node has the later one"
rm -rf objects
mkdir earlier
"$fill" "$PWD/earlier" job 0 2 200 150 1500000 own-0 own-1 || exit 1
DCACHE_MEMORY_STORE=$PWD/earlier "$dcache" drain >out.txt 2>&1 || fail "drain of the earlier: $(cat out.txt)"
if "$dcache" drain >out.txt 2>&1; then fail "another set's manifest was taken for this one's: $(cat out.txt)"; fi
grep -q 'from another run' out.txt || fail "the text does not say so: $(cat out.txt)"
grep -q '"sequence": 150' objects/job/200/manifest.json || fail "a manifest was replaced"

exit $((failures > 0))
