#!/bin/bash
# Azurite, the Azure Blob emulator, on the loopback address, keeping its blobs in memory.
#
#   azurite.sh install                    install it if it is missing (npm ci; about 40 s and 370 MB, once)
#   azurite.sh start DIRECTORY [PORT]     start one; its pid and log go to DIRECTORY. Prints, to be eval'ed or read:
#                                           export AZURE_STORAGE_CONNECTION_STRING='...'
#                                           export TEST_AZURE_URL='http://127.0.0.1:PORT/devstoreaccount1/dcache-test'
#                                         The container is not made: `dcache store create --store URL` does that.
#   azurite.sh stop DIRECTORY             stop that one
#
# With AZURITE_TLS=1 it speaks https, with a certificate of a CA made for it, and takes tokens, whose signatures it does
# not check; CURL_CA_BUNDLE, which is printed as well, is that CA.
#
# With AZURITE_HOST=ADDRESS it listens there, for other hosts.
#
# It is installed in $AZURITE_HOME, or else in build/azurite of the tree. Status 77: node or npm is not there.
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
home=${AZURITE_HOME:-$here/../../build/azurite}
host=${AZURITE_HOST:-127.0.0.1}
main=$home/node_modules/azurite/dist/src/blob/main.js
# The account that every Azurite has, as Microsoft publishes it: no secret.
account=devstoreaccount1
key='Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=='

say() {
    printf 'azurite: %s\n' "$*" >&2
}

install_azurite() {
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
        say "skipped: node and npm are needed (Debian: apt-get install nodejs npm)"
        return 77
    fi
    mkdir -p "$home" || return 1
    (
        flock 9 # tests of two builds may come here at once
        if cmp -s "$here/package-lock.json" "$home/installed.json" && [ -f "$main" ]; then
            exit 0
        fi
        say "installing into $home"
        cp "$here/package.json" "$here/package-lock.json" "$home/" || exit 1
        if ! npm ci --prefix "$home" --no-audit --no-fund --ignore-scripts >"$home/npm.log" 2>&1; then
            tail -n 20 "$home/npm.log" >&2
            say "npm ci failed (see above)"
            exit 1
        fi
        cp "$here/package-lock.json" "$home/installed.json"
    ) 9>"$home/lock"
}

answers() { # PORT
    (exec 3<>"/dev/tcp/$host/$1") 2>/dev/null
}

free_port() {
    node -e 'const s = require("net").createServer().listen(0, process.argv[1], () => {
        console.log(s.address().port); s.close(); });' "$host"
}

is_running() { # DIRECTORY: is the process in its pid file alive, and an Azurite?
    local pid
    pid=$(cat "$1/azurite.pid" 2>/dev/null) && [ -n "$pid" ] &&
        tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q azurite
}

make_certificate() { # DIRECTORY
    (
        cd "$1" && exec >openssl.log 2>&1 || exit 1
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=dcache test CA" -keyout ca.key -out ca.pem &&
            openssl req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout server.key -out server.csr &&
            echo subjectAltName=IP:127.0.0.1 >server.ext &&
            openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext \
                -out server.pem
    ) || {
        cat "$1/openssl.log" >&2
        say "the certificate cannot be made (see above)"
        return 1
    }
}

start_azurite() { # DIRECTORY [PORT]
    local directory=$1 port=${2:-} scheme=http i tls=()
    install_azurite || return
    mkdir -p "$directory" || return 1
    if is_running "$directory"; then
        say "one is running from $directory already: azurite.sh stop $directory"
        return 1
    fi
    [ -n "$port" ] || port=$(free_port) || return 1
    if answers "$port"; then
        say "port $port is in use"
        return 1
    fi
    if [ "${AZURITE_TLS:-}" = 1 ]; then
        make_certificate "$directory" || return 1
        scheme=https
        tls=(--oauth basic --cert "$directory/server.pem" --key "$directory/server.key")
        printf "export CURL_CA_BUNDLE='%s'\n" "$directory/ca.pem"
    fi
    # In a session of its own, so that an interrupted test does not take it down before `stop` does.
    setsid node "$main" --blobHost "$host" --blobPort "$port" --inMemoryPersistence --silent \
        --disableTelemetry --skipApiVersionCheck "${tls[@]}" >"$directory/azurite.log" 2>&1 </dev/null &
    echo $! >"$directory/azurite.pid"
    for ((i = 0; i < 300; i++)); do
        if answers "$port"; then
            printf "export AZURE_STORAGE_CONNECTION_STRING='%s'\n" \
                "AccountName=$account;AccountKey=$key;BlobEndpoint=$scheme://$host:$port/$account"
            printf "export TEST_AZURE_URL='%s'\n" "$scheme://$host:$port/$account/dcache-test"
            return 0
        fi
        is_running "$directory" || break
        sleep 0.1
    done
    cat "$directory/azurite.log" >&2
    say "it did not start (see above)"
    stop_azurite "$directory"
    return 1
}

stop_azurite() { # DIRECTORY
    local pid i
    if is_running "$1"; then
        pid=$(cat "$1/azurite.pid")
        kill "$pid" 2>/dev/null
        for ((i = 0; i < 50; i++)); do
            is_running "$1" || break
            sleep 0.1
        done
        if is_running "$1"; then
            kill -9 "$pid" 2>/dev/null
        fi
    fi
    rm -f "$1/azurite.pid"
}

case ${1:-} in
install) install_azurite ;;
start) start_azurite "${2:?DIRECTORY is missing}" "${3:-}" ;;
stop) stop_azurite "${2:?DIRECTORY is missing}" ;;
*)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
