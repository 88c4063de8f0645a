/**
 * Replication of one ring slot: the protocol from the own image to the replica, as a state machine that can be driven
 * in one go (dcache_checkpoint) or bit by bit (dcache_test, dcache_wait). Order on the replica: WRITING mark, data,
 * COMPLETE header; each is stored there before the next is sent.
 */
#ifndef DCACHE_RUNTIME_REPLICATION_H
#define DCACHE_RUNTIME_REPLICATION_H

#include "runtime/context.h"

/** Set up for the slot; its image may still be in the making. `incremental`: the replica holds what the slot held
 * before this step, so only chunks that the stage moved are put. Not collective. */
void replication_start(dcache_t *dc, uint32_t slot, bool incremental);

/** The replica is complete and good already: as replication_start(), with nothing left to do. */
void replication_skip(dcache_t *dc, uint32_t slot);

/** After replication_start(): the replica is of this set already and only has bad chunks, so it stays COMPLETE. */
void replication_skip_mark(dcache_t *dc);

/** Mark the replica WRITING and wait until it is. Part of replication_advance(); on its own where staging and putting
 * alternate. Here and below a failure ends the replication and is kept: replication_status(). */
void replication_mark(dcache_t *dc);

/** Put one chunk, which is in the image by now, in order. */
void replication_stream(dcache_t *dc, uint32_t index);

/** What came of it so far, its text moved to the handle. */
dcache_status_t replication_status(dcache_t *dc);

/** Go on with a complete image. Without `wait` a little, else to the end.
 * @return true when there is nothing left to do for this rank */
bool replication_advance(dcache_t *dc, bool wait);

/** Complete what is under way on all ranks, and say what came of it. DCACHE_OK when nothing is. Collective, agreed. */
dcache_status_t replication_finish(dcache_t *dc) DCACHE_MUST_CHECK;

/** Make the replica in the slot say that it holds nothing; best effort. */
void replication_invalidate(dcache_t *dc, uint32_t slot);

#endif
