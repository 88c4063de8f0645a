#!/bin/bash
# One pass of the tests: pass.sh BUILD_DIR UNSTEADY_FILE [arguments for ctest]
#
# Runs them three at a time: those that count as two (PROCESSORS) spend much of their time waiting. What fails is run once
# more, alone. What passes then is unsteady: a line "BUILD_DIR TEST" for each goes to the end of UNSTEADY_FILE, and the
# output of its first failure stays in BUILD_DIR/Testing/Temporary/LastTest.first.log. More than three failures are not
# tried again. tests/README.md says why.
#
# Status 0: every test has passed, at last. The caller decides how many may be unsteady.
set -u
if [ $# -lt 2 ]; then
    sed -n '2s/^# //p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
directory=$1 unsteady=$2
shift 2
logs=$directory/Testing/Temporary
again_at_most=3

failed_tests() { # print the names, one a line; ctest writes "number:name"
    [ ! -f "$logs/LastTestsFailed.log" ] || sed 's/^[0-9]*://' "$logs/LastTestsFailed.log"
}

rm -f "$logs/LastTestsFailed.log" "$logs/LastTest.first.log"
ctest --test-dir "$directory" --parallel 3 --output-on-failure "$@" && exit 0

mapfile -t failed < <(failed_tests)
if [ ${#failed[@]} -eq 0 ] || [ ${#failed[@]} -gt $again_at_most ]; then
    exit 1
fi
cp "$logs/LastTest.log" "$logs/LastTest.first.log" || exit 1
rm -f "$logs/LastTestsFailed.log"
echo "== once more, alone: ${failed[*]}"
# By name: what else was asked for is ctest's own business no more.
pattern=$(printf '%s\n' "${failed[@]}" | sed 's/[.]/\\./g' | paste -s -d '|')
ctest --test-dir "$directory" -R "^($pattern)\$" --no-tests=error --output-on-failure
status=$?
mapfile -t still < <(failed_tests)
for name in "${failed[@]}"; do
    case " ${still[*]} " in
    *" $name "*) ;;
    *) [ $status -ne 0 ] && [ ${#still[@]} -eq 0 ] || echo "$directory $name" >>"$unsteady" ;;
    esac
done
[ $status -eq 0 ]
