#!/bin/bash
# What is built has the compiler's and linker's defences: position independent, relocations read-only, no executable
# stack, stack protector, fortified calls.
# slots: 1
set -u
build=${TEST_BUILD_DIR:?}
failures=0

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

command -v readelf >/dev/null || {
    echo "skipped: needs readelf (binutils)"
    exit 77
}

# check FILE: one of ours, linked
check() {
    local file=$1 headers dynamic symbols stack
    headers=$(readelf -W -l "$file") || fail "$file cannot be read"
    dynamic=$(readelf -W -d "$file")
    symbols=$(readelf -W --dyn-syms "$file")
    readelf -W -h "$file" | grep -q 'Type: *DYN' || fail "$file is not position independent"
    grep -q GNU_RELRO <<<"$headers" || fail "$file has no RELRO"
    grep -qE 'BIND_NOW|FLAGS_1.*NOW' <<<"$dynamic" || fail "$file binds lazily, so its RELRO is partial"
    stack=$(grep GNU_STACK <<<"$headers")
    [[ -n $stack && $stack != *RWE* ]] || fail "$file has an executable stack: $stack"
    if grep -E 'LOAD .* RWE ' <<<"$headers"; then fail "$file has memory that is writable and executable"; fi
    if grep -q TEXTREL <<<"$dynamic"; then fail "$file has relocations in its code"; fi
    grep -q __stack_chk_fail <<<"$symbols" || fail "$file has no stack protector"
    grep -qE '__(sn|vsn|f)?printf_chk' <<<"$symbols" || fail "$file is not fortified"
}

checked=0
for file in "$build"/lib/libdcache.so "$build"/bin/dcache "$build"/bin/dcache-doctor; do
    [ -e "$file" ] || fail "$file is not there"
    check "$file"
    checked=$((checked + 1))
done

# The test can fail: a program without any of it is found out.
printf 'int main(void) { return 0; }\n' >soft.c
if "${CC:-cc}" -O0 -no-pie -fno-stack-protector -Wl,-z,norelro,-z,lazy,-z,execstack -o soft soft.c 2>/dev/null; then
    before=$failures
    check ./soft >soft.txt 2>&1
    failures=$before
    found=$(grep -c FAILED soft.txt)
    [ "$found" -ge 5 ] || fail "a program without defences was found to have $found things wrong"
fi
echo "$checked files checked"
exit $((failures > 0))
