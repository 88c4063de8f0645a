/* The commit of a step in the object store (docs/model.md links each label to the C function that does it).
 *
 * Two ranks, one drainer each. A first run drains set A of the step, and is killed or not; a second run of the job takes
 * the same step again, as set B; then `dcache drain` on both nodes drains one of the two sets until there is a manifest.
 * Any drainer of the runs may be killed at any point. Every operation of the store is atomic: its contract
 * (io/object_store.h). Each put of a shard may also be of the same size as what was there, so sizes tell nothing.
 *
 * Safety: a manifest never changes, and all shards are of the set that it names, from the moment it is there.
 * Liveness: a run of which nobody was killed leaves a manifest; so does, in the end, `dcache drain`.
 *
 * Each name after #ifdef is a deliberate mistake, which spin has to catch (test_model.sh). */
#define A 1
#define B 2
#define ALL 3 /* both ranks */

byte shard[2];     /* 0 = none, or the set whose bytes are there */
byte manifest = 0; /* the set that it names */

/* part-<name>-<sequence>.json: by name and set. */
#ifdef ONE_KEY_FOR_ALL_SETS
#define KEY(name, set) ((name) * 2)
#else
#define KEY(name, set) ((name) * 2 + (set) - 1)
#endif
byte part_set[8];   /* 0 = not there; of the drainers r0 and r1, and the tool's on two nodes */
byte part_ranks[8]; /* bit set of ranks */

byte running = 0; /* drainers of the present run or pass */
bool killed = false;
bool job_dead = false;

#define COMPLETE(set) (shard[0] == (set) && shard[1] == (set))
#define CHECK_STORE assert(manifest == 0 || COMPLETE(manifest))
#define MAY_DIE                                                                                                        \
    if                                                                                                                 \
    :: may_die -> killed = true; goto over                                                                             \
    :: true                                                                                                            \
    fi

inline read_parts(claims, remove_others)
{
    k = 0;
    do
    :: k < 8 ->
        found = 0;
        if
        :: listed_parts & (1 << k) ->
            atomic { found = part_set[k]; ranks = part_ranks[k] };
        :: else
        fi;
        if
        :: found == set -> claims = claims | (ranks & listed_shards)
        :: found != 0 && found != set && remove_others ->
            MAY_DIE;
#ifdef FOREIGN_PARTS_KEPT
            skip
#else
            atomic { part_set[k] = 0; part_ranks[k] = 0 }
#endif
        :: else
        fi;
        found = 0;
        ranks = 0;
        k++
    :: else -> break
    od;
    k = 0
}

/* step_objects_list() */
inline list_step()
{
    atomic {
        listed_manifest = manifest;
        listed_shards = (shard[0] != 0 -> 1 : 0) | (shard[1] != 0 -> 2 : 0);
        listed_parts = 0;
        k = 0;
        do
        :: k < 8 -> listed_parts = listed_parts | (part_set[k] != 0 -> (1 << k) : 0); k++
        :: else -> break
        od;
        k = 0
    }
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
            atomic { shard[r] = set; CHECK_STORE }
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
    atomic { part_set[KEY(name, set)] = set; part_ranks[KEY(name, set)] = mine }
}

/* put_manifest(), If-None-Match: * */
inline put_manifest()
{
    MAY_DIE;
    atomic {
        if
        :: manifest == 0 -> manifest = set; CHECK_STORE
        :: else
        fi
    }
}

/* drain_step() */
inline drain_step()
{
    list_step();
    if
    :: listed_manifest != 0 -> goto over
    :: else
    fi;
    stored = 0;
    mine = 0;
    if /* see_what_is_stored() */
    :: (listed_shards & duty) || (listed_parts & (1 << KEY(name, set))) -> read_parts(stored, true)
    :: else
    fi;
    if /* keep_own_part() */
    :: listed_parts & (1 << KEY(name, set)) ->
        atomic {
            if
            :: part_set[KEY(name, set)] == set -> mine = part_ranks[KEY(name, set)] & stored
            :: else
            fi
        }
    :: else
    fi;
    mine = mine | duty;
#ifdef PART_BEFORE_SHARDS
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
    :: listed_manifest == 0 && listed_shards == ALL ->
#ifdef MANIFEST_WITHOUT_PARTS
        united = ALL;
#else
        read_parts(united, false);
#endif
        if
        :: united == ALL -> put_manifest()
        :: else
        fi
    :: else
    fi
}

proctype drainer(byte name; byte set; byte duty; bool may_die)
{
    byte k, r, found, ranks;
    byte listed_manifest, listed_shards, listed_parts, stored, mine, united;

    drain_step();
over:
    running--
}

/* `dcache drain` again and again, until the step is durable; it is killed as well, and started again. */
proctype tool(byte name; byte set; byte duty)
{
    byte k, r, found, ranks;
    byte listed_manifest, listed_shards, listed_parts, stored, mine, united;
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
    byte chosen;

    /* The first run. */
    atomic { running = 2; run drainer(0, A, 1, true); run drainer(1, A, 2, true) };
    running == 0;
    assert(killed || manifest == A);

    /* It is launched again; its restart is from an older step. */
    killed = false;
    atomic { running = 2; run drainer(0, B, 1, true); run drainer(1, B, 2, true) };
    running == 0;
    assert(killed || manifest != 0);

    /* The job is dead. Own shard and replica are on different nodes. */
    if
    :: chosen = A
    :: chosen = B
    fi;
    job_dead = true;
#ifdef TWO_SETS_DRAINED_AT_ONCE /* no mistake of the code's, but a limit: docs/model.md */
    atomic { running = 2; run tool(2, A, ALL); run tool(3, B, ALL) };
#else
    atomic { running = 2; run tool(2, chosen, ALL); run tool(3, chosen, 1) };
#endif
    running == 0;
    CHECK_STORE
}

ltl drained { [] (job_dead -> <> (manifest != 0)) }
