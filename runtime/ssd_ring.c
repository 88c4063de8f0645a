#include "runtime/ssd_ring.h"

#include "io/threads.h"

#include "runtime/cleanup.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WAIT_SLICE_S 0.05

_Static_assert(2 * SSD_SLOTS_MAX <= AGREE_VALUES_MAX, "what the stores hold is agreed in one go");

static uint32_t slot_count(const dcache_t *dc)
{
    return (uint32_t)dc->options.ssd_slots;
}

/* The sequences of this rank's complete steps, one for each slot. */
static void read_slots(dcache_t *dc, int64_t *sequences)
{
    struct catalog_entry *entries = NULL;
    struct diag quiet = dc->diag;
    size_t count = 0;

    if (node_store_catalog(&quiet, &dc->ssd, &entries, &count) != DCACHE_OK)
        return; /* then there is nothing to keep */
    for (size_t i = 0; i < count; i++) {
        const struct catalog_entry *entry = &entries[i];
        if (entry->set.sequence > INT64_MAX)
            continue;
        if (entry->set.sequence > dc->last_sequence)
            dc->last_sequence = entry->set.sequence;
        if (entry->kind == SLOT_OWN && entry->rank == (uint32_t)dc->world.rank && entry->state == SHARD_COMPLETE &&
            entry->slot < slot_count(dc))
            sequences[entry->slot] = (int64_t)entry->set.sequence;
    }
    free(entries);
}

dcache_status_t ssd_ring_open(dcache_t *dc)
{
    struct ssd_ring *ring = &dc->ssd_ring;
    int64_t values[2 * SSD_SLOTS_MAX] = {0};
    uint32_t count = slot_count(dc);

    if (dc->options.tier != TIER_BOTH)
        return DCACHE_OK;
    read_slots(dc, values);
    for (uint32_t k = 0; k < count; k++)
        values[count + k] = -values[k];
    dcache_status_t status =
        ssd_thread_start(&dc->diag, &dc->store, &dc->ssd, (uint32_t)dc->world.rank, &dc->ssd_thread);
    status = agree_values(&dc->world, &dc->diag, &dc->replicator.idle, status, values, 2 * (int)count);
    for (uint32_t k = 0; status == DCACHE_OK && k < count; k++) {
        ring->found[k] = (uint64_t)values[k];
        ring->worth[k] = values[k] == -values[count + k] ? (uint64_t)values[k] : 0;
    }
    ring->clean_due = true;
    return status;
}

int ssd_ring_ask(dcache_t *dc, int64_t *values)
{
    const struct ssd_ring *ring = &dc->ssd_ring;

    for (uint32_t i = 0; i < ring->pending_count; i++)
        values[i] = (int64_t)ssd_thread_state(dc->ssd_thread, &ring->pending[i].set, ring->pending[i].slot);
    return (int)ring->pending_count;
}

void ssd_ring_learn(dcache_t *dc, const int64_t *values)
{
    struct ssd_ring *ring = &dc->ssd_ring;
    uint32_t kept = 0;
    bool complete = false;

    for (uint32_t i = 0; i < ring->pending_count; i++) {
        const struct ssd_pending pending = ring->pending[i];
        if (values[i] == SSD_PENDING) {
            ring->pending[kept++] = pending;
        } else if (values[i] == SSD_COMPLETE) {
            ring->worth[pending.slot] = pending.set.sequence;
            complete = true;
            diag_log(&dc->diag, dc->world.rank == 0 ? DIAG_INFO : DIAG_DEBUG,
                     "step %" PRIu64 " is on the SSDs of all nodes", pending.set.step);
        }
    }
    ring->pending_count = kept;
    if (complete && ring->clean_due) {
        ring->clean_due = false;
        cleanup_ssd(dc);
    }
}

uint32_t ssd_ring_claim(const dcache_t *dc, uint32_t slot)
{
    const struct ssd_ring *ring = &dc->ssd_ring;

    for (uint32_t i = 0; i < ring->pending_count; i++) {
        if (dc->ring[slot].level != DCACHE_LEVEL_NONE &&
            shard_same_set(&dc->ring[slot].header.set, &ring->pending[i].set))
            return i == 0 ? 2 : 1;
    }
    return 0;
}

