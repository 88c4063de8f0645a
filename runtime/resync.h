/**
 * Resync: giving a restored step its second copies back. Hosts digest what they have of their guests' replicas, guests
 * compare, and only chunks that differ travel: none to a node that came back with its store intact, all to an empty
 * one. From there on it is a replication like any other (runtime/replication.h): driven behind the computation, seen by
 * dcache_test(), and when it is interrupted the next restart begins it again with what is there by then.
 */
#ifndef DCACHE_RUNTIME_RESYNC_H
#define DCACHE_RUNTIME_RESYNC_H

#include "runtime/context.h"

/**
 * Expose the slot, compare, and set the replication up. Afterwards it is active; replication_finish() completes it.
 * Nothing happens on one node. Collective, agreed.
 */
dcache_status_t resync_start(dcache_t *dc, uint32_t slot) DCACHE_MUST_CHECK;

#endif
