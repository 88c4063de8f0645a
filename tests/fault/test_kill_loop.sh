#!/bin/bash
# A run is killed again and again at random moments, copies are lost or spoilt in between, and still: each restart goes
# on from the last step that was reported as checkpointed, or from a later one, and the result has the same bits as that
# of a run that nothing happened to. In the end that is done with the object store alone.
# timeout: 480
#
# FAULT_ROUNDS (12; 5 with the sanitizers) and FAULT_SEED (the same by default, so that a failure is the change's) choose
# what happens; the moments of the kills still vary.
# shellcheck source=tests/fault/runs.sh
. "$TEST_SOURCE_DIR/tests/fault/runs.sh"

rounds=12
grep -q 'DCACHE_SANITIZE:[A-Z]*=ON' "$TEST_BUILD_DIR/CMakeCache.txt" && rounds=5
rounds=${FAULT_ROUNDS:-$rounds}
seed=${FAULT_SEED:-20261127}
RANDOM=$seed
ranks=$((3 + RANDOM % 4))
export DCACHE_NODE_SIZE=$((1 + RANDOM % 2))
# Most steps are in node stores only: what a node loses has to come from another.
export DCACHE_DRAIN_EVERY=7 DCACHE_JOB=tortured
every=5
many=1000000 # steps: more than are ever computed
reported=0   # the last step that a run has reported as checkpointed
taken=0      # the last step that any rank has begun to save: what was reported, and what nobody heard of any more
heat=("$bin/heat2d" --input field.h5 --every "$every")
say "seed $seed: $rounds rounds, $ranks ranks, $DCACHE_NODE_SIZE on a node; again with FAULT_SEED=$seed"

# --- One round -------------------------------------------------------------------------------------------------------

checkpoints_in() { # LOG
    grep -c '^heat2d: step [0-9]* checkpointed' "$1"
}

# A moment: some time after the launch, or some time after so many checkpoints.
wait_for_moment() { # SESSION LOG
    local until=$((SECONDS + run_limit)) count=$((1 + RANDOM % 6))
    if [ $((RANDOM % 3)) -eq 0 ]; then
        moment="$((RANDOM % 900)) ms after the launch"
    else
        while [ "$(checkpoints_in "$2")" -lt $count ]; do
            if [ $SECONDS -ge $until ] || ! kill -0 "$1" 2>/dev/null; then
                tail -n 20 "$2"
                fail "$2 ended or hung before it was killed (seed $seed)"
            fi
            sleep 0.02
        done
        moment="$((RANDOM % 30)) ms after checkpoint $count"
    fi
    sleep "$(printf '0.%03d' "${moment%% *}")"
}

# Kill all processes at once, or one rank, or mpirun: then the other ranks have to end by themselves. mpirun itself may
# hang when a rank dies that was just reporting to it (Open MPI 4.1): that is none of ours.
kill_some() { # SESSION KIND
    local pids some until=$((SECONDS + run_limit))
    read -r -a pids <<<"$(session_pids "$1")"
    victim=$2
    case $2 in
    mpirun) some=("$1") ;;
    rank) # the first is mpirun, which has not always started a rank yet
        some=("${pids[@]}")
        [ ${#pids[@]} -lt 2 ] || some=("${pids[1 + RANDOM % (${#pids[@]} - 1)]}")
        ;;
    *) some=("${pids[@]}") ;;
    esac
    disown "$1" # or the shell says that it was killed
    kill -9 "${some[@]}" 2>/dev/null
    for ((;;)); do
        read -r -a pids <<<"$(session_pids "$1")"
        [[ "${pids[*]}" =~ ^($1)?$ ]] && break
        [ $SECONDS -lt $until ] || fail "processes ${pids[*]} outlive the kill of $victim (seed $seed)"
        sleep 0.05
    done
    session_ended "$1" 20 || kill -9 "$1"
}

