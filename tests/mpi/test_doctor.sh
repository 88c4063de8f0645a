#!/bin/bash
# `dcache doctor --mpi`: nodes, partners, failure domains, transports, a checkpoint and back; leaves nothing behind.
# timeout: 120
set -u
dcache=$TEST_BUILD_DIR/bin/dcache
failures=0
mkdir -m 700 memory

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# doctor CODE RANKS ARGUMENT...: output in $out. mpirun's exit code is that of the ranks.
doctor() {
    local want=$1 ranks=$2 code
    shift 2
    out=$(mpirun --oversubscribe -q -n "$ranks" "$dcache" doctor --mpi "$@" 2>&1 </dev/null)
    code=$?
    [ "$code" = "$want" ] || fail "doctor --mpi $* on $ranks ranks: exit code $code, not $want: $out"
    [ -z "$(ls -A memory)" ] || fail "something is left in memory: $(ls -A memory)"
}

has() { # has PATTERN...
    local pattern
    for pattern; do
        grep -Eq -- "$pattern" <<<"$out" || fail "no '$pattern' in: $out"
    done
}

echo "- one node"
doctor 0 2
has '^ok +thread level: ' '^warning +nodes: 1' '^ok +node [^/ ]+: 2 ranks, partner none' \
    '^ok +[^ ]+, memory store: .*/memory can be written' '^ok +checkpoint and restart: .* restored'

echo "- four virtual nodes, three in one failure domain, one unknown"
export DCACHE_NODE_SIZE=1
doctor 0 4
has '^warning +nodes: 4 virtual' '^ok +one-sided transport: window ' '^ok +transport: (one|two)-sided is used: ' \
    '^ok +checkpoint and restart: 4 MiB .* on two nodes .* by two-sided' '^ok +node .*/3: 1 ranks, partner .*/0,'
host=$(hostname)
printf '%s/%d a\n' "${host%%.*}" 0 "${host%%.*}" 1 >map
export DCACHE_DOMAINS=$PWD/map
doctor 0 4
has 'node .*/0: .* failure domain a$' 'node .*/3: .* failure domain its own$' \
    '^warning +failure domains: not all are known: rank 2: node .*/2 is not in the map'
for pattern in '/0: 1 ranks, partner .*/[23],' '/1: 1 ranks, partner .*/[23],'; do has "$pattern"; done
printf '%s/%d a\n' "${host%%.*}" 2 >>map
doctor 1 4
has '^problem +failure domains: 2 nodes have their partner in their own'

echo "- failure domains from Azure's metadata service and from Slurm"
mkdir metadata
echo '{"name": "hb_3", "zone": "2", "platformFaultDomain": "1"}' >metadata/place.json
python3 "$TEST_SOURCE_DIR/tests/tools/instance_metadata.py" metadata 0 &
server=$!
trap 'kill "$server"' EXIT
for _ in {1..100}; do
    [ ! -s metadata/port ] || break
    sleep 0.1
done
DCACHE_DOMAINS=http://127.0.0.1:$(cat metadata/port)
doctor 1 2 # virtual nodes: they share a machine
has 'node .*/0: .* failure domain zone 2, fault domain 1$' 'node .*/1: .* failure domain zone 2, fault domain 1$' \
    '^problem +failure domains: '
echo '{"name": "hb_3", "zone": "", "platformFaultDomain": ""}' >metadata/place.json
doctor 0 2
has 'failure domain its own$' '^warning +failure domains: .* gives no fault domain and no zone'
DCACHE_DOMAINS=http://127.0.0.1:1
doctor 0 2
has '^warning +failure domains: not all are known'
DCACHE_DOMAINS=slurm
SLURM_TOPOLOGY_ADDR=top.rack7.hb3 SLURM_TOPOLOGY_ADDR_PATTERN=switch.switch.node doctor 1 2
has 'failure domain .*rack7$'
SLURM_TOPOLOGY_ADDR=hb3 SLURM_TOPOLOGY_ADDR_PATTERN=node doctor 0 2
has '^warning +failure domains: .* names no switch'
doctor 0 2
has '^warning +failure domains: .* no SLURM_TOPOLOGY_ADDR'
unset DCACHE_DOMAINS

echo "- problems"
doctor 1 2 --bytes-per-rank 100TiB
has '^problem +[^ ]+, memory store: .* 800\.0 TiB needed' # two ranks, two slots, two copies
doctor 2 2 --bytes-per-rank lots
DCACHE_SLOTS=1 doctor 2 2
ln -s memory link
DCACHE_MEMORY_STORE=$PWD/link doctor 1 2
has '^problem +dcache_open'

echo "- JSON"
out=$(mpirun --oversubscribe -q -n 2 "$dcache" doctor --mpi --json 2>/dev/null)
python3 -c 'import json,sys; d=json.load(sys.stdin); sys.exit(not (d["safe"] is True and len(d["findings"]) > 8))' \
    <<<"$out" || fail "JSON: $out"

[ "$failures" = 0 ] && echo "all good"
exit "$failures"
