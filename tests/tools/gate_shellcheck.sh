#!/bin/bash
# timeout: 400
# No shell script, whatever its name, has anything that shellcheck finds.
# timeout: 900
set -u
# shellcheck source=tests/tools/sources.sh
. "$(dirname "$0")/sources.sh"
require shellcheck

is_script() { # FILE
    case $1 in
    *.sh | *.sbatch) return 0 ;;
    *.*) [ "${1##*/}" != "${1##*/.}" ] || return 1 ;; # name.ext of another kind
    esac
    head -c 64 "$1" | head -n 1 | grep -aqE '^#!.*\b(ba|da)?sh\b'
}

# shellcheck disable=SC2016 # it is the planted text
printf '#!/bin/bash\nrm $1\n' >"$planted/planted.sh"
if shellcheck "$planted/planted.sh" >/dev/null; then
    echo "the gate did not notice a planted violation"
    exit 1
fi

files=()
while read -r file; do
    if is_script "$file"; then
        files+=("$file")
    fi
done < <(sources -name '*')
[ ${#files[@]} -gt 0 ] || { echo "no shell scripts in $root"; exit 1; }
cd "$root" && shellcheck -x --source-path="$root" "${files[@]}" || exit 1
echo "${#files[@]} scripts"
