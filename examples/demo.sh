#!/bin/bash
# dcache in one minute: a program is killed, nodes are wiped, and its result has the same bits as if nothing had
# happened. `demo.sh --help` says more. The last line is "demo: OK" when all of it was so.
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
root=$(dirname "$here")

ranks=8
node_size=2
steps=200
store=auto
build=$root/build
build_given=0
run_limit=120 # seconds; a run that takes longer hangs

usage() {
    cat <<'END'
usage: demo.sh [options]

Builds dcache if need be and shows what it is for, on this machine. heat2d, an MPI program, runs
  1. undisturbed, to have a result to compare with;
  2. until half-way, where it is killed with SIGKILL and one of its nodes loses all that it held; launched again, it
     goes on from what the other nodes hold;
  3. until half-way, where it is killed and all its nodes lose all that they held; launched again, it goes on from the
     object store.
The results are compared byte for byte. Nothing is left behind when all went well.

options:
  --ranks N        number of MPI ranks, 1 or more (default 8)
  --node-size K    every K ranks are a node of their own, with a node store of its own (default 2)
  --steps N        steps that heat2d computes, 10 or more (default 200); a checkpoint is taken each tenth of them
  --store KIND     azurite: the Azure Blob emulator, which needs Node.js and npm, and is installed into build/azurite
                   or $AZURITE_HOME; file: a directory; auto: azurite where that works, or else file (default)
  --build-dir DIR  use the programs of this build; install and build nothing (default: build them in build/)
  --help           print this
END
}

say() {
    printf '   %s\n' "$*"
}

stage() {
    printf '\n== %s\n' "$*"
}

fail() {
    printf '\ndemo: FAILED: %s\n' "$*"
    exit 1
}

misused() {
    printf 'demo: %s; --help lists the options\n' "$*" >&2
    exit 2
}

# --- Options ---------------------------------------------------------------------------------------------------------

