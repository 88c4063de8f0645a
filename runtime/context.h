/**
 * The handle: everything a dcache_t is made of. Modules of this floor share it; each says in its header which part it
 * keeps up to date.
 */
#ifndef DCACHE_RUNTIME_CONTEXT_H
#define DCACHE_RUNTIME_CONTEXT_H

#include "io/stripes.h"
#include "mpi/replicate.h"
#include "runtime/claim_keeper.h"
#include "runtime/copy_threads.h"
#include "runtime/domains.h"
#include "runtime/drain_thread.h"
#include "runtime/options.h"
#include "runtime/schedule.h"
#include "runtime/ssd_thread.h"

/** A protected piece of the application's memory (runtime/regions.c). */
struct region {
    struct shard_region shape; /**< offset unused */
    void *memory;              /**< the application's */
};

/** One ring slot: the own shard image and what is known of the step in it. The same step is in the same ring slot on
 * every rank; all but `own`, `header` and `order` is equal on all ranks, too. */
struct ring_slot {
    struct slot own;            /**< mapped image; base NULL when there is none yet */
    struct shard_header header; /**< of that image */
    uint32_t *order;            /**< indexes of header.regions by ascending offset, empty regions left out; owned */
    uint32_t order_count;
    unsigned char *moved; /**< per chunk: copied by this step, not only found unchanged; owned */
    uint64_t layout;      /**< value of dcache.layout that the image was made for; 0 = none (local) */
    uint64_t worth; /**< how much to keep it: sequence of the complete step in it, 0 = nothing (local, agreed by max) */
    dcache_level_t level;        /**< STAGED or REPLICATED once agreed; NONE = no usable step */
    bool durable;                /**< the manifest is known to be there */
    bool to_drain;               /**< its step is meant for the object store */
    dcache_status_t replication; /**< why it is not REPLICATED, if that failed */
};

/** The replication under way behind the computation (runtime/replication.c). */
struct replication {
    bool active; /**< equal on all ranks */
    bool due;    /**< a restored step waits for its second copies: runtime/resync.h; `slot` says where it is */
    uint32_t slot;
    int phase;
    uint32_t next_chunk;
    dcache_status_t status;
    struct diag diag;                      /**< its own, for it may be driven by the progress thread */
    bool incremental;                      /**< the replica holds what `moved` leaves out */
    unsigned char mark[SHARD_FIXED_BYTES]; /**< the WRITING header while it is put */
};

/** With tier = both: the ring of steps on the SSD (runtime/ssd_ring.c). Equal on all ranks. */
struct ssd_ring {
    uint64_t worth[SSD_SLOTS_MAX]; /**< sequence of the step that is complete there on every rank; 0 = none */
    uint64_t found[SSD_SLOTS_MAX]; /**< newest sequence that any rank has there, complete or not */
    struct ssd_pending {
        uint32_t slot;
        struct shard_set set;
    } pending[2]; /**< being copied on some rank, oldest first */
    uint32_t pending_count;
    bool waiting;              /**< `wanted` is to be copied as soon as a slot can be had */
    struct ssd_pending wanted; /**< its slot is the one of the main ring */
    bool clean_due;            /**< slots of former placements may lie in the store */
};

struct dcache {
    struct diag diag;
    struct options options;
    char job[64];
    char program[64];
    struct world world;
    struct domains domains;
    struct placement placement;
    struct node_store store; /**< the main one: runtime/tiers.h */
    struct node_store ssd;   /**< the second one, with tier = both; else not open */
    struct replicator replicator;
    struct object_store *objects; /**< NULL when there is none; of several (io/stripes.h) the first */
    struct object_store
        *objects_quick; /**< rank 0: the same, but not waited for long; for questions that can do without */
    char store_url[STRIPES_TEXT_MAX];  /**< of all of its stores */
    bool guarded;                      /**< this run needs a claim to store anything (runtime/claim_open.c) */
    struct claim_guard guard;          /**< what this rank's drain shows; copied by the drain thread */
    struct claim_keeper *claim_keeper; /**< rank 0 */
    struct codec_key *key;      /**< that shards in the object store are encrypted with; NULL when there is none */
    struct drain_thread *drain; /**< on drain ranks, when there is an object store */

    struct region *regions;
    uint32_t region_count, region_room;
    uint64_t layout;      /**< grows with every change of names, types or shapes */
    uint64_t room_layout; /**< value of `layout` for which all slots were found to fit their tiers */

    struct ring_slot ring[TRANSPORT_SLOTS_MAX];
    uint32_t slots;
    struct replication replicating;
    struct resync_ahead *ahead;   /**< from a restart until its resync; else NULL */
    struct progress *progress;    /**< NULL where replication is driven from calls only */
    struct copy_threads *copying; /**< NULL: this thread alone */
    struct dcache_statistics statistics;
    struct schedule schedule;
    struct ssd_thread *ssd_thread; /**< with tier = both */
    struct ssd_ring ssd_ring;
    uint64_t epoch;         /**< random number of this handle, the same on all ranks */
    uint64_t last_sequence; /**< largest ever seen */
    uint64_t taken;         /**< checkpoints taken by this handle */
    bool clean_due;         /**< slots of former placements may lie in the stores */
    bool broken;            /**< MPI failed: only close is left */
};

/** Every collective call begins here: from now to context_finish() the progress thread keeps off. A resync that is due
 * and that the thread has not begun is begun first, so that it has the same place in the order of calls everywhere. */
void context_enter(dcache_t *dc);

/** Every collective call ends here: log once what the call came to, and remember when the MPI is gone. */
dcache_status_t context_finish(dcache_t *dc, const char *call, dcache_status_t status);

#endif
