/* Checkpoints in two slots, with replicas; a job that dies at any instant, perhaps with a node; the restart's decision;
 * resync; another life (docs/model.md links each step to the C function that does it).
 *
 * One rank on each node; the replica of rank r is on node r+1. A checkpoint has a sequence, and goes to the slot that is
 * worth least on all ranks. The ranks take their steps in any order; agreements are barriers. The death of the job is
 * the death of all ranks at once; what is stored stays. Then one node may be lost, with all it held.
 *
 * What is read is believed from its header, to show that the order of writing suffices; the code verifies every chunk
 * as well.
 *
 * Safety: what is restored is one set, whole, on all ranks, with the bytes that its headers promise; it is not older
 * than the newest step that was reported REPLICATED (STAGED, when no node is lost).
 * Liveness: a run that is not interrupted has all shards REPLICATED in the end, also those it restarted from.
 *
 * Each name after #ifdef is a deliberate mistake, which spin has to catch (test_model.sh). */
#define NODES 2
#define STEPS 2 /* checkpoints in each life */
#define LIVES 2
#define LAST  4 /* the largest sequence */

typedef copy {
    byte header[2]; /* 0 = empty or WRITING, else the sequence of a COMPLETE one */
    byte bytes[2]   /* 0 = of no set as a whole, else the checkpoint that they are of */
};
copy own[NODES];     /* of rank r, on node r */
copy replica[NODES]; /* of rank r, on node (r + 1) % NODES */

byte life = 0;
byte sequence = 0; /* of the checkpoint under way, 0 = none; what it is called */
byte identity = 0; /* what it is */
byte slot = 0;
byte resync = 0;     /* the sequence that is being replicated again; 0 = none */
byte staged_on = 0;  /* ranks that said so in the agreement under way */
byte replicated_on = 0;
byte staged = 0;     /* the newest checkpoint that was reported so */
byte replicated = 0;
bool dead = false;
bool interrupted = false;
bool at_rest = false; /* a life has done what it wanted */

/* One step of a rank; nothing is done after death. */
#define STEP(what)                                                                                                     \
    atomic {                                                                                                           \
        if                                                                                                             \
        :: dead -> goto over                                                                                           \
        :: else -> what                                                                                                \
        fi                                                                                                             \
    }

proctype rank(byte r)
{
    byte wanted = 0;
end:
    do
    :: dead -> break
    :: !dead && sequence != 0 && identity != wanted ->
        wanted = identity;
        STEP(own[r].header[slot] = 0);     /* slots are marked WRITING ... */
        STEP(replica[r].header[slot] = 0); /* ... on both nodes, before any data */
        STEP(own[r].bytes[slot] = 0);      /* data that is half there is of no set */
        STEP(replica[r].bytes[slot] = 0);
#ifdef HEADER_BEFORE_DATA
        STEP(own[r].header[slot] = sequence);
#endif
#ifdef REPLICA_HEADER_BEFORE_DATA
        STEP(replica[r].header[slot] = sequence);
#endif
        STEP(own[r].bytes[slot] = identity);
        STEP(own[r].header[slot] = sequence);
        STEP(staged_on++);
#ifdef REPORTED_BEFORE_REPLICAS
        STEP(replicated_on++);
#endif
        STEP(replica[r].bytes[slot] = identity);
        STEP(replica[r].header[slot] = sequence);
        STEP(replicated_on++)
    :: !dead && resync != 0 && replica[r].header[slot] != resync ->
#ifdef RESYNC_HEADER_BEFORE_DATA
        STEP(replica[r].header[slot] = resync);
#endif
        STEP(replica[r].bytes[slot] = own[r].bytes[slot]); /* only what differs is sent */
        STEP(replica[r].header[slot] = resync)
    od;
over:
    skip
}

proctype killer()
{
    if
    :: skip
    :: atomic { !dead -> dead = true; interrupted = true }
    fi
}

#define HAS(r, q)                                                                                                      \
    (own[r].header[0] == (q) || own[r].header[1] == (q) || replica[r].header[0] == (q) || replica[r].header[1] == (q))

