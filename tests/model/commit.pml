/* The commit of a step in the object store (docs/model.md links each label to the C function that does it).
 *
 * Two ranks, one drainer each. A first run drains set A of the step, and is killed or not; a second run of the job takes
 * the same step again, as set B; then `dcache drain` on two nodes, at the same time, each of them one of the two sets,
 * until there is a manifest. Any drainer of the runs may be killed at any point. Every operation of the store is
 * atomic: its contract (io/object_store.h). Shards of A and B may have the same size, so sizes tell nothing.
 *
 * Safety: a manifest never changes, and all shards that it names are of its set, from the moment it is there.
 * Liveness: a run of which nobody was killed leaves a manifest; so does, in the end, `dcache drain`.
 *
 * Each name after #ifdef is a deliberate mistake, which spin has to catch (test_model.sh). */
#define A 1
#define B 2
#define ALL 3 /* both ranks */

byte manifest = 0; /* the set that it names */

/* shard-<rank>-<sequence>.h5: by rank and set. */
#ifdef ONE_NAME_FOR_ALL_SETS
#define NAME(rank, set) ((rank) * 2)
#else
#define NAME(rank, set) ((rank) * 2 + (set) - 1)
#endif
byte object[4]; /* 0 = not there, or the set whose bytes it has */

/* part-<name>-<sequence>.json: by name and set. */
#define KEY(name, set) ((name) * 2 + (set) - 1)
byte part_ranks[8]; /* 0 = not there, or a bit set of ranks; of the drainers r0 and r1, and the tool's on two nodes */

byte running = 0; /* drainers of the present run or pass */
bool killed = false;
bool job_dead = false;

#define COMPLETE(set) (object[NAME(0, set)] == (set) && object[NAME(1, set)] == (set))
#define CHECK_STORE assert(manifest == 0 || COMPLETE(manifest))
#define MAY_DIE                                                                                                        \
    if                                                                                                                 \
    :: may_die -> killed = true; goto over                                                                             \
    :: true                                                                                                            \
    fi

/* step_objects_list() */
inline list_step()
{
    atomic {
        listed_manifest = manifest;
        listed_shards = (object[NAME(0, set)] != 0 -> 1 : 0) | (object[NAME(1, set)] != 0 -> 2 : 0);
        listed_objects = 0;
        listed_parts = 0;
        k = 0;
        do
        :: k < 4 -> listed_objects = listed_objects | (object[k] != 0 -> (1 << k) : 0); k++
        :: else -> break
        od;
        k = 0;
        do
        :: k < 8 -> listed_parts = listed_parts | (part_ranks[k] != 0 -> (1 << k) : 0); k++
        :: else -> break
        od;
        k = 0
    }
}

/* step_objects_unite() */
inline read_parts(claims)
{
    k = 0;
    do
    :: k < 8 ->
        if
        :: (listed_parts & (1 << k)) && k % 2 == set - 1 ->
#ifdef PARTS_ARE_PROMISES
            claims = claims | part_ranks[k]
#else
            claims = claims | (part_ranks[k] & listed_shards)
#endif
        :: (listed_parts & (1 << k)) && k % 2 != set - 1 ->
#ifdef FOREIGN_PARTS_REMOVED
            part_ranks[k] = 0
#else
            skip
#endif
        :: else
        fi;
        k++
    :: else -> break
    od;
    k = 0
}

/* put_image(), for each rank of `duty` that no part of this set claims */
inline put_shards()
{
    r = 0;
    do
    :: r < 2 ->
        if
        :: (duty & (1 << r)) && !(stored & (1 << r)) ->
            MAY_DIE;
            atomic { object[NAME(r, set)] = set; CHECK_STORE }
        :: else
        fi;
        r++
    :: else -> break
    od;
    r = 0
}

/* put_document() of the part */
inline put_part()
{
    MAY_DIE;
    part_ranks[KEY(name, set)] = mine
}

