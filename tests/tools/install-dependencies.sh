#!/bin/bash
# Install what is missing to build dcache (build), to build and test it (test), or for the tests with several hosts and
# Slurm (cluster): Debian and Ubuntu, apt-get.
#
#   install-dependencies.sh [build|test|cluster]
#
# Says what it installs. Where it may not (neither root nor sudo without a password) or cannot (no apt-get), it prints
# what to do and fails; a part that came from elsewhere, as MPI does on a cluster, counts as there. Why each one is
# needed: docs/dependencies.md.
set -u

# package, and how to see that it is there: a command, pc:NAME for pkg-config, or libfuzzer
for_build="
gcc                  gcc
cmake                cmake
make                 make
ninja-build          ninja
pkg-config           pkg-config
openmpi-bin          mpirun
libopenmpi-dev       mpicc
libhdf5-openmpi-dev  pc:hdf5-openmpi
libcurl4-openssl-dev pc:libcurl
libssl-dev           pc:libcrypto
libjansson-dev       pc:jansson
libzstd-dev          pc:libzstd
libexpat1-dev        pc:expat"
for_test="
g++                  g++
git                  git
libcunit1-dev        pc:cunit
hdf5-tools           h5dump
clang-format         clang-format
cppcheck             cppcheck
shellcheck           shellcheck
python3              python3"
# A test that needs one of these is skipped without it.
optional="
clang                clang
libclang-rt-dev      libfuzzer
spin                 spin
valgrind             valgrind
btrfs-progs          mkfs.btrfs
openssl              openssl
nodejs               node
npm                  npm"
# Without these, the tests with several hosts are skipped.
for_cluster="
iproute2             ip
iperf3               iperf3
nftables             nft
munge                munged
slurm-client         sbatch
slurmctld            slurmctld
slurmd               slurmd"

say() {
    printf 'install-dependencies: %s\n' "$*"
}

is_there() { # PROBE
    case $1 in
    pc:*) command -v pkg-config >/dev/null && pkg-config --exists "${1#pc:}" ;;
    libfuzzer) command -v clang >/dev/null && [ -e "$(clang -print-file-name=libclang_rt.fuzzer-x86_64.a)" ] ;;
    *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
    esac
}

missing_of() { # LIST: print the packages of it that are missing
    local package probe
    while read -r package probe; do
        if [ -n "$package" ] && ! is_there "$probe"; then
            printf '%s ' "$package"
        fi
    done <<<"$1"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

may_install() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" -eq 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }
}

install_packages() { # PACKAGE...
    say "installing $*"
    as_root apt-get update -q || say "apt-get update failed; going on with the package lists that are there"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" </dev/null
}

# Slurm and munge are for the tests' own hosts: on this one, no service of theirs is to start.
install_without_services() { # PACKAGE...
    local policy=/usr/sbin/policy-rc.d status made=0
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null && as_root chmod 755 $policy && made=1
    fi
    install_packages "$@"
    status=$?
    [ $made -eq 0 ] || as_root rm -f $policy
    return $status
}

case ${1:-test} in
build) required=$for_build optional= ;;
test) required=$for_build$for_test ;;
cluster) required='' optional=$for_cluster ;;
*)
    say "usage: install-dependencies.sh [build|test|cluster]"
    exit 2
    ;;
esac

read -r -a needed <<<"$(missing_of "$required")"
read -r -a wanted <<<"$(missing_of "$optional")"
if [ $((${#needed[@]} + ${#wanted[@]})) -eq 0 ]; then
    say "everything is there"
    exit 0
fi

say "missing: ${needed[*]} ${wanted[*]}"
if may_install; then
    [ ${#needed[@]} -eq 0 ] || install_packages "${needed[@]}" || say "apt-get failed for: ${needed[*]}"
    # One that a release does not have must not keep the others out.
    [ ${#wanted[@]} -eq 0 ] || install_without_services "${wanted[@]}" || for package in "${wanted[@]}"; do
        install_without_services "$package" || say "apt-get failed for: $package"
    done
fi

still=$(missing_of "$required")
if [ -n "$still" ]; then
    say "cannot go on without: $still"
    say "on Debian and Ubuntu, as root:  apt-get update && apt-get install -y --no-install-recommends $still"
    exit 1
fi
skipped=$(missing_of "$optional")
[ -z "$skipped" ] || say "going on without $skipped; tests that need them are skipped"
exit 0
