#!/bin/bash
# timeout: 600
# dcache as its users get it: built with default options, installed, moved to another place, and used from there by
# CMake, by pkg-config, statically, from C and from C++.
set -u
export LC_ALL=C
prefix=$TEST_SCRATCH_DIR/moved

fail() {
    echo "FAILED: $*"
    exit 1
}

quietly() { # COMMAND...: its output only if it fails
    "$@" >log 2>&1 || {
        cat log
        fail "$*"
    }
}

run_twice() { # PROGRAM: on two ranks, and it must restore what it saved
    printf 'rank %d: step 7, value %d.5\n' 0 0 1 1 >expected
    rm -rf dcache-store "$DCACHE_MEMORY_STORE"
    mpirun --oversubscribe -n 2 "$1" >output || fail "$1 exits with $?"
    sort output | diff expected - || fail "$1 restored something else"
}

echo "== a build as one installs it has no failpoints, and no warnings of the highest optimisation"
quietly cmake -S "$TEST_SOURCE_DIR" -B build -DCMAKE_INSTALL_PREFIX="$TEST_SCRATCH_DIR/first" -DDCACHE_BUILD_EXAMPLES=OFF \
    -DDCACHE_BUILD_BENCHMARKS=OFF -DCMAKE_BUILD_TYPE=Release
quietly cmake --build build --parallel 2
nm build/lib/libdcache_internal.a 2>/dev/null | grep -E ' [[:alpha:]] .*failpoint' && fail "there are failpoints in it"

echo "== install, and move"
quietly cmake --install build
mv first moved
find moved -type f -o -type l | sort
for file in include/dcache.h bin/dcache lib/libdcache.so lib/libdcache.a lib/pkgconfig/dcache.pc \
    lib/cmake/dcache/dcacheConfig.cmake; do
    [ -e "moved/$file" ] || fail "$file is not installed"
done
[ "$(find moved/include -type f)" = moved/include/dcache.h ] || fail "more than one header is installed"
quietly moved/bin/dcache help

echo "== the header alone, as C and as C++"
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
read -r -a cflags <<<"$(pkg-config --cflags dcache)"
read -r -a libs <<<"$(pkg-config --libs dcache)"
read -r -a static_libs <<<"$(pkg-config --static --libs dcache)"
system=("${cflags[@]/#-I\/usr/-isystem\/usr}") # warnings in MPI's header are not ours
echo '#include <dcache.h>' >alone.c
cp alone.c alone.cpp
quietly gcc -std=c11 -Wall -Wextra -Wpedantic -Werror "${system[@]}" -fsyntax-only alone.c
quietly g++ -std=c++17 -Wall -Wextra -Wpedantic -Werror "${system[@]}" -fsyntax-only alone.cpp

echo "== pkg-config"
quietly gcc -std=c11 -Wall -Wextra -Werror "${system[@]}" "$TEST_SOURCE_DIR/tests/install/save.c" -o with_pkg_config \
    "${libs[@]}" "-Wl,-rpath,$prefix/lib"
run_twice ./with_pkg_config

echo "== static"
quietly gcc -std=c11 "${cflags[@]}" "$TEST_SOURCE_DIR/tests/install/save.c" -o statically "-L$prefix/lib" \
    -l:libdcache.a -Wl,--as-needed "${static_libs[@]}"
objdump -p statically | grep -E 'NEEDED.*libdcache' && fail "the static program needs libdcache.so"
run_twice ./statically

echo "== CMake, and the examples as a project of their own"
cp -r "$TEST_SOURCE_DIR/examples" .
quietly cmake -S examples -B examples/build -DCMAKE_PREFIX_PATH="$prefix"
quietly cmake --build examples/build --parallel 2

echo "== names of ours do not clash with an application's"
nm -g --defined-only build/lib/libdcache_internal.a 2>/dev/null | awk 'NF == 3 && $3 !~ /^dcache_/ { print $3 }' >names
[ -s names ] || fail "no internal names found"
while read -r name; do
    echo "int $name; int $name = 1;"
done <names >clash.c
quietly gcc -std=c11 "${cflags[@]}" -w "$TEST_SOURCE_DIR/tests/install/save.c" clash.c -o clashing "-L$prefix/lib" \
    -l:libdcache.a -Wl,--as-needed "${static_libs[@]}"
run_twice ./clashing
