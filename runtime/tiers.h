/**
 * The tiers: which directories the node stores are in, getting what is on a device to it, and whether it all fits.
 *
 * The main store is the one that steps are staged and replicated in; with tier = both there is a second one on the SSD
 * (runtime/ssd_ring.h).
 */
#ifndef DCACHE_RUNTIME_TIERS_H
#define DCACHE_RUNTIME_TIERS_H

#include "runtime/context.h"

/** Root of the main node stores. */
const char *tiers_root(const dcache_t *dc);

/** Root of the node stores of the other tier, which may have steps of this run or of former ones; NULL: none is known.
 */
const char *tiers_other_root(const dcache_t *dc);

/** Get an own copy in the main store, and the names there, to the device, if that has one. Not collective. */
dcache_status_t tiers_sync_own(dcache_t *dc, const struct slot *own) DCACHE_MUST_CHECK;

/** The same for the names alone. */
dcache_status_t tiers_sync_names(dcache_t *dc) DCACHE_MUST_CHECK;

/** All replicas in a ring slot have arrived, on all ranks: hosts get them to the device, if there is one. Only then the
 * step is REPLICATED. Collective, agreed. */
dcache_status_t tiers_sync_replicas(dcache_t *dc, uint32_t slot) DCACHE_MUST_CHECK;

/**
 * Do all slots that this run will use fit their tiers, if this rank's shard has `bytes` bytes? Nothing is allocated.
 * Collective, agreed. DCACHE_ERR_NO_SPACE: the text says what is needed, what is there, and the ways out.
 */
dcache_status_t tiers_check_room(dcache_t *dc, uint64_t bytes) DCACHE_MUST_CHECK;

#endif
