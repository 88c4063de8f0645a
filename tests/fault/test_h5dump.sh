#!/bin/bash
# Shards are HDF5 files for everybody: h5dump and h5ls, as the distribution has them, read the right values from the
# copies in node stores (own and replica) and from objects, in a directory and downloaded from Azurite. The reader that
# was written from docs/formats.md alone agrees.
# timeout: 420
# shellcheck source=tests/fault/runs.sh
. "$TEST_SOURCE_DIR/tests/fault/runs.sh"
fault=$TEST_SOURCE_DIR/tests/fault
ranks=3
kib=1100 # more than a chunk
step=41

for tool in h5dump h5ls python3; do
    command -v $tool >/dev/null || skip "$tool is not there"
done

verify() { # FILE...
    python3 "$TEST_SOURCE_DIR/tests/tools/read_shard.py" "$@" >read_shard.log || fail "read_shard.py"
}

shards_are_right() { # RANK FILE...
    local rank=$1
    shift
    python3 "$fault/hdf5_shards.py" values $ranks $kib "$rank" $step "$@" || fail "the values of $*"
    verify "$@"
}

# STEP is the last of three, in the ring slot of the first: that the file was used before must not show.
save() { # LOG
    must_run "$1" $ranks "$bin/program_values" --durable --kib $kib 7 8 $step
    [ "$(grep -c "step $step status 0" "$1")" -eq $ranks ] || fail "no checkpoint: $(cat "$1")"
}

in_node_stores_and_directory() {
    local rank files
    export DCACHE_JOB=values DCACHE_NODE_SIZE=1
    save values.log
    for ((rank = 0; rank < ranks; rank++)); do
        read -r -a files <<<"$(echo "$DCACHE_MEMORY_STORE"/values/node-*/{own,replica}-$rank-0.h5)"
        [ ${#files[@]} -eq 2 ] || fail "rank $rank has the copies ${files[*]}"
        cmp "${files[0]}" "${files[1]}" || fail "own copy and replica of rank $rank differ"
        [ "$(echo dcache-store/values/$step/shard-$rank-*.h5 | wc -w)" -eq 1 ] || fail "rank $rank has several objects"
        cmp "${files[0]}" dcache-store/values/$step/shard-$rank-*.h5 || fail "copy and object of rank $rank differ"
        shards_are_right $rank "${files[@]}" dcache-store/values/$step/shard-$rank-*.h5
    done
}

# heat2d's last checkpoint is its result, block by block.
of_heat2d() {
    export DCACHE_JOB=heat
    "$bin/heat2d-make-field" field.h5 70 50 || fail "no field"
    must_run heat.log 4 "$bin/heat2d" --input field.h5 --steps 40 --every 20 --output result.h5
    python3 "$fault/hdf5_shards.py" heat result.h5 dcache-store/heat/40/shard-*.h5 || fail "the shards of heat2d"
    python3 "$fault/hdf5_shards.py" heat result.h5 "$DCACHE_MEMORY_STORE"/heat/node-*/replica-*-1.h5 ||
        fail "the replicas of heat2d"
    verify dcache-store/heat/*/shard-*.h5
    # The comparison notices what is wrong: the step before is not the result.
    ! python3 "$fault/hdf5_shards.py" heat result.h5 dcache-store/heat/20/shard-*.h5 2>/dev/null ||
        fail "hdf5_shards.py takes step 20 for the result of step 40"
}

object_of() { # RANK
    "$bin/dcache" show $step --json | python3 -c "import json, sys; print(json.load(sys.stdin)['stored'][$1]['object'])"
}

# Downloaded by a program that has nothing to do with dcache.
from_azurite() {
    local rank name
    export DCACHE_JOB=values DCACHE_STORE=azure://dcache-test
    rm -rf "$DCACHE_MEMORY_STORE/values"
    "$bin/dcache" store create || fail "no container"
    save azurite.log
    for ((rank = 0; rank < ranks; rank++)); do
        name=$(object_of $rank) || fail "dcache show does not say where the shard of rank $rank is"
        python3 "$fault/get_blob.py" dcache-test values/$step/"$name" >blob-$rank.h5 || fail "no $name"
        shards_are_right $rank blob-$rank.h5
    done
}

if [ "${1:-}" = azurite ]; then
    from_azurite
    exit 0
fi
in_node_stores_and_directory
of_heat2d
bash "$TEST_SOURCE_DIR/tests/azurite/with-azurite.sh" bash "${BASH_SOURCE[0]}" azurite
status=$?
[ $status -ne 77 ] || say "without Azurite, which is not to be had here"
[ $status -eq 0 ] || [ $status -eq 77 ] || fail "the part with Azurite"
