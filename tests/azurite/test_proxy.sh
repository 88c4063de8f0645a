#!/bin/bash
# A proxy between dcache and Azurite that refuses, resets, stalls, drops, repeats, spoils and lies: what is stored and
# restored through it is right byte by byte, or a call says that it failed. (tests/azurite/fault_proxy.py)
# timeout: 300
#
# PROXY_SEED (1 by default) chooses which request meets which fault.
set -u
here=$TEST_SOURCE_DIR/tests/azurite
if [ "${1:-}" != inside ]; then
    exec bash "$here/with-azurite.sh" bash "$0" inside
fi
FAULT_RUN_LIMIT=${FAULT_RUN_LIMIT:-200} # of one run: each stall is waited for
# shellcheck source=tests/fault/runs.sh
. "$TEST_SOURCE_DIR/tests/fault/runs.sh"
dcache=$bin/dcache
ranks=2
seed=${PROXY_SEED:-1}
direct=$TEST_AZURE_URL direct_settings=$AZURE_STORAGE_CONNECTION_STRING
port=${direct#http://127.0.0.1:}
port=${port%%/*}
proxy_pid=
export DCACHE_NODE_SIZE=1 DCACHE_JOB=tried DCACHE_STORE_STALL=3s DCACHE_STORE_TIMEOUT=120s DCACHE_STORE_CONNECTIONS=4
values=("$bin/program_values" --kib 8400) # more than a block

end_proxy() {
    [ -z "$proxy_pid" ] || { kill "$proxy_pid" && wait "$proxy_pid"; } 2>/dev/null
    proxy_pid=
}
trap 'end_proxy; clean_up_runs' EXIT

# From here on between us and Azurite.
start_proxy() { # RULES
    end_proxy
    rm -f port proxy.log
    python3 "$here/fault_proxy.py" --upstream "$port" --port-file port --log proxy.log --seed "$seed" --rules "$1" &
    proxy_pid=$!
    while [ ! -e port ]; do
        kill -0 "$proxy_pid" 2>/dev/null || fail "the proxy has not started"
        sleep 0.02
    done
    export DCACHE_STORE=${direct/127.0.0.1:$port/127.0.0.1:$(cat port)}
    export AZURE_STORAGE_CONNECTION_STRING=${direct_settings//127.0.0.1:$port/127.0.0.1:$(cat port)}
}

use_azurite() {
    end_proxy
    export DCACHE_STORE=$direct AZURE_STORAGE_CONNECTION_STRING=$direct_settings
}

met() { # FAULT...: has the proxy made each of these?
    local fault
    end_proxy
    for fault in "$@"; do
        grep -q "\"$fault\": [1-9]" proxy.log || fail "the proxy has never made $fault: $(cat proxy.log)"
    done
    say "$(cat proxy.log)"
}

good_run() { # LOG ARGUMENT...: and every rank has the right bytes, if it restarts
    local log=$1
    shift
    must_run "$log" $ranks "${values[@]}" "$@"
    if grep -qE 'status -|BAD' "$log" || [ "$(grep -c 'close status 0$' "$log")" -ne $ranks ]; then
        fail "a call failed behind a store that is only in trouble: $(cat "$log")"
    fi
}

"$dcache" store create --store "$direct" >/dev/null || fail "no container"

# --- Trouble that ends: all of it is stored, and comes back

trouble=busy=1,busy-early=1,error=2,reset=1,reset-in=3,lost=2,duplicate=4,slow=2,truncate=1,spoil-up=3,stall=1
start_proxy $trouble
good_run stored.log --durable 1 2
for step in 1 2; do
    [ "$(grep -cE "^rank [0-9]+ step $step status 0:" stored.log)" -eq $ranks ] || fail "step $step: $(cat stored.log)"
done
met busy error lost duplicate spoil-up
use_azurite
"$dcache" verify --job tried --memory-store "$PWD/none" >verify.log 2>&1 || fail "what is stored is not right: $(cat verify.log)"
grep -q ' 4 objects verified' verify.log || fail "not all is there: $(cat verify.log)"

rm -rf "$DCACHE_MEMORY_STORE"
start_proxy busy=2,error=4,reset=4,lost=4,slow=6,truncate=6,stall=1
good_run back.log --restart
[ "$(grep -c 'restarted from step 2, good$' back.log)" -eq $ranks ] || fail "not all ranks are back: $(cat back.log)"
end_proxy

# --- Wrong bytes: never handed out

for rule in spoil-down=25 mixed=25; do
    rm -rf "$DCACHE_MEMORY_STORE"
    start_proxy $rule
    must_run spoilt.log $ranks "${values[@]}" --restart
    ! grep -q BAD spoilt.log || fail "wrong bytes were restored: $(cat spoilt.log)"
    grep -qE 'restarted from step [12], good|restart status' spoilt.log || fail "no word of the restart: $(cat spoilt.log)"
    met "${rule%=*}"
done
start_proxy spoil-down=50
"$dcache" verify --job tried --memory-store "$PWD/none" >spoilt-verify.log 2>&1 && fail "spoilt bytes pass for good ones"
end_proxy

# --- A service that says that it has stored something else

rm -rf "$DCACHE_MEMORY_STORE"
start_proxy lie-crc=50
export DCACHE_JOB=lied
must_run lied.log $ranks "${values[@]}" --durable 1
[ "$(grep -cE '^rank [0-9]+ step 1 status -' lied.log)" -eq $ranks ] || fail "a lie passes for a step: $(cat lied.log)"
grep -q 'the store damages data' lied.log || fail "no word of what it is: $(cat lied.log)"
met lie-crc
use_azurite
"$dcache" ls --job lied --memory-store "$PWD/none" >lied-ls.log 2>&1 && fail "a step is durable: $(cat lied-ls.log)"

# --- Nothing of it has spoilt what was there

export DCACHE_JOB=tried
rm -rf "$DCACHE_MEMORY_STORE"
good_run end.log --restart
[ "$(grep -c 'restarted from step 2, good$' end.log)" -eq $ranks ] || fail "not all ranks are back: $(cat end.log)"