static bool is_pending(const struct ssd_ring *ring, uint32_t slot)
{
    for (uint32_t i = 0; i < ring->pending_count; i++) {
        if (ring->pending[i].slot == slot)
            return true;
    }
    return false;
}

/* The least worth slot that may be overwritten, -1: none. Among those that are worth nothing the one with the oldest
 * content, which may still help to complete a step with what other places have. */
static int choose_slot(const dcache_t *dc)
{
    const struct ssd_ring *ring = &dc->ssd_ring;
    uint32_t newest = 0;
    int best = -1;

    for (uint32_t k = 1; k < slot_count(dc); k++)
        newest = ring->worth[k] > ring->worth[newest] ? k : newest;
    for (uint32_t k = 0; k < slot_count(dc); k++) {
        if ((k == newest && ring->worth[k] > 0) || is_pending(ring, k))
            continue;
        if (best < 0 || ring->worth[k] < ring->worth[best] ||
            (ring->worth[k] == ring->worth[best] && ring->found[k] < ring->found[best]))
            best = (int)k;
    }
    return best;
}

/* Copy `step`, whose slot is the main ring's, if a slot can be had. A step that waits behind another in the thread
 * gives way to it; the oldest goes on, or a slow SSD would never have a newer step. */
static bool submit(dcache_t *dc, const struct ssd_pending *step)
{
    struct ssd_ring *ring = &dc->ssd_ring;
    const uint32_t most = sizeof ring->pending / sizeof ring->pending[0];
    int slot = choose_slot(dc);

    if (ring->pending_count == most)
        slot = (int)ring->pending[--ring->pending_count].slot;
    if (slot < 0)
        return false;
    ring->worth[slot] = 0;
    ring->found[slot] = step->set.sequence;
    ring->pending[ring->pending_count++] = (struct ssd_pending){(uint32_t)slot, step->set};
    ssd_thread_submit(dc->ssd_thread, &step->set, step->slot, (uint32_t)slot);
    return true;
}

void ssd_ring_add(dcache_t *dc, uint32_t slot)
{
    struct ssd_ring *ring = &dc->ssd_ring;

    if (dc->ssd_thread == NULL)
        return;
    ring->wanted = (struct ssd_pending){slot, dc->ring[slot].header.set};
    ring->waiting = !submit(dc, &ring->wanted);
}

void ssd_ring_add_restored(dcache_t *dc, uint32_t slot)
{
    for (uint32_t k = 0; k < slot_count(dc); k++) {
        if (dc->ssd_ring.worth[k] == dc->ring[slot].header.set.sequence)
            return;
    }
    ssd_ring_add(dc, slot);
}

void ssd_ring_abandon(dcache_t *dc)
{
    ssd_thread_abandon(dc->ssd_thread);
    dc->ssd_ring.waiting = false;
}

void ssd_ring_resume(dcache_t *dc)
{
    struct ssd_ring *ring = &dc->ssd_ring;
    const struct ring_slot *from = &dc->ring[ring->wanted.slot];

    if (!ring->waiting)
        return;
    if (from->level == DCACHE_LEVEL_NONE || !shard_same_set(&from->header.set, &ring->wanted.set))
        ring->waiting = false; /* its slot is in use again */
    else
        ring->waiting = !submit(dc, &ring->wanted);
}

void ssd_ring_finish(dcache_t *dc, double until)
{
    struct ssd_ring *ring = &dc->ssd_ring;
    int64_t values[SSD_RING_VALUES_MAX + 1];

    while (ring->pending_count > 0 || ring->waiting) {
        int count = ssd_ring_ask(dc, values);
        values[count] = threads_now() > until;
        if (agree_values(&dc->world, &dc->diag, &dc->replicator.idle, DCACHE_OK, values, count + 1) != DCACHE_OK)
            return;
        bool late = values[count] != 0;
        ssd_ring_learn(dc, values);
        ssd_ring_resume(dc);
        if (late && ring->pending_count > 0) {
            if (dc->world.rank == 0)
                diag_log(&dc->diag, DIAG_WARNING,
                         "step %" PRIu64 " is not on all SSDs yet: option close_timeout (%.0f s) is over",
                         ring->pending[0].set.step, dc->options.close_timeout);
            return;
        }
        if (ring->pending_count > 0)
            ssd_thread_wait(dc->ssd_thread, WAIT_SLICE_S);
    }
}
