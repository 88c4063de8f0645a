/* dcache_checkpoint() and dcache_checkpoint_begin(): choose a slot, make it fit, one pass over the application's memory
 * into own copy and replica, agree. Between two agreements nothing returns: a rank that has failed goes on to the next
 * one and tells there. */
#include "runtime/cleanup.h"
#include "runtime/levels.h"
#include "runtime/replication.h"
#include "runtime/ssd_ring.h"
#include "runtime/stage.h"
#include "runtime/tiers.h"

#include <time.h>

#define BLOCK_SLICE_S 0.05

/* What the ranks know together of the ring, from one agreement. */
struct ring_view {
    uint64_t sequence; /* of the step to be taken */
    bool new_sizes;    /* it is not known whether all slots have room for the regions of some rank */
    uint64_t worth[TRANSPORT_SLOTS_MAX];
    bool pending[TRANSPORT_SLOTS_MAX]; /* being drained */
    bool stalled[TRANSPORT_SLOTS_MAX]; /* being drained, without success for now */
    bool misfit[TRANSPORT_SLOTS_MAX];  /* the image must be made anew on some rank */
};

/* Larger than any before, also than those of a run whose stores were all lost: the clock is a hint, what was seen
 * rules. */
static uint64_t propose_sequence(const dcache_t *dc)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t now = (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
    return now > dc->last_sequence ? now : dc->last_sequence + 1;
}

static dcache_status_t look(dcache_t *dc, uint64_t step, dcache_status_t local, struct ring_view *view)
{
    int64_t values[4 + 4 * TRANSPORT_SLOTS_MAX + SSD_RING_VALUES_MAX];
    int n = 4;

    values[0] = (int64_t)step;
    values[1] = (int64_t)(0 - step);
    values[2] = (int64_t)propose_sequence(dc);
    values[3] = dc->room_layout != dc->layout;
    for (uint32_t k = 0; k < dc->slots; k++) {
        enum drain_state state = drain_thread_slot_state(dc->drain, k);
        values[n++] = (int64_t)dc->ring[k].worth;
        values[n++] = state == DRAIN_PENDING;
        values[n++] = state == DRAIN_RETRYING;
        values[n++] = dc->ring[k].layout != dc->layout || dc->ring[k].own.fd < 0;
    }
    int shared = n + ssd_ring_ask(dc, values + n);
    dcache_status_t status = agree_values(&dc->world, &dc->diag, &dc->replicator.idle, local, values, shared);
    if (status != DCACHE_OK)
        return status;
    ssd_ring_learn(dc, values + n);
    if (values[0] != -values[1])
        return diag_fail(&dc->diag, DCACHE_ERR_MISMATCH,
                         "the ranks gave different steps, %lld to %lld: every rank must checkpoint the same one",
                         (long long)-values[1], (long long)values[0]);
    view->sequence = (uint64_t)values[2];
    view->new_sizes = values[3] != 0;
    for (uint32_t k = 0; k < dc->slots; k++) {
        view->worth[k] = (uint64_t)values[4 + 4 * k];
        view->pending[k] = values[5 + 4 * k] != 0;
        view->stalled[k] = values[6 + 4 * k] != 0;
        view->misfit[k] = values[7 + 4 * k] != 0;
    }
    return DCACHE_OK;
}

/* Is it better to overwrite slot a than b? One whose step is not being copied to an SSD, then the one worth less. */
static bool rather(const dcache_t *dc, const struct ring_view *view, uint32_t a, uint32_t b)
{
    uint32_t claim_a = ssd_ring_claim(dc, a), claim_b = ssd_ring_claim(dc, b);

    return claim_a != claim_b ? claim_a < claim_b : view->worth[a] < view->worth[b];
}

/* The slot to overwrite: never the newest complete step, and with `draining` false none that is still being drained.
 * -1 when there is none. */
static int least_slot(const dcache_t *dc, const struct ring_view *view, bool draining)
{
    uint32_t newest = 0;
    int best = -1;

    for (uint32_t k = 1; k < dc->slots; k++)
        newest = view->worth[k] > view->worth[newest] ? k : newest;
    for (uint32_t k = 0; k < dc->slots; k++) {
        bool protected = k == newest && view->worth[k] > 0;
        bool busy = view->worth[k] > 0 && (view->pending[k] || view->stalled[k]);
        if (!protected && (draining || !busy) && (best < 0 || rather(dc, view, k, (uint32_t)best)))
            best = (int)k;
    }
    return best;
}

