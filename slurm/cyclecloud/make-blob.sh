#!/bin/bash
# Pack the committed source as blobs/dcache.tar.gz, which the scheduler node builds; `cyclecloud project upload` sends it.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$here/blobs"
git -C "$here/../.." archive --format=tar.gz --prefix=dcache/ -o "$here/blobs/dcache.tar.gz" HEAD
ls -l "$here/blobs/dcache.tar.gz"
