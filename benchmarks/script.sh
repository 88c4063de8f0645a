# shellcheck shell=bash
# Sourced by the benchmarks that are scripts: what they are told, and what they need. Each has a help at its head, and
# options bytes and build.

stop() {
    echo "${0##*/}: $*" >&2
    exit 2
}

take_options() { # NAMES ARGUMENT...: --NAME VALUE sets the variable of that name
    local names=" $1 " name size
    shift
    while [ $# -gt 0 ]; do
        name=${1#--}
        [[ $1 == --?* && $names == *" $name "* ]] || stop "there is no option $1; the head of the script lists them"
        [ $# -ge 2 ] || stop "--$name: its value is missing"
        printf -v "$name" %s "$2"
        shift 2
    done
    size=$(numfmt --from=auto "${bytes%B}" 2>/dev/null) || stop "--bytes $bytes: a number, or one with M, Mi, G, Gi"
    bytes=$size
}

# shellcheck disable=SC2034,SC2154 # `build` is theirs, `program` is for them
need() { # PROGRAM TOOL...: sets `program`
    local tool
    program=$(readlink -e "$build/bin/$1") || stop "there is no $build/bin/$1: build it, or give --build"
    shift
    for tool; do
        command -v "$tool" >/dev/null || stop "$tool is needed"
    done
}
