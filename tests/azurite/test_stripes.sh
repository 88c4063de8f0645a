#!/bin/bash
# A job that is spread over Blob accounts with different keys, and over containers and prefixes of one of them: drain,
# restart's reads (verify), rm; the account's own connection string; requests that all stores take together.
# timeout: 420 (the first time Azurite is installed)
set -u
umask 077
# shellcheck source=tests/tools/run_tool.sh
. "$TEST_SOURCE_DIR/tests/tools/run_tool.sh"
key1='Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==' # Azurite's, published
key2='c2Vjb25kLWFjY291bnQtb2YtYS10ZXN0'
key3='dGhpcmQtYWNjb3VudC1vZi1hLXRlc3Q='

fill() { # STEP SEQUENCE BYTES: nine ranks
    "$TEST_BUILD_DIR/bin/program_fill_store" "$DCACHE_MEMORY_STORE" heat 0 9 "$1" "$2" "$3" own-{0..8} || exit 1
}

places() { # STEP: how many shards are in each store, ascending URLs
    "$dcache" show "$1" --json 2>/dev/null | python3 -c 'import json, sys
stores = [shard["store"] for shard in json.load(sys.stdin)["stored"]]
print(*(stores.count(url) for url in sorted(set(stores))))'
}

verify_without_nodes() {
    mv "$DCACHE_MEMORY_STORE" kept
    run 0 verify
    has "$1 objects verified, .*all good"
    mv kept "$DCACHE_MEMORY_STORE"
}

three_accounts() {
    export AZURE_STORAGE_CONNECTION_STRING_SECOND="AccountName=second;AccountKey=$key2;BlobEndpoint=$host/second"
    run 2 store create
    has "set AZURE_STORAGE_CONNECTION_STRING_THIRD"
    export AZURE_STORAGE_CONNECTION_STRING_THIRD="AccountName=third;AccountKey=$key2;BlobEndpoint=$host/third"
    run 1 store create # it has the second one's key
    has "$host/third/con"
    export AZURE_STORAGE_CONNECTION_STRING_THIRD="AccountName=third;AccountKey=$key3;BlobEndpoint=$host/third"
    run 0 store create
    run 0 doctor
    has "$host/second/con: taken: key" "$host/third/con/p can be listed, written and read"
    fill 100 1 3000000
    fill 200 2 50000
    DCACHE_PACK_BELOW=0 run 0 drain
    has 'step 100: 9 shards stored .*DURABLE' 'step 200: 9 shards stored .*DURABLE'
    [ "$(places 100)" = "3 3 3" ] || fail "shards in the stores: $(places 100)"
    verify_without_nodes 18
    run 0 rm 100
    has 'step 100: removed \(11 objects\)'
    verify_without_nodes 9
    run 0 rm 200 --force
    has 'step 200: removed \(11 objects\)'
}

# Packs take turns; the third account's part of the next step is packed there, and is found.
packs() {
    rm -r "$DCACHE_MEMORY_STORE"
    fill 300 3 700000
    run 0 drain
    has 'step 300: 9 shards stored .*DURABLE'
    [ "$(places 300 | wc -w)" = 3 ] || fail "packs in the stores: $(places 300)"
    verify_without_nodes 9
}

# Nobody answers for one of the accounts: what fails says which, and goes on where it was when it is back.
one_is_down() {
    rm -r "$DCACHE_MEMORY_STORE"
    fill 400 4 2000000
    AZURE_STORAGE_CONNECTION_STRING_THIRD="AccountName=third;AccountKey=$key3;BlobEndpoint=http://127.0.0.1:1/third" \
        DCACHE_STORE=${DCACHE_STORE/"$host/third"/http://127.0.0.1:1/third} DCACHE_STORE_TIMEOUT=1s run 1 drain
    has 'http://127.0.0.1:1/third/con/p'
    run 0 drain
    has 'step 400: 9 shards stored .*DURABLE'
    verify_without_nodes 18
}

containers_of_one() {
    export DCACHE_STORE="$host/devstoreaccount1/first $host/devstoreaccount1/other $host/devstoreaccount1/other/below"
    run 0 store create
    rm -r "$DCACHE_MEMORY_STORE"
    fill 100 1 2000000
    DCACHE_PACK_BELOW=0 run 0 drain
    has 'step 100: 9 shards stored .*DURABLE'
    [ "$(places 100)" = "3 3 3" ] || fail "shards in the containers: $(places 100)"
    verify_without_nodes 9
}

if [ "${1:-}" != azurite ]; then
    AZURITE_ACCOUNTS="devstoreaccount1:$key1;second:$key2;third:$key3" \
        bash "$TEST_SOURCE_DIR/tests/azurite/with-azurite.sh" bash "${BASH_SOURCE[0]}" azurite
    exit
fi
host=${TEST_AZURE_URL%/devstoreaccount1/*}
export DCACHE_JOB=heat DCACHE_STORE="$host/devstoreaccount1/con $host/second/con $host/third/con/p"
three_accounts
packs
one_is_down
containers_of_one
finish
