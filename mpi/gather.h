/** What every rank has, of a length of its own, to all ranks. */
#ifndef DCACHE_MPI_GATHER_H
#define DCACHE_MPI_GATHER_H

#include "mpi/agree.h"

/**
 * Gather bytes from all ranks, in the order of ranks. Collective, agreed: `local` is this rank's status so far.
 * `idle` is served until every rank has come here, and not behind that.
 *
 * @param all    out, on DCACHE_OK only: malloc'ed, the caller's; not NULL
 * @param total  out: length of `all`
 * @return DCACHE_OK, the worst `local` of all ranks, DCACHE_ERR_NO_MEMORY (also when it is more than 2 GiB),
 * DCACHE_ERR_MPI
 */
dcache_status_t gather_bytes(const struct world *world, struct diag *dg, const struct agree_idle *idle,
                             dcache_status_t local, const void *mine, size_t bytes, void **all,
                             size_t *total) DCACHE_MUST_CHECK;

#endif
