# shellcheck shell=bash
# Sourced by the tests of this directory: hosts of their own, which are gone when the test ends, and the names of what all
# of them use. The test goes on in its scratch directory. One that has more to put away defines clean_up_more().
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
# shellcheck disable=SC2034 # used by those who source this
cluster=$here/cluster bin=${TEST_BUILD_DIR:?}/bin scratch=${TEST_SCRATCH_DIR:?}
export CLUSTER_DIR # short: names of sockets have a limit
CLUSTER_DIR=$(mktemp -d /tmp/dcache-cluster.XXXXXX) || exit 1

clean_up() {
    if declare -F clean_up_more >/dev/null; then clean_up_more; fi
    bash "$cluster" down
    rm -rf "$CLUSTER_DIR"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP
cd "$scratch" || exit 1
