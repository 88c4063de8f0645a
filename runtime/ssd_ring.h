/**
 * With tier = both: which slot on the SSD a step is copied to, and which steps are complete there on all ranks. The
 * newest one that is known to be complete is never overwritten. Without tier = both all of this does nothing.
 */
#ifndef DCACHE_RUNTIME_SSD_RING_H
#define DCACHE_RUNTIME_SSD_RING_H

#include "runtime/context.h"

/** How many values ssd_ring_ask() adds at most. */
#define SSD_RING_VALUES_MAX 2

/** Look at what former runs left, start the thread. Collective, agreed; the store is open. */
dcache_status_t ssd_ring_open(dcache_t *dc) DCACHE_MUST_CHECK;

/** Add this rank's view of what is under way to the values of an agreement; returns how many (equal on all ranks). */
int ssd_ring_ask(dcache_t *dc, int64_t *values);

/** The agreed values of ssd_ring_ask(). */
void ssd_ring_learn(dcache_t *dc, const int64_t *values);

/** How much a copy to the SSD would lose if ring slot `slot` was overwritten: 0 nothing, 1 one that may wait still, 2
 * the oldest one. Equal on all ranks. */
uint32_t ssd_ring_claim(const dcache_t *dc, uint32_t slot);

/** The step in ring slot `slot` is STAGED: copy it, or when no slot can be had let it wait instead of an older one. */
void ssd_ring_add(dcache_t *dc, uint32_t slot);

/** As ssd_ring_add(), unless the SSDs have that step. For a step that was restored. */
void ssd_ring_add_restored(dcache_t *dc, uint32_t slot);

/** A restart is about to read the stores: nothing is written to the SSD from now on. */
void ssd_ring_abandon(dcache_t *dc);

/** Start what waits, if a slot can be had by now. */
void ssd_ring_resume(dcache_t *dc);

/** Wait until all is copied, at most until `until` (CLOCK_MONOTONIC, seconds). Collective; failures are logged: nothing
 * depends on it. */
void ssd_ring_finish(dcache_t *dc, double until);

#endif
