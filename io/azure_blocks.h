/**
 * The blocks of one store: memory, and the right to send. There are as many as the store has connections, over all puts
 * that are under way, so puts of many objects at once take no more memory and no more connections than that of one.
 * A free block goes to the put that began first, so that objects become whole one after the other: the later ones get
 * what the earlier ones leave over at their ends. Memory is kept between puts, for faulting it in anew costs as much as
 * a copy. Stores that a job is spread over have theirs together.
 */
#ifndef DCACHE_IO_AZURE_BLOCKS_H
#define DCACHE_IO_AZURE_BLOCKS_H

#include "io/object_store.h"

#include <pthread.h>

/** One put under way. The caller's; changed here only. */
struct azure_blocks_user {
    struct azure_blocks_user *next; /**< began after this one */
    unsigned waiting;               /**< threads of it */
    size_t block_bytes;             /**< 0: it needs no memory, only the right to send */
    unsigned limit;                 /**< blocks of all puts together */
    const atomic_bool *cancel;      /**< or NULL */
};

/** One block, of the thread that took it. All zeros: none. */
struct azure_block {
    bool taken;
    void *memory; /**< NULL when the put needs none */
};

struct azure_blocks {
    struct azure_blocks *of; /**< where they really are: itself, or those of another store that is closed later */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned taken;
    struct azure_blocks_user *users; /**< in the order in which they began */
    size_t idle_bytes;               /**< of each that is idle */
    unsigned idle_count;
    void *idle[OBJECT_CONNECTIONS_MAX];
};

void azure_blocks_open(struct azure_blocks *blocks);
/** Have those of another store: both have as many as one. Before the first put. */
void azure_blocks_share(struct azure_blocks *blocks, struct azure_blocks *other);
/** No put may be under way. */
void azure_blocks_close(struct azure_blocks *blocks);

/** A put begins: it wants blocks of that size, or with 0 only the right to send. `limit` is the store's: at most
 * OBJECT_CONNECTIONS_MAX. */
void azure_blocks_begin(struct azure_blocks *blocks, struct azure_blocks_user *user, size_t block_bytes, unsigned limit,
                        const atomic_bool *cancel);
void azure_blocks_end(struct azure_blocks *blocks, struct azure_blocks_user *user);

/** Wait for a block. `stop` may be NULL. `block` is all zeros before, and after a failure.
 * @return DCACHE_OK; DCACHE_ERR_CANCELLED (the put's cancel, or `stop`); DCACHE_ERR_NO_MEMORY */
dcache_status_t azure_blocks_take(struct azure_blocks *blocks, struct diag *dg, struct azure_blocks_user *user,
                                  const atomic_bool *stop, struct azure_block *block) DCACHE_MUST_CHECK;
/** Does nothing when none was taken. */
void azure_blocks_give_back(struct azure_blocks *blocks, const struct azure_blocks_user *user,
                            struct azure_block *block);

#endif
