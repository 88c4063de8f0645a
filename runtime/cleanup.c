#include "runtime/cleanup.h"

#include <stdlib.h>

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

static void clean_store(dcache_t *dc, const struct node_store *store, bool ours)
{
    struct catalog_entry *entries = NULL;
    struct diag quiet = dc->diag;
    size_t count = 0;

    dcache_status_t status = node_store_catalog(&quiet, store, &entries, &count);
    for (size_t i = 0; status == DCACHE_OK && i < count; i++) {
        if (!ours || !wanted(dc, &entries[i]))
            status = slot_remove(&quiet, store, entries[i].kind, entries[i].rank, entries[i].slot);
    }
    if (status != DCACHE_OK)
        diag_log(&dc->diag, DIAG_WARNING, "cannot clean up %s: %s", store->path, quiet.text);
    free(entries);
}

/* A former virtual node's store may be in use by another process, a drain: then it is left to the next time. */
static void clean_former(dcache_t *dc, unsigned index)
{
    struct node_store store;
    struct diag quiet = dc->diag;

    if (node_store_open(&quiet, dc->options.memory_store, dc->job, index, false, &store) != DCACHE_OK)
        return;
    if (node_store_lock(&quiet, &store, dc->program) == DCACHE_OK)
        clean_store(dc, &store, false);
    node_store_close(&store);
}

void cleanup_after(dcache_t *dc, uint32_t slot)
{
    const struct ring_slot *ring = &dc->ring[slot];
    struct diag quiet = dc->diag;
    unsigned *indexes = NULL;
    size_t count = 0;

    if (!dc->clean_due || (ring->level < DCACHE_REPLICATED && dc->world.node_count > 1))
        return;
    dc->clean_due = false;
    if (dc->world.node_rank != 0)
        return;
    clean_store(dc, &dc->store, true);
    if (node_store_list(&quiet, dc->options.memory_store, dc->job, &indexes, &count) != DCACHE_OK)
        return;
    for (size_t i = 0; i < count; i++) {
        if (indexes[i] >= dc->world.virtual_count && indexes[i] % dc->world.virtual_count == dc->world.virtual_index)
            clean_former(dc, indexes[i]);
    }
    free(indexes);
}
