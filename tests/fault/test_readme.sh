#!/bin/bash
# What README.md says is so: the program it quotes is the one that is tested, and the documents it names are there.
# slots: 1
set -u
cd "$TEST_SOURCE_DIR" || exit 1
status=0

# shellcheck disable=SC2016 # the quotes are those of Markdown
lines=$(sed -n '/^```c$/,/^```$/{/^```/d; p;}' README.md)
[ "$(grep -c dcache_ <<<"$lines")" -ge 5 ] || { echo "README.md quotes no program" && status=1; }
while IFS= read -r line; do
    grep -qxF -- "$line" examples/minimal.c || { echo "not a line of examples/minimal.c: $line" && status=1; }
done <<<"$lines"

while read -r path; do
    [ -e "$path" ] || { echo "README.md names $path, which is not there" && status=1; }
done < <(grep -oE '\]\([^)#]+\)' README.md | sed 's/^](\(.*\))$/\1/')

# Names of options and statuses, too.
while read -r name; do
    case $name in
    DCACHE_ERR_* | DCACHE_OK | DCACHE_NOT_FOUND | DCACHE_FLOAT64)
        grep -qE "(DCACHE_|\()${name#DCACHE_}\b" include/dcache.h || { echo "there is no $name" && status=1; }
        ;;
    *) grep -q "\`$name\`" docs/options.md || { echo "there is no option $name" && status=1; } ;;
    esac
done < <(grep -oE '\bDCACHE_[A-Z0-9_]+' README.md | grep -vx DCACHE_ | sort -u)
exit $status