/* The option when_full decides what happens when every slot but the newest waits for the object store. Blocking ends,
 * too, when the store has stopped taking anything: the application computes on. */
static dcache_status_t choose_slot(dcache_t *dc, uint64_t step, struct ring_view *view, dcache_status_t local,
                                   uint32_t *slot)
{
    for (;;) {
        dcache_status_t status = look(dc, step, local, view);
        if (status != DCACHE_OK)
            return status;
        int free_slot = least_slot(dc, view, false), oldest = least_slot(dc, view, true);
        if (free_slot < 0 && dc->options.when_full == WHEN_FULL_SKIP)
            return DCACHE_SKIPPED;
        if (free_slot >= 0 || dc->options.when_full == WHEN_FULL_REPLACE || view->stalled[oldest]) {
            *slot = (uint32_t)(free_slot >= 0 ? free_slot : oldest);
            if (free_slot < 0 && dc->world.rank == 0)
                diag_log(&dc->diag, DIAG_WARNING, "step %llu is replaced before it was durable",
                         (unsigned long long)dc->ring[oldest].header.set.step);
            return DCACHE_OK;
        }
        drain_thread_wait(dc->drain, BLOCK_SLICE_S);
    }
}

/* Make the slot's images, here and at the host, fit the regions. Collective, agreed. */
static dcache_status_t fit_slot(dcache_t *dc, uint32_t slot)
{
    struct ring_slot *ring = &dc->ring[slot];

    ring->level = DCACHE_LEVEL_NONE;
    dcache_status_t status = stage_create(dc, ring, slot);
    status = agree(&dc->world, &dc->diag, &dc->replicator.idle, status);
    if (status == DCACHE_OK)
        status = replicate_prepare(&dc->diag, &dc->replicator, slot, ring->header.file_bytes);
    if (status != DCACHE_OK)
        ring->layout = 0; /* half made: anew next time */
    return status;
}

/* Own copy and replica chunk by chunk, so that the put of one overlaps with the copying of the next; or the own copy
 * alone, the replica later. */
static dcache_status_t stage_and_put(dcache_t *dc, uint32_t slot, bool incremental, bool background)
{
    struct ring_slot *ring = &dc->ring[slot];
    bool put_now = !background && levels_can_replicate(dc);
    const struct stage_mode mode = {.stream = !put_now, .incremental = incremental};

    if (put_now)
        replication_mark(dc);
    (void)!diag_failpoint(&dc->diag, "checkpoint.copy");
    stage_copy(dc, ring, mode, put_now ? replication_stream : NULL);
    dcache_status_t status = tiers_sync_own(dc, &ring->own);
    if (status == DCACHE_OK)
        status = diag_failpoint(&dc->diag, "checkpoint.header");
    if (status != DCACHE_OK)
        return status;
    stage_finish(ring);
    status = tiers_sync_own(dc, &ring->own);
    if (status != DCACHE_OK || !put_now)
        return status;
    replication_advance(dc, true);
    return replication_status(dc);
}

/* Make both copies say that they hold nothing. Collective. */
static void take_back(dcache_t *dc, uint32_t slot)
{
    struct diag quiet = dc->diag;

    stage_invalidate(&dc->ring[slot]);
    replication_invalidate(dc, slot);
    (void)!agree(&dc->world, &quiet, &dc->replicator.idle, DCACHE_OK); /* serve until all have done the same */
}

