/**
 * A shard on another tier: a verified copy of a slot in another node store, written past the page cache and on the
 * device before its header says COMPLETE. Knows no MPI.
 */
#ifndef DCACHE_IO_SLOT_COPY_H
#define DCACHE_IO_SLOT_COPY_H

#include "io/node_store.h"

#include <stdatomic.h>

/** Which own slot of a rank to copy, and where to. The stores are borrowed. */
struct slot_copy_request {
    const struct node_store *from;
    const struct node_store *to;
    uint32_t rank;
    uint32_t from_index;
    uint32_t to_index;
    struct shard_set set; /**< what the slot holds */
};

/** Any thread may set the fields while a copy runs. */
struct slot_copy_control {
    atomic_bool cancel;
    atomic_bool pause; /**< hold back between chunks while it is set */
};

/**
 * Copy a COMPLETE slot. What the target held is gone as soon as this starts, and until the end its header says EMPTY;
 * after a failure, too. Each chunk is verified before it is written, so that a slot which is used again meanwhile ends
 * the copy and never spoils it.
 *
 * @return DCACHE_OK: the copy is on the device; DCACHE_NOT_FOUND (the slot does not hold this set, or not any more;
 *         no text); DCACHE_ERR_CORRUPT (it does, and a chunk is bad); DCACHE_ERR_CANCELLED; DCACHE_ERR_NO_SPACE,
 *         DCACHE_ERR_IO, DCACHE_ERR_NO_MEMORY
 */
dcache_status_t slot_copy(struct diag *dg, const struct slot_copy_request *request,
                          struct slot_copy_control *control) DCACHE_MUST_CHECK;

#endif
