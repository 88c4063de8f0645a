#!/bin/bash
# timeout: 300
# Secrets: the tool leaves no core file that has them, they are in no command line, and in nothing that is printed.
# slots: 1
set -u
dcache=${TEST_BUILD_DIR:?}/bin/dcache
here=$TEST_SOURCE_DIR/tests/security
key=c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA==
signature=c2lnbmF0dXJlLXNpZ25hdHVyZQ
secret=client-secret-client-secret
failures=0
service=
trap '[ -z "$service" ] || kill $service' EXIT

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

lacks_secrets() { # WHAT FILE
    if grep -aqE "$key|$signature|$secret" "$2"; then fail "a secret is in $1"; fi
}

python3 "$here/service.py" log stall >port.txt &
service=$!
for ((i = 0; i < 600; i++)); do
    port=$(cat port.txt)
    [ -z "$port" ] || break
    sleep 0.1
done
export AZURE_CLIENT_SECRET=$secret AZURE_TENANT_ID=tenant AZURE_CLIENT_ID=client
url=http://127.0.0.1:$port/account/container

for credential in AZURE_STORAGE_KEY=$key "AZURE_STORAGE_SAS_TOKEN=sv=2022-11-02&sig=$signature"; do
    echo "- ${credential%%=*}: the tool waits for an answer"
    : >log
    ulimit -S -c "$(ulimit -H -c)"
    env "$credential" DCACHE_LOG=debug "$dcache" store create --store "$url" >out.txt 2>&1 &
    tool=$!
    for ((i = 0; i < 600; i++)); do
        [ ! -s log ] || break
        sleep 0.1
    done
    [ -s log ] || fail "no request: $(cat out.txt)"
    grep -qE '^Max core file size +0 ' /proc/$tool/limits || fail "it may leave a core: $(grep core /proc/$tool/limits)"
    tr '\0' ' ' <"/proc/$tool/cmdline" >cmdline.txt
    lacks_secrets "the command line" cmdline.txt
    kill $tool
    wait $tool 2>/dev/null
    lacks_secrets "what was printed" out.txt
    echo "- ${credential%%=*}: doctor"
    env "$credential" DCACHE_STORE_TIMEOUT=1s DCACHE_STORE_STALL=1s DCACHE_LOG=debug DCACHE_MEMORY_STORE="$PWD/memory" \
        "$dcache" doctor --store "$url" >out.txt 2>&1
    grep -q credentials out.txt || fail "doctor says nothing of credentials: $(cat out.txt)"
    lacks_secrets "what doctor prints" out.txt
done

echo "- dcache-run"
AZURE_STORAGE_KEY=$key bash "$TEST_SOURCE_DIR/slurm/dcache-run" --dry-run -- mpirun -np 2 --host a,b true >out.txt 2>&1
grep -q mpirun out.txt || fail "dcache-run --dry-run: $(cat out.txt)"
lacks_secrets "what dcache-run prints and launches" out.txt

exit $((failures > 0))
