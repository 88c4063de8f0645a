/**
 * Replicas: where this rank's are kept (on its host, a rank of the partner node) and which it keeps for others (its
 * guests'). For each ring slot the guests' slot files are mapped one after the other into one range of memory, which a
 * transport exposes; replicate_put() stores into this rank's place there.
 */
#ifndef DCACHE_MPI_REPLICATE_H
#define DCACHE_MPI_REPLICATE_H

#include "io/node_store.h"
#include "mpi/agree.h"
#include "mpi/placement.h"
#include "mpi/transport.h"

/** The replicas of one ring slot. */
struct replica_ring_slot {
    bool attached;
    void *area; /**< the mapped range; NULL when this rank hosts nothing */
    uint64_t area_bytes;
    struct slot *guest_slots; /**< guest_count entries, bases inside `area` */
    uint64_t displacement;    /**< of my replica in my host's range */
    uint64_t bytes;           /**< of my replica */
};

struct replicator {
    const struct world *world;
    const struct node_store *store;
    struct transport *transport; /**< owned; NULL on a single node */
    struct agree_idle idle;      /**< give this to every agreement while replication may be under way */
    uint32_t host;               /**< rank that keeps my replica, or PLACEMENT_NONE */
    uint32_t *guests;            /**< ranks whose replicas I keep; owned */
    uint32_t guest_count;
    MPI_Request *requests; /**< room for one exchange with host and guests; owned */
    uint64_t *report;      /**< a word for each guest, from or to it; owned */
    struct replica_ring_slot ring[TRANSPORT_SLOTS_MAX];
    char transport_name[16]; /**< "one-sided", "two-sided" or "none" */
    char reason[256];        /**< why that one; one line */
};

/** What the user asked for. */
enum replicate_choice { REPLICATE_AUTO, REPLICATE_ONE_SIDED, REPLICATE_TWO_SIDED };

/** Find host and guests, choose the transport. Collective, agreed. DCACHE_ERR_OPTION: the forced transport is not
 * usable. */
dcache_status_t replicate_open(struct diag *dg, const struct world *world, const struct placement *placement,
                               const struct node_store *store, enum replicate_choice choice,
                               struct replicator *replicator) DCACHE_MUST_CHECK;

/** Make room for this rank's shard of `bytes` bytes in ring slot `slot` at its host, and expose what this rank hosts
 * there. What the files held is kept where sizes allow. Collective, agreed; after a failure the slot is not attached.
 */
dcache_status_t replicate_prepare(struct diag *dg, struct replicator *replicator, uint32_t slot,
                                  uint64_t bytes) DCACHE_MUST_CHECK;

/** Map all pages of the replicas that this rank hosts in the slot, once. For what is faster than their faults. Local.
 */
void replicate_warm(struct replicator *replicator, uint32_t slot);

/** Start to store bytes of this rank's shard into its replica. `source` stays as it is until the flush. Not collective.
 */
dcache_status_t replicate_put(struct diag *dg, struct replicator *replicator, uint32_t slot, uint64_t offset,
                              const void *source, uint64_t bytes) DCACHE_MUST_CHECK;

/** As the transport's flush. */
dcache_status_t replicate_flush(struct diag *dg, struct replicator *replicator, uint32_t slot, bool wait,
                                bool *done) DCACHE_MUST_CHECK;

/** The sum of what this rank's guests say their shards have; `mine` is what this rank says. Collective, not agreed. */
dcache_status_t replicate_guest_bytes(struct diag *dg, struct replicator *replicator, uint64_t mine,
                                      uint64_t *guests) DCACHE_MUST_CHECK;

/** What a host tells a guest. The words are the caller's. */
struct replica_report {
    uint64_t *words;
    uint32_t count;
};

/** Each rank tells its host a word; afterwards replicator->report[] has the guests'. Collective, not agreed. */
dcache_status_t replicate_tell_host(struct diag *dg, struct replicator *replicator, uint64_t word) DCACHE_MUST_CHECK;

/** Each host sends each guest its report; `mine` gets up to `room` words of my host's, the rest stays as it is.
 * Collective, not agreed. */
dcache_status_t replicate_report(struct diag *dg, struct replicator *replicator, const struct replica_report *reports,
                                 uint64_t *mine, uint32_t room) DCACHE_MUST_CHECK;

/** End exposure and mappings of all slots and free everything. Collective. Safe on a zeroed struct. */
void replicate_close(struct replicator *replicator);

#endif
