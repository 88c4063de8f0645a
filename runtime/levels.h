/** What level each ring slot's step has, and handing steps to the drain. dcache_wait() and dcache_test() are in
 * levels.c. */
#ifndef DCACHE_RUNTIME_LEVELS_H
#define DCACHE_RUNTIME_LEVELS_H

#include "runtime/context.h"

/** The step in the slot is complete on every own node. Equal on all ranks. */
void levels_staged(dcache_t *dc, uint32_t slot);

/** Replication of the slot ended with `status`, agreed: raise its level (or keep the failure) and start its drain. */
void levels_replicated(dcache_t *dc, uint32_t slot, dcache_status_t status);

/** What the ranks know together of one slot's way to the object store. */
struct levels_drain {
    bool durable;
    bool pending;
    bool failing;
};

/** Ask all ranks. Collective, agreed. */
dcache_status_t levels_ask(dcache_t *dc, uint32_t slot, struct levels_drain *drain) DCACHE_MUST_CHECK;

/** The drain of the slot failed on some rank: its text, on every rank, with DCACHE_ERR_STORE. Collective. */
dcache_status_t levels_drain_failure(dcache_t *dc, uint32_t slot);

/** True when this node has somebody to replicate to. */
bool levels_can_replicate(const dcache_t *dc);

#endif