number() { # OPTION VALUE LEAST
    if ! [[ $2 =~ ^[0-9]{1,6}$ ]] || ((10#$2 < $3)); then
        misused "$1 $2: a whole number, $3 or more, is needed"
    fi
}

while [ $# -gt 0 ]; do
    case $1 in
    --help | -h)
        usage
        exit 0
        ;;
    --ranks | --node-size | --steps | --store | --build-dir) [ $# -ge 2 ] || misused "$1 needs a value" ;;
    *) misused "unknown option $1" ;;
    esac
    case $1 in
    --ranks) number "$1" "$2" 1 && ranks=$((10#$2)) ;;
    --node-size) number "$1" "$2" 1 && node_size=$((10#$2)) ;;
    --steps) number "$1" "$2" 10 && steps=$((10#$2)) ;;
    --store)
        [[ $2 =~ ^(auto|azurite|file)$ ]] || misused "--store $2: auto, azurite or file is needed"
        store=$2
        ;;
    --build-dir)
        build=$(cd "$2" 2>/dev/null && pwd) || misused "--build-dir $2: there is no such directory"
        build_given=1
        ;;
    esac
    shift 2
done

every=$((steps / 10))
half=$((every * 5))
nodes=$(((ranks + node_size - 1) / node_size))

# --- Scratch: what is made, and that nothing of it stays --------------------------------------------------------------

work=
memory=
mpi=
session=0 # of the run under way: mpirun and all ranks

# mpirun puts each rank into a process group of its own, but leaves them in its session.
session_pids() { # SESSION
    local file stat state session
    for file in /proc/[0-9]*/stat; do
        { stat=$(<"$file"); } 2>/dev/null || continue # it has ended meanwhile
        # shellcheck disable=SC2086 # to be split: state, parent, group, session
        set -- "$1" ${stat##*) }
        state=${2:-Z} session=${5:-}
        if [ "$session" = "$1" ] && [ "$state" != Z ]; then
            file=${file#/proc/}
            printf '%s ' "${file%/stat}"
        fi
    done
}

kill_session() {
    local pids i
    [ "$session" -ne 0 ] || return
    for ((i = 0; i < 100; i++)); do
        pids=$(session_pids "$session")
        [ -n "$pids" ] || break
        # shellcheck disable=SC2086 # several words
        kill -9 $pids 2>/dev/null
        sleep 0.05
    done
    session=0
}

# The only place from where the demo ends, whatever the way.
# shellcheck disable=SC2317 # called by the trap
clean_up() {
    local status=$? IFS=$' \t\n' # a signal may come during `IFS= read`
    kill_session
    [ ! -f "$work/azurite/azurite.pid" ] || bash "$root/tests/azurite/azurite.sh" stop "$work/azurite"
    [ -z "$memory$mpi" ] || rm -rf "$memory" "$mpi"
    if [ $status -eq 0 ]; then
        [ -z "$work" ] || rm -rf "$work"
        echo "demo: OK"
    elif [ -n "$work" ]; then
        echo "demo: the logs are in $work"
    fi
    exit $status
}

make_scratch() {
    local directory=/dev/shm
    [ -w $directory ] || directory=${TMPDIR:-/tmp}
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    work=$(mktemp -d "${TMPDIR:-/tmp}/dcache-demo-XXXXXX") || fail "cannot make a directory in ${TMPDIR:-/tmp}"
    memory=$(mktemp -d "$directory/dcache-demo-XXXXXX") || fail "cannot make a directory in $directory"
    mpi=$(mktemp -d /tmp/dcache-demo-XXXXXX) || fail "cannot make a directory in /tmp" # names of sockets have a limit
    mkdir "$work/azurite" || fail "cannot make a directory in $work"
}

# The settings of the person who runs this are for other jobs. Open MPI: as root too, more ranks than cores, without
# reading other ranks' memory (which containers often forbid), and nothing outside the scratch directory that a
# SIGKILL would leave behind.
set_environment() {
    local variable
    for variable in $(compgen -e); do
        case $variable in
        DCACHE_* | AZURE_*) unset "$variable" ;;
        esac
    done
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 \
        PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
    export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1 \
        PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
    export OMPI_MCA_btl_vader_backing_directory=$mpi \
        OMPI_MCA_orte_tmpdir_base=$mpi
    export DCACHE_NODE_SIZE=$node_size DCACHE_MEMORY_STORE=$memory
}

# --- Preparation ------------------------------------------------------------------------------------------------------

build_all() {
    local generator=() log=$work/build.log
    bash "$root/tests/tools/install-dependencies.sh" build >"$log" 2>&1 ||
        fail "what is needed to build dcache cannot be installed: $(tail -n 1 "$log")"
    if [ ! -f "$build/CMakeCache.txt" ] && command -v ninja >/dev/null; then
        generator=(-G Ninja)
    fi
    say "building dcache in $build"
    if ! cmake -S "$root" -B "$build" "${generator[@]}" >>"$log" 2>&1 ||
        ! cmake --build "$build" --parallel 2 >>"$log" 2>&1; then
        tail -n 20 "$log"
        fail "dcache does not build"
    fi
}

start_azurite() {
    local settings
    say "starting Azurite, the Azure Blob emulator (the first time, it is installed, which takes a minute)"
    settings=$(bash "$root/tests/azurite/azurite.sh" start "$work/azurite" 2>"$work/azurite/start.log") || return 1
    eval "$settings" # AZURE_STORAGE_CONNECTION_STRING
}

choose_store() {
    local log=$work/store.log
    if [ "$store" != file ] && start_azurite; then
        export DCACHE_STORE=azure://dcache-demo
        store="Azurite, which speaks the protocol of Azure Blob"
    elif [ "$store" = azurite ]; then
        fail "Azurite does not start: $(tail -n 1 "$work/azurite/start.log")"
    else
        [ "$store" = file ] || say "without Azurite: $(tail -n 1 "$work/azurite/start.log")"
        export DCACHE_STORE=file://$work/objects
        store="a directory"
    fi
    dcache store create >"$log" 2>&1 || fail "the object store cannot be made: $(tail -n 1 "$log")"
    say "object store: $store ($(tail -n 1 "$log"))"
}

dcache() {
    "$build/bin/dcache" "$@"
}

prepare() {
    local program
    stage "Preparation"
    [ $build_given -eq 1 ] || build_all
    for program in dcache heat2d heat2d-make-field; do
        [ -x "$build/bin/$program" ] || fail "there is no $build/bin/$program; build the examples"
    done
    command -v mpirun >/dev/null || fail "there is no mpirun"
    choose_store
    "$build/bin/heat2d-make-field" "$work/field.h5" || fail "the initial field cannot be written"
    say "$ranks ranks on $nodes virtual nodes of $node_size; $steps steps, a checkpoint every $every"
}

# --- Runs -------------------------------------------------------------------------------------------------------------

fail_run() { # NAME TEXT
    echo
    tail -n 15 "$work/$1.log" 2>/dev/null
    fail "$2"
}

# Run heat2d as job JOB, and kill it and mpirun with SIGKILL as soon as it has reported that KILL_AT is checkpointed
# (0: let it finish). What it says goes to $work/NAME.log.
run() { # NAME JOB KILL_AT [HEAT2D_OPTION...]
    local log=$work/$1.log name=$1 job=$2 kill_at=$3 until=$((SECONDS + run_limit)) line killed=0 pids=
    shift 3
    # A session of its own, to be found by.
    exec 3< <(DCACHE_JOB=$job DCACHE_LOG=info exec setsid mpirun -np "$ranks" "$build/bin/heat2d" \
        --input "$work/field.h5" --steps "$steps" --every "$every" "$@" 2>&1 </dev/null)
    session=$!
    while [ $SECONDS -lt $until ] && IFS= read -r -t $((until - SECONDS + 1)) -u 3 line; do
        printf '%s\n' "$line" >>"$log"
        case $line in
        "heat2d: started from"* | "heat2d: restarted from"*)
            say "$line"
            pids=$(session_pids "$session")
            ;;
        "heat2d: step $kill_at checkpointed")
            # shellcheck disable=SC2086 # several words
            kill -9 $pids
            killed=1
            kill_session
            break
            ;;
        esac
    done
    [ $SECONDS -lt $until ] || fail_run "$name" "the run $name was not over after $run_limit s"
    exec 3<&-
    if [ "$kill_at" -ne 0 ]; then
        [ $killed -eq 1 ] || fail_run "$name" "the run $name ended before step $kill_at was checkpointed"
        say "heat2d: step $kill_at checkpointed"
        say "now mpirun and its $ranks ranks are killed: kill -9 $pids"
        return
    fi
    wait "$session" || fail_run "$name" "the run $name ended with status $?"
    session=0
    say "$(grep -E '^heat2d: step [0-9]+ done' "$log")"
}

# What the ranks of the restarted run NAME say they took from other nodes and from the object store, in bytes.
bytes_taken() { # NAME
    local from_nodes=0 from_objects=0 line
    while read -r line; do
        if [[ $line =~ ([0-9]+)\ bytes\ from\ other\ nodes,\ ([0-9]+)\ from\ the\ object\ store ]]; then
            from_nodes=$((from_nodes + BASH_REMATCH[1]))
            from_objects=$((from_objects + BASH_REMATCH[2]))
        fi
    done <"$work/$1.log"
    echo $from_nodes $from_objects
}

list() { # JOB
    dcache ls --job "$1" >"$work/ls.log" 2>&1 || fail "dcache ls --job $1 failed: $(tail -n 1 "$work/ls.log")"
    say "\$ dcache ls --job $1"
    sed 's/^/      /' "$work/ls.log"
}

drain() { # JOB
    say "the processes are dead, and 'dcache drain' stores what they had not stored yet (on a cluster, on each node):"
    dcache drain --job "$1" >"$work/drain.log" 2>&1 || fail "dcache drain --job $1: $(tail -n 1 "$work/drain.log")"
    say "\$ dcache drain --job $1"
    sed 's/^/      /' "$work/drain.log"
}

wipe_node() { # JOB NODE
    local directory=$memory/$1/node-$2
    [ -d "$directory" ] || fail "there is no node store $directory"
    rm -rf "$directory" || fail "$directory cannot be removed"
    say "node $2 is lost: rm -rf $directory"
}

wipe_all() { # JOB
    rm -rf "${memory:?}/$1" || fail "$memory/$1 cannot be removed"
    say "all nodes are lost: rm -rf $memory/$1"
}

# The run NAME must have gone on from where the killed one was, with bytes from where they were left, and must have
# come to the right result.
check() { # NAME nodes|objects
    local from from_nodes from_objects
    from=$(sed -n 's/^heat2d: restarted from step //p' "$work/$1.log")
    [ -n "$from" ] || fail "heat2d did not restart from a checkpoint, but from the beginning"
    if [ "$from" -lt "$half" ] || [ "$from" -ge "$steps" ]; then
        fail "heat2d restarted from step $from, not from step $half or one after it"
    fi
    read -r from_nodes from_objects <<<"$(bytes_taken "$1")"
    say "it took $from_nodes bytes from other nodes and $from_objects bytes from the object store"
    case $2 in
    nodes) [ "$from_nodes" -gt 0 ] || fail "no bytes came from other nodes" ;;
    objects) [ "$from_objects" -gt 0 ] || fail "no bytes came from the object store" ;;
    esac
    cmp "$work/expected.h5" "$work/$1.h5" >"$work/cmp.log" 2>&1 ||
        fail "the result is not that of the undisturbed run: $(tail -n 1 "$work/cmp.log")"
    say "cmp: the result is that of the undisturbed run, byte for byte"
}

