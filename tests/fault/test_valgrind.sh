#!/bin/bash
# A life and the next one under valgrind: checkpoints of both kinds, levels up to the object store (compressed and
# encrypted), restarts from memory and from objects. No error and nothing lost, but for what is known of MPI
# (its own list, and tests/tools/valgrind.supp). And what is lost on purpose is seen.
# timeout: 400
# shellcheck source=tests/fault/runs.sh
. "$TEST_SOURCE_DIR/tests/fault/runs.sh"
ranks=2
run_limit=300 # valgrind is slow
export DCACHE_NODE_SIZE=1 DCACHE_JOB=watched DCACHE_STORE=file://$PWD/objects DCACHE_LOG=error
export DCACHE_TIER=both DCACHE_SSD_STORE=$PWD/ssd
export DCACHE_COMPRESS=always DCACHE_ENCRYPT_KEY_FILE=$PWD/key

command -v valgrind >/dev/null || skip "valgrind is not there"
their_list=$(ompi_info --path pkgdatadir --parsable 2>/dev/null | sed -n 's/^path:pkgdatadir://p')/openmpi-valgrind.supp
[ -f "$their_list" ] || skip "Open MPI's list for valgrind (openmpi-valgrind.supp) is not there"
kinds=definite,indirect
watch=(valgrind -q --num-callers=40 --leak-check=full "--show-leak-kinds=$kinds" "--errors-for-leak-kinds=$kinds"
    --error-exitcode=9 "--suppressions=$their_list" "--suppressions=$TEST_SOURCE_DIR/tests/tools/valgrind.supp"
    "$bin/program_script")

live() { # NAME: its script is standard input
    cat >"$1.script"
    must_run "$1.out" $ranks "${watch[@]}" "$1.script" "$1.log"
    for log in "$1".log.*; do
        [ "$(tail -n 1 "$log")" = end ] || fail "$log has no end: $(cat "$log")"
        if grep -E '^< -' "$log" || grep BAD "$log"; then fail "in $log (above)"; fi
    done
}

(umask 077 && printf '%064d\n' 7 >key)
live first <<'END'
words 200000
open
restart
take 1 11
wait 1 2
begin 2 12
wait 2 3
restart 2
close
END
rm -rf "$DCACHE_MEMORY_STORE" "$DCACHE_SSD_STORE"
live second <<'END'
words 200000
open
restart
take 3 13
close
END
grep -q '^restored 2 12 good' second.log.0 || fail "the step was not restored from the object store: $(cat second.log.0)"

# A handle is forgotten; without threads, whose stacks would still know it.
cat >third.script <<'END'
env DCACHE_STORE none
env DCACHE_TIER memory
open
env DCACHE_JOB another
open
close
END
if run_ranks third.out 1 "${watch[@]}" third.script third.log; then
    fail "a handle that is not closed is not found: this test finds nothing: $(cat third.log.0 third.out)"
fi
grep -q 'definitely lost' third.out || fail "not because of what was lost: $(cat third.out)"
