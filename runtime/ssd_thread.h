/**
 * The SSD thread of a rank: copies own shards from memory to the node store on the SSD, behind the computation. One
 * copy at a time, one more may wait; a copy that fails is given up and never bothers the application. Knows no MPI.
 *
 * All functions are called from the application's thread.
 */
#ifndef DCACHE_RUNTIME_SSD_THREAD_H
#define DCACHE_RUNTIME_SSD_THREAD_H

#include "io/slot_copy.h"

#define SSD_SLOTS_MAX 64

struct ssd_thread;

enum ssd_state {
    SSD_COMPLETE, /**< on the device */
    SSD_FAILED,   /**< given up: the slot was used again, a newer one took its place, or it failed */
    SSD_PENDING   /**< waiting or under way */
};

/** Start. The stores are borrowed until stop. */
dcache_status_t ssd_thread_start(struct diag *dg, const struct node_store *from, const struct node_store *to,
                                 uint32_t rank, struct ssd_thread **thread) DCACHE_MUST_CHECK;

/** Copy the step of `set` from slot `from` to slot `to` of the other store; what waits is given up. */
void ssd_thread_submit(struct ssd_thread *thread, const struct shard_set *set, uint32_t from, uint32_t to);

/** What became of the copy of `set` to slot `to`; SSD_FAILED when another was submitted for that slot since. */
enum ssd_state ssd_thread_state(struct ssd_thread *thread, const struct shard_set *set, uint32_t to);

/** Wait until some copy ends, at most so long. */
void ssd_thread_wait(struct ssd_thread *thread, double seconds);

/** Hold back while a checkpoint uses memory and processor. NULL is allowed. */
void ssd_thread_pause(struct ssd_thread *thread, bool pause);

/** Give up what is under way and what waits, and return when nothing is written any more. NULL is allowed. */
void ssd_thread_abandon(struct ssd_thread *thread);

/** Cancel what is under way, join, free. NULL is allowed. */
void ssd_thread_stop(struct ssd_thread *thread);

#endif
