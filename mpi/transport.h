/**
 * How shards travel to the partner's node store: put bytes into memory that another rank has exposed, and make sure
 * that they are there. Two implementations with the same contract: one-sided (MPI_Put into a window on the mapping) and
 * two-sided (messages that the target receives into place). Which one is used is decided by transport_open().
 *
 * What is exposed: for each ring slot, one range of memory per rank (its hosted replicas, one after the other).
 * All functions are called from one thread.
 */
#ifndef DCACHE_MPI_TRANSPORT_H
#define DCACHE_MPI_TRANSPORT_H

#include "mpi/placement.h"
#include "mpi/world.h"

#include <stdbool.h>

#define TRANSPORT_SLOTS_MAX 16

struct transport;

struct transport_ops {
    const char *name;
    /** Expose [base, base + bytes) as ring slot `slot`; bytes may be 0. Collective, agreed. The memory stays the
     * caller's and must stay mapped until detach; after a failure it must stay mapped for good. */
    dcache_status_t (*attach)(struct transport *transport, struct diag *dg, uint32_t slot, void *base, uint64_t bytes);
    /** End the exposure, if any. Collective. No put may be under way. */
    void (*detach)(struct transport *transport, uint32_t slot);
    /** Start to store `bytes` bytes at `displacement` of what `rank` exposed in `slot`. Not collective, does not wait
     * for the target's program (it may for room in a queue, serving others meanwhile). `source` must stay as it is
     * until the flush is done. */
    dcache_status_t (*put)(struct transport *transport, struct diag *dg, uint32_t slot, uint32_t rank,
                           uint64_t displacement, const void *source, uint64_t bytes);
    /** Ask whether all puts to `rank` in `slot` are stored there. With `wait`, returns only when they are or failed,
     * serving others meanwhile; the target must be inside MPI or, one-sided, make passive progress. */
    dcache_status_t (*flush)(struct transport *transport, struct diag *dg, uint32_t slot, uint32_t rank, bool wait,
                             bool *done);
    /** Receive and answer what others sent here. Never waits. Failures are kept and answered to the sender's flush. */
    void (*progress)(struct transport *transport);
    /** Free everything. Collective; all slots are detached. */
    void (*close)(struct transport *transport);
};

/** What each implementation's struct begins with. */
struct transport {
    const struct transport_ops *ops;
    const struct world *world;
    bool background; /**< puts complete while the target computes: replication goes on without its calls */
};

/** Who sends to me: `hosted` has the ranks whose replicas I host. Copied. */
dcache_status_t transport_two_sided_create(struct diag *dg, const struct world *world, const uint32_t *hosted,
                                           uint32_t hosted_count, struct transport **transport) DCACHE_MUST_CHECK;
dcache_status_t transport_one_sided_create(struct diag *dg, const struct world *world,
                                           struct transport **transport) DCACHE_MUST_CHECK;

/** What the probe found: can a window over these hosts be made, do bytes arrive, and do they while the target computes?
 */
struct transport_probe {
    bool window;
    bool arrives;
    bool passive;
    char reason[256]; /**< what was found, and the remedy where one-sided is not usable; one line */
};

#define TRANSPORT_PROBE_BYTES (2u << 20)

/**
 * Try a window with puts between partners. Collective; the result is the same on every rank. That RMA does not work is
 * a finding, not an error. Takes up to 0.3 s (times ranks per core) where RMA makes
 * no passive progress.
 *
 * @param scratch  TRANSPORT_PROBE_BYTES of mapped memory like that of the node store
 */
dcache_status_t transport_probe(struct diag *dg, const struct world *world, const struct placement *placement,
                                void *scratch, struct transport_probe *probe) DCACHE_MUST_CHECK;

#endif
