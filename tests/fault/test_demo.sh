#!/bin/bash
# The demo succeeds with this build, for several numbers of ranks; leaves nothing behind; and is able to fail.
# timeout: 480
set -u
demo=$TEST_SOURCE_DIR/examples/demo.sh
export TMPDIR=$TEST_SCRATCH_DIR/tmp
mkdir "$TMPDIR" || exit 1

fail() {
    printf 'FAILED: %s\n' "$*"
    exit 1
}

run_demo() { # LOG OPTION...
    local log=$1
    shift
    bash "$demo" --build-dir "$TEST_BUILD_DIR" "$@" >"$log" 2>&1 || fail "demo.sh $*: $(cat "$log")"
    [ "$(tail -n 1 "$log")" = "demo: OK" ] || fail "demo.sh $*: the last line is not \"demo: OK\": $(tail -n 1 "$log")"
    [ "$(grep -c 'cmp: the result is that of the undisturbed run' "$log")" -eq 2 ] || fail "$log has not two comparisons"
}

run_demo default.log # with Azurite, where that is to be had
grep '^   object store' default.log
run_demo odd.log --ranks 5 --node-size 2 --steps 60 --store file
run_demo one-node.log --ranks 2 --node-size 2 --steps 60 --store file
grep -q 'there is no partner' one-node.log || fail "one node, and nothing said of it: $(cat one-node.log)"

left=$(ls -A "$TMPDIR")
[ -z "$left" ] || fail "the demo leaves behind: $left"

# A program that ignores its checkpoints, because it has another job name each time, must not pass.
mkdir -p other/bin || exit 1
ln -s "$TEST_BUILD_DIR"/bin/* other/bin/ || exit 1
rm other/bin/heat2d
# shellcheck disable=SC2016 # for the script that is made: the parent is mpirun
printf '#!/bin/bash\nexport DCACHE_JOB=job-$PPID\nexec %s "$@"\n' "$TEST_BUILD_DIR/bin/heat2d" >other/bin/heat2d
chmod +x other/bin/heat2d
if bash "$demo" --build-dir other --store file --ranks 3 --steps 60 >other.log 2>&1; then
    fail "the demo accepts a program that does not restart: $(cat other.log)"
fi
grep -q '^demo: FAILED: ' other.log || fail "the demo does not say that it failed: $(cat other.log)"
logs=$(sed -n 's/^demo: the logs are in //p' other.log)
[ -s "$logs/undisturbed.log" ] || fail "the demo keeps no logs of its failure: $(cat other.log)"
exit 0
