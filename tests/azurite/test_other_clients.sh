#!/bin/bash
# What dcache has stored in Azurite is read back with none of its code: curl with a shared access signature, rclone, Azure's
# own package for Python and the Azure CLI fetch the same bytes that the nodes have, h5dump opens them, zstd -d decodes what is compressed, a small decoder of the
# documented format what is encrypted. And a restart reads all of it. A client that is not installed is left out.
# timeout: 300
set -u
here=$TEST_SOURCE_DIR/tests/azurite
if [ "${1:-}" != inside ]; then
    exec bash "$here/with-azurite.sh" bash "$0" inside
fi
# shellcheck source=tests/fault/runs.sh
. "$TEST_SOURCE_DIR/tests/fault/runs.sh"
ranks=2
container=${TEST_AZURE_URL##*/}
endpoint=${TEST_AZURE_URL%/*}
export DCACHE_STORE=$TEST_AZURE_URL DCACHE_JOB=shown DCACHE_NODE_SIZE=1 DCACHE_SLOTS=4
values=("$bin/program_values" --kib 1100 --durable)
key=$PWD/key
(umask 077 && echo 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f >"$key")
"$bin/dcache" store create >/dev/null || fail "no container"

take() { # STEP [NAME=VALUE...]
    local step=$1
    shift
    env "$@" mpirun -np $ranks "${values[@]}" --restart "$step" >"take-$step.log" 2>&1
    [ "$(grep -cE "^rank [0-9]+ step $step status 0:" "take-$step.log")" -eq $ranks ] || fail "step $step: $(cat "take-$step.log")"
}

take 1
take 2 DCACHE_COMPRESS=always
take 3 "DCACHE_ENCRYPT_KEY_FILE=$key"
take 4 DCACHE_COMPRESS=always "DCACHE_ENCRYPT_KEY_FILE=$key"

# The own copies, which are the images byte by byte: a line "step rank sequence epoch file" for each.
python3 "$TEST_SOURCE_DIR/tests/tools/read_shard.py" "$DCACHE_MEMORY_STORE"/shown/node-*/own-*.h5 >shards.json || fail "the own copies"
python3 - >slots <<'END' || fail "no list of own copies"
import json
for line in open("shards.json", encoding="utf-8"):
    shard = json.loads(line)
    print(shard["step"], shard["rank"], shard["sequence"], shard["epoch"], shard["file"])
END

slot_of() { # STEP RANK
    awk -v step="$1" -v rank="$2" '$1 == step && $2 == rank { print $5 }' slots
}

set_of() { # STEP RANK: sequence and epoch
    awk -v step="$1" -v rank="$2" '$1 == step && $2 == rank { print $3, $4 }' slots
}

# --- Fetch

sas=$(python3 "$here/account_sas.py") || fail "no signature"
suffixes=(.h5 .h5.zst .h5.aes .h5.zst.aes)
name_of() { # STEP RANK: of the object
    local set
    set=$(set_of "$1" "$2")
    echo "$1/shard-$2-${set% *}${suffixes[$1 - 1]}"
}

names=()
for step in 1 2 3 4; do
    for rank in 0 1; do
        names+=("$(name_of $step $rank)")
    done
done
clients=()
if command -v curl >/dev/null; then
    clients+=(curl)
    for name in "${names[@]}" 1/manifest.json claim.json; do
        mkdir -p "curl/$(dirname "$name")"
        curl -fsS --noproxy '*' -o "curl/$name" "$endpoint/$container/shown/$name?$sas" || fail "curl does not get $name"
    done
else
    say "left out, for it is not installed: curl"
fi
if command -v rclone >/dev/null; then
    clients+=(rclone)
    export RCLONE_CONFIG=$PWD/rclone.conf RCLONE_CONFIG_HERE_TYPE=azureblob NO_PROXY='*'
    export RCLONE_CONFIG_HERE_SAS_URL="$TEST_AZURE_URL?$sas"
    : >rclone.conf
    timeout 120 rclone copy "here:$container/shown" rclone --retries 3 >rclone.log 2>&1 || fail "rclone: $(cat rclone.log)"
else
    say "left out, for it is not installed: rclone"
fi

# The one of python3, or the system's, whose packages another python does not see.
python_status=77
for python in python3 /usr/bin/python3; do
    [ $python_status -ne 77 ] || ! command -v $python >/dev/null || {
        mkdir -p python
        NO_PROXY='*' timeout 120 $python "$here/blob_service_client.py" "$container" shown python "$sas" "${names[@]}" \
            1/manifest.json claim.json >python.log 2>&1
        python_status=$?
    }
done
case $python_status in
0)
    clients+=(python)
    say "$(cat python.log)"
    ;;
77) say "left out, for it is not installed: azure-storage-blob of Python" ;;
*) fail "azure-storage-blob: $(cat python.log)" ;;
esac

