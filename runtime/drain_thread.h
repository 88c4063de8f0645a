/**
 * The drain thread of a drain rank: streams shards to the object store behind the computation, tries again when the
 * store fails, and never bothers the application. One entry per ring slot. Knows no MPI.
 *
 * All functions are called from the application's thread.
 */
#ifndef DCACHE_RUNTIME_DRAIN_THREAD_H
#define DCACHE_RUNTIME_DRAIN_THREAD_H

#include "io/drain.h"

struct drain_thread;

enum drain_state {
    DRAIN_NONE,     /**< nothing was submitted for the slot, or it was dropped */
    DRAIN_PENDING,  /**< waiting or under way */
    DRAIN_RETRYING, /**< the last attempt failed; it will be tried again */
    DRAIN_FAILED,   /**< given up for good (another run's step, corrupt shard); the text says why */
    DRAIN_STORED,   /**< this rank's part is stored; others' parts are missing */
    DRAIN_DURABLE   /**< the manifest is there */
};

/** One shard this thread drains, of any step: its rank and which copy of it this node has. */
struct drain_duty {
    uint32_t rank;
    enum slot_kind kind;
};

/**
 * Start. `objects`, `store` and the key in `codec` are borrowed until stop; `duties` is copied.
 * @param name  of this drainer, unique in the job
 * @param keep  which steps the object store keeps: the others are removed when a step has become durable by this thread
 * @param guard  copied: what this writer is; NULL: nobody else can write this job's steps
 */
dcache_status_t drain_thread_start(struct diag *dg, const char *job, const char *name, struct object_store *objects,
                                   const struct node_store *store, const struct codec_settings *codec,
                                   const struct retention_rule *keep, const struct claim_guard *guard,
                                   const struct drain_duty *duties, size_t duty_count,
                                   struct drain_thread **thread) DCACHE_MUST_CHECK;

/** Drain the step of `set` in ring slot `slot`, which replaces what was submitted for that slot before. */
void drain_thread_submit(struct drain_thread *thread, const struct shard_set *set, uint32_t slot);

/** The state of a slot's entry if it is of this set, else DRAIN_NONE. `text` (DIAG_TEXT_MAX, may be NULL) gets the last
 * failure. A NULL thread has no entries. */
enum drain_state drain_thread_state(struct drain_thread *thread, const struct shard_set *set, uint32_t slot,
                                    char *text);

/** The state of whatever is in the slot's entry. */
enum drain_state drain_thread_slot_state(struct drain_thread *thread, uint32_t slot);

/** Give the slot's entry up; returns at once, what is being read is verified and will not match any more. */
void drain_thread_drop(struct drain_thread *thread, uint32_t slot);

/** Wait until some entry changes its state, at most so long. */
void drain_thread_wait(struct drain_thread *thread, double seconds);

/** What all of it came to so far; zeros for a NULL thread. Any thread may ask. */
struct drain_report drain_thread_report(struct drain_thread *thread);

/** Keep to so many bytes per second, and to so much CPU time in a second of time (0 = no limit). */
void drain_thread_limit(struct drain_thread *thread, uint64_t bytes_per_s, double cpu_share);

/** The job is waiting for nothing else: no limits from now on. */
void drain_thread_hurry(struct drain_thread *thread);

/** Hold back while a checkpoint or its replication uses memory and network; drain_thread_wait() ends it, since who
 * waits for the drain wants it to go on. Any thread may call this. */
void drain_thread_pause(struct drain_thread *thread, bool pause);

/** Cancel what is under way, join, log what all of it came to, free. NULL is allowed. */
void drain_thread_stop(struct drain_thread *thread);

#endif
