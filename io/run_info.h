/**
 * Who uses a node store, and how: `run.json`, written by the runtime at open, shown by the `dcache` tool. It says what
 * the transport probe found, and which run it was: a relaunch knows by it that the holder of the job's claim has ended.
 */
#ifndef DCACHE_IO_RUN_INFO_H
#define DCACHE_IO_RUN_INFO_H

#include "io/node_store.h"
#include "io/stripes.h"

#include <stdbool.h>

struct run_info {
    char job[SHARD_JOB_MAX + 1];
    uint32_t world_size;
    uint32_t node_count;
    uint32_t node; /**< this node's index in the job */
    char node_name[128];
    long pid;                         /**< of the process that holds the store's lock */
    char transport[16];               /**< "one-sided", "two-sided" or "none" */
    char transport_reason[256];       /**< why it was chosen */
    char store_url[STRIPES_TEXT_MAX]; /**< canonical, without secrets; several: with spaces between; "" = nothing is
                                         drained */
    int64_t started;                  /**< seconds since 1970 */
    uint64_t run; /**< its epoch, by which its claim (io/claim.h) is known; 0 = an older version's */
};

/** Characters outside of printable ASCII in the texts are written as '?'. */
dcache_status_t run_info_write(struct diag *dg, const struct node_store *store,
                               const struct run_info *info) DCACHE_MUST_CHECK;

/** @return DCACHE_OK, DCACHE_NOT_FOUND (never written), DCACHE_ERR_CORRUPT, DCACHE_ERR_FORMAT, ... */
dcache_status_t run_info_read(struct diag *dg, const struct node_store *store, struct run_info *info) DCACHE_MUST_CHECK;

/** The run that used this node store last was this one. Who asks holds the store's lock: so it has ended. */
bool run_info_left_by(struct diag *dg, const struct node_store *store, uint64_t run);

#endif