# --- The demo ---------------------------------------------------------------------------------------------------------

undisturbed() {
    stage "An undisturbed run, to have a result to compare with"
    DCACHE_STORE=none run undisturbed undisturbed 0 --output "$work/expected.h5"
    rm -rf "$memory/undisturbed"
}

lose_one_node() {
    local left=nodes
    stage "The program is killed, and a node is lost"
    run one-node-killed one-node "$half" --sleep-ms 10
    list one-node
    if [ $nodes -eq 1 ]; then
        say "all ranks are on one node, so there is no partner that holds replicas: the object store has to do"
        drain one-node
        left=objects
    fi
    wipe_node one-node $((nodes - 1))
    stage "The same command again"
    run one-node one-node 0 --output "$work/one-node.h5"
    check one-node $left
    list one-node
}

lose_all_nodes() {
    stage "The program is killed, and all nodes are lost"
    run all-nodes-killed all-nodes "$half" --sleep-ms 10
    list all-nodes
    drain all-nodes
    wipe_all all-nodes
    list all-nodes
    stage "The same command again, and only the object store left"
    run all-nodes all-nodes 0 --output "$work/all-nodes.h5"
    check all-nodes objects
}

make_scratch
set_environment
prepare
undisturbed
lose_one_node
lose_all_nodes
echo
