#!/bin/bash
# Run a command with an Azurite of its own: with-azurite.sh COMMAND [ARGUMENT...]
# timeout: 420 (the first time it is installed)
#
# The command finds AZURE_STORAGE_CONNECTION_STRING and TEST_AZURE_URL (a container that is not made yet) in its
# environment. Returns the command's status, or 77 where node or npm is not there. (The variable is not called
# DCACHE_...: those are the library's options, and it refuses one that it does not know.)
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
if [ $# -eq 0 ]; then
    sed -n '2s/^# //p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
directory=$(mktemp -d "${TMPDIR:-/tmp}/dcache-azurite-XXXXXX") || exit 1

clean_up() {
    bash "$here/azurite.sh" stop "$directory"
    rm -rf "$directory"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

settings=$(bash "$here/azurite.sh" start "$directory")
status=$?
if [ $status -ne 0 ] && [ $status -ne 77 ]; then # somebody may have taken the port that was free: another one
    settings=$(bash "$here/azurite.sh" start "$directory")
    status=$?
fi
[ $status -eq 0 ] || exit $status
eval "$settings"
"$@"
