#!/bin/bash
# Nothing secret is in what the suite has printed so far in this build (its order puts most tests before this one), and
# the scan, which tests/tools/run-test.sh makes of every test's files as well, notices what it is to notice.
# timeout: 120
set -u
scan=$TEST_SOURCE_DIR/tests/tools/scan_secrets.sh

fail() {
    echo "FAILED: $*"
    exit 1
}

mkdir clean planted
cat >clean/fine.log <<'END'
dcache: [job:0] info: store https://account.blob.core.windows.net/container: AccountKey, sig= and Bearer are words
{"run": "fedcba9876543210", "digest": "0123456789abcdef", "etag": "\"0x8DC0FFEE12345678\""}
END
bash "$scan" clean || fail "the scan finds secrets where there are none"

count=0
plant() { # TEXT: found in a log, and not told
    count=$((count + 1))
    rm -f planted/*
    printf 'a line before\n%s and more\n' "$1" >planted/some.log
    bash "$scan" planted >told.new && fail "not found: plant $count"
    grep -q 'some.log: .* is in it' told.new || fail "the scan does not say where plant $count is"
    grep -qF "$1" told.new && fail "the scan prints plant $count"
    mv planted/some.log planted/key.log # where a test keeps it on purpose
    bash "$scan" planted >told.new || fail "plant $count is found where it may be"
}
# In pieces: this file's own text may be in the output of a test.
plant "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsu""Fq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
plant "$(printf '5a%.0s' {1..32})"
plant "000102030405060708090a0b""0c0d0e0f101112131415161718191a1b1c1d1e1f"
plant "DefaultEndpointsProtocol=https;AccountKey=""c2VjcmV0LXNlY3JldA=="
plant "https://host/container?sv=2022-11-02&sig=""c2lnbmF0dXJlLXNpZ25hdHVyZQ%3D"
plant "Authorization: SharedKey account:""c2lnbmF0dXJlLXNpZ25hdHVyZQ=="
plant "Authorization: Bearer ""eyJ0eXAiOiJKV1QiLCJhbGciOi"
plant '{"access_token": ''"opaque-and-secret"}'
plant "TOP""SECRET"

logs=$TEST_BUILD_DIR/Testing/Temporary
if [ -e "$logs/LastTest.log.tmp" ]; then # of the run that is under way
    cp "$logs/LastTest.log.tmp" so-far.log
else
    cp "$logs/LastTest.log" so-far.log 2>/dev/null || : >so-far.log
fi
bash "$scan" so-far.log || fail "a test has printed a secret: see $logs/LastTest.log"
echo "$(wc -l <so-far.log) lines of other tests' output have no secret in them, and $count plants were found"
