/**
 * Fan-in: at restart, ranks read byte ranges of slots that other nodes' stores hold. Between fanin_open() and
 * fanin_close() every rank answers such requests whenever it is in one of these functions, from its own node's stores;
 * so a rank that waits for bytes never keeps others waiting for its own. Two-sided messages on purpose: RMA stays on
 * the failure-free path.
 */
#ifndef DCACHE_MPI_FANIN_H
#define DCACHE_MPI_FANIN_H

#include "io/node_store.h"
#include "mpi/agree.h"

/** A slot somewhere: on the node of rank `server`, in the store with number `store` there. */
struct fanin_source {
    uint32_t server;
    uint32_t store;
    enum slot_kind kind;
    uint32_t rank;
    uint32_t slot;
};

struct fanin;

/** Begin to answer from `stores` (borrowed until close). Collective, agreed. */
dcache_status_t fanin_open(struct diag *dg, const struct world *world, const struct node_store *stores,
                           uint32_t store_count, struct fanin **fanin) DCACHE_MUST_CHECK;

/** Takes the next piece of what is read, while others are under way. What is not DCACHE_OK ends the reading. */
typedef dcache_status_t (*fanin_take)(void *context, const void *data, uint64_t bytes);

/** Read a range of a slot, in pieces that are given to `take` in order. A piece never crosses a multiple of
 * SHARD_CHUNK_BYTES, counted from `offset`. Not collective; serves others.
 * @return DCACHE_OK; what `take` returned; DCACHE_ERR_IO (the server could not read it; no text); DCACHE_ERR_NO_MEMORY,
 *         DCACHE_ERR_MPI */
dcache_status_t fanin_stream(struct diag *dg, struct fanin *fanin, const struct fanin_source *source, uint64_t offset,
                             uint64_t bytes, fanin_take take, void *context) DCACHE_MUST_CHECK;

/** The same into `buffer`. */
dcache_status_t fanin_read(struct diag *dg, struct fanin *fanin, const struct fanin_source *source, uint64_t offset,
                           void *buffer, uint64_t bytes) DCACHE_MUST_CHECK;

/** For long work elsewhere: answer what has come. */
void fanin_serve(struct fanin *fanin);

/** For agreements while requests may come: the same, and who waits for long leaves its core to others. */
struct agree_idle fanin_idle(struct fanin *fanin);

/** Serve until every rank has come here, then free. Collective; NULL is allowed on every rank alike. */
void fanin_close(struct fanin *fanin);

#endif
