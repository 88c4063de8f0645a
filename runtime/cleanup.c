#include "runtime/cleanup.h"

#include "runtime/tiers.h"

#include <stdlib.h>

/* Which slots of a store are this run's. */
typedef bool (*wanted_slot)(const dcache_t *dc, const struct catalog_entry *entry);

static bool wanted(const dcache_t *dc, const struct catalog_entry *entry)
{
    uint32_t size = (uint32_t)dc->world.size;

    if (entry->slot >= dc->slots || entry->rank >= size)
        return false;
    if (entry->kind == SLOT_OWN)
        return dc->world.node_of_rank[entry->rank] == dc->world.node;
    uint32_t host = dc->placement.host_of_rank[entry->rank];
    return host != PLACEMENT_NONE && dc->world.node_of_rank[host] == dc->world.node;
}

static bool wanted_on_ssd(const dcache_t *dc, const struct catalog_entry *entry)
{
    return entry->kind == SLOT_OWN && entry->slot < (uint32_t)dc->options.ssd_slots &&
           entry->rank < (uint32_t)dc->world.size && dc->world.node_of_rank[entry->rank] == dc->world.node;
}

static bool wanted_nowhere(const dcache_t *dc, const struct catalog_entry *entry)
{
    (void)dc;
    (void)entry;
    return false;
}

static void clean_store(dcache_t *dc, const struct node_store *store, wanted_slot is_wanted)
{
    struct catalog_entry *entries = NULL;
    struct diag quiet = dc->diag;
    size_t count = 0;

    dcache_status_t status = node_store_catalog(&quiet, store, &entries, &count);
    for (size_t i = 0; status == DCACHE_OK && i < count; i++) {
        if (!is_wanted(dc, &entries[i]))
            status = slot_remove(&quiet, store, entries[i].kind, entries[i].rank, entries[i].slot);
    }
    if (status != DCACHE_OK)
        diag_log(&dc->diag, DIAG_WARNING, "cannot clean up %s: %s", store->path, quiet.text);
    free(entries);
}

/* A former virtual node's store may be in use by another process, a drain: then it is left to the next time. */
static void clean_former(dcache_t *dc, const char *root, unsigned index)
{
    struct node_store store;
    struct diag quiet = dc->diag;

    if (node_store_open(&quiet, root, dc->job, index, false, &store) != DCACHE_OK)
        return;
    if (node_store_lock(&quiet, &store, dc->program) == DCACHE_OK)
        clean_store(dc, &store, wanted_nowhere);
    node_store_close(&store);
}

static void clean_all(dcache_t *dc, const char *root, const struct node_store *own, wanted_slot is_wanted)
{
    struct diag quiet = dc->diag;
    unsigned *indexes = NULL;
    size_t count = 0;

    if (dc->world.node_rank != 0)
        return;
    clean_store(dc, own, is_wanted);
    if (node_store_list(&quiet, root, dc->job, &indexes, &count) != DCACHE_OK)
        return;
    for (size_t i = 0; i < count; i++) {
        if (indexes[i] >= dc->world.virtual_count && indexes[i] % dc->world.virtual_count == dc->world.virtual_index)
            clean_former(dc, root, indexes[i]);
    }
    free(indexes);
}

void cleanup_after(dcache_t *dc, uint32_t slot)
{
    const struct ring_slot *ring = &dc->ring[slot];

    bool new_step = ring->header.set.epoch == dc->epoch; /* and no restored one */

    if (!dc->clean_due || !new_step || (ring->level < DCACHE_REPLICATED && dc->world.node_count > 1))
        return;
    dc->clean_due = false;
    clean_all(dc, tiers_root(dc), &dc->store, wanted);
}

void cleanup_ssd(dcache_t *dc)
{
    clean_all(dc, dc->options.ssd_store, &dc->ssd, wanted_on_ssd);
}
