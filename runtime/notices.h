/**
 * The thread that asks Azure's instance metadata service, once a second, what is going to happen to this node. One per
 * node. Knows no MPI. That the service does not answer is said once and disturbs nobody.
 *
 * All functions are called from the application's thread.
 */
#ifndef DCACHE_RUNTIME_NOTICES_H
#define DCACHE_RUNTIME_NOTICES_H

#include "io/diag.h"

struct notices;

/** What has been heard so far. */
struct notices_heard {
    unsigned checkpoint; /**< events that concern this node: grows by one with each */
    unsigned stop;       /**< those of them after which the node is gone for good */
    int64_t leaves_at;   /**< when the node will reboot, move or go, seconds since 1970; INT64_MAX = not known */
};

/** Start, with the URL of the service (copied). */
dcache_status_t notices_start(struct diag *dg, const char *url, struct notices **notices) DCACHE_MUST_CHECK;

/** A NULL pointer has heard nothing. */
struct notices_heard notices_read(struct notices *notices);

/** Cancel what is under way, join, free. NULL is allowed. */
void notices_stop(struct notices *notices);

#endif
