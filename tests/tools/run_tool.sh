# shellcheck shell=bash
# Sourced by tests of the tool, `dcache`: running it, and looking at what it says. A failure is told and counted in `failures`,
# and the test goes on; it ends with `finish`.
dcache=${TEST_BUILD_DIR:?}/bin/dcache
failures=0

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# run CODE ARGUMENT...: what it says is in $out and $err, and in the working directory in out.txt and err.txt; what it has ever
# said in all.txt.
run() {
    local want=$1 code
    shift
    "$dcache" "$@" >out.txt 2>err.txt </dev/null
    code=$?
    cat out.txt err.txt >>all.txt
    out=$(cat out.txt)
    err=$(cat err.txt)
    [ "$code" = "$want" ] || fail "dcache $*: exit code $code, not $want: $out $err"
}

matches() { # matches TEXT PATTERN...: each pattern (grep -E) is in the text
    local text=$1 pattern
    shift
    for pattern; do
        grep -Eq -- "$pattern" <<<"$text" || fail "no '$pattern' in: $text"
    done
}

has() { # has PATTERN...: each is in what the tool said
    matches "$out"$'\n'"$err" "$@"
}

lacks() { # lacks PATTERN: it is in nothing that the tool said
    if grep -Eq -- "$1" <<<"$out"$'\n'"$err"; then fail "'$1' is in: $out $err"; fi
}

json() { # json EXPRESSION: true of the document in $out, as d
    python3 -c "import json,sys; d=json.loads(sys.argv[1]); sys.exit(0 if ($1) else 1)" "$out" || fail "not true: $1 of $out"
}

finish() {
    [ "$failures" = 0 ] && echo "all good"
    exit $((failures > 0))
}
