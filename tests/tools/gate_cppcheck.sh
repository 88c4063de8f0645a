#!/bin/bash
# timeout: 900 (on a busy machine)
# cppcheck finds nothing (warning, performance, portability). A false alarm is silenced where it is, with the reason.
set -u
# shellcheck source=tests/tools/sources.sh
. "$(dirname "$0")/sources.sh"
require cppcheck

# Suppressed everywhere: cppcheck looks for no system headers, its POSIX description calls the descriptor -1 of an
# anonymous mmap() invalid, and it wants readdir_r(), which glibc and POSIX have withdrawn in favour of readdir().
check() { # FILE...
    cppcheck --quiet --std=c11 --enable=warning,performance,portability --error-exitcode=1 --inline-suppr \
        --suppress=missingIncludeSystem --suppress=invalidFunctionArg \
        --suppress=readdirCalled --library=posix -D_GNU_SOURCE -D__GNUC__ -D__x86_64__ -DDCACHE_FAILPOINTS \
        -I "$root" -I "$root/include" -I "$root/tests/unit" "$@"
}

cat >"$planted/planted.c" <<'END'
#include <stdlib.h>
int main(void)
{
    int *p = malloc(4);
    p = NULL;
    return p == NULL;
}
END
if check "$planted/planted.c" 2>/dev/null; then
    echo "the gate did not notice a planted leak"
    exit 1
fi

mapfile -t files < <(sources -name '*.c')
[ ${#files[@]} -gt 0 ] || { echo "no C files in $root"; exit 1; }
check -j 2 "${files[@]}" || exit 1
echo "${#files[@]} files"
