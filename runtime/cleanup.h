/** Slots that former placements left in this node's stores: wanted until a newer step is safe, then removed. */
#ifndef DCACHE_RUNTIME_CLEANUP_H
#define DCACHE_RUNTIME_CLEANUP_H

#include "runtime/context.h"

/** A step was taken in `slot`: if that makes former placements' slots useless, remove them. Not collective; failures
 * are logged, nothing depends on it. */
void cleanup_after(dcache_t *dc, uint32_t slot);

/** The same for the second store, when a step of this run is complete there on all nodes. */
void cleanup_ssd(dcache_t *dc);

#endif
