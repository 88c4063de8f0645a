#!/bin/bash
# What the sbatch files of this folder run: run-model.sh MODEL MACHINE SHM_GIB, inside an allocation of the right shape.
# All ways to read, through dcache; then the same to a directory and straight to Blob, where they are given; then the
# report, with the expected times beside the measured ones.
#   MLPERF_PROGRAM     mlperf-checkpoint, on the PATH unless given
#   MLPERF_RESULTS     default: results, here
#   MLPERF_DIRECTORY   a parallel file system to compare with; none unless given
#   DCACHE_STORE       a container: azure://checkpoints; without it nothing is DURABLE, and Blob is not measured
set -euo pipefail
model=$1 machine=$2 shm_GiB=$3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=${MLPERF_PROGRAM:-mlperf-checkpoint}
results=${MLPERF_RESULTS:-$PWD/results}
export DCACHE_STORE=${DCACHE_STORE:-none}
export OMPI_MCA_osc=${OMPI_MCA_osc:-ucx,rdma,sm} # Debian's and Ubuntu's default has no windows between hosts

# Node stores are in /dev/shm, which usually is half of the memory.
# shellcheck disable=SC2016 # expands on each node
srun --ntasks-per-node=1 bash -c '
    have=$(df --output=size -k /dev/shm | tail -n 1)
    [ "$have" -ge $(($1 * 1048576)) ] || {
        echo "$(hostname): /dev/shm has $((have / 1048576)) GiB, $1 GiB are needed: mount -o remount,size=$1G /dev/shm" >&2
        exit 1
    }' check "$shm_GiB"

measure() { # OPTION...: the leaf of its results
    srun --mpi=pmix "$program" --model "$model" --results "$results" "$@" | tee /dev/stderr | sed -n 's/^results: //p'
}

sources=own,replica
[ "$DCACHE_STORE" = none ] || sources=$sources,blob
leaf=$(measure --read $sources)
leaves=("$leaf")
if [ -n "${MLPERF_DIRECTORY:-}" ]; then
    leaf=$(measure --way posix --directory "$MLPERF_DIRECTORY")
    leaves+=("$leaf")
fi
if [ "$DCACHE_STORE" != none ]; then
    leaf=$(measure --way blob --url "$DCACHE_STORE")
    leaves+=("$leaf")
fi
python3 "$here/check.py" "${leaves[@]}"
python3 "$here/report.py" "${leaves[@]}"
python3 "$here/expect.py" "$model" "$machine" --measured "${leaves[0]}" | tee "${leaves[0]}/expected.md"
