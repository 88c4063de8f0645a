#include "runtime/resync.h"

#include "io/crc64.h"
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
};

static uint32_t chunks_of(uint64_t header_bytes, uint64_t file_bytes)
{
    if (header_bytes >= file_bytes)
        return 0;
    return (uint32_t)((file_bytes - header_bytes + SHARD_CHUNK_BYTES - 1) / SHARD_CHUNK_BYTES);
}

static bool has_same_set(dcache_t *dc, const struct slot *slot, uint32_t guest, const struct shard_set *set)
{
    struct shard_header header;
    struct diag quiet = dc->diag;

    memset(&header, 0, sizeof header);
    if (shard_decode(&quiet, slot->base, slot->bytes, &header) != DCACHE_OK)
        return false;
    bool same = shard_same_set(&header.set, set) && header.rank == guest && header.file_bytes == slot->bytes;
    shard_header_free(&header);
    return same;
}

/* A slot that was never written, or taken back, is not worth reading. */
static bool is_empty(const struct slot *slot)
{
    static const unsigned char nothing[SHARD_FIXED_BYTES];

    return memcmp(slot->base, nothing, sizeof nothing) == 0;
}

/* Out of memory only means that all of the guest's chunks travel. */
static void digest_replica(dcache_t *dc, const struct slot *slot, uint32_t guest, uint64_t header_bytes,
                           const struct shard_set *set, struct replica_report *report)
{
    uint32_t chunks = chunks_of(header_bytes, slot->bytes);
    bool known = slot->base != NULL && slot->bytes >= SHARD_FIXED_BYTES && !is_empty(slot);
    uint64_t *words = known ? malloc(((size_t)chunks + 1) * sizeof *words) : NULL;

    report->words = words;
    report->count = 0;
    if (words == NULL)
        return;
    words[0] = RESYNC_DIGESTS | (has_same_set(dc, slot, guest, set) ? RESYNC_SAME_SET : 0);
    for (uint32_t i = 0; i < chunks; i++) {
        uint64_t at = header_bytes + (uint64_t)i * SHARD_CHUNK_BYTES, left = slot->bytes - at;
        words[1 + i] =
            crc64_update(0, (const char *)slot->base + at, left < SHARD_CHUNK_BYTES ? left : SHARD_CHUNK_BYTES);
    }
    report->count = chunks + 1;
}

static dcache_status_t get_room(dcache_t *dc, uint32_t slot, struct reports *reports)
{
    dcache_status_t status = diag_failpoint(&dc->diag, "resync.start");

    if (status != DCACHE_OK)
        return status;
    reports->of = calloc((size_t)dc->replicator.guest_count + 1, sizeof *reports->of);
    reports->mine = calloc((size_t)dc->ring[slot].header.chunk_count + 1, sizeof *reports->mine);
    if (reports->of == NULL || reports->mine == NULL)
        return diag_fail(&dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for a resync of %u chunks",
                         dc->ring[slot].header.chunk_count);
    return DCACHE_OK;
}

/* Collective, not agreed: what my host has. */
static dcache_status_t exchange(dcache_t *dc, uint32_t slot, struct reports *reports)
{
    struct replicator *r = &dc->replicator;
    const struct ring_slot *ring = &dc->ring[slot];

    dcache_status_t told = replicate_tell_host(&dc->diag, r, ring->header.header_bytes);
    for (uint32_t g = 0; told == DCACHE_OK && g < r->guest_count; g++)
        digest_replica(dc, &r->ring[slot].guest_slots[g], r->guests[g], r->report[g], &ring->header.set,
                       &reports->of[g]);
    /* Also after a failure, with nothing to tell: the guests wait for it. */
    dcache_status_t status = replicate_report(&dc->diag, r, reports->of, reports->mine, ring->header.chunk_count + 1);
    return told != DCACHE_OK ? told : status;
}

static void compare(dcache_t *dc, uint32_t slot, const uint64_t *words)
{
    struct ring_slot *ring = &dc->ring[slot];
    bool digests = words[0] & RESYNC_DIGESTS, same_set = words[0] & RESYNC_SAME_SET;
    uint64_t missing = 0;

    for (uint32_t i = 0; i < ring->header.chunk_count; i++) {
        ring->moved[i] = !digests || words[1 + i] != ring->header.chunk_crc[i];
        missing += ring->moved[i] ? shard_chunk_length(&ring->header, i) : 0;
    }
    if (same_set && missing == 0)
        replication_skip(dc, slot);
    else
        replication_start(dc, slot, true);
    if (same_set && missing > 0)
        replication_skip_mark(dc); /* what is good in it stays a copy while the rest is put right */
    diag_log(&dc->diag, DIAG_DEBUG, "resync of step %llu: %llu of %llu bytes go to rank %u",
             (unsigned long long)ring->header.set.step, (unsigned long long)missing,
             (unsigned long long)ring->header.file_bytes, dc->replicator.host);
}

dcache_status_t resync_start(dcache_t *dc, uint32_t slot)
{
    struct reports reports = {NULL, NULL};
    struct ring_slot *ring = &dc->ring[slot];

    if (!levels_can_replicate(dc))
        return DCACHE_OK;
    dcache_status_t status = replicate_prepare(&dc->diag, &dc->replicator, slot, ring->header.file_bytes);
    if (status != DCACHE_OK) {
        ring->layout = 0;
        return status;
    }
    status = agree(&dc->world, &dc->diag, &dc->replicator.idle, get_room(dc, slot, &reports));
    if (status == DCACHE_OK)
        status = agree(&dc->world, &dc->diag, &dc->replicator.idle, exchange(dc, slot, &reports));
    if (status == DCACHE_OK) {
        compare(dc, slot, reports.mine);
        dc->replicating.active = true;
    }
    for (uint32_t g = 0; reports.of != NULL && g < dc->replicator.guest_count; g++)
        free(reports.of[g].words);
    free(reports.of);
    free(reports.mine);
    return status;
}
