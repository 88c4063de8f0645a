#!/bin/bash
# tests/tools/pass.sh, which every result of the tests goes through: what is unsteady is told, what fails stays a failure.
set -u
pass=$TEST_SOURCE_DIR/tests/tools/pass.sh
failures=0

expect() { # STATUS UNSTEADY NAMES_OF_TESTS...
    local wanted=$1 unsteady=$2 status name
    shift 2
    rm -rf project && mkdir project || exit 1
    for name in "$@"; do
        printf 'add_test(%s "bash" "%s" "%s")\n' "$name" "$PWD/script.sh" "$PWD/project/$name"
    done >project/CTestTestfile.cmake
    bash "$pass" project project/unsteady >project/output 2>&1
    status=$?
    touch project/unsteady
    if [ $status -ne "$wanted" ] || [ "$(sed 's/^project //' project/unsteady | sort | paste -s -d ' ')" != "$unsteady" ]; then
        echo "pass.sh with $*: status $status, unsteady: $(cat project/unsteady); expected $wanted, $unsteady"
        cat project/output
        failures=1
    fi
}

# A test: good passes, bad fails, odd fails the first time and says so.
cat >script.sh <<'END'
case ${1##*/} in
good*) exit 0 ;;
bad*) exit 1 ;;
odd*) [ -e "$1.seen" ] || { touch "$1.seen"; echo "first failure of ${1##*/}"; exit 1; } ;;
esac
END

expect 0 "" good.1 good.2
expect 0 "odd.1" good.1 odd.1
grep -q 'first failure of odd.1' project/Testing/Temporary/LastTest.first.log || failures=1
expect 0 "odd.1 odd.2 odd.3" odd.1 odd.2 odd.3 good.1
expect 1 "" odd.1 odd.2 odd.3 odd.4 # too many for bad luck
expect 1 "" bad.1 good.1
expect 1 "odd.1" bad.1 odd.1
expect 1 "" bad.odd good.odd # a name of which another is a part
mv project/CTestTestfile.cmake project/gone
bash "$pass" project project/unsteady --no-tests=error >/dev/null 2>&1 && failures=1
exit $failures
