#!/bin/bash
# Compressed and encrypted shards through the tool `dcache`: drain, ls, show, verify; what zstd and a small decoder of
# our documented format (tests/tools/read_coded.py) make of the objects; wrong keys; and that no key gets anywhere.
# timeout: 400 (on a busy machine)
# slots: 1
set -u
umask 077
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
# shellcheck source=tests/tools/run_tool.sh
. "$TEST_SOURCE_DIR/tests/tools/run_tool.sh"
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
export DCACHE_MEMORY_STORE=$scratch/memory DCACHE_STORE=file://$scratch/objects DCACHE_JOB=heat DCACHE_LOG=debug

fill() { # fill STEP SEQUENCE
    "$TEST_BUILD_DIR/bin/program_fill_store" "$DCACHE_MEMORY_STORE" heat 0 2 "$1" "$2" 2500000 own-0 own-1 || exit 1
}

key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
echo $key >key.hex
echo "${key//0/f}" >other.hex

echo "- zstd"
fill 100 2
DCACHE_COMPRESS=always run 0 drain
has 'step 100: 2 shards stored .*DURABLE'
slot=$DCACHE_MEMORY_STORE/heat/node-0/own-1-0.h5
[ -e objects/heat/100/shard-1-2.h5.zst ] || fail "no compressed object"
if command -v zstd >/dev/null; then
    zstd -dcq objects/heat/100/shard-1-2.h5.zst | cmp - "$slot" || fail "zstd -dc gives something else"
fi
run 0 verify
has '2 copies in node stores and 2 objects verified, .*all good'
run 0 show 100 --json
has '"codec": "zstd"'

echo "- aes-256-gcm, and both"
export DCACHE_ENCRYPT_KEY_FILE=$scratch/key.hex
fill 200 3
run 0 drain
slot=$DCACHE_MEMORY_STORE/heat/node-0/own-1-1.h5
python3 "$here/../tools/read_coded.py" objects/heat/200/shard-1-3.h5.aes heat 200 3 77 2 1 key.hex >image ||
    fail "the decoder fails"
cmp image "$slot" || fail "the decoder gives something else"
python3 "$here/../tools/read_coded.py" objects/heat/200/shard-1-3.h5.aes heat 200 3 77 2 0 key.hex >image 2>/dev/null &&
    fail "a shard passes for another rank's"
fill 300 4
DCACHE_COMPRESS=always DCACHE_COMPRESS_THREADS=3 run 0 drain
slot=$DCACHE_MEMORY_STORE/heat/node-0/own-1-0.h5
if command -v zstd >/dev/null; then
    python3 "$here/../tools/read_coded.py" objects/heat/300/shard-1-4.h5.zst.aes heat 300 4 77 2 1 key.hex >image ||
        fail "the decoder fails"
    cmp image "$slot" || fail "the decoder gives something else"
fi
mv "$DCACHE_MEMORY_STORE" memory.kept
run 0 show 300
has 'field/grid'
run 0 verify
has '0 copies in node stores and 6 objects verified, .*all good'

echo "- keys: missing, another one, from a command, open to others"
DCACHE_ENCRYPT_KEY_FILE="" run 2 verify 300
has 'is encrypted with key [0-9a-f]{16}, and no key is given: set encrypt_key_file'
DCACHE_ENCRYPT_KEY_FILE=$scratch/other.hex run 2 verify 300
has 'is encrypted with key [0-9a-f]{16}, but the key given is'
DCACHE_ENCRYPT_KEY_FILE="" DCACHE_ENCRYPT_KEY_COMMAND="cat '$scratch/key.hex'" run 0 verify 300
DCACHE_ENCRYPT_KEY_COMMAND="true" run 2 ls
has 'both set'
DCACHE_ENCRYPT_KEY_FILE="" run 0 verify 100 # which is not encrypted
chmod 644 key.hex
run 1 verify 300
has 'mode 0644 .*chmod 600'
chmod 600 key.hex

echo "- damage"
# One bit in the middle of a frame, then half an object.
python3 - objects/heat/300/shard-0-4.h5.zst.aes <<'PY'
import os, sys
size = os.path.getsize(sys.argv[1])
with open(sys.argv[1], "r+b") as file:
    file.seek(size // 3)
    byte = file.read(1)[0]
    file.seek(size // 3)
    file.write(bytes([byte ^ 16]))
PY
run 1 verify 300
has '^BAD heat/300/shard-0-4.h5.zst.aes .*frame [0-9]+ does not match its digest'
truncate -s 50000 objects/heat/300/shard-0-4.h5.zst.aes
run 1 verify 300
has '^BAD heat/300/shard-0-4.h5.zst.aes .*the index behind the frames'

echo "- no key anywhere"
grep -rlE "$key|${key//0/f}" all.txt objects memory.kept && fail "a key was written"
finish
