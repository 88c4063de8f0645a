/**
 * Agreement: a local outcome becomes everybody's. Every collective step of the protocols ends in one of these, and no
 * function returns between two of them because of a local failure.
 *
 * One nonblocking all-reduce of a few words; ranks and bytes grow logarithmically, not with the number of ranks. When a
 * rank failed, one broadcast more carries its text.
 */
#ifndef DCACHE_MPI_AGREE_H
#define DCACHE_MPI_AGREE_H

#include "mpi/world.h"

#define AGREE_VALUES_MAX 128

/** Called again and again while an agreement waits, so that what others wait for goes on. May be NULL. */
struct agree_idle {
    void (*progress)(void *context);
    void *context;
};

/**
 * Agree on a status: the worst of all ranks, of the lowest rank that has it; dg->text becomes that rank's text, with
 * its number. Collective.
 *
 * @param values  in: this rank's; out, on DCACHE_OK only: the maximum over all ranks of each. NULL when `count` is 0
 */
dcache_status_t agree_values(const struct world *world, struct diag *dg, const struct agree_idle *idle,
                             dcache_status_t local, int64_t *values, int count) DCACHE_MUST_CHECK;

/** agree_values() without values. */
dcache_status_t agree(const struct world *world, struct diag *dg, const struct agree_idle *idle,
                      dcache_status_t local) DCACHE_MUST_CHECK;

#endif
