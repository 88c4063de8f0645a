#include "runtime/replication.h"

#include "runtime/cleanup.h"
#include "runtime/levels.h"
#include "runtime/tiers.h"

#include <string.h>

enum phase { MARK, MARK_STORED, DATA, DATA_STORED, HEADER, HEADER_STORED, DONE };

/* Chunks per call that does not wait: enough to be worth the call, short enough not to be felt. */
#define CHUNKS_PER_CALL 16u

void replication_start(dcache_t *dc, uint32_t slot, bool incremental)
{
    struct replication *rep = &dc->replicating;

    rep->slot = slot;
    rep->phase = dc->replicator.host == PLACEMENT_NONE ? DONE : MARK;
    rep->next_chunk = 0;
    rep->incremental = incremental;
    rep->status = DCACHE_OK;
    rep->diag = dc->diag;
    rep->diag.text[0] = '\0';
}

void replication_skip(dcache_t *dc, uint32_t slot)
{
    replication_start(dc, slot, true);
    dc->replicating.phase = DONE;
}

void replication_skip_mark(dcache_t *dc)
{
    if (dc->replicating.phase == MARK)
        dc->replicating.phase = DATA;
}

static dcache_status_t put_mark(dcache_t *dc)
{
    struct replication *rep = &dc->replicating;
    struct shard_header header = dc->ring[rep->slot].header;

    header.state = SHARD_WRITING;
    shard_encode_fixed(&header, rep->mark);
    return replicate_put(&dc->replicating.diag, &dc->replicator, rep->slot, 0, rep->mark, sizeof rep->mark);
}

static dcache_status_t put_header(dcache_t *dc)
{
    const struct ring_slot *ring = &dc->ring[dc->replicating.slot];

    return replicate_put(&dc->replicating.diag, &dc->replicator, dc->replicating.slot, 0, ring->own.base,
                         ring->header.header_bytes);
}

static dcache_status_t put_chunk(dcache_t *dc, uint32_t index)
{
    struct replication *rep = &dc->replicating;
    const struct ring_slot *ring = &dc->ring[rep->slot];
    uint64_t offset = shard_chunk_offset(&ring->header, index);

    rep->next_chunk = index + 1;
    if (rep->incremental && !ring->moved[index])
        return DCACHE_OK; /* the replica has it from the step before */
    dc->statistics.bytes_put += shard_chunk_length(&ring->header, index);
    return replicate_put(&dc->replicating.diag, &dc->replicator, rep->slot, offset,
                         (const char *)ring->own.base + offset, shard_chunk_length(&ring->header, index));
}

static dcache_status_t put_data(dcache_t *dc, bool wait)
{
    struct replication *rep = &dc->replicating;
    uint32_t count = dc->ring[rep->slot].header.chunk_count;
    uint32_t end = wait || count - rep->next_chunk < CHUNKS_PER_CALL ? count : rep->next_chunk + CHUNKS_PER_CALL;
    dcache_status_t status = DCACHE_OK;

    while (status == DCACHE_OK && rep->next_chunk < end)
        status = put_chunk(dc, rep->next_chunk);
    if (rep->next_chunk == count)
        rep->phase = DATA_STORED;
    return status;
}

/* One step of the protocol; `blocked` when it has to wait for the other side. */
static dcache_status_t step(dcache_t *dc, bool wait, bool *blocked)
{
    struct replication *rep = &dc->replicating;
    dcache_status_t status = DCACHE_OK;
    bool stored = true;

    switch ((enum phase)rep->phase) {
    case MARK:
        status = put_mark(dc);
        rep->phase = MARK_STORED;
        break;
    case DATA:
        status = put_data(dc, wait);
        *blocked = !wait;
        break;
    case HEADER:
        status = put_header(dc);
        rep->phase = HEADER_STORED;
        break;
    case MARK_STORED:
    case DATA_STORED:
    case HEADER_STORED:
        status = replicate_flush(&dc->replicating.diag, &dc->replicator, rep->slot, wait, &stored);
        rep->phase += stored;
        *blocked = !stored;
        break;
    case DONE:
        break;
    }
    return status;
}

static void note(struct replication *rep, dcache_status_t status)
{
    if (status == DCACHE_OK)
        return;
    rep->status = status;
    rep->phase = DONE;
}

void replication_mark(dcache_t *dc)
{
    struct replication *rep = &dc->replicating;
    bool blocked = false;

    while (rep->phase < DATA)
        note(rep, step(dc, true, &blocked));
}

void replication_stream(dcache_t *dc, uint32_t index)
{
    if (dc->replicating.phase == DATA)
        note(&dc->replicating, put_chunk(dc, index));
}

bool replication_advance(dcache_t *dc, bool wait)
{
    struct replication *rep = &dc->replicating;
    bool blocked = false;

    while (rep->phase != DONE && !blocked) {
        note(rep, step(dc, wait, &blocked));
    }
    if (dc->replicator.transport != NULL)
        dc->replicator.transport->ops->progress(dc->replicator.transport);
    return rep->phase == DONE;
}

dcache_status_t replication_status(dcache_t *dc)
{
    const struct replication *rep = &dc->replicating;

    if (rep->status != DCACHE_OK)
        memcpy(dc->diag.text, rep->diag.text, sizeof dc->diag.text);
    return rep->status;
}

static void flush_quietly(dcache_t *dc, struct diag *quiet, uint32_t slot)
{
    struct replicator *r = &dc->replicator;
    bool done = false;

    (void)!r->transport->ops->flush(r->transport, quiet, slot, r->host, true, &done);
}

/* After a failure on some rank: what has been put already is received before anybody uses that memory for something
 * else. Collective. */
static void settle(dcache_t *dc, uint32_t slot)
{
    struct diag quiet = dc->diag; /* the failure that led here is the one to tell */

    if (dc->replicator.host != PLACEMENT_NONE && dc->replicator.ring[slot].attached)
        flush_quietly(dc, &quiet, slot);
    (void)!agree(&dc->world, &quiet, &dc->replicator.idle, DCACHE_OK); /* serve until all have done the same */
}

dcache_status_t replication_finish(dcache_t *dc)
{
    struct replication *rep = &dc->replicating;

    if (!rep->active)
        return DCACHE_OK;
    replication_advance(dc, true);
    dcache_status_t status = agree(&dc->world, &dc->diag, &dc->replicator.idle, replication_status(dc));
    if (status == DCACHE_OK)
        status = tiers_sync_replicas(dc, rep->slot);
    else
        settle(dc, rep->slot);
    rep->active = false;
    drain_thread_pause(dc->drain, false);
    levels_replicated(dc, rep->slot, status);
    if (status == DCACHE_OK)
        cleanup_after(dc, rep->slot);
    return status;
}

void replication_invalidate(dcache_t *dc, uint32_t slot)
{
    struct diag quiet = dc->diag; /* the failure that led here is the one to tell */
    struct replicator *r = &dc->replicator;

    if (r->host == PLACEMENT_NONE || !r->ring[slot].attached)
        return;
    flush_quietly(dc, &quiet, slot); /* a header that is under way must not come last */
    memset(dc->replicating.mark, 0, sizeof dc->replicating.mark);
    (void)!r->transport->ops->put(r->transport, &quiet, slot, r->host, r->ring[slot].displacement, dc->replicating.mark,
                                  sizeof dc->replicating.mark);
    flush_quietly(dc, &quiet, slot);
}
