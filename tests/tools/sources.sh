# shellcheck shell=bash
# For the gates, sourced: where the tree is, and which files it has (a fresh clone's: no build, no downloads).
root=${TEST_SOURCE_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
planted=$(mktemp -d) # each gate first shows there that it notices a violation
trap 'rm -rf "$planted"' EXIT

sources() { # FIND_EXPRESSION...
    find "$root" \( -path "$root/build*" -o -path "$root/.git" -o -name node_modules \) -prune -o -type f \( "$@" \) -print |
        LC_ALL=C sort
}

require() { # COMMAND: a gate whose tool is missing has checked nothing, so it does not pass
    command -v "$1" >/dev/null || {
        echo "$1 is not installed: run tests/tools/install-dependencies.sh test"
        exit 1
    }
}
