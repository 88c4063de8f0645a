#!/bin/bash
# cluster-init, every node: what dcache needs to run. The scheduler builds it into /shared/dcache, where all nodes find it.
set -eu
prefix=/shared/dcache
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
jetpack=$(command -v jetpack || echo /opt/cycle/jetpack/bin/jetpack)

# Other services of a node that has just started install packages, too.
if command -v apt-get >/dev/null; then
    echo 'DPkg::Lock::Timeout "900";' >/etc/apt/apt.conf.d/90-dcache
fi
cd "$work"
"$jetpack" download --project dcache dcache.tar.gz
tar xzf dcache.tar.gz
bash dcache/tests/tools/install-dependencies.sh build

if [ "$("$jetpack" config slurm.role execute)" != scheduler ]; then
    exit 0
fi
cmake -S dcache -B build -DDCACHE_WERROR=OFF -DDCACHE_BUILD_BENCHMARKS=OFF -DCMAKE_INSTALL_PREFIX=$prefix \
    -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_INSTALL_RPATH=$prefix/lib -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON
cmake --build build --parallel "$(nproc)"
cmake --install build
install -m 0755 build/bin/heat2d build/bin/heat2d-make-field $prefix/bin # for the first checkpoint in docs/cyclecloud.md
