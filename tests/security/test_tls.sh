#!/bin/bash
# timeout: 300
# Whom the tool talks to: certificates that are not right, old TLS, and redirections get no request and no signature.
# slots: 1
set -u
dcache=${TEST_BUILD_DIR:?}/bin/dcache
here=$TEST_SOURCE_DIR/tests/security
export AZURE_STORAGE_KEY=c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA==
export DCACHE_STORE_TIMEOUT=60s
failures=0
services=()
trap 'kill "${services[@]}" 2>/dev/null' EXIT

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

command -v openssl >/dev/null || {
    echo "skipped: needs openssl"
    exit 77
}

start() { # LOG REPLY [CERTIFICATE KEY VERSION]: sets port
    : >"$1"
    : >port.txt # now: the service empties it some time later, and the one before has left its port there
    python3 -W ignore "$here/service.py" "$@" >port.txt 2>service.err &
    services+=($!)
    for ((i = 0; i < 600; i++)); do
        port=$(cat port.txt)
        [ -z "$port" ] || return 0
        sleep 0.1
    done
    fail "no service: $(cat service.err)"
    exit 1
}

# certificate NAME DAYS ALTERNATIVE: NAME.pem, signed by the CA
certificate() {
    printf 'subjectAltName=%s\n' "$3" >"$1.ext"
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" -subj "/CN=test" -out "$1.csr" 2>/dev/null &&
        openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days "$2" -extfile "$1.ext" \
            -out "$1.pem" 2>/dev/null
}

if ! { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca 2>/dev/null &&
    certificate good 2 IP:127.0.0.1 && certificate expired -1 IP:127.0.0.1 && certificate other 2 DNS:elsewhere.example; }; then
    echo "openssl makes no certificates"
    exit 1
fi
export CURL_CA_BUNDLE=$PWD/ca.pem

# refused WHAT PATTERN: the store is refused, with this text, and nothing was asked
refused() {
    if "$dcache" store create --store "https://127.0.0.1:$port/account/container" >out.txt 2>&1; then
        fail "$1: taken"
    fi
    grep -qE "$2" out.txt || fail "$1: no '$2' in: $(cat out.txt)"
    [ ! -s log ] || fail "$1: a request was sent: $(cat log)"
}

echo "- what is right is taken, with TLS 1.2 and 1.3"
for version in TLSv1_2 TLSv1_3; do
    start log ok good.pem good.key $version
    "$dcache" store create --store "https://127.0.0.1:$port/account/container" >out.txt 2>&1 ||
        fail "$version: $(cat out.txt)"
    [ "$(wc -l <log)" -eq 1 ] || fail "$version: not one request: $(cat log)"
done

echo "- certificates"
start log ok expired.pem expired.key TLSv1_2
refused "expired" 'expired'
start log ok other.pem other.key TLSv1_2
refused "of another host" 'does not match|no alternative certificate subject name'
start log ok good.pem good.key TLSv1_2
CURL_CA_BUNDLE=$PWD/other.pem refused "of an unknown CA" 'certificate'

echo "- TLS 1.1"
start log ok good.pem good.key TLSv1_1
DCACHE_STORE_TIMEOUT=2s refused "TLS 1.1" 'SSL|TLS|protocol|alert|timed out'

echo "- plain http where https is meant"
start log ok
DCACHE_STORE_TIMEOUT=2s refused "plain http" 'SSL|wrong version|timed out'

echo "- a redirection"
start followed ok
start log "http://127.0.0.1:$port/account/container?restype=container" good.pem good.key TLSv1_2
if "$dcache" store create --store "https://127.0.0.1:$port/account/container" >out.txt 2>&1; then
    fail "a redirection is taken for an answer"
fi
[ -s log ] || fail "the redirecting service was not asked"
[ ! -s followed ] || fail "a redirection was followed: $(cat followed)"

exit $((failures > 0))
