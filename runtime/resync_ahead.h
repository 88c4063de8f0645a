/**
 * Ahead of a resync: while a restart waits for shards that come over the network, a thread makes the files of the
 * replicas that this node has to have again, and digests those it has. So the resync finds both done, and its first
 * bytes follow the restart's last ones. It changes no file that is there; what it cannot do is left to the resync,
 * which says why.
 */
#ifndef DCACHE_RUNTIME_RESYNC_AHEAD_H
#define DCACHE_RUNTIME_RESYNC_AHEAD_H

#include "runtime/context.h"
#include "runtime/replica_report.h"
#include "runtime/survey.h"

/** Start the thread for the step `set`, to be in ring slot `slot`; nothing happens when every rank has its own copy,
 * for then nothing is waited for. What was there of another step is dropped. Not collective. */
void resync_ahead_start(dcache_t *dc, const struct survey *survey, const struct shard_set *set, uint32_t slot);

/** Wait for the thread; the report on a guest's replica in `slot`, whose words become the caller's. False: there is
 * none, or of something else than what is wanted. Not collective. */
bool resync_ahead_take(dcache_t *dc, uint32_t slot, const struct replica_wanted *wanted, uint64_t file_bytes,
                       struct replica_report *report);

/** Stop the thread and forget what it has found. Nothing happens when there is none. */
void resync_ahead_drop(dcache_t *dc);

#endif
