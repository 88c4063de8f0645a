#!/bin/bash
# Writes to the SSD tier beside what fio gets from the same device, in the same run and by turns:
#
#   bench-ssd.sh --dir DIRECTORY [--ranks N] [--bytes SIZE] [--rounds N] [--json FILE] [--build DIRECTORY]
#
# DIRECTORY is on the SSD; a scratch directory is made in it and removed. fio does what the library does: with
# tier = both, direct writes of 1 MiB over files that are there, one writer for each rank, fdatasync at the end; with
# tier = ssd, stores into a mapping of such files, fdatasync. What fio does not do: read and verify digests (both), copy
# from the application's memory and digest (ssd), and a second fdatasync after the header. GB/s of all ranks together.
# Needs fio, python3 and mpirun.
set -u -o pipefail
ranks=2 bytes=268435456 rounds=5 dir='' json='' build=$(dirname "$0")/../build

# shellcheck source=benchmarks/script.sh
. "$(dirname "$0")/script.sh"
take_options "dir ranks bytes rounds json build" "$@"
[ -n "$dir" ] || stop "--dir is needed: a directory on the SSD"
need bench-ssd fio python3 mpirun
ssd=$(mktemp -d "$dir/bench-ssd-XXXXXX") || exit 1
memory=$(mktemp -d /dev/shm/bench-ssd-XXXXXX) || exit 1
trap 'rm -rf "$ssd" "$memory"' EXIT

# GB/s of one round: bytes over the time of the slowest writer, its fdatasync included.
fio_round() { # ENGINE DIRECT
    fio --name=floor --directory="$ssd" --numjobs="$ranks" --rw=write --bs=1M --size="$bytes" --ioengine="$1" \
        --direct="$2" --overwrite=1 --fallocate=none --end_fsync=1 --refill_buffers --randrepeat=0 \
        --output-format=json 2>"$memory/fio.err" >"$memory/fio.json" || {
        cat "$memory/fio.err" >&2
        return 1
    }
    python3 - "$memory/fio.json" "$((bytes * ranks))" <<'END'
import json, sys
jobs = json.load(open(sys.argv[1]))["jobs"]
print("%.3f" % (float(sys.argv[2]) / 1e6 / max(job["job_runtime"] for job in jobs)))
END
}

library_round() { # TIER
    env OMPI_MCA_mpi_yield_when_idle=1 DCACHE_TIER="$1" DCACHE_SSD_STORE="$ssd/store" \
        DCACHE_MEMORY_STORE="$memory/store" DCACHE_STORE=none DCACHE_JOB="bench-$1" DCACHE_NODE_SIZE=0 \
        DCACHE_LOG=error \
        mpirun --oversubscribe -n "$ranks" "$program" "$bytes" 1
}

for kind in direct:psync:1:both mapped:mmap:0:ssd; do
    IFS=: read -r name engine direct tier <<<"$kind"
    fio_round "$engine" "$direct" >/dev/null || stop "fio failed" # this makes the files
    for ((round = 0; round < rounds; round++)); do
        figure=$(fio_round "$engine" "$direct") || stop "fio failed"
        echo "fio_$name $figure" >>"$memory/figures"
        figure=$(library_round "$tier") || stop "bench-ssd failed"
        echo "tier_$tier $figure" >>"$memory/figures"
    done
done

python3 - "$memory/figures" "$ranks" "$bytes" "$json" <<'END'
import json, statistics, sys
figures, ranks, size, path = sys.argv[1:]
values = {}
for line in open(figures):
    name, value = line.split()
    values.setdefault(name, []).append(float(value))
print("%d ranks, %d bytes each, GB/s of all together: median (min to max)" % (int(ranks), int(size)))
document = {"ranks": int(ranks), "bytes_per_rank": int(size)}
for floor, tier, what in (("fio_direct", "tier_both", "copies behind the computation"),
                          ("fio_mapped", "tier_ssd", "steps staged on the SSD")):
    for name in (floor, tier):
        v = values[name]
        document[name + "_GBps"] = statistics.median(v)
        print("%-11s %7.3f (%.3f to %.3f)" % (name, statistics.median(v), min(v), max(v)))
    print("  %s: %.2f of fio" % (what, statistics.median(values[tier]) / statistics.median(values[floor])))
if path:
    with open(path, "w") as out:
        json.dump(document, out, indent=2)
        out.write("\n")
END