# What a run that is dead now has reported, and whether it went on from where it should.
judge() { # LOG
    local from last
    grep -q '^heat2d: step [0-9]* not checkpointed' "$1" && fail "a checkpoint failed, see $1 (seed $seed)"
    from=$(sed -nE 's/^heat2d: (re)?started from step ([0-9]+)$/\2/p' "$1")
    if [ -n "$from" ] && { [ "$from" -lt "$reported" ] || [ "$from" -gt "$taken" ]; }; then
        tail -n 20 "$1"
        fail "it started from step $from; $reported was reported, up to $taken can be there (seed $seed)"
    fi
    last=$(sed -nE 's/^heat2d: step ([0-9]+) checkpointed$/\1/p' "$1" | tail -n 1)
    reported=${last:-${from:-$reported}}
    last=$("$bin/dcache" ls --job tortured --json 2>ls.log | grep -oE '"step": [0-9]+' | sort -k 2 -n | tail -n 1)
    taken=${last##* }
    taken=${taken:-0}
    [ "$taken" -ge "$reported" ] || fail "step $reported is not listed, $taken is the last one: $(cat ls.log) (seed $seed)"
}

# --- Damage ----------------------------------------------------------------------------------------------------------

pick() { # WORD...: set `picked` to one of them
    shift $((RANDOM % $#))
    picked=$1
}

flip_bytes() { # FILE
    local size i
    size=$(stat -c %s "$1")
    for ((i = 0; i < 1 + RANDOM % 40; i++)); do
        printf '%b' "\\x$(printf %02x $((RANDOM % 256)))" |
            dd of="$1" bs=1 seek=$(((RANDOM * 32768 + RANDOM) % size)) conv=notrunc status=none
    done
}

# One node's store, or one copy: what a REPLICATED step has to survive.
damage_one() {
    local file
    case $((RANDOM % 6)) in
    0 | 1)
        pick "$DCACHE_MEMORY_STORE/tortured"/node-*
        rm -rf "$picked"
        damage="lost ${picked##*/}"
        return
        ;;
    2) damage=none && return ;;
    esac
    pick "$DCACHE_MEMORY_STORE/tortured"/node-*/*.h5
    file=$picked
    case $((RANDOM % 4)) in
    0)
        rm "$file"
        damage="removed ${file##*tortured/}"
        ;;
    1)
        truncate -s $((RANDOM % ($(stat -c %s "$file") + 1))) "$file"
        damage="truncated ${file##*tortured/}"
        ;;
    *)
        flip_bytes "$file"
        damage="flipped bytes of ${file##*tortured/}"
        ;;
    esac
}

# A run that has reported a step has two good copies of each of its shards. One that was killed before may have been busy
# with replacing what was lost before, and then a second loss would be one too many.
redundant() { # LOG
    [ "$(checkpoints_in "$1")" -gt 0 ]
}

one_round() { # NUMBER
    local log=round-$1.log before=$reported
    damage=none
    start_ranks "$log" $ranks "${heat[@]}" --steps $many --sleep-ms 2
    wait_for_moment "$session" "$log"
    pick all all all rank mpirun
    kill_some "$session" "$picked"
    judge "$log"
    ! redundant "$log" || damage_one
    say "round $1: step $before to $reported; killed $victim $moment; then $damage"
}

# --- The end ---------------------------------------------------------------------------------------------------------

undisturbed() { # STEPS
    rm -rf "$DCACHE_MEMORY_STORE/undisturbed"
    DCACHE_JOB=undisturbed DCACHE_STORE=none must_run undisturbed.log $ranks "$bin/heat2d" --input field.h5 --every 0 \
        --steps "$1" --output expected.h5
}

# To the end, and the result must be right.
finish_at() { # STEPS LOG
    rm -f result.h5
    must_run "$2" $ranks "${heat[@]}" --steps "$1" --output result.h5
    judge "$2"
    undisturbed "$1"
    cmp expected.h5 result.h5 || fail "the result after $1 steps is not that of an undisturbed run (seed $seed)"
}

from_objects_alone() {
    start_ranks killed.log $ranks "${heat[@]}" --steps $many --sleep-ms 2
    wait_for_line "$session" killed.log '^heat2d: step [0-9]+ checkpointed'
    kill_some "$session" all
    judge killed.log
    "$bin/dcache" drain --job tortured >drain.log 2>&1 || fail "dcache drain: $(cat drain.log) (seed $seed)"
    rm -rf "$DCACHE_MEMORY_STORE/tortured"
    finish_at $((taken + 20)) objects.log
    grep -q '^heat2d: restarted from step' objects.log || fail "no restart from the object store (seed $seed)"
}

"$bin/heat2d-make-field" field.h5 96 80 || fail "no field"
for ((round = 1; round <= rounds; round++)); do
    one_round $round
done
finish_at $((taken + 20)) finish.log
say "after $reported steps the result is right"
from_objects_alone
say "from the object store alone it is, too"
