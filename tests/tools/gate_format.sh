#!/bin/bash
# timeout: 400 (on a busy machine)
# C code is formatted as .clang-format says.
# timeout: 600
set -u
# shellcheck source=tests/tools/sources.sh
. "$(dirname "$0")/sources.sh"
# Each release formats a little differently: version 14 is the one that counts.
formatter=clang-format
command -v clang-format-14 >/dev/null && formatter=clang-format-14
require $formatter
if ! $formatter --version | grep -q ' 14\.'; then
    echo "skipped: needs clang-format 14, there is $($formatter --version)"
    exit 77
fi

printf 'int  main( void ){return 0;}\n' >"$planted/planted.c"
cp "$root/.clang-format" "$planted"
if $formatter --dry-run -Werror "$planted/planted.c" 2>/dev/null; then
    echo "the gate did not notice a planted violation"
    exit 1
fi

mapfile -t files < <(sources -name '*.[ch]')
[ ${#files[@]} -gt 0 ] || { echo "no C files in $root"; exit 1; }
$formatter --dry-run -Werror "${files[@]}" || { echo "repair with: $formatter -i FILE"; exit 1; }
echo "${#files[@]} files"