/* The newest sequence that every rank has in one copy or the other. */
inline choose()
{
    restored = 0;
    n = 1;
    do
    :: n <= LAST ->
#ifdef NEWEST_NOT_AGREED
        if :: HAS(0, n) || HAS(1, n) -> restored = n :: else fi;
#else
        if :: HAS(0, n) && HAS(1, n) -> restored = n :: else fi;
#endif
        n++
    :: else -> break
    od
}

/* The bytes of one rank's shard: from the own copy, or the replica. */
inline read_shard(r, into)
{
    if
    :: own[r].header[0] == restored -> into = own[r].bytes[0]
    :: else ->
        if
        :: own[r].header[1] == restored -> into = own[r].bytes[1]
        :: else ->
            if
            :: replica[r].header[0] == restored -> into = replica[r].bytes[0]
            :: else -> into = replica[r].bytes[1]
            fi
        fi
    fi
}

/* Every rank's shard becomes its own copy, in the slot where the set is. */
inline assemble()
{
    read_shard(0, first);
    read_shard(1, second);
    assert(first != 0 && first == second); /* whole, and one set */
    assert(first >= replicated);
    assert(lost || first >= staged);
    slot = (own[0].header[1] == restored || replica[0].header[1] == restored -> 1 : 0);
    own[0].header[slot] = restored;
    own[0].bytes[slot] = first;
    own[1].header[slot] = restored;
    own[1].bytes[slot] = second
}

inline restart()
{
    d_step {
        choose();
        first = 0;
        second = 0;
        if
        :: restored != 0 -> assemble()
        :: else -> assert(replicated == 0); assert(lost || staged == 0)
        fi;
        newest = restored;
        staged = first;
        replicated = 0;
#ifdef NO_RESYNC
        resync = 0;
        replicated = first;
#else
        resync = restored;
#endif
        sequence = 0;
        dead = false;
        interrupted = false;
        lost = 0
    }
}

inline lose_node(node)
{
    d_step {
        lost = 1;
        own[node].header[0] = 0;
        own[node].header[1] = 0;
        own[node].bytes[0] = 0;
        own[node].bytes[1] = 0;
        replica[1 - node].header[0] = 0;
        replica[1 - node].header[1] = 0;
        replica[1 - node].bytes[0] = 0;
        replica[1 - node].bytes[1] = 0
    }
}

#define RESYNCED (replica[0].header[slot] == resync && replica[1].header[slot] == resync)

init
{
    byte n, restored, newest, taken, lost, first, second;

    do
    :: life < LIVES ->
        restart();
        atomic { run rank(0); run rank(1); run killer() };
        if
        :: resync != 0 ->
            (dead || RESYNCED);
            atomic {
                if
                :: !dead -> replicated = staged; resync = 0
                :: else
                fi
            }
        :: else
        fi;
        taken = 0;
        do
        :: !dead && taken < STEPS ->
            d_step {
                taken++;
                staged_on = 0;
                replicated_on = 0;
                /* The least worth on all ranks: the one that has not the newest. */
#ifdef NEWEST_SLOT_TAKEN
                slot = (own[0].header[1] == newest && newest != 0 -> 1 : 0);
#else
                slot = (own[0].header[0] == newest && newest != 0 -> 1 : 0);
#endif
                /* The largest that any store has seen, plus one. */
                identity = life * STEPS + taken;
#ifdef SEQUENCE_STARTS_ANEW
                sequence = taken
#else
                sequence = identity
#endif
            };
            (dead || staged_on == NODES);
            atomic { if :: !dead -> staged = identity :: else fi };
            (dead || replicated_on >= NODES);
            atomic { if :: !dead -> replicated = identity; newest = sequence; sequence = 0 :: else fi }
        :: dead || taken == STEPS -> break
        od;
        at_rest = true;
        dead = true;
        (_nr_pr == 1); /* all ranks are gone */
        at_rest = false;
        if
        :: skip
        :: lose_node(0)
        :: lose_node(1)
        fi;
        life++
    :: else -> break
    od;
    restart()
}

/* A life comes to its end, and then, unless it was interrupted, all it has is replicated. */
ltl ends { [] <> (at_rest || life == LIVES) }
ltl replicates { [] (at_rest && !interrupted -> replicated == staged && resync == 0) }
