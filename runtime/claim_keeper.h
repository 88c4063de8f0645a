/**
 * Keeps a job's claim (io/claim.h): a thread that renews it, or takes it as soon as that can be done when the object
 * store could not be asked at first, and gives it back in the end. Knows no MPI.
 */
#ifndef DCACHE_RUNTIME_CLAIM_KEEPER_H
#define DCACHE_RUNTIME_CLAIM_KEEPER_H

#include "io/claim.h"

struct claim_keeper;

/** Start. `store` is borrowed until stop. `held`: it is ours already. */
dcache_status_t claim_keeper_start(struct diag *dg, struct object_store *store, const char *job, const struct claim *me,
                                   bool held, struct claim_keeper **keeper) DCACHE_MUST_CHECK;

/** Join, give the claim back if it is ours, free. NULL is allowed. */
void claim_keeper_stop(struct claim_keeper *keeper);

#endif
