/**
 * Blocks that are under way on several threads, and which of them take much longer than the others: a thread that has
 * nothing else to do may send such a block a second time, and the first answer counts.
 */
#ifndef DCACHE_IO_STRAGGLERS_H
#define DCACHE_IO_STRAGGLERS_H

#include "io/workers.h"

#include <pthread.h>

#define STRAGGLERS_SAMPLES 32u

/** One block that a thread sends. */
struct straggler {
    const void *what; /**< the sender's; stays until stragglers_end() has returned */
    atomic_bool over; /**< nobody needs to send it any more */
    bool active;
    bool helped;  /**< somebody sends it again, or did */
    bool helping; /**< right now */
    bool stored;  /**< by the helper */
    double since;
};

struct stragglers {
    pthread_mutex_t lock; /**< of all but `over` */
    pthread_cond_t changed;
    bool abandoned;
    size_t left;      /**< blocks that are not stored yet, begun or not */
    unsigned samples; /**< how many blocks were stored */
    double recent[STRAGGLERS_SAMPLES];
    struct straggler list[WORKERS_MAX]; /**< by worker */
};

/** `blocks` are to be sent by up to WORKERS_MAX workers. */
void stragglers_open(struct stragglers *stragglers, size_t blocks);
void stragglers_close(struct stragglers *stragglers);

/** This worker begins to send `what`. */
struct straggler *stragglers_begin(struct stragglers *stragglers, unsigned worker, const void *what);

/** The worker has its answer, or none. Waits for a helper: it ends soon when the block is stored.
 * @return whether the block is stored, by one of the two */
bool stragglers_end(struct stragglers *stragglers, struct straggler *straggler, bool stored);

/** One of the blocks is done, or turned out not to exist. */
void stragglers_count(struct stragglers *stragglers);

/** All is in vain: whoever sends ends soon, and nobody is helped any more. */
void stragglers_abandon(struct stragglers *stragglers);

/** Wait for a block that takes much longer than the others. NULL: there will be none, or `cancel` has become true. */
struct straggler *stragglers_take(struct stragglers *stragglers, const atomic_bool *cancel);

/** The helper has its answer, or none. */
void stragglers_helped(struct stragglers *stragglers, struct straggler *straggler, bool stored);

#endif
