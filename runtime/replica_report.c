#include "runtime/replica_report.h"

#include <stdlib.h>
#include <string.h>

static uint32_t chunks_of(uint64_t header_bytes, uint64_t file_bytes)
{
    if (header_bytes >= file_bytes)
        return 0;
    return (uint32_t)((file_bytes - header_bytes + SHARD_CHUNK_BYTES - 1) / SHARD_CHUNK_BYTES);
}

static bool has_same_set(const struct diag *dg, const struct slot *slot, const struct replica_wanted *wanted)
{
    struct shard_header header;
    struct diag quiet = *dg;

    memset(&header, 0, sizeof header);
    if (shard_read_header(&quiet, slot->fd, &header) != DCACHE_OK)
        return false;
    bool same =
        shard_same_set(&header.set, &wanted->set) && header.rank == wanted->rank && header.file_bytes == slot->bytes;
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
static bool digest_chunks(const struct slot *slot, uint64_t header_bytes, uint32_t chunks, const atomic_bool *stop,
                          uint64_t *words)
{
    for (uint32_t i = 0; i < chunks; i++) {
        uint64_t at = header_bytes + (uint64_t)i * SHARD_CHUNK_BYTES, left = slot->bytes - at;
        if (stop != NULL && atomic_load(stop))
            return false;
        if (!slot_digest(slot, at, left < SHARD_CHUNK_BYTES ? left : SHARD_CHUNK_BYTES, &words[1 + i]))
            return false;
    }
    return true;
}

void replica_report_make(const struct diag *dg, const struct slot *slot, const struct replica_wanted *wanted,
                         const atomic_bool *stop, struct replica_report *report)
{
    uint32_t chunks = chunks_of(wanted->header_bytes, slot->bytes);
    bool known = slot->fd >= 0 && slot->bytes >= SHARD_FIXED_BYTES && !is_empty(dg, slot);
    uint64_t *words = known ? malloc(((size_t)chunks + 1) * sizeof *words) : NULL;

    report->words = words;
    report->count = 0;
    if (words == NULL || !digest_chunks(slot, wanted->header_bytes, chunks, stop, words))
        return;
    words[0] = REPLICA_REPORT_DIGESTS | (has_same_set(dg, slot, wanted) ? REPLICA_REPORT_SAME_SET : 0);
    report->count = chunks + 1;
}
