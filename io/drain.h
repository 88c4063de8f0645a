/**
 * Streams the shards of one step, as far as they are in one node's store, to an object store, and commits. Used by the
 * drain thread of a running job and by `dcache drain` after a job's death; knows no MPI.
 *
 * Files are read with pread(2) and every chunk is verified before it is sent, so a slot that is reused meanwhile or has
 * rotted can spoil the drain of its step, never the object.
 */
#ifndef DCACHE_IO_DRAIN_H
#define DCACHE_IO_DRAIN_H

#include "io/claim.h"
#include "io/drain_image.h"
#include "io/retention.h"

struct drain_request {
    const char *job;
    struct shard_set set;
    const char *drainer; /**< names the part; unique among the job's drainers, e.g. "r12" or "tool-host-0" */
    const struct node_store *stores;
    const struct drain_item *items;
    size_t item_count;
    const struct codec_settings *codec; /**< NULL: shards are stored as they are */
    struct claim_guard *guard;          /**< NULL: nobody else can write this job's steps */
};

/** What a drain came to, and what it took. */
struct drain_report {
    uint64_t shards;
    uint64_t bytes;
    double seconds; /**< it was at work, waiting for the store or held back included */
    double cpu_seconds;
    struct object_traffic traffic;
};

#define DRAIN_REPORT_MAX 256

/** One line for people: shards, bytes, rate, requests, retries, throttled, hedged. */
void drain_report_text(const struct drain_report *report, char text[DRAIN_REPORT_MAX]);

/**
 * Store the shards, the part and, if all parts are there, the manifest. As many shards are under way at a time as keep
 * the store's connections busy; these, and their blocks, do not become more by that.
 * @param durable  out: the step's manifest is there
 * @return DCACHE_OK; DCACHE_ERR_CANCELLED; DCACHE_ERR_CORRUPT (a shard here is not of this set or does not verify: the
 *         others were stored); DCACHE_ERR_EXISTS (another run's manifest has this step's number); DCACHE_ERR_BUSY (the
 *         name was taken over by another run, for good: nothing is stored any more); errors of the store
 */
dcache_status_t drain_step(struct diag *dg, struct object_store *store, const struct drain_request *request,
                           struct drain_control *control, bool *durable) DCACHE_MUST_CHECK;

/**
 * The plan in the node store ("plan.json"): all that a process without MPI needs to go on with the drain.
 */
struct drain_plan {
    char store_url[STRIPES_TEXT_MAX]; /**< canonical, without secrets; several: with spaces between; "" = nothing is
                                         drained */
    uint32_t world_size;
    uint32_t drain_every;
    struct retention_rule keep; /**< steps that need not be stored again when newer ones are durable */
    size_t rank_count;
    uint32_t *ranks; /**< the ranks whose shards this node drains, ascending; owned */
};

dcache_status_t drain_plan_write(struct diag *dg, const struct node_store *store,
                                 const struct drain_plan *plan) DCACHE_MUST_CHECK;
/** @return DCACHE_OK, DCACHE_NOT_FOUND (no plan), DCACHE_ERR_CORRUPT, DCACHE_ERR_FORMAT, ... */
dcache_status_t drain_plan_read(struct diag *dg, const struct node_store *store,
                                struct drain_plan *plan) DCACHE_MUST_CHECK;
void drain_plan_free(struct drain_plan *plan);

#endif
