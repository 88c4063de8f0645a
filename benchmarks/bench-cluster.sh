#!/bin/bash
# Replication and resync beside what iperf3 gets from the same links, in the same run and by turns:
#
#   bench-cluster.sh [--rate RATE] [--bytes SIZE] [--rounds N] [--json FILE] [--build DIRECTORY]
#
# Four hosts and a spare on this machine (tests/cluster/cluster; needs root), each with a link of RATE (default 1gbit; off:
# whatever the machine does) in both directions, a rank of SIZE bytes (default 128 MiB) on each. In a round every host
# sends to the next one at the same time, first iperf3 for two seconds, then the library. In the end a host is switched
# off and the spare takes its place: what is then made anew goes over one link, which iperf3 had for itself before.
# MB/s of one link. Needs iperf3, python3 and tc.
set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd) || exit 1
cluster=$here/../tests/cluster/cluster
rate=1gbit bytes=134217728 rounds=3 json='' build=$here/../build

# shellcheck source=benchmarks/script.sh
. "$(dirname "$0")/script.sh"
take_options "rate bytes rounds json build" "$@"
need bench-cluster iperf3 python3 tc
export CLUSTER_DIR
CLUSTER_DIR=$(mktemp -d /tmp/dcache-bench.XXXXXX) || exit 1
trap 'bash "$cluster" down; rm -rf "$CLUSTER_DIR"' EXIT
trap 'exit 1' INT TERM HUP
figures=$CLUSTER_DIR/figures
export DCACHE_MEMORY_STORE=/dev/shm/dcache DCACHE_STORE=none DCACHE_JOB=bench

# What each of these links carries when all are busy: lines "NAME bytes seconds".
iperf_round() { # NAME FROM:TO...
    local name=$1 link pids=()
    shift
    for link in "$@"; do
        bash "$cluster" in "${link#*:}" iperf3 --server --daemon --one-off >/dev/null || return 1
    done
    sleep 0.3
    for link in "$@"; do
        bash "$cluster" in "${link%:*}" iperf3 --client "${link#*:}" --time 2 --json >"$CLUSTER_DIR/${link%:*}.json" &
        pids+=($!)
    done
    wait "${pids[@]}" || return 1
    for link in "$@"; do
        python3 -c 'import json, sys
end = json.load(open(sys.argv[1]))["end"]["sum_received"]
print(sys.argv[2], end["bytes"], end["seconds"])' "$CLUSTER_DIR/${link%:*}.json" "$name" >>"$figures" || return 1
    done
}

library() { # HOSTS ARGUMENT...
    bash "$cluster" run -np 4 --host "$1" "$program" "${@:2}" >>"$figures"
}

bash "$cluster" up 5 --shm $((6 * bytes + (64 << 20))) || exit $?
bash "$cluster" shape "$rate" h0 h1 h2 h3 h4 || exit 1
for ((round = 0; round < rounds; round++)); do
    iperf_round ring h0:h1 h1:h2 h2:h3 h3:h0 || stop "iperf3 failed"
    library h0,h1,h2,h3 save "$bytes" 2 || stop "bench-cluster failed"
done
for ((round = 0; round < rounds; round++)); do
    spare=$((round % 2 == 0 ? 4 : 1)) lost=$((round % 2 == 0 ? 1 : 4))
    iperf_round link h0:h$spare || stop "iperf3 failed"
    bash "$cluster" kill h$lost || exit 1
    library h0,h$spare,h2,h3 restart "$bytes" || stop "bench-cluster failed"
    bash "$cluster" boot h$lost && bash "$cluster" shape "$rate" h$lost || exit 1
done

python3 - "$figures" "$rate" "$bytes" "$json" <<'END'
import json, statistics, sys
path, rate, size, out = sys.argv[1:]
values = {}
for line in open(path):
    name, count, seconds = line.split()
    values.setdefault(name, []).append(float(count) / float(seconds) / 1e6)
print("links of %s, %d bytes of each rank, MB/s of a link: median (min to max)" % (rate, int(size)))
document = {"rate": rate, "bytes_per_rank": int(size)}
for name, what, floor in (("ring", "iperf3, all links", None), ("blocking", "dcache_checkpoint()", "ring"),
                          ("background", "after dcache_checkpoint_begin()", "ring"), ("link", "iperf3, one link", None),
                          ("resync", "resync", "link")):
    v = values[name]
    ratio = statistics.median(v) / statistics.median(values[floor]) if floor else None
    document[name + "_MBps"] = statistics.median(v)
    document[name + "_of_iperf3"] = ratio
    print("%-33s %7.1f (%.1f to %.1f)%s" % (what, statistics.median(v), min(v), max(v),
                                             "" if ratio is None else "   %.3f of iperf3" % ratio))
if out:
    with open(out, "w") as file:
        json.dump(document, file, indent=2)
        file.write("\n")
END