/* step_objects_remove_unused() */
inline remove_unused()
{
    k = 0;
    do
    :: k < 4 ->
        if
        :: (listed_objects & (1 << k)) && k != NAME(0, set) && k != NAME(1, set) ->
            MAY_DIE;
            atomic { object[k] = 0; CHECK_STORE }
        :: else
        fi;
        k++
    :: else -> break
    od;
    k = 0;
    do
    :: k < 8 ->
        if
        :: (listed_parts & (1 << k)) && k % 2 != set - 1 ->
            MAY_DIE;
            part_ranks[k] = 0
        :: else
        fi;
        k++
    :: else -> break
    od;
    k = 0
}

/* put_manifest(), If-None-Match: * */
inline put_manifest()
{
    MAY_DIE;
#ifdef REMOVED_BEFORE_MANIFEST
    remove_unused();
#endif
    atomic {
        won = 0;
        if
#ifdef MANIFEST_REPLACED
        :: true -> won = 1; assert(manifest == 0 || manifest == set); manifest = set; CHECK_STORE
#else
        :: manifest == 0 -> won = 1; manifest = set; CHECK_STORE
        :: else
#endif
        fi
    };
#ifdef LOSER_REMOVES
    won = 1;
#endif
    if
    :: won -> remove_unused()
    :: else
    fi
}

/* drain_step() */
inline drain_step()
{
    list_step();
    if
    :: listed_manifest == set -> remove_unused(); goto over /* remove_leftovers() */
    :: listed_manifest != 0 && listed_manifest != set -> goto over
    :: else
    fi;
    stored = 0;
    mine = 0;
    if /* see_what_is_stored() */
    :: (listed_shards & duty) || (listed_parts & (1 << KEY(name, set))) -> read_parts(stored)
    :: else
    fi;
    if /* keep_own_part() */
    :: listed_parts & (1 << KEY(name, set)) -> mine = part_ranks[KEY(name, set)] & stored
    :: else
    fi;
    mine = mine | duty;
#ifdef PARTS_ARE_PROMISES
    put_part();
    put_shards();
#else
    put_shards();
    put_part();
#endif
    /* manifest_commit() */
    MAY_DIE;
    list_step();
    united = 0;
    if
    :: listed_manifest != 0 -> goto over
#ifdef PARTS_ARE_PROMISES
    :: listed_manifest == 0 ->
#else
    :: listed_manifest == 0 && listed_shards == ALL ->
#endif
        read_parts(united);
        if
        :: united == ALL -> put_manifest()
        :: else
        fi
    :: else
    fi
}

proctype drainer(byte name; byte set; byte duty; bool may_die)
{
    byte k, r;
    byte listed_manifest, listed_shards, listed_objects, listed_parts, stored, mine, united;
    bool won;

    drain_step();
over:
    running--
}

/* `dcache drain` again and again, until the step is durable; it is killed as well, and started again. */
proctype tool(byte name; byte set; byte duty)
{
    byte k, r;
    byte listed_manifest, listed_shards, listed_objects, listed_parts, stored, mine, united;
    bool won;
    bool may_die = false;

again:
    drain_step();
over:
    if
    :: manifest == 0 -> goto again
    :: else
    fi;
    running--
}

init
{
    byte one, other;

    /* The first run. */
    atomic { running = 2; run drainer(0, A, 1, true); run drainer(1, A, 2, true) };
    running == 0;
    assert(killed || manifest == A);

    /* It is launched again; its restart is from an older step. */
    killed = false;
    atomic { running = 2; run drainer(0, B, 1, true); run drainer(1, B, 2, true) };
    running == 0;
    assert(killed || manifest != 0);

    /* The job is dead. Own shard and replica are on different nodes, and which set a node takes first, nobody knows. */
    if
    :: one = A
    :: one = B
    fi;
    if
    :: other = A
    :: other = B
    fi;
    job_dead = true;
    atomic { running = 2; run tool(2, one, ALL); run tool(3, other, ALL) };
    running == 0;
    CHECK_STORE
}

ltl drained { [] (job_dead -> <> (manifest != 0)) }
