/**
 * Holds a drain back, before each piece that it reads: while it is paused, until the network's turn has come
 * (io/pace.h), while the drain of this step has used more CPU time than it may. Threads of one drain share one.
 */
#ifndef DCACHE_IO_GOVERNOR_H
#define DCACHE_IO_GOVERNOR_H

#include "io/object_store.h"
#include "io/pace.h"

/** Shared with the drain while it runs; any thread may read or set the fields. */
struct drain_control {
    atomic_bool marked; /**< stripes_mark() was done: once for each process is enough */
    atomic_bool cancel;
    atomic_bool pause;             /**< hold back between blocks while it is set */
    _Atomic uint64_t bytes_stored; /**< grows, over all requests */
    _Atomic uint64_t shards_stored;
    struct pace pace;             /**< kept between blocks */
    _Atomic uint64_t work_cpu_ns; /**< CPU time of reading, verifying, compressing and encrypting; grows */
    _Atomic uint64_t writer;      /**< random, in the names of this process's packs; 0: not drawn yet */
};

/** The drain of one step. */
struct governor {
    struct object_store *store;
    struct drain_control *control;
    uint64_t start;  /**< from when on, */
    uint64_t cpu_ns; /**< and from which CPU time on, it is held to its budget */
};

/** It begins now. */
struct governor governor_make(struct object_store *store, struct drain_control *control);

/** Wait until `bytes` bytes may be read and sent.
 * @return DCACHE_OK; DCACHE_ERR_CANCELLED, also when there was no reason to wait */
dcache_status_t governor_wait(struct diag *dg, const struct governor *governor, uint64_t bytes) DCACHE_MUST_CHECK;

/** CPU time of the calling thread, to be given to governor_count() when the work is done. */
uint64_t governor_thread_cpu(void);
void governor_count(const struct governor *governor, uint64_t cpu_before);

#endif
