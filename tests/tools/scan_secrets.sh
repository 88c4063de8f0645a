#!/bin/bash
# Secrets in what was written: scan_secrets.sh PATH...
#
# Looks through all logs, outputs and documents below the paths (not shards, nor the files in which tests keep a secret on
# purpose: a name of these begins with "key" or "secret") for secrets that tests use, and for what looks like one. Names
# each file with one, and which, never the secret. Status 1: there is one.
set -u
found=0

look_for() { # WHAT REGULAR_EXPRESSION PATH...
    local what=$1 pattern=$2 file
    shift 2
    while IFS= read -r file; do
        case ${file##*/} in
        key* | secret*) continue ;;
        esac
        echo "$file: $what is in it"
        found=1
    done < <(grep -rlaE --include='*.log' --include='*.log.*' --include='*.out' --include='*.txt' --include='*.json' \
        --include='*.csv' --include='*.script' -e "$pattern" "$@" 2>/dev/null)
}

look_for "the key of Azurite's account" 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq' "$@"
look_for "a key that shards are encrypted with" '(5a){32}|000102030405060708090a0b0c0d0e0f1011121314151617' "$@"
look_for "an account's key" 'AccountKey=[A-Za-z0-9+/]{8}' "$@"
look_for "a shared access signature" 'sig=[A-Za-z0-9+/%]{16}' "$@"
look_for "a signed request" 'SharedKey [A-Za-z0-9-]+:[A-Za-z0-9+/]{16}' "$@"
look_for "a bearer token" '[Bb]earer [A-Za-z0-9._~+/-]{16}|eyJ[A-Za-z0-9_-]{16,}\.eyJ' "$@"
look_for "a token in an answer" '"access_?[Tt]oken": *"[^"]{8}' "$@"
look_for "a secret of a unit test" 'TOPSECRET' "$@"
exit $found
