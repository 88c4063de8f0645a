/**
 * Resync: giving a restored step its second copies back. Hosts digest what they have of their guests' replicas, guests
 * compare, and only chunks that differ travel: none to a node that came back with its store intact, all to an empty
 * one. From there on it is a replication like any other (runtime/replication.h): driven behind the computation, seen by
 * dcache_test(), and when it is interrupted the next restart begins it again with what is there by then.
 *
 * A restart does not wait for it. It is due from then on, and is the next thing that all ranks do together on the
 * handle's communicator: on each rank by the progress thread or, where that has not come to it or there is none, at the
 * beginning of the next collective call. So the order of collective operations is the same everywhere.
 */
#ifndef DCACHE_RUNTIME_RESYNC_H
#define DCACHE_RUNTIME_RESYNC_H

#include "runtime/context.h"

/** From now on it is due for this slot. Nothing happens on one node. Not collective; the same on all ranks. */
void resync_schedule(dcache_t *dc, uint32_t slot);

/** Begin what is due, if anything is: expose the slot, compare, set the replication up, which is active afterwards.
 * What goes wrong is logged and kept as the slot's replication status. Collective, agreed. */
void resync_begin(dcache_t *dc);

#endif
