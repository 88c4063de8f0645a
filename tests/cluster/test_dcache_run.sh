#!/bin/bash
# timeout: 240
# dcache-run without Slurm, on hosts that really die: a cable pulled, no spare left, an eviction announced, errors of the
# program, a stop in good order, wrong usage.
set -u
# shellcheck source=tests/cluster/own_cluster.sh
. "$(dirname "${BASH_SOURCE[0]}")/own_cluster.sh"
dcache_run=$here/../../slurm/dcache-run

export DCACHE_MEMORY_STORE=/dev/shm/dcache # each host has its own
export DCACHE_STORE=file://$scratch/store
readonly STEPS=60
log=

fail() {
    echo "FAILED: $*"
    [ ! -e "$log" ] || { echo "--- $log" && tail -n 60 "$log"; }
    exit 1
}

launch() { # DCACHE_RUN_ARGUMENT...
    timeout -k 5 90 bash "$cluster" in head bash "$dcache_run" --tool "$bin/dcache" "$@" >"$log" 2>&1
}

heat2d=("$bin/heat2d" --input "$scratch/field.h5" --steps "$STEPS" --sleep-ms 40)

says() { # PATTERN
    grep -qE "$1" "$log" || fail "it did not say: $1"
}

wait_until() { # PATTERN
    local i
    for ((i = 0; i < 600; i++)); do
        ! grep -qE "$1" "$log" 2>/dev/null || return 0
        sleep 0.1
    done
    fail "it never said: $1"
}

[ -x "$bin/heat2d" ] || {
    echo "skipped: the examples are not built"
    exit 77
}
bash "$cluster" up 4 --shm 256m || exit $?
"$bin/heat2d-make-field" field.h5 192 256 >/dev/null || fail "cannot write the input"
mkdir store || exit 1

# Usage errors are told before anything is launched.
log=usage.log
for wrong in "--nodes x -- mpirun -np 2 true" "--bogus -- mpirun true" "-- ssh h0 true" "-- mpirun -np 2" "--job a/b -- mpirun true"; do
    # shellcheck disable=SC2086 # several words
    launch $wrong
    [ $? -eq 2 ] || fail "status 2 is expected of: $wrong"
done
launch --dry-run --spares h3 --job dry -- mpirun --mca osc pt2pt -np 6 --host h0:2,h1:2,h2:2 app -np 9 || fail "--dry-run"
says '^dcache-run: nodes: h0,h1,h2; spares: h3$'
says '^dcache-run: would launch: mpirun .*-np 6 --host h0:2.,h1:2.,h2:2 --mca osc pt2pt app -np 9 $'
! grep -q 'set OMPI_MCA_osc' "$log" || fail "a setting of the user's was replaced"

# An error of the program: once more, and then its status.
log=error.log
launch --no-drain -- mpirun -np 2 --host h0,h1 sh -c 'exit 7'
[ $? -eq 7 ] || fail "status 7 is expected"
says '^dcache-run: stop: status 7 twice and every node answers'

# Told to stop: a last checkpoint, no other launch, the program's own status; then it goes on from there.
log=stop.log
launch --job stop --stop-status 3 -- mpirun -np 2 --host h0,h1 "${heat2d[@]}" --auto &
wait_until 'heat2d: started from step 0'
sleep 0.5
kill -TERM "$(pgrep -f "^bash [^ ]*/dcache-run --tool $bin/dcache --job stop " | head -n 1)" || fail "cannot find dcache-run"
wait $!
[ $? -eq 3 ] || fail "status 3 is expected"
says '^dcache-run: SIGTERM: stop after a last checkpoint'
says '^heat2d: step [0-9]+ checkpointed$'
says '^dcache-run: drain: h1 is done'
stopped=$(sed -n 's/^heat2d: stopped after step \([0-9]*\):.*/\1/p' "$log")
log=go-on.log
launch --job stop -- mpirun -np 2 --host h1,h2 "${heat2d[@]}" || fail "the second submission ended with $?"
says "^heat2d: restarted from step $stopped\$"

# Azure announces that h1 goes away: the program saves its state and ends, and goes on without h1, which still answers. When it
# stops again, at the end of its time, that is for no node: it is not launched again.
metadata=http://127.0.0.1:8169 # the same on each host, and each has its own
for host in h0 h1 h2 h3; do
    mkdir -p "metadata/$host" && ln -s ../events.json "metadata/$host/events.json" || exit 1
    echo "{\"name\": \"vm-$host\"}" >"metadata/$host/place.json"
    bash "$cluster" in $host python3 "$here/../tools/instance_metadata.py" "$scratch/metadata/$host" 8169 &
done
echo '{"Events": [{"EventId": "1", "EventType": "Freeze", "Resources": ["vm-h0"], "NotBefore": ""}]}' >metadata/events.json
log=evicted.log
DCACHE_EVENTS=$metadata launch --job evicted --spares h3 --stop-status 3 -- mpirun -np 3 --host h0,h1,h2 \
    "${heat2d[@]}" --auto --output evicted.h5 &
wait_until '^heat2d: started from step 0'
sleep 0.5
echo '{"Events": [{"EventId": "2", "EventType": "Preempt", "Resources": ["VM-h1"], "NotBefore": ""}]}' >metadata/new
mv metadata/new metadata/events.json
wait $! || fail "the job ended with $?"
says '^heat2d: stopped after step'
says '^dcache-run: node h1 is lost: Azure has announced that vm-h1 will be taken away now$'
says '^dcache-run: launch 2: 3 ranks on 3 nodes: h0,h3,h2$'
says "^heat2d: restarted from step $(sed -n 's/^heat2d: stopped after step \([0-9]*\):.*/\1/p' "$log")\$"
[ "$(grep -c 'is lost' "$log")" -eq 1 ] || fail "more than one node is lost"

# A cable is pulled: nobody is told, mpirun notices, the spare takes over. Then a host dies, mpirun hangs (it may, when it
# loses two at once), and no spare is left: its rank moves in with another, as --oversubscribe allows.
log=cable.log
launch --job cable --spares h3 --oversubscribe --look 2 -- mpirun -np 3 --host h0,h1,h2 "${heat2d[@]}" --every 5 --output cable.h5 &
wait_until 'heat2d: step 10 checkpointed'
bash "$cluster" cable h1 pull || fail "cannot pull the cable of h1"
wait_until '^heat2d: step (4|5)[05] checkpointed'
kill -STOP "$(pgrep -f "^mpirun .*$bin/heat2d .*cable.h5" | head -n 1)" || fail "cannot find mpirun"
bash "$cluster" kill h2 || fail "cannot kill h2"
wait $! || fail "the job ended with $?"
says '^dcache-run: node h1 is lost: it does not answer$'
says '^dcache-run: launch 2: 3 ranks on 3 nodes: h0,h3,h2$'
says '^dcache-run: node h2 is gone, and the launcher hangs: ending mpirun$'
says '^dcache-run: launch 3: 3 ranks on 2 nodes: h0,h3$'
[ "$(grep -c '^heat2d: restarted from step' "$log")" -eq 2 ] || fail "it started anew"
log=reference.log
DCACHE_STORE=none DCACHE_MEMORY_STORE=$scratch/reference timeout 60 mpirun -np 3 "${heat2d[@]}" --sleep-ms 0 --every 0 --output reference.h5 \
    >$log 2>&1 || fail "the undisturbed run ended with $?"
cmp reference.h5 cable.h5 || fail "another result after the cable was pulled"
cmp reference.h5 evicted.h5 || fail "another result after the eviction"
echo "all as it should be; after the cable: $(grep '^heat2d: restarted' cable.log | tr '\n' ' ')"
