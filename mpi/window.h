/**
 * Windows, made by one communicator of a host at a time.
 *
 * Open MPI's osc/rdma (4.1) names the file in which the ranks of a host share a window's state after the host, the job
 * and the number of the communicator. Disjoint communicators may have the same number: made at the same moment, their
 * windows take each other's file, and fail, hang, or share what must not be shared.
 */
#ifndef DCACHE_MPI_WINDOW_H
#define DCACHE_MPI_WINDOW_H

#include "mpi/world.h"

/** Take turns with all that give the same directory: its lock is what they share, nothing is made in it. Not
 * collective; only the first rank of a host needs it. Where the directory cannot be opened, no turns are taken. */
void window_take_turns(struct world *world, const char *directory);

/** MPI_Win_create() with MPI_ERRORS_RETURN and displacements in bytes, in this communicator's turn. Collective, and
 * every rank is inside before the turn is taken: so nobody waits for a turn of someone who waits for him. A turn that
 * does not come for 30 s is not waited for any more. A local failure may leave other ranks with success: agree
 * afterwards. @return DCACHE_OK, DCACHE_ERR_MPI */
dcache_status_t window_create(struct diag *dg, const struct world *world, void *base, uint64_t bytes,
                              MPI_Win *window) DCACHE_MUST_CHECK;

#endif
