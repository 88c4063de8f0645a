# shellcheck shell=bash
# For the tests of this folder, sourced: programs under mpirun that are killed, none of which may hang or stay behind.
set -u
# shellcheck disable=SC2034 # used by the tests
bin=$TEST_BUILD_DIR/bin
sessions=() # of runs that may still be under way
run_limit=${FAULT_RUN_LIMIT:-90}

# What a SIGKILL leaves of Open MPI is in here, and not in /dev/shm and /tmp.
mpi_scratch=$(mktemp -d /tmp/dcache-fault-XXXXXX) || exit 1
export OMPI_MCA_btl_vader_backing_directory=$mpi_scratch OMPI_MCA_orte_tmpdir_base=$mpi_scratch

say() {
    printf '%s\n' "$*"
}

fail() {
    say "FAILED: $*"
    exit 1
}

skip() {
    say "skipped: $*"
    exit 77
}

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

# Wait until all of a session have ended; status 1: they have not after that many tenths of a second.
session_ended() { # SESSION TENTHS
    local i
    for ((i = 0; i < $2; i++)); do
        [ -n "$(session_pids "$1")" ] || return 0
        sleep 0.1
    done
    [ -z "$(session_pids "$1")" ]
}

kill_session() { # SESSION
    local pids i
    disown "$1" 2>/dev/null # or the shell says that it was killed
    for ((i = 0; i < 100; i++)); do
        pids=$(session_pids "$1")
        [ -n "$pids" ] || return 0
        # shellcheck disable=SC2086 # several words
        kill -9 $pids 2>/dev/null
        sleep 0.05
    done
    fail "processes of session $1 do not die: $pids"
}

clean_up_runs() {
    local status=$? session IFS=$' \t\n' # a signal may come during `IFS= read`
    trap - EXIT
    for session in "${sessions[@]}"; do
        kill_session "$session"
    done
    rm -rf "$mpi_scratch"
    exit $status
}
trap clean_up_runs EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Start a program under mpirun in a session of its own, output to LOG. Sets `session`.
start_ranks() { # LOG RANKS PROGRAM [ARGUMENT...]
    local log=$1 ranks=$2
    shift 2
    : >"$log"
    setsid mpirun -np "$ranks" "$@" >"$log" 2>&1 </dev/null &
    session=$!
    sessions+=("$session")
}

# Wait for its end and return its status; a run that does not end is a failure of the test.
finish_ranks() { # SESSION LOG
    local pid status until=$((SECONDS + run_limit))
    while kill -0 "$1" 2>/dev/null; do
        if [ $SECONDS -ge $until ]; then
            tail -n 20 "$2"
            for pid in $(session_pids "$1"); do
                say "process $pid: $(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c 1-60) in $(cat "/proc/$pid/wchan")"
            done
            fail "the run of $2 hangs: it has not ended after $run_limit s"
        fi
        sleep 0.05
    done
    wait "$1"
    status=$?
    kill_session "$1"
    return $status
}

run_ranks() { # LOG RANKS PROGRAM [ARGUMENT...]
    start_ranks "$@"
    finish_ranks "$session" "$1"
}

must_run() { # LOG RANKS PROGRAM [ARGUMENT...]
    local status
    run_ranks "$@"
    status=$?
    if [ $status -ne 0 ]; then
        tail -n 20 "$1"
        fail "the run of $1 ended with status $status"
    fi
}

# Wait until LOG has a line that matches; a run that ends before that, or lasts too long, is a failure of the test.
wait_for_line() { # SESSION LOG REGULAR_EXPRESSION
    local until=$((SECONDS + run_limit))
    while ! grep -qE "$3" "$2"; do
        if [ $SECONDS -ge $until ] || ! kill -0 "$1" 2>/dev/null; then
            grep -qE "$3" "$2" && return
            tail -n 20 "$2"
            fail "$2 ended or hung without a line '$3'"
        fi
        sleep 0.02
    done
}

must_be_equal() { # EXPECTED FILE
    cmp "$1" "$2" || fail "$2 is not $1"
}
