/**
 * What is to be done in the drain of one step: one task for the shard of each rank, or for several small ones that are
 * to become a pack. Of one rank's copies the first good one is stored.
 */
#ifndef DCACHE_IO_DRAIN_TASKS_H
#define DCACHE_IO_DRAIN_TASKS_H

#include "io/drain_image.h"

/** The copies of one rank's shard. */
struct drain_member {
    const struct drain_item *copies; /**< in the order in which they are tried */
    size_t copy_count;
    uint32_t rank;
    uint64_t bytes; /**< of the image; 0: not known, or stored already */
};

/** Members that are stored together: one, as an object of its own, or several, as a pack. */
struct drain_task {
    struct drain_member *members; /**< ascending ranks */
    size_t member_count;
    unsigned width; /**< connections that it can use */
};

struct drain_tasks {
    size_t count;
    struct drain_task *list;
    struct drain_item *items;
    struct drain_member *members;
};

/** What decides about them. */
struct drain_tasks_rule {
    uint64_t block_bytes; /**< of the store's requests; a pack has no more */
    unsigned connections;
    uint64_t pack_below; /**< shards of fewer bytes are put together; 0 = none */
    bool coded;          /**< images may grow a little */
};

/** @param stored  shards of this set that are there already: they are no part of a pack
 *  @return DCACHE_OK; DCACHE_ERR_NO_MEMORY */
dcache_status_t drain_tasks_make(struct diag *dg, const struct drain_origin *origin, const struct drain_item *items,
                                 size_t item_count, const struct manifest *stored, const struct drain_tasks_rule *rule,
                                 struct drain_tasks *tasks) DCACHE_MUST_CHECK;
/** Safe on a zeroed struct. */
void drain_tasks_free(struct drain_tasks *tasks);

#endif
