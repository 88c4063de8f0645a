/**
 * Which durable steps the object store keeps, and removing the others. A step is removed manifest first: it stops being
 * durable before it stops being complete, so whatever kills a removal in the middle, no reader finds half a step. What
 * is left behind then is a step that nobody finished, like any other, in whichever of the job's stores.
 */
#ifndef DCACHE_IO_RETENTION_H
#define DCACHE_IO_RETENTION_H

#include "io/manifest.h"

/** Keep the `last` newest steps (0: all) and those whose number is a multiple of `every` (0: no others). */
struct retention_rule {
    uint64_t last;
    uint64_t every;
};

struct retention_step {
    uint64_t step;
    uint64_t sequence; /**< newest is the largest */
    bool keep;         /**< of retention_mark() */
};

/** Durable steps of a job, ascending by number. Zeroed when there is none. */
struct retention_list {
    struct retention_step *steps; /**< owned */
    size_t count;
};

/** Mark what a rule keeps; the newest step always. Pure. */
void retention_mark(struct retention_list *list, const struct retention_rule *rule);

/**
 * Find the durable steps. Manifests that cannot be read are left out with a warning: what is not understood is not
 * removed either.
 *
 * @param list  in: what was found before (zeroed at first), whose manifests are not read again; out: what is there now
 */
dcache_status_t retention_find(struct diag *dg, struct object_store *store, const char *job,
                               struct retention_list *list) DCACHE_MUST_CHECK;

/** Remove all objects of one step, durable or not. DCACHE_OK also when there are none.
 * @param cancel   NULL, or when it becomes true the call ends with DCACHE_ERR_CANCELLED
 * @param objects  out: how many were removed; may be NULL */
dcache_status_t retention_remove(struct diag *dg, struct object_store *store, const char *job, uint64_t step,
                                 const atomic_bool *cancel, uint64_t *objects) DCACHE_MUST_CHECK;

/** Find, mark and remove. Nothing is done with a rule that keeps all. `cancel` is looked at between steps. */
dcache_status_t retention_apply(struct diag *dg, struct object_store *store, const char *job,
                                const struct retention_rule *rule, struct retention_list *list,
                                const atomic_bool *cancel) DCACHE_MUST_CHECK;

/** Steps that have objects and no manifest, ascending; malloc'ed, the caller's. A drain may be at work on them. */
dcache_status_t retention_find_unfinished(struct diag *dg, struct object_store *store, const char *job,
                                          uint64_t **steps, size_t *count) DCACHE_MUST_CHECK;

void retention_list_free(struct retention_list *list);

#endif
