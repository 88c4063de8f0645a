#!/bin/bash
# A drain beside what iperf3 gets from the same link, in the same run and by turns:
#
#   bench-drain-link.sh [--rate RATE] [--bytes SIZE] [--rounds N] [--json FILE] [--build DIRECTORY]
#
# A host with a link of RATE (default 1gbit; off: whatever the machine does) and another one behind it with a sink that takes
# what is put and keeps nothing (tests/cluster/cluster; needs root). In a round iperf3 sends for three seconds, and then
# bench-drain four shards of SIZE bytes (default 64 MiB): by bare libcurl loops, and as a drain does. MB/s of the link.
# Needs iperf3, python3 and tc.
set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd) || exit 1
cluster=$here/../tests/cluster/cluster
rate=1gbit bytes=67108864 rounds=4 json='' build=$here/../build
readonly ADDRESS=10.99.0.1 PORT=8080 # of the harness's login node; nobody else is there

# shellcheck source=benchmarks/script.sh
. "$(dirname "$0")/script.sh"
take_options "rate bytes rounds json build" "$@"
need bench-drain iperf3 python3 tc
export CLUSTER_DIR
CLUSTER_DIR=$(mktemp -d /tmp/dcache-bench.XXXXXX) || exit 1
trap 'bash "$cluster" down; rm -rf "$CLUSTER_DIR"' EXIT
trap 'exit 1' INT TERM HUP
export AZURE_STORAGE_ACCOUNT=sink AZURE_STORAGE_KEY=bm8gc2VjcmV0IGF0IGFsbA==

wait_for_sink() {
    local i
    for ((i = 0; i < 200; i++)); do
        if bash "$cluster" in h0 bash -c "exec 3<>/dev/tcp/$ADDRESS/$PORT" 2>/dev/null; then return; fi
        sleep 0.1
    done
    stop "the sink does not answer"
}

bash "$cluster" up 1 --shm $((5 * bytes + (64 << 20))) || exit $?
bash "$cluster" shape "$rate" h0 || exit 1
bash "$cluster" in head "$program" --serve $ADDRESS:$PORT 2>/dev/null & # goes with the host
disown # and nobody needs to hear of that
wait_for_sink
for ((round = 0; round < rounds; round++)); do
    bash "$cluster" in head iperf3 --server --daemon --one-off >/dev/null || stop "iperf3 failed"
    sleep 0.3
    bash "$cluster" in h0 iperf3 --client $ADDRESS --time 3 --json >"$CLUSTER_DIR/iperf-$round.json" || stop "iperf3 failed"
    bash "$cluster" in h0 "$program" --bytes "$bytes" --shards 4 --rounds 1 --no-rclone --json \
        --url http://$ADDRESS:$PORT/sink/bench >"$CLUSTER_DIR/drain-$round.json" || stop "bench-drain failed"
done

python3 - "$CLUSTER_DIR" "$rounds" "$rate" "$bytes" "$json" <<'END'
import json, statistics, sys
directory, rounds, rate, size, out = sys.argv[1:]
values = {"iperf3": [], "curl": [], "curl_threads": [], "drain": []}
for number in range(int(rounds)):
    with open(f"{directory}/iperf-{number}.json") as file:
        received = json.load(file)["end"]["sum_received"]
    values["iperf3"].append(received["bytes"] / received["seconds"] / 1e6)
    with open(f"{directory}/drain-{number}.json") as file:
        drained = json.load(file)
    for way in ("curl", "curl_threads", "drain"):
        values[way].append(drained[way + "_GBps"] * 1e3)
print(f"a link of {rate}, 4 shards of {size} bytes, MB/s: median (min to max)")
document = {"rate": rate, "bytes_per_shard": int(size)}
for name, what in (("iperf3", "iperf3"), ("curl", "libcurl, one multi loop"), ("curl_threads", "libcurl, threads"),
                   ("drain", "drain")):
    v = values[name]
    ratio = statistics.median(v) / statistics.median(values["iperf3"])
    document[name + "_MBps"] = statistics.median(v)
    document[name + "_of_iperf3"] = ratio
    print(f"{what:<24} {statistics.median(v):7.1f} ({min(v):.1f} to {max(v):.1f})   {ratio:.3f} of iperf3")
if out:
    with open(out, "w") as file:
        json.dump(document, file, indent=2)
        file.write("\n")
END