static dcache_status_t save(dcache_t *dc, uint32_t slot, const struct shard_set *set, bool background)
{
    struct ring_slot *ring = &dc->ring[slot];
    bool same_own = dc->options.incremental && ring->level >= DCACHE_STAGED;
    bool same_replica = dc->options.incremental && ring->level >= DCACHE_REPLICATED;

    ring->level = DCACHE_LEVEL_NONE;
    dcache_status_t status = stage_map(dc, ring);
    replicate_warm(&dc->replicator, slot);
    if (status == DCACHE_OK) {
        status = diag_failpoint(&dc->diag, "checkpoint.stage");
        stage_begin(ring, set);
    }
    replication_start(dc, slot, same_replica);
    if (status == DCACHE_OK)
        status = stage_and_put(dc, slot, same_own, background);
    status = agree(&dc->world, &dc->diag, &dc->replicator.idle, status);
    if (status == DCACHE_OK && !background)
        status = tiers_sync_replicas(dc, slot);
    if (status != DCACHE_OK) {
        take_back(dc, slot);
        return status;
    }
    (void)!diag_failpoint(&dc->diag, "checkpoint.agreed");
    levels_staged(dc, slot);
    ssd_ring_add(dc, slot);
    dc->replicating.active = background && levels_can_replicate(dc);
    if (!background && levels_can_replicate(dc))
        levels_replicated(dc, slot, DCACHE_OK);
    return DCACHE_OK;
}

static dcache_status_t check(dcache_t *dc, uint64_t step)
{
    if (step > DCACHE_STEP_MAX)
        return diag_fail(&dc->diag, DCACHE_ERR_INVALID, "step %llu is larger than %llu (DCACHE_STEP_MAX)",
                         (unsigned long long)step, (unsigned long long)DCACHE_STEP_MAX);
    return diag_failpoint(&dc->diag, "checkpoint.begin");
}

static bool drain_wanted(const dcache_t *dc)
{
    int64_t every = dc->options.drain_every;

    return dc->objects != NULL && every > 0 && dc->taken % (uint64_t)every == 0;
}

static dcache_status_t take(dcache_t *dc, uint64_t step, bool background)
{
    struct ring_view view;
    uint32_t slot = 0;

    if (dc->broken)
        return diag_fail(&dc->diag, DCACHE_ERR_STATE, "MPI has failed on this handle: only dcache_close() is left");
    if (replication_finish(dc) != DCACHE_OK && dc->world.rank == 0)
        diag_log(&dc->diag, DIAG_WARNING, "the step before stays on its nodes only: %s", dc->diag.text);
    dcache_status_t status = choose_slot(dc, step, &view, check(dc, step), &slot);
    if (status == DCACHE_OK && view.new_sizes)
        status = tiers_check_room(dc, stage_bytes(dc));
    if (status != DCACHE_OK) /* and the slot holds what it held */
        return status;
    dc->room_layout = dc->layout;
    drain_thread_drop(dc->drain, slot);
    drain_thread_pause(dc->drain, true);
    ssd_thread_pause(dc->ssd_thread, true);
    dc->last_sequence = view.sequence;
    struct shard_set set = {step, view.sequence, dc->epoch, (uint32_t)dc->world.size};
    if (view.misfit[slot])
        status = fit_slot(dc, slot);
    if (status == DCACHE_OK) {
        dc->ring[slot].to_drain = drain_wanted(dc);
        status = save(dc, slot, &set, background);
    }
    drain_thread_pause(dc->drain, dc->replicating.active && dc->progress != NULL); /* which ends it */
    ssd_thread_pause(dc->ssd_thread, false);
    if (status == DCACHE_OK) {
        dc->taken++;
        dc->statistics.checkpoints++;
        dc->statistics.bytes_protected += dc->ring[slot].header.file_bytes;
        cleanup_after(dc, slot);
    }
    return status;
}

static dcache_status_t take_timed(dcache_t *dc, uint64_t step, bool background)
{
    schedule_begin(dc);
    dcache_status_t status = take(dc, step, background);
    schedule_end(dc, status);
    return status;
}

dcache_status_t dcache_checkpoint(dcache_t *dc, uint64_t step)
{
    if (dc == NULL)
        return DCACHE_ERR_INVALID;
    context_enter(dc);
    return context_finish(dc, "dcache_checkpoint", take_timed(dc, step, false));
}

dcache_status_t dcache_checkpoint_begin(dcache_t *dc, uint64_t step)
{
    if (dc == NULL)
        return DCACHE_ERR_INVALID;
    context_enter(dc);
    return context_finish(dc, "dcache_checkpoint_begin", take_timed(dc, step, true));
}
