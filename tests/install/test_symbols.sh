#!/bin/bash
# What the library shows to the programs it is linked into: the declared functions and nothing else, no state of its
# own, and a tool that runs where there is no MPI.
# slots: 1
set -u
library=$TEST_BUILD_DIR/lib/libdcache.so
archive=$TEST_BUILD_DIR/lib/libdcache.a
failed=0

fail() {
    echo "FAILED: $*"
    failed=1
}

same() { # WHAT FILE FILE
    diff "$2" "$3" >difference || {
        fail "$1 ($2 <, $3 >):"
        cat difference
    }
}

mpicc -E -P -I "$TEST_SOURCE_DIR/include" "$TEST_SOURCE_DIR/include/dcache.h" |
    grep -oE '\bdcache_[a-z_]+\(' | tr -d '(' | LC_ALL=C sort -u >header
grep -oE '^ +dcache_[a-z_]+;' "$TEST_SOURCE_DIR/runtime/install/dcache.map" | tr -d ' ;' | LC_ALL=C sort >map
nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | LC_ALL=C sort >shared
nm -g --defined-only "$archive" | awk 'NF == 3 { print $3 }' | LC_ALL=C sort >static

[ -s header ] || fail "no function found in include/dcache.h"
same "the header and the symbol map differ" header map
same "the symbol map and what the shared library exports differ" map shared
same "the symbol map and what the static library exports differ" map static

# Any number of handles, on any threads: nothing is kept in variables of the library, but for pthread_once() guards
# (named *_once) around what other libraries want done once in a process, and for what a signal handler can reach: how
# often it ran, and the handlers before it (runtime/signals.c).
objdump -t "$TEST_BUILD_DIR/lib/libdcache_internal.a" |
    awk '/ O / && $0 ~ /[ \t](\.data|\.bss|\.tdata|\.tbss|\*COM\*)/ && $0 !~ /\.data\.rel\.ro/ && $NF !~ /_once$/ && $NF != "signals_of_process" { print $NF }' >variables
[ ! -s variables ] || fail "the library has mutable variables: $(tr '\n' ' ' <variables)"

# `dcache drain` finishes a dead job's work from an epilog, on a node without the job's modules.
objdump -p "$TEST_BUILD_DIR/bin/dcache" | awk '/NEEDED/ { print $2 }' >needed
[ -s needed ] || fail "bin/dcache is not there or needs nothing"
grep -E 'mpi|hdf5' needed && fail "bin/dcache needs MPI or HDF5"

exit $failed
