#!/bin/bash
# timeout: 240
# Real Slurm on hosts that really die: sbatch --no-kill with a spare node, dcache-run, a node powered off while the
# program computes. The job goes on with the spare and ends with the same bits as without a loss; the prolog makes the
# directories for its node stores, the epilog leaves nothing of them behind.
set -u
# shellcheck source=tests/cluster/own_cluster.sh
. "$(dirname "${BASH_SOURCE[0]}")/own_cluster.sh"
dcache_run=$here/../../slurm/dcache-run
unset DCACHE_MEMORY_STORE # the default, which prolog and epilog know

fail() {
    local log
    echo "FAILED: $*"
    for log in ./*.out "$CLUSTER_DIR"/slurm/log/slurmctld.log; do
        [ ! -e "$log" ] || { echo "--- $log" && tail -n 60 "$log"; }
    done
    exit 1
}

slurm() {
    timeout 30 bash "$cluster" slurm-in "$@"
}

# The job: 4 ranks on 4 of 5 nodes. sbatch's own node is the first, which must not die: with it the script would be gone.
submit() { # JOB LAUNCHER...: sets `id`
    local job=$1
    shift
    cat >"$job.sh" <<END
#!/bin/bash
#SBATCH --job-name=$job --nodes=5 --ntasks-per-node=1 --no-kill --output=$scratch/$job.out
export DCACHE_STORE=file://$scratch/store DCACHE_LOG=info
stat -c 'prolog made %n %a' /dev/shm/dcache-0
exec "$dcache_run" --tool "$bin/dcache" --nodes 4 --ranks 4 --mark-down -- \\
    $* "$bin/heat2d" --input "$scratch/field.h5" --output "$scratch/$job.h5" --steps 60 --every 5 --sleep-ms 50
END
    id=$(slurm sbatch --parsable "$job.sh") || fail "sbatch"
}

wait_for() { # SECONDS FILE PATTERN
    local i
    for ((i = 0; i < $1 * 10; i++)); do
        ! grep -qE "$3" "$2" 2>/dev/null || return 0
        sleep 0.1
    done
    return 1
}

# All of the job is in the object store, so the memory is free again; the epilog may still be at it.
check_epilog() { # JOB
    local host i
    for host in h0 h4; do
        for ((i = 0; i < 300; i++)); do
            bash "$cluster" in $host test -e "/dev/shm/dcache-0/$1-$id" || continue 2
            sleep 0.1
        done
        fail "$1: the epilog left the node store on $host"
    done
}

# The spare takes the place of the lost node, and all other ranks are where their own copies are: a quarter travels.
check_places() { # LOG VICTIM
    local bytes hosts=h0,h1,h2,h3
    grep -qE "^dcache-run: launch 2: 4 ranks on 4 nodes: ${hosts/$2/h4}\$" "$1" || fail "the spare is not in the place of $2"
    bytes=$(sed -n 's/.* restarting from step [0-9]*: \([0-9]*\) bytes from other nodes.*/\1/p' "$1" | tail -n 1)
    if [ "${bytes:-0}" -le 0 ] || [ "$bytes" -ge $((2 * 192 * 256 * 8 / 4)) ]; then
        fail "${bytes:-no} bytes came from other nodes: ranks are elsewhere than their copies"
    fi
}

lose_one() { # JOB LAUNCHER...
    local job=$1 victim
    submit "$@"
    wait_for 60 "$job.out" "heat2d: step $((5 * (1 + RANDOM % 5))) checkpointed" || fail "$job: no checkpoint"
    sleep "0.$((RANDOM % 90 + 10))"
    victim=h$((1 + RANDOM % 2)) # the place of h3 is the last one, and so is that of the spare
    bash "$cluster" kill $victim || fail "cannot kill $victim"
    wait_for 90 "$job.out" '^dcache-run: end: status' || fail "$job: did not end"
    grep -q '^dcache-run: end: status 0$' "$job.out" || fail "$job: ended badly"
    grep -q "^dcache-run: node $victim is lost: " "$job.out" || fail "$job: did not find that $victim is lost"
    grep -qE '^dcache-run: launch 2: 4 ranks on 4 nodes: .*h4' "$job.out" || fail "$job: the spare was not used"
    grep -qE '^heat2d: restarted from step [1-9]' "$job.out" || fail "$job: started anew"
    check_places "$job.out" $victim
    grep -qE '^dcache-run: drain: h4 is done' "$job.out" || fail "$job: no drain on the spare"
    cmp reference.h5 "$job.h5" || fail "$job: another result"
    "$bin/dcache" ls --job "$job-$id" --store "file://$scratch/store" --memory-store "$scratch/none" >ls.out 2>&1
    grep -qE '^ *60 +DURABLE' ls.out || fail "$job: the last step is not durable: $(cat ls.out)"
    echo "$job: lost $victim; $(grep '^heat2d: restarted' "$job.out")"
    bash "$cluster" boot $victim || fail "cannot boot $victim"
    bash "$cluster" slurm-boot $victim || fail "no slurmd on $victim"
    grep -q '^prolog made /dev/shm/dcache-0 700$' "$job.out" || fail "$job: the prolog made no directory"
    check_epilog "$job"
}

if [ ! -x "$bin/heat2d" ]; then
    echo "skipped: the examples are not built"
    exit 77
fi
mkdir -p prefix/bin prefix/share/dcache/slurm && cp "$bin/dcache" prefix/bin &&
    cp "$here/../../slurm/prolog.sh" "$here/../../slurm/epilog.sh" prefix/share/dcache/slurm || exit 1
CLUSTER_SLURM_EXTRA=$(printf 'Prolog=%s\nEpilog=%s\nPrologFlags=Alloc' "$scratch"/prefix/share/dcache/slurm/{prolog,epilog}.sh)
export CLUSTER_SLURM_EXTRA
bash "$cluster" up 5 --shm 256m || exit $?
bash "$cluster" slurm-up || exit $?
"$bin/heat2d-make-field" field.h5 192 256 >/dev/null || fail "cannot write the input"
mkdir store || exit 1
DCACHE_MEMORY_STORE=$scratch/reference DCACHE_STORE=none timeout 60 mpirun -np 4 "$bin/heat2d" --input field.h5 \
    --output reference.h5 --steps 60 --every 0 >reference.out 2>&1 || fail "the undisturbed run ended with $?"

lose_one with-mpirun mpirun
lose_one with-srun srun
[ -z "${CLUSTER_TEST_KEEP:-}" ] || cp ./*.out "$CLUSTER_TEST_KEEP"