# It takes seconds to start, so it fetches one blob of each form; and without a key in the environment, with the SAS.
if command -v az >/dev/null; then
    clients+=(az)
    export AZURE_CONFIG_DIR=$PWD/az-config AZURE_CORE_COLLECT_TELEMETRY=no
    for name in "${names[@]}"; do
        [[ $name = */shard-0-* ]] || continue
        mkdir -p "az/$(dirname "$name")"
        env -u AZURE_STORAGE_CONNECTION_STRING NO_PROXY='*' timeout 120 az storage blob download --only-show-errors --no-progress \
            --blob-endpoint "$endpoint" --sas-token "$sas" --container-name "$container" --name "shown/$name" --file "az/$name" \
            >az.log 2>&1 || fail "az does not get $name: $(tail -n 5 az.log)"
    done
else
    say "left out, for it is not installed: az"
fi
[ ${#clients[@]} -gt 0 ] || skip "no client is installed: curl, rclone, azure-storage-blob, az"

# --- Decode

image_of() { # CLIENT STEP RANK: to the file image
    local stored set
    stored=$1/$(name_of "$2" "$3")
    case $2 in
    1) cp "$stored" image ;;
    2) command -v zstd >/dev/null || return 1
        zstd -dcq "$stored" >image || fail "zstd does not decode $stored" ;;
    *) [ "$2" = 3 ] || command -v zstd >/dev/null || return 1
        set=$(set_of "$2" "$3")
        # shellcheck disable=SC2086 # sequence and epoch
        python3 "$TEST_SOURCE_DIR/tests/tools/read_coded.py" "$stored" shown "$2" $set $ranks "$3" "$key" >image ||
            fail "the decoder of the documented format does not read $stored" ;;
    esac
}

images=0
for client in "${clients[@]}"; do
    for step in 1 2 3 4; do
        for rank in 0 1; do
            [ -e "$client/$(name_of $step $rank)" ] || continue
            image_of "$client" "$step" "$rank" || continue
            cmp image "$(slot_of "$step" "$rank")" || fail "step $step of rank $rank is another one by $client"
            images=$((images + 1))
            command -v h5dump >/dev/null || continue
            number=$(((7 * rank + 3 * step) % 100)) # tests/fault/program_values.c: element 0
            h5dump -d /types/int32 -s 0 -c 1 image | grep -qE "^ *\(0\): $number\$" || fail "h5dump: $(h5dump -d /types/int32 image)"
            h5dump -d /dcache/step image | grep -qE "\(0\): $step\$" || fail "h5dump sees another step: $(h5dump -d /dcache/step image)"
        done
    done
done
command -v zstd >/dev/null || say "left out, for it is not installed: zstd"
command -v h5dump >/dev/null || say "left out, for it is not installed: h5dump"
wanted=0 # of the two forms that need no zstd, of two ranks, or one
for client in "${clients[@]}"; do
    wanted=$((wanted + ($([ "$client" = az ] && echo 2 || echo 4))))
done
[ $images -ge $wanted ] || fail "only $images images were compared"
say "$images images by ${clients[*]} are those of the nodes"

# --- Restart from what is coded, and not without the key

rm -rf "$DCACHE_MEMORY_STORE"
must_run no-key.log $ranks "${values[@]}" --restart
! grep -q 'restarted from step 4' no-key.log || fail "an encrypted step was restored without its key: $(cat no-key.log)"
rm -rf "$DCACHE_MEMORY_STORE"
DCACHE_ENCRYPT_KEY_FILE=$key must_run key.log $ranks "${values[@]}" --restart
[ "$(grep -c 'restarted from step 4, good$' key.log)" -eq $ranks ] || fail "not all ranks are back: $(cat key.log)"
rm -rf "$DCACHE_MEMORY_STORE"
DCACHE_ENCRYPT_KEY_FILE=$key "$bin/dcache" verify >verify.log 2>&1 || fail "dcache verify: $(cat verify.log)"
grep -q ' 8 objects verified' verify.log || fail "not all is there: $(cat verify.log)"
