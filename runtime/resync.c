#include "runtime/resync.h"

#include "runtime/levels.h"
#include "runtime/replication.h"

#include <stdlib.h>
#include <string.h>

/* What a host tells a guest of its replica: the first word, and behind it the digest of each chunk that is there now.
 */
#define RESYNC_SAME_SET (1ull << 0) /* the header is that of the restored set: it need not be marked WRITING */
#define RESYNC_DIGESTS  (1ull << 1) /* digests follow */

struct reports {
    struct replica_report *of; /* per guest */
    uint64_t *mine;            /* my host's, 1 + chunk_count words */
    uint64_t missing;          /* bytes that my host lacks */
};

static uint32_t chunks_of(uint64_t header_bytes, uint64_t file_bytes)
{
    if (header_bytes >= file_bytes)
        return 0;
    return (uint32_t)((file_bytes - header_bytes + SHARD_CHUNK_BYTES - 1) / SHARD_CHUNK_BYTES);
}

static bool has_same_set(const struct diag *dg, const struct slot *slot, uint32_t guest, const struct shard_set *set)
{
    struct shard_header header;
    struct diag quiet = *dg;

    memset(&header, 0, sizeof header);
    if (shard_read_header(&quiet, slot->fd, &header) != DCACHE_OK)
        return false;
    bool same = shard_same_set(&header.set, set) && header.rank == guest && header.file_bytes == slot->bytes;
    shard_header_free(&header);
    return same;
}

/* A slot that was never written, or taken back, is not worth reading. */
static bool is_empty(const struct diag *dg, const struct slot *slot)
{
    static const unsigned char nothing[SHARD_FIXED_BYTES];
    unsigned char start[SHARD_FIXED_BYTES];
    struct diag quiet = *dg;

    return slot_read(&quiet, slot, 0, start, sizeof start) == DCACHE_OK && memcmp(start, nothing, sizeof nothing) == 0;
}

/* Digest by digest into words[1...]. */
static bool digest_chunks(const struct slot *slot, uint64_t header_bytes, uint32_t chunks, uint64_t *words)
{
    for (uint32_t i = 0; i < chunks; i++) {
        uint64_t at = header_bytes + (uint64_t)i * SHARD_CHUNK_BYTES, left = slot->bytes - at;
        if (!slot_digest(slot, at, left < SHARD_CHUNK_BYTES ? left : SHARD_CHUNK_BYTES, &words[1 + i]))
            return false;
    }
    return true;
}

/* Out of memory, or a file that cannot be read, only means that all of the guest's chunks travel. */
static void digest_replica(const struct diag *dg, const struct slot *slot, uint32_t guest, uint64_t header_bytes,
                           const struct shard_set *set, struct replica_report *report)
{
    uint32_t chunks = chunks_of(header_bytes, slot->bytes);
    bool known = slot->base != NULL && slot->bytes >= SHARD_FIXED_BYTES && !is_empty(dg, slot);
    uint64_t *words = known ? malloc(((size_t)chunks + 1) * sizeof *words) : NULL;

    report->words = words;
    report->count = 0;
    if (words == NULL || !digest_chunks(slot, header_bytes, chunks, words))
        return;
    words[0] = RESYNC_DIGESTS | (has_same_set(dg, slot, guest, set) ? RESYNC_SAME_SET : 0);
    report->count = chunks + 1;
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
        digest_replica(dg, &r->ring[slot].guest_slots[g], r->guests[g], r->report[g], &ring->header.set,
                       &reports->of[g]);
    /* Also after a failure, with nothing to tell: the guests wait for it. */
    dcache_status_t status = replicate_report(dg, r, reports->of, reports->mine, ring->header.chunk_count + 1);
    return told != DCACHE_OK ? told : status;
}

/* Which chunks travel. Only who has to send wants its image mapped. */
static dcache_status_t compare(dcache_t *dc, uint32_t slot, struct reports *reports)
{
    struct ring_slot *ring = &dc->ring[slot];
    bool digests = reports->mine[0] & RESYNC_DIGESTS, same_set = reports->mine[0] & RESYNC_SAME_SET;

    for (uint32_t i = 0; i < ring->header.chunk_count; i++) {
        ring->moved[i] = !digests || reports->mine[1 + i] != ring->header.chunk_crc[i];
        reports->missing += ring->moved[i] ? shard_chunk_length(&ring->header, i) : 0;
    }
    if ((same_set && reports->missing == 0) || dc->replicator.host == PLACEMENT_NONE)
        return DCACHE_OK;
    return slot_map(&dc->replicating.diag, &dc->store, &ring->own);
}

static void set_up(dcache_t *dc, uint32_t slot, const struct reports *reports)
{
    const struct ring_slot *ring = &dc->ring[slot];
    bool same_set = reports->mine[0] & RESYNC_SAME_SET;

    if (same_set && reports->missing == 0)
        replication_skip(dc, slot);
    else
        replication_start(dc, slot, true);
    if (same_set && reports->missing > 0)
        replication_skip_mark(dc); /* what is good in it stays a copy while the rest is put right */
    dc->replicating.active = true;
    diag_log(&dc->replicating.diag, DIAG_DEBUG, "resync of step %llu: %llu of %llu bytes go to rank %u",
             (unsigned long long)ring->header.set.step, (unsigned long long)reports->missing,
             (unsigned long long)ring->header.file_bytes, dc->replicator.host);
}

/* Expose the slot, compare, and set the replication up. Collective, agreed. */
static dcache_status_t start(dcache_t *dc, uint32_t slot)
{
    struct reports reports = {NULL, NULL, 0};
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
    if (status == DCACHE_OK)
        return;
    dc->broken = status == DCACHE_ERR_MPI;
    dc->ring[rep->slot].replication = status;
    if (dc->world.rank == 0)
        diag_log(&rep->diag, DIAG_WARNING, "step %llu is restored, but not replicated: %s",
                 (unsigned long long)dc->ring[rep->slot].header.set.step, rep->diag.text);
}
