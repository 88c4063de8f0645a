#!/bin/bash
# Install what is missing, build, and run every test: first in a build with sanitizers, then in the normal build.
#
#   tests/run.sh [arguments for ctest, e.g. -R mpi.restart]
#
# The last lines are ctest's summary of the normal build. Status 0 only when both passes succeeded.
set -u
cd "$(dirname "$0")/.." || exit 1
jobs=2

if ! bash tests/tools/install-dependencies.sh test; then
    echo "tests/run.sh: stopped: dependencies are missing (see above)"
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then # only root can make hosts; others skip those tests
    bash tests/tools/install-dependencies.sh cluster
fi

build() { # DIRECTORY CMAKE_ARGUMENT...
    local directory=$1 generator=()
    shift
    if [ ! -f "$directory/CMakeCache.txt" ] && command -v ninja >/dev/null; then
        generator=(-G Ninja)
    fi
    echo "== building $directory"
    if ! cmake -S . -B "$directory" "${generator[@]}" -DDCACHE_BUILD_TESTS=ON -DDCACHE_FAILPOINTS=ON "$@" ||
        ! cmake --build "$directory" --parallel $jobs; then
        echo "tests/run.sh: FAILED: $directory does not build"
        exit 1
    fi
}

build build/test -DDCACHE_SANITIZE=OFF
build build/asan -DDCACHE_SANITIZE=ON "-DDCACHE_TEST_RANKS=1;3;4" -DDCACHE_TEST_RANKS_ONLY=ON

echo "== testing build/asan (AddressSanitizer, UndefinedBehaviorSanitizer)"
ctest --test-dir build/asan --parallel $jobs --output-on-failure "$@"
sanitizer_status=$?

echo "== testing build/test"
ctest --test-dir build/test --parallel $jobs --output-on-failure "$@"
status=$?

if [ $sanitizer_status -ne 0 ]; then
    echo "tests/run.sh: FAILED: the pass with sanitizers; its failures are above, in build/asan/Testing/Temporary/LastTest.log"
    exit 1
fi
exit $status
