#!/bin/bash
# Run one test: run-test.sh SOURCE_DIR BUILD_DIR NAME COMMAND...
#
# The test starts in an empty directory of its own (left behind when it fails) with an environment that the user's
# settings cannot change, and finds in it:
#   TEST_SOURCE_DIR, TEST_BUILD_DIR   the tree and its build (programs in $TEST_BUILD_DIR/bin)
#   TEST_SCRATCH_DIR                  the directory it starts in
#   DCACHE_MEMORY_STORE               node stores in there; the default object store is a directory in there already
# Names that start with DCACHE_ are options of the library, so none of ours does.
set -u
export TEST_SOURCE_DIR=$1 TEST_BUILD_DIR=$2
name=$3
shift 3
export TEST_SCRATCH_DIR=$TEST_BUILD_DIR/tests/scratch/$name

for variable in $(compgen -e); do
    case $variable in
    DCACHE_* | AZURE_* | SLURM_*) unset "$variable" ;;
    esac
done

rm -rf "$TEST_SCRATCH_DIR"
mkdir -p "$TEST_SCRATCH_DIR" || exit 1
cd "$TEST_SCRATCH_DIR" || exit 1
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1
export LSAN_OPTIONS=suppressions=$TEST_SOURCE_DIR/tests/tools/lsan.supp:print_suppressions=0
export UBSAN_OPTIONS=print_stacktrace=1

case $name in
unit.* | fuzz.*) # these test the defaults themselves; Open MPI gets no TMPDIR: its socket names would be too long
    export TMPDIR=$TEST_SCRATCH_DIR
    ;;
*)
    export DCACHE_MEMORY_STORE=$TEST_SCRATCH_DIR/memory
    # The slow unwinder, because the libraries below us keep no frame pointers and lsan.supp has to find them.
    ASAN_OPTIONS=$ASAN_OPTIONS:fast_unwind_on_malloc=0
    ;;
esac

# Open MPI in a container: root, more ranks than cores, no binding. Its single-copy mechanism stays on: without it there
# are no windows between processes.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1

"$@" </dev/null
status=$?
# Whatever a test has made dcache write, no secret is in it.
if [ $status -eq 0 ] && ! bash "$TEST_SOURCE_DIR/tests/tools/scan_secrets.sh" "$TEST_SCRATCH_DIR"; then
    echo "run-test.sh: FAILED: the test leaves a secret behind (see above)"
    status=1
fi
if [ $status -eq 0 ]; then
    cd / && rm -rf "$TEST_SCRATCH_DIR"
fi
exit $status
