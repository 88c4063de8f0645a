#!/bin/bash
# 64 ranks on whatever cores there are: checkpoints, a lost node, a restart with the same bits.
#
# timeout: 400
set -eu
bin=$TEST_BUILD_DIR/bin
[ -x "$bin/heat2d" ] || { echo "skipped: heat2d is not built"; exit 77; }

# MPI_Init of oversubscribed ranks polls with usleep(100): with a coarse timer it takes seconds instead of minutes.
cat >rank.sh <<'END'
#!/bin/sh
echo 20000000 > /proc/self/timerslack_ns 2>/dev/null
exec "$@"
END
chmod +x rank.sh

memory=$(mktemp -d /dev/shm/dcache-many-XXXXXX)
trap 'rm -rf "$memory"' EXIT
export DCACHE_MEMORY_STORE=$memory/store DCACHE_NODE_SIZE=8 DCACHE_STORE=none DCACHE_LOG=info

run() { # STEPS OUTPUT
    timeout 150 mpirun -np 64 ./rank.sh "$bin/heat2d" --input in.h5 --steps "$1" --every 10 --output "$2" 2>&1
}

"$bin/heat2d-make-field" in.h5 128 128
DCACHE_JOB=whole run 40 whole.h5 | tail -n 2
DCACHE_JOB=broken run 25 part.h5 | tail -n 2
rm -rf "$memory/store/broken/node-3"
DCACHE_JOB=broken run 40 again.h5 | tee run.log | tail -n 5
grep -q 'restarted from step 20' run.log
cmp whole.h5 again.h5
echo "64 ranks: the same bits after a lost node"
