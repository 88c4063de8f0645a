/**
 * Restart on another number of ranks, or with arrays cut another way: blocks of global arrays are made anew from the
 * shards of all former ranks. A region that is no block is that of the same rank, or, on another number of ranks, the
 * one that all former ranks had alike.
 */
#ifndef DCACHE_RUNTIME_RESHAPE_H
#define DCACHE_RUNTIME_RESHAPE_H

#include "mpi/fanin.h"
#include "runtime/survey.h"

/** What the protected regions will hold: kept beside them until every rank has all of it. */
struct reshaped {
    unsigned char **bytes; /**< one for each protected region; owned */
    uint32_t count;
};

/**
 * Fill `reshaped` from the shards of `set`. Collective, agreed. The application's memory is not touched.
 *
 * @param manifest  of the set, on rank 0 only; NULL: not in the object store. `in_objects` says on all ranks if it is
 * @return DCACHE_OK; DCACHE_ERR_MISMATCH (a region is not there, is another one, is not covered, or differs between
 * ranks: the text says which); DCACHE_ERR_CORRUPT, DCACHE_ERR_NO_MEMORY, DCACHE_ERR_MPI
 */
dcache_status_t reshape_assemble(dcache_t *dc, const struct survey *survey, struct fanin *fanin,
                                 const struct shard_set *set, bool in_objects, const struct manifest *manifest,
                                 struct reshaped *reshaped) DCACHE_MUST_CHECK;

/** Into the protected regions. */
void reshape_deliver(dcache_t *dc, const struct reshaped *reshaped);

/** Safe on a zeroed one. */
void reshape_free(struct reshaped *reshaped);

#endif
