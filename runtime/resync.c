#include "runtime/resync.h"

#include "runtime/levels.h"
#include "runtime/replica_report.h"
#include "runtime/replication.h"
#include "runtime/resync_ahead.h"

#include <stdlib.h>

struct reports {
    struct replica_report *of; /* per guest */
    uint64_t *mine;            /* my host's, 1 + chunk_count words */
    uint64_t missing;          /* bytes that my host lacks */
    uint32_t ahead;            /* guests' reports that were made while the restart fetched */
};

/* What is known of it since the restart, or else looked at now. */
static void report_replica(dcache_t *dc, uint32_t slot, uint32_t guest, struct reports *reports)
{
    const struct replicator *r = &dc->replicator;
    const struct slot *replica = &r->ring[slot].guest_slots[guest];
    const struct replica_wanted wanted = {dc->ring[slot].header.set, r->guests[guest], r->report[guest]};

    if (resync_ahead_take(dc, slot, &wanted, replica->bytes, &reports->of[guest]))
        reports->ahead++;
    else
        replica_report_make(&dc->replicating.diag, replica, &wanted, NULL, &reports->of[guest]);
}

static dcache_status_t get_room(dcache_t *dc, uint32_t slot, struct reports *reports)
{
    dcache_status_t status = diag_failpoint(&dc->replicating.diag, "resync.start");

    if (status != DCACHE_OK)
        return status;
    reports->of = calloc((size_t)dc->replicator.guest_count + 1, sizeof *reports->of);
    reports->mine = calloc((size_t)dc->ring[slot].header.chunk_count + 1, sizeof *reports->mine);
    if (reports->of == NULL || reports->mine == NULL)
        return diag_fail(&dc->replicating.diag, DCACHE_ERR_NO_MEMORY, "out of memory for a resync of %u chunks",
                         dc->ring[slot].header.chunk_count);
    return DCACHE_OK;
}

/* Collective, not agreed: what my host has. */
static dcache_status_t exchange(dcache_t *dc, uint32_t slot, struct reports *reports)
{
    struct replicator *r = &dc->replicator;
    const struct ring_slot *ring = &dc->ring[slot];
    struct diag *dg = &dc->replicating.diag;

    dcache_status_t told = replicate_tell_host(dg, r, ring->header.header_bytes);
    for (uint32_t g = 0; told == DCACHE_OK && g < r->guest_count; g++)
        report_replica(dc, slot, g, reports);
    /* Also after a failure, with nothing to tell: the guests wait for it. */
    dcache_status_t status = replicate_report(dg, r, reports->of, reports->mine, ring->header.chunk_count + 1);
    return told != DCACHE_OK ? told : status;
}

/* Which chunks travel. Only who has to send wants its image mapped. */
static dcache_status_t compare(dcache_t *dc, uint32_t slot, struct reports *reports)
{
    struct ring_slot *ring = &dc->ring[slot];
    bool digests = reports->mine[0] & REPLICA_REPORT_DIGESTS, same_set = reports->mine[0] & REPLICA_REPORT_SAME_SET;

    for (uint32_t i = 0; i < ring->header.chunk_count; i++) {
        ring->moved[i] = !digests || reports->mine[1 + i] != ring->header.chunk_crc[i];
        reports->missing += ring->moved[i] ? shard_chunk_length(&ring->header, i) : 0;
    }
    if ((same_set && reports->missing == 0) || dc->replicator.host == PLACEMENT_NONE)
        return DCACHE_OK;
    return slot_map_cold(&dc->replicating.diag, &dc->store, &ring->own);
}

static void set_up(dcache_t *dc, uint32_t slot, const struct reports *reports)
{
    const struct ring_slot *ring = &dc->ring[slot];
    bool same_set = reports->mine[0] & REPLICA_REPORT_SAME_SET;

    if (same_set && reports->missing == 0)
        replication_skip(dc, slot);
    else
        replication_start(dc, slot, true);
    if (same_set && reports->missing > 0)
        replication_skip_mark(dc); /* what is good in it stays a copy while the rest is put right */
    dc->replicating.active = true;
    diag_log(&dc->replicating.diag, DIAG_DEBUG,
             "resync of step %llu: %llu of %llu bytes go to rank %u; of %u replicas here %u were looked at ahead",
             (unsigned long long)ring->header.set.step, (unsigned long long)reports->missing,
             (unsigned long long)ring->header.file_bytes, dc->replicator.host, dc->replicator.guest_count,
             reports->ahead);
}

/* Expose the slot, compare, and set the replication up. Collective, agreed. */
static dcache_status_t start(dcache_t *dc, uint32_t slot)
{
    struct reports reports = {NULL, NULL, 0, 0};
    struct ring_slot *ring = &dc->ring[slot];
    struct diag *dg = &dc->replicating.diag;

    dcache_status_t status = replicate_prepare(dg, &dc->replicator, slot, ring->header.file_bytes);
    if (status != DCACHE_OK) {
        ring->layout = 0;
        return status;
    }
    status = agree(&dc->world, dg, &dc->replicator.idle, get_room(dc, slot, &reports));
    if (status == DCACHE_OK) {
        status = exchange(dc, slot, &reports);
        if (status == DCACHE_OK)
            status = compare(dc, slot, &reports);
        status = agree(&dc->world, dg, &dc->replicator.idle, status);
    }
    if (status == DCACHE_OK)
        set_up(dc, slot, &reports);
    for (uint32_t g = 0; reports.of != NULL && g < dc->replicator.guest_count; g++)
        free(reports.of[g].words);
    free(reports.of);
    free(reports.mine);
    return status;
}

void resync_schedule(dcache_t *dc, uint32_t slot)
{
    struct replication *rep = &dc->replicating;

    if (!levels_can_replicate(dc))
        return;
    rep->due = true;
    rep->slot = slot;
    rep->diag = dc->diag; /* its own: the progress thread may be the one to begin */
    rep->diag.text[0] = '\0';
}

void resync_begin(dcache_t *dc)
{
    struct replication *rep = &dc->replicating;

    if (!rep->due || dc->broken)
        return;
    rep->due = false;
    dcache_status_t status = start(dc, rep->slot);
    resync_ahead_drop(dc);
    if (status == DCACHE_OK)
        return;
    dc->broken = status == DCACHE_ERR_MPI;
    dc->ring[rep->slot].replication = status;
    if (dc->world.rank == 0)
        diag_log(&rep->diag, DIAG_WARNING, "step %llu is restored, but not replicated: %s",
                 (unsigned long long)dc->ring[rep->slot].header.set.step, rep->diag.text);
}
